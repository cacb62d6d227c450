"""Fashion-MNIST and MNIST: the embedded subset, Debian's package, a download, a folder.

And tasks made of Fashion-MNIST, whose answer hangs on a known part of the picture.
"""

import gzip
import hashlib
import math
import shutil
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from saliency_sanity._errors import unknown
from saliency_sanity._files import replacing
from saliency_sanity.networks.compat import ensure_torchvision
from saliency_sanity.subjects.scenes import SHAPES, STATES, Scenes, halves, pairs

_GARMENTS = "fashion_mnist"
# Garments that a network tells apart at half their size, too, so that both tasks of a pair can be
# learned about as well.
_PAIRED = ("Trouser", "Pullover", "Ankle boot")

CLASS_NAMES = {
    "fashion_mnist": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    "mnist": tuple("0123456789"),
    "pairs_garment": _PAIRED,
    "pairs_shape": SHAPES,
    "halves": STATES,
}

# Data sets made here of garments: the kind of scenes, and which of its answers is the label. Tasks
# of one kind have the same pictures.
TASKS = {
    "pairs_garment": ("pairs", "garment"),
    "pairs_shape": ("pairs", "shape"),
    "halves": ("halves", "state"),
}

FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}

# Pictures of each class in the embedded subset.
EMBEDDED = {"train": 1000, "test": 200}

_DEBIAN = Path("/usr/share/datasets/fashion-mnist")
_SUMS = "SHA256SUMS"

# Scenes are data, so that networks and pages see the same ones.
_SCENES_SEED = 0


