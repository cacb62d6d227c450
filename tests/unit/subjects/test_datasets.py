"""Pictures with labels: the embedded subset, other sources, damage, what is not there."""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from made.places import ROOT
from PIL import Image
from saliency_sanity.subjects import datasets
from saliency_sanity.subjects.datasets import (
    CLASS_NAMES,
    EMBEDDED,
    FILES,
    DatasetUnavailable,
    by_turns,
    embed,
    load_dataset,
    to_pixels,
)

DATA = ROOT / "data" / "fashion_mnist"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
NAMES = [name for files in FILES.values() for name in files]


def test_checksums_are_those_of_the_files():
    listed = dict(reversed(line.split()) for line in (DATA / "SHA256SUMS").read_text().splitlines())
    assert sorted(listed) == sorted(NAMES)
    for name, digest in listed.items():
        assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == digest
    assert {path.name for path in DATA.iterdir()} == {*NAMES, "SHA256SUMS"}


@pytest.mark.parametrize(("split", "each"), EMBEDDED.items())
def test_embedded_subset_has_as_many_of_each_class(split, each):
    found = load_dataset(split=split)
    assert found.images.shape == (10 * each, 28, 28)
    assert (found.images.dtype, found.labels.dtype) == (torch.uint8, torch.int64)
    assert found.labels.bincount().tolist() == [each] * 10
    assert (found.name, found.split) == ("fashion_mnist", split)
    assert found.class_names[9] == "Ankle boot"
    assert found.images.min() == 0
    assert found.images.max() == 255
    # Corners are background almost everywhere: rows and columns are where they should be.
    assert (found.images[:, 0, 0] == 0).double().mean() > 0.9
    assert (found.images[:, 14, 14] == 0).double().mean() < 0.5


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="the package dataset-fashion-mnist is not there")
def test_embedded_subset_is_made_from_the_full_data(tmp_path):
    embed(DEBIAN, tmp_path)
    for name in NAMES:
        ours, theirs = ((folder / name).read_bytes() for folder in (DATA, tmp_path))
        # Another zlib may pack the same bytes otherwise.
        assert gzip.decompress(ours) == gzip.decompress(theirs)
        assert ours[4:8] == b"\0\0\0\0", "the time of packing"
    full = load_dataset(split="test", source="debian")
    assert len(full) == 10_000
    own = load_dataset(split="test")
    taken = torch.cat([(full.labels == k).nonzero()[:200, 0] for k in range(10)]).sort()[0]
    assert torch.equal(full.images[taken], own.images)
    assert torch.equal(full.labels[taken], own.labels)


def test_count_takes_the_first():
    whole, few = load_dataset(split="test"), load_dataset(split="test", count=7)
    assert len(few) == 7
    assert torch.equal(few.images, whole.images[:7])
    assert torch.equal(few.labels, whole.labels[:7])


