"""Photographs to explain: labelled ones that ship with packages, or a folder of one's own."""

import importlib.util
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from saliency_sanity._errors import unknown
from saliency_sanity._random import generator
from saliency_sanity.subjects.datasets import by_turns, load_dataset, to_pixels

# Colour photographs of scikit-image that are installed with it, with their ImageNet class where
# there is no doubt about it.
_SKIMAGE = {
    "astronaut.png": None,
    "chelsea.png": 285,
    "coffee.png": 967,
    "motorcycle_left.png": None,
    "rocket.jpg": None,
    "hubble_deep_field.jpg": None,
    "retina.jpg": None,
}


@dataclass(frozen=True)
class Photographs:
    """Pictures ``[N, C, H, W]`` in [0, 1], with names and, where known, classes.

    Classes are ImageNet's, for digits and garments those of their dataset.
    """

    names: tuple[str, ...]
    labels: tuple[int | None, ...]
    pixels: Tensor

    def __len__(self) -> int:
        return len(self.names)

    @property
    def arrays(self) -> np.ndarray:
        """The pictures as they are drawn, ``[N, h, w]`` or in colour ``[N, h, w, 3]``."""
        return self.pixels.permute(0, 2, 3, 1).squeeze(-1).cpu().numpy()


def _package_folder(package: str, folder: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the photographs of {package} need it: pip install {package}")
    return Path(spec.origin).parent / folder


# What foolbox ships, by the start of the file's name; the end of it is the class.
_FOOLBOX = {"foolbox": "imagenet", "mnist": "mnist"}

# How many garments "all" are: two of each class, out of 2 000.
_GARMENTS = 20

# Luminance of ITU-R BT.601.
LUMINANCE = (0.299, 0.587, 0.114)


def _foolbox(prefix: str) -> list[tuple[Path, int | None]]:
    files = _package_folder("foolbox", "data").glob(f"{prefix}_*")
    return sorted((path, int(path.stem.split("_")[-1])) for path in files)


def _skimage() -> list[tuple[Path, int | None]]:
    folder = _package_folder("skimage", "data")
    return [(folder / name, label) for name, label in _SKIMAGE.items()]


def picture_files(folder: Path) -> list[Path]:
    """The picture files of a folder, in order of name; ValueError if it has none or is none."""
    if not folder.is_dir():
        if len(folder.parts) > 1:
            raise ValueError(f"folder {folder} of photographs does not exist; check the path")
        kinds = [*_FOOLBOX, "skimage", "fashion_mnist", "path/to/folder"]
        raise ValueError(unknown("source of photographs", str(folder), kinds))
    kinds = Image.registered_extensions()
    suffixes = {suffix for suffix, kind in kinds.items() if kind in Image.OPEN}
    files = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    ]
    if not files:
        raise ValueError(f"folder {folder} has no pictures (.jpg, .png, …) in it")
    return files


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A picture to read; whatever fails while it is read is a ValueError that names the file."""
    try:
        with Image.open(path) as image:
            image.verify()  # the checksums of PNG, which reading skips
        with Image.open(path) as image:
            yield image
    except Exception as error:  # decoders raise anything for damaged files
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path} is not a picture that can be read: {reason}") from error


# White in grey pictures that do not say it themselves, by the largest value, which may pass it by
# this share, as black may be: an overshoot of resampling.
_WHITES, _OVERSHOOT = (1, 255, 65535), 0.25
# Formats in which more than 8 bits of grey are scaled to 16.
_SCALED = ("PNG", "PPM", "JPEG2000")
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF


def _white(image: Image.Image, values: np.ndarray) -> int:
    """The value of white in a deep grey picture; ValueError where nothing tells it."""
    if not np.isfinite(values).all():
        raise ValueError(
            f"{np.count_nonzero(~np.isfinite(values))} of its {values.size} values are not finite; "
            "replace them"
        )
    if image.format == "TIFF" and image.mode.startswith("I;16"):
        return 2 ** image.tag_v2[_BITS][0] - 1
    if image.format in _SCALED and image.mode.startswith("I"):
        return 65535
    lowest, highest = values.min(), values.max()
    for white in _WHITES:
        bright = white == 1 or highest >= white / 2
        if bright and -_OVERSHOOT * white <= lowest <= highest <= (1 + _OVERSHOOT) * white:
            return white
    raise ValueError(
        f"its grey values go from {lowest:g} to {highest:g}, and nothing tells which is white; "
        "save it as floating point in [0, 1], or in 8 or 16 unsigned bits"
    )


def _shallow(image: Image.Image) -> Image.Image:
    """A deep grey picture in 8 bits, upright; what is clear in it is white."""
    upright = ImageOps.exif_transpose(image)
    values = np.asarray(upright, dtype=np.float64)
    shares = values / _white(image, values)
    if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0:  # zero is white
        shares = 1 - shares
    shares[values == upright.info.get("transparency")] = 1
    return Image.fromarray(np.uint8(np.clip(shares, 0, 1) * 255 + 0.5))


def read_picture(path: Path, size: int) -> np.ndarray:
    """Read a picture as ``[size, size, 3]`` in [0, 1], upright, cropped to its central square.

    Grey becomes three equal channels, transparency lies on white, EXIF rotation is undone,
    Lanczos resampling as in [adebayo2018code]. Floating point and 32 bits of grey, which do not
    say what white is, are in [0, 1], [0, 255] or [0, 65535] by their largest value; what passes
    that slightly is clipped. Raises ValueError, which names the file, for one that is no picture,
    is damaged, has values that are not finite, or does not tell what white is.
    """
    with opened(path) as image:
        if image.mode.startswith(("I", "F")):
            upright = _shallow(image)
        elif image.format == "TIFF" and 2 in image.tag_v2.get(_SAMPLE_FORMAT, ()):
            raise ValueError("its 8 bits are signed; save it in 8 unsigned bits")
        else:
            upright = ImageOps.exif_transpose(image)
        if upright.has_transparency_data:
            upright = upright.convert("RGBA")
            ground = Image.new("RGBA", upright.size, "white")
            upright = Image.alpha_composite(ground, upright)
        square = ImageOps.fit(upright.convert("RGB"), (size, size), Image.Resampling.LANCZOS)
    return np.asarray(square, dtype=np.float32) / 255


def load_photographs(
    source: str = "foolbox", *, size: int, count: int = 0, channels: int = 3
) -> Photographs:
    """Load ``count`` photographs, 0 for all of them, as squares of ``size`` pixels.

    ``source`` is ``foolbox`` (20 labelled ImageNet photographs), ``skimage``, ``mnist`` (20 digits
    of 28 px), ``fashion_mnist`` (garments of the embedded test split, the ten classes by turns;
    20 unless more are asked for), or a folder. ``channels`` is 3, or 1 for luminance. Raises
    ValueError for an unknown source, an empty folder, a damaged file, or a count there is not.
    """
    if channels not in (1, 3):
        raise ValueError(f"{channels} channels asked for; valid are 3 and 1")
    if source == "fashion_mnist":
        return _garments(size, count, channels)
    if source in _FOOLBOX:
        files = _foolbox(_FOOLBOX[source])
    elif source == "skimage":
        files = _skimage()
    else:
        files = [(path, None) for path in picture_files(Path(source))]
    _check_count(count, len(files), source)
    files = files[: count or None]
    pixels = torch.from_numpy(np.stack([read_picture(path, size) for path, _ in files]))
    if channels == 1:
        pixels = (pixels * pixels.new_tensor(LUMINANCE)).sum(3, keepdim=True)
    return Photographs(
        names=tuple(_names([path for path, _ in files])),
        labels=tuple(label for _, label in files),
        pixels=pixels.permute(0, 3, 1, 2).contiguous(),
    )


def _check_count(count: int, most: int, source: str, none: str = "all") -> None:
    if not 0 <= count <= most:
        raise ValueError(
            f"{count} photographs asked for, {source} has {most}: "
            f"valid are 1 to {most}, or 0 for {none}"
        )


def _garments(size: int, count: int, channels: int) -> Photographs:
    garments = load_dataset("fashion_mnist", "test")
    _check_count(count, len(garments), "fashion_mnist", f"the first {_GARMENTS}")
    taken = by_turns(garments.labels)[: count or _GARMENTS]
    return Photographs(
        names=tuple(f"garment {i + 1}" for i in range(len(taken))),
        labels=tuple(garments.labels[taken].tolist()),
        pixels=to_pixels(garments.images[taken], size, channels).contiguous(),
    )


def dithered(pixels: Tensor, seed: int = 0) -> Tensor:
    """Raw pictures with noise of one grey level in 256, still within [0, 1].

    On flat ground max pools meet ties, and which of equal units gets the gradient is then decided
    by rounding; no two pixels are equal here.
    """
    noise = torch.rand(
        pixels.shape, generator=generator(seed, "dither"), dtype=torch.float64, device="cpu"
    )
    return (pixels * 255 + noise.to(pixels)) / 256


def targets(photographs: Photographs, predicted: Tensor, explain_class: str) -> Tensor:
    """The class ``[N]`` to explain for each photograph: ``predicted`` or its ``label``.

    Raises ValueError for another word, or for labels where a photograph has none.
    """
    if explain_class == "predicted":
        return predicted
    if explain_class != "label":
        raise ValueError(unknown("class to explain", explain_class, ["predicted", "label"]))
    for name, label in zip(photographs.names, photographs.labels, strict=True):
        if label is None:
            raise ValueError(f"{name} has no label; explain the predicted class instead")
    return torch.tensor(photographs.labels, device=predicted.device)


def _names(paths: Sequence[Path]) -> list[str]:
    # foolbox numbers its files; the class, shown beside the picture, says more.
    stems = [re.sub(r"^imagenet_(\d+)_\d+$", r"photograph \1", path.stem) for path in paths]
    # Results are keyed by these names: a.jpg beside a.png keep their suffixes.
    return [
        path.name if stems.count(stem) > 1 else stem
        for path, stem in zip(paths, stems, strict=True)
    ]