class DatasetUnavailable(OSError):  # noqa: N818
    """Pictures that are not installed, or whose download failed; the message says what to do."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Grey pictures ``images`` uint8 ``[N, 28, 28]`` with ``labels`` int64 ``[N]``.

    ``labels`` index ``class_names``. A background is exactly 0. [xiao2017fashion], [lecun1998mnist]
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


def load_dataset(
    name: str = "fashion_mnist",
    split: str = "train",
    *,
    source: str | Path = "embedded",
    count: int = 0,
) -> Dataset:
    """Load the first ``count`` pictures of a split, 0 for all of them, in the order of the files.

    ``source`` is ``embedded`` (Fashion-MNIST only: 10 000 + 2 000 pictures, as many of each class,
    checksums verified), ``debian`` (the package ``dataset-fashion-mnist``), ``download``
    (torchvision's, kept in torch's cache folder) or a folder with the four idx files, compressed
    or not. Raises ValueError for unknown names, for more pictures than there are and for damaged
    files, and DatasetUnavailable for files that are not there or cannot be had.

    One of ``TASKS`` is made of the garments of ``source``, see ``load_scenes``.
    """
    if name not in CLASS_NAMES:
        raise ValueError(unknown("dataset", name, CLASS_NAMES))
    if split not in FILES:
        raise ValueError(unknown("split", split, FILES))
    if name in TASKS:
        kind, task = TASKS[name]
        scenes = load_scenes(kind, split, source=source, count=count)
        return Dataset(name, split, scenes.images, scenes.labels[task], CLASS_NAMES[name])
    folder = _folder(name, str(source))
    if str(source) == "embedded":
        _verify(folder, FILES[split])
    images, labels = (_read(folder, file) for file in FILES[split])
    where = f"{name} ({split}, source {str(source)!r})"
    if images.ndim != 3 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{where} holds pictures {images.shape} and labels {labels.shape}, "
            "not [N, 28, 28] and [N]; check the folder"
        )
    if len(labels) and labels.max() >= len(CLASS_NAMES[name]):
        raise ValueError(f"{where} has a label {labels.max()}; valid are 0 to 9")
    if not 0 <= count <= len(labels):
        raise ValueError(
            f"{count} pictures asked for, {where} has {len(labels)}: "
            f"valid are 1 to {len(labels)}, or 0 for all"
        )
    taken = slice(count or None)
    return Dataset(
        name,
        split,
        torch.from_numpy(images[taken].copy()),
        torch.from_numpy(labels[taken].astype(np.int64)),
        CLASS_NAMES[name],
    )


def load_scenes(
    kind: str, split: str = "test", *, source: str | Path = "embedded", count: int = 0
) -> Scenes:
    """Load the first ``count`` scenes of a kind with their regions, 0 for all: the same every time.

    ``kind`` is ``pairs``, which has the garments of three classes that are told apart at half their
    size, or ``halves``, which has all; see ``scenes``. A picture does not depend on how many are
    asked for. Raises as ``load_dataset``.
    """
    kinds = {kind for kind, _ in TASKS.values()}
    if kind not in kinds:
        raise ValueError(unknown("kind of scenes", kind, sorted(kinds)))
    garments = load_dataset(_GARMENTS, split, source=source)
    if kind == "halves":
        found = halves(garments.images, _SCENES_SEED, split)
    else:
        classes = torch.tensor([garments.class_names.index(name) for name in _PAIRED], device="cpu")
        place = garments.labels[:, None] == classes
        taken = place.any(1)
        labels = place[taken].long().argmax(1)
        found = pairs(garments.images[taken], labels, _SCENES_SEED, split)
    if not 0 <= count <= len(found):
        raise ValueError(
            f"{count} pictures asked for, {kind} ({split}, source {str(source)!r}) has "
            f"{len(found)}: valid are 1 to {len(found)}, or 0 for all"
        )
    return found.at(slice(count or None))


def made_of_embedded(name: str) -> bool:
    """Whether a data set can be had from what is embedded in a checkout."""
    return name == _GARMENTS or name in TASKS


def to_pixels(images: Tensor, size: int, channels: int) -> Tensor:
    """Turn ``images`` uint8 ``[N, H, W]`` into float32 ``[N, channels, size, size]`` in [0, 1].

    Bilinear, which neither leaves [0, 1] nor rings around an outline; at its own size a picture
    stays as it is. Channels are equal.
    """
    raw = images[:, None].float() / 255
    if raw.shape[-2:] != (size, size):
        raw = F.interpolate(
            raw, (size, size), mode="bilinear", align_corners=False, antialias=size < raw.shape[-1]
        )
    return raw.expand(-1, channels, -1, -1)


def by_turns(labels: Tensor) -> Tensor:
    """Indices ``[N]`` that take the classes by turns: the first of each, then the second of each.

    Within a turn by class, within a class in the given order.
    """
    turn = torch.empty_like(labels)
    for label in labels.unique():
        own = labels == label
        turn[own] = torch.arange(int(own.sum()), device=labels.device)
    return torch.argsort(turn * (int(labels.max()) + 1) + labels, stable=True)


def embed(source: Path, folder: Path) -> None:
    """Write the embedded subset of the full data in ``source``, with its checksums.

    The first pictures of each class (``EMBEDDED``), in their original order, as the same bytes
    for the same zlib.
    """
    lines = []
    for split, names in FILES.items():
        full = load_dataset("fashion_mnist", split, source=source)
        taken = torch.cat(
            [(full.labels == k).nonzero()[: EMBEDDED[split], 0] for k in full.labels.unique()]
        ).sort()[0]
        values = (full.images[taken], full.labels[taken].to(torch.uint8))
        for file, value in zip(names, values, strict=True):
            with replacing(folder / file) as temporary:
                temporary.write_bytes(gzip.compress(_idx(value.numpy()), 9, mtime=0))
            lines.append(f"{_digest(folder / file)}  {file}\n")
    with replacing(folder / _SUMS) as temporary:
        temporary.write_text("".join(sorted(lines, key=lambda line: line.split()[1])))


def _idx(values: np.ndarray) -> bytes:
    # 0x08 means unsigned bytes; sizes are big-endian.
    header = bytes([0, 0, 0x08, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    return header + values.tobytes()


def embedded_folder() -> Path:
    """Where the embedded data are: they come with a checkout, not with the installed package."""
    return Path(__file__).parents[3] / "data" / "fashion_mnist"


def _folder(name: str, source: str) -> Path:
    if source == "embedded" and name == "fashion_mnist":
        if not embedded_folder().is_dir():
            raise DatasetUnavailable(
                "the embedded Fashion-MNIST subset belongs to the checkout (data/fashion_mnist), "
                "and this library is installed without one; install it with `pip install -e .` "
                "in a checkout, or use source='download', 'debian' or a folder of idx files"
            )
        return embedded_folder()
    if source == "debian" and name == "fashion_mnist":
        if not _DEBIAN.is_dir():
            raise DatasetUnavailable(
                f"{_DEBIAN} is not there; on Debian and Ubuntu run: "
                "apt-get install dataset-fashion-mnist"
            )
        return _DEBIAN
    if source == "download":
        return _download(name)
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if len(folder.parts) > 1:
        raise DatasetUnavailable(f"folder {source} of idx files does not exist; check the path")
    if source == "embedded":
        raise ValueError(
            f"{name} is not embedded; give its source: download (by torchvision) or a folder of "
            "idx files, as in -p source download"
        )
    kinds = ["embedded", "debian"] if name == "fashion_mnist" else []
    raise ValueError(unknown(f"source of {name}", source, [*kinds, "download", "path/to/folder"]))


def _download(name: str) -> Path:
    folder = Path(torch.hub.get_dir()) / "datasets" / name
    if folder.is_dir():
        return folder
    ensure_torchvision()
    from torchvision import datasets

    kind = {"fashion_mnist": datasets.FashionMNIST, "mnist": datasets.MNIST}[name]
    # torchvision takes whatever lies in its folder for whole, also what an interrupted run left:
    # it gets a folder of its own, and only a finished download takes the name that is looked for.
    parts = folder.with_name(f".{name}.{uuid.uuid4().hex}.part")
    try:
        parts.mkdir(parents=True)
        kind(parts, download=True)
        raw = parts / kind.__name__ / "raw"
        for file in (file for files in FILES.values() for file in files):
            _read(raw, file)
        try:
            raw.rename(folder)
        except OSError:
            # Somebody else's download was sooner.
            if not folder.is_dir():
                raise
    except (OSError, RuntimeError, ValueError, zlib.error) as error:
        names = ", ".join(file for files in FILES.values() for file in files)
        raise DatasetUnavailable(
            f"{name} has to be downloaded, and the download failed: {str(error).strip()}; try "
            f"again, or fetch {names} where there is a "
            "network and give their folder as source"
            + ("; source='embedded' needs no network" if name == "fashion_mnist" else "")
        ) from error
    finally:
        shutil.rmtree(parts, ignore_errors=True)
    return folder


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _verify(folder: Path, files: tuple[str, ...]) -> None:
    lines = (folder / _SUMS).read_text().splitlines() if (folder / _SUMS).is_file() else []
    expected = dict(reversed(line.split()) for line in lines if len(line.split()) == 2)
    for file in files:
        path = folder / file
        if not path.is_file():
            raise ValueError(f"{path} is missing; restore it with: git checkout -- data")
        found = _digest(path)
        if found != expected.get(file):
            raise ValueError(
                f"{path} is damaged: SHA-256 {found}, expected "
                f"{expected.get(file, f'one listed in {_SUMS}')}; "
                "restore it with: git checkout -- data"
            )


def _read(folder: Path, file: str) -> np.ndarray:
    path = folder / file
    if not path.is_file():
        path = path.with_suffix("")
    if not path.is_file():
        raise DatasetUnavailable(f"{folder} has neither {file} nor {path.name}; check the folder")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix else path.read_bytes()
        if content[:3] != bytes([0, 0, 0x08]):
            raise ValueError("no idx file of unsigned bytes")
        start = 4 + 4 * content[3]
        shape = tuple(int(side) for side in np.frombuffer(content[4:start], ">u4"))
        if len(content) - start != math.prod(shape):
            raise ValueError(f"{len(content) - start} bytes of data where {shape} were announced")
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}; get it again") from error
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