@pytest.mark.parametrize("count", [-1, 2001])
def test_count_there_is_not_names_both_numbers(count):
    with pytest.raises(ValueError, match=rf"{count} pictures asked for, .* has 2000: valid are 1"):
        load_dataset(split="test", count=count)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "fashion_mnits"}, r"unknown dataset 'fashion_mnits'. Nearest: fashion_mnist"),
        ({"split": "tset"}, r"unknown split 'tset'. Nearest: test"),
        ({"source": "embeded"}, r"unknown source of fashion_mnist 'embeded'. Nearest: embedded"),
        ({"name": "mnist"}, r"mnist is not embedded; give its source.*-p source download"),
        ({"name": "mnist", "source": "debian"}, r"unknown source of mnist 'debian'"),
    ],
)
def test_unknown_names_list_the_nearest(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_dataset(**arguments)


@pytest.fixture
def copied(tmp_path, monkeypatch) -> Path:
    """An embedded folder that may be damaged, in a checkout of its own."""
    shutil.copytree(DATA, tmp_path / "data/fashion_mnist")
    monkeypatch.setattr(
        datasets, "__file__", str(tmp_path / "lib/saliency_sanity/subjects/datasets.py")
    )
    return tmp_path / "data/fashion_mnist"


def test_embedded_data_are_those_of_the_checkout(copied):
    load_dataset(split="test", count=1)
    shutil.rmtree(copied)
    with pytest.raises(DatasetUnavailable, match=r"belongs to the checkout.*pip install -e"):
        load_dataset(split="test", count=1)


def test_a_missing_embedded_file_is_named(copied):
    (copied / FILES["test"][0]).unlink()
    with pytest.raises(ValueError, match=r"t10k-images.* is missing; restore it.*git checkout"):
        load_dataset(split="test")


@pytest.mark.parametrize("damage", ["flipped", "cut", "unlisted"])
def test_damaged_embedded_file_is_named_with_both_digests(damage, copied):
    path = copied / FILES["test"][0]
    content = bytearray(path.read_bytes())
    expected = hashlib.sha256(content).hexdigest()
    if damage == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "cut":
        path.write_bytes(content[:1000])
    else:
        (copied / "SHA256SUMS").write_text("")
        expected = "one listed in SHA256SUMS"
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(
        ValueError, match=r"t10k-images.*is damaged.*git checkout -- data"
    ) as caught:
        load_dataset(split="test")
    assert expected in str(caught.value)
    assert found in str(caught.value)
    load_dataset(split="train", count=1) if damage != "unlisted" else None


def test_folder_of_idx_files_compressed_or_not(tmp_path):
    for name in FILES["test"]:
        (tmp_path / name.removesuffix(".gz")).write_bytes(
            gzip.decompress((DATA / name).read_bytes())
        )
    for name in ("fashion_mnist", "mnist"):
        found = load_dataset(name, "test", source=tmp_path)
        assert torch.equal(found.images, load_dataset(split="test").images)
        assert found.class_names == CLASS_NAMES[name]
    with pytest.raises(DatasetUnavailable, match=r"neither train-images-idx3-ubyte.gz nor"):
        load_dataset("mnist", "train", source=tmp_path)
    with pytest.raises(DatasetUnavailable, match=r"nowhere of idx files does not exist"):
        load_dataset("mnist", source=tmp_path / "nowhere")


def header(*shape: int, kind: int = 0x08) -> bytes:
    return bytes([0, 0, kind, len(shape)]) + np.array(shape, ">u4").tobytes()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (header(2, 28, 28) + bytes(2 * 784 - 1), header(2) + bytes(2), r"1567 bytes of data where"),
        (header(2, 28, 28) + bytes(2 * 784), header(2) + bytes(3), r"3 bytes of data where \(2,\)"),
        (b"", header(2) + bytes(2), r"no idx file"),
        (b"<html>offline</html>", header(2) + bytes(2), r"no idx file of unsigned bytes"),
        (header(2, 28, 28, kind=0x0D) + bytes(8 * 784), header(2) + bytes(2), r"no idx file"),
        (header(2, 28, 28) + bytes(2 * 784), header(3) + bytes(3), r"pictures \(2, 28, 28\) and"),
        (header(2, 9, 9) + bytes(162), header(2) + bytes(2), r"not \[N, 28, 28\] and \[N\]"),
        (header(2, 28, 28) + bytes(2 * 784), header(2) + bytes([0, 10]), r"has a label 10; valid"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_file_that_is_not_what_it_should_be(images, labels, message, packed, tmp_path):
    for name, content in zip(FILES["test"], (images, labels), strict=True):
        path = tmp_path / (name if packed else name.removesuffix(".gz"))
        path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(ValueError, match=message):
        load_dataset(split="test", source=tmp_path)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    return tmp_path / "datasets"


class FashionMNIST:
    """Stands for torchvision's: writes the files that it is told to, then fails or not."""

    contents: dict[str, bytes]
    error: Exception | None = None

    def __init__(self, root, *, download):
        assert download
        raw = Path(root) / "FashionMNIST/raw"
        raw.mkdir(parents=True)
        for name, content in self.contents.items():
            (raw / name).write_bytes(content)
        if self.error:
            raise self.error


def downloading(monkeypatch, contents, error=None):
    datasets.ensure_torchvision()
    import torchvision.datasets

    fake = type("FashionMNIST", (FashionMNIST,), {"contents": contents, "error": error})
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fake)


WHOLE = {name: (DATA / name).read_bytes() for name in NAMES}


def test_download_is_kept(cache, monkeypatch):
    downloading(monkeypatch, WHOLE)
    first = load_dataset(split="test", source="download")
    downloading(monkeypatch, {}, RuntimeError("not again"))
    again = load_dataset(split="test", source="download")
    assert torch.equal(first.images, again.images)
    assert [path.name for path in cache.iterdir()] == ["fashion_mnist"]


@pytest.mark.parametrize(
    ("contents", "error"),
    [
        ({}, RuntimeError("Error downloading train-images-idx3-ubyte.gz")),
        (dict(list(WHOLE.items())[:2]), URLError("connection lost")),
        ({**WHOLE, NAMES[2]: WHOLE[NAMES[2]][:5000]}, None),
        ({**WHOLE, NAMES[0].removesuffix(".gz"): b"half", NAMES[0]: b""}, None),
    ],
    ids=["nothing", "lost", "half a file", "empty file"],
)
def test_interrupted_download_is_never_trusted(contents, error, cache, monkeypatch):
    downloading(monkeypatch, contents, error)
    with pytest.raises(DatasetUnavailable, match=r"download failed.*source='embedded' needs no ne"):
        load_dataset(split="test", source="download")
    assert list(cache.iterdir()) == []
    downloading(monkeypatch, WHOLE)
    assert len(load_dataset(split="test", source="download")) == 2000


def test_killed_download_leaves_nothing_that_is_trusted(tmp_path):
    code = (
        "import os, torch\n"
        "from saliency_sanity.subjects import datasets\n"
        "datasets.ensure_torchvision()\n"
        "import torchvision.datasets as theirs\n"
        "def half(self, root, **kwargs):\n"
        "    raw = root / 'FashionMNIST/raw'\n"
        "    raw.mkdir(parents=True)\n"
        "    (raw / 'train-images-idx3-ubyte').write_bytes(b'half')\n"
        "    os.kill(os.getpid(), 9)\n"
        "theirs.FashionMNIST.__init__ = half\n"
        "datasets.load_dataset(source='download')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TORCH_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert ran.returncode == -9
    assert list(tmp_path.rglob("train-images*")), "it was killed in the middle"
    assert not (tmp_path / "hub/datasets/fashion_mnist").exists()


@pytest.mark.parametrize("name", ["fashion_mnist", "mnist"])
def test_no_network_says_what_to_do(name, cache, monkeypatch):
    def refuse(*args, **kwargs):
        raise URLError("Temporary failure in name resolution")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(DatasetUnavailable) as caught:
        load_dataset(name, source="download")
    assert "train-images-idx3-ubyte.gz" in str(caught.value)
    assert "give their folder as source" in str(caught.value)
    assert ("embedded" in str(caught.value)) == (name == "fashion_mnist")
    assert list(cache.iterdir()) == []


def test_pixels_at_their_own_size_are_the_bytes():
    images = load_dataset(split="test", count=3).images
    pixels = to_pixels(images, 28, 3)
    assert pixels.shape == (3, 3, 28, 28)
    assert torch.equal((pixels[:, 1] * 255).round().to(torch.uint8), images)


@pytest.mark.parametrize("size", [14, 75])
def test_enlarged_pixels_are_those_of_pillow_and_of_each_picture(size):
    images = load_dataset(split="test", count=5).images
    pixels = to_pixels(images, size, 1)
    assert 0 <= pixels.min() < pixels.max() <= 1
    single = torch.cat([to_pixels(image[None], size, 1) for image in images])
    assert torch.equal(pixels, single)
    for image, found in zip(images, pixels[:, 0], strict=True):
        picture = Image.fromarray(image.numpy().astype(np.float32) / 255)
        theirs = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
        assert np.abs(found.numpy() - theirs).max() < 1e-5


def test_turns_take_every_class_once():
    labels = load_dataset(split="test").labels
    order = by_turns(labels)
    assert torch.equal(order.sort()[0], torch.arange(len(labels)))
    assert torch.equal(labels[order], torch.arange(10).repeat(200))
    for label in range(10):
        own = order[label::10]
        assert torch.equal(own, own.sort()[0]), "within a class in the given order"
    assert by_turns(torch.tensor([2, 2, 0, 2, 0])).tolist() == [2, 0, 4, 1, 3]
