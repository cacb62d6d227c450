"""Pictures of every kind come out upright, square, in colour and in [0, 1]."""

import struct

import numpy as np
import pytest
import torch
from PIL import Image, features
from saliency_sanity import load_photographs
from saliency_sanity.subjects.datasets import load_dataset
from saliency_sanity.subjects.photographs import dithered, read_picture

# Red, green / blue, white, each a block of 20 pixels: which corner is which survives everything.
BLOCKS = np.kron(
    np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], dtype=np.uint8),
    np.ones((20, 20, 1), dtype=np.uint8),
)


def corners(picture: np.ndarray) -> list[list[float]]:
    """The colours a quarter in from each corner: above left and right, below left and right."""
    near, far = len(picture) // 4, 3 * len(picture) // 4
    places = [(near, near), (near, far), (far, near), (far, far)]
    return [picture[place].round(1).tolist() for place in places]


EXPECTED = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]


def test_installed_photographs():
    photographs = load_photographs(size=32)
    assert photographs.pixels.shape == (20, 3, 32, 32)
    assert photographs.pixels.dtype == torch.float32
    assert photographs.pixels.is_contiguous()
    assert 0 <= photographs.pixels.min() < 0.1
    assert 0.9 < photographs.pixels.max() <= 1
    assert len(set(photographs.names)) == len(photographs.labels) == 20
    assert {630, 305, 251} <= set(photographs.labels)
    few = load_photographs(size=32, count=3)
    assert few.names == photographs.names[:3]
    assert torch.equal(few.pixels, photographs.pixels[:3])


def test_scikit_images_photographs():
    photographs = load_photographs("skimage", size=32)
    assert len(photographs) == len(photographs.labels) == len(photographs.pixels)
    assert dict(zip(photographs.names, photographs.labels, strict=True))["coffee"] == 967


def test_garments_are_the_embedded_test_pictures_by_turns():
    photographs = load_photographs("fashion_mnist", size=28)
    assert photographs.pixels.shape == (20, 3, 28, 28)
    assert photographs.labels == tuple(range(10)) * 2
    assert (photographs.names[0], photographs.names[19]) == ("garment 1", "garment 20")
    garments = load_dataset("fashion_mnist", "test")
    bags = garments.images[garments.labels == 8][:2]
    assert torch.equal((photographs.pixels[[8, 18], 0] * 255).round().to(torch.uint8), bags)
    assert (photographs.pixels[0, :, 0, 0] == 0).all()
    many = load_photographs("fashion_mnist", size=75, count=33, channels=1)
    assert many.pixels.shape == (33, 1, 75, 75)
    assert many.names[:20] == photographs.names
    assert len(load_photographs("fashion_mnist", size=28, count=2000)) == 2000
    with pytest.raises(ValueError, match=r"2001 photographs asked for, fashion_mnist has 2000"):
        load_photographs("fashion_mnist", size=28, count=2001)


def test_digits_are_those_of_foolbox():
    digits = load_photographs("mnist", size=28)
    assert len(digits) == 20
    assert set(digits.labels) <= set(range(10))


def test_one_channel_is_luminance(tmp_path):
    Image.fromarray(BLOCKS).save(tmp_path / "p.png")
    grey = load_photographs(str(tmp_path), size=40, channels=1).pixels
    assert grey.shape == (1, 1, 40, 40)
    assert grey[0, 0, 10, 10].item() == pytest.approx(0.299, abs=1e-6)
    assert grey[0, 0, 10, 30].item() == pytest.approx(0.587, abs=1e-6)
    assert grey[0, 0, 30, 10].item() == pytest.approx(0.114, abs=1e-6)
    assert grey[0, 0, 30, 30].item() == pytest.approx(1, abs=1e-6)
    with pytest.raises(ValueError, match=r"2 channels asked for; valid are 3 and 1"):
        load_photographs(str(tmp_path), size=40, channels=2)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".JPG"])
def test_colours_keep_their_places(suffix, tmp_path):
    Image.fromarray(BLOCKS).save(
        tmp_path / f"p{suffix}", **({"lossless": True} if suffix == ".webp" else {})
    )
    assert corners(read_picture(tmp_path / f"p{suffix}", 40)) == EXPECTED


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "RGBX"])
def test_colour_modes(mode, tmp_path):
    path = tmp_path / ("p.tif" if mode in ("CMYK", "RGBX") else "p.png")
    Image.fromarray(BLOCKS).convert(mode).save(path)
    assert corners(read_picture(path, 40)) == EXPECTED


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_on_white(mode, tmp_path):
    clear = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    if mode == "P":
        clear = Image.new("P", (10, 10), 0)
        clear.putpalette([0, 0, 0] * 2)
        clear.save(tmp_path / "p.png", transparency=0)
    else:
        clear.convert(mode).save(tmp_path / "p.png")
    assert (read_picture(tmp_path / "p.png", 8) == 1).all()


GREY = np.linspace(0, 1, 40)[None, :].repeat(40, 0)


@pytest.mark.parametrize(
    ("values", "suffix"),
    [
        ((GREY * 255).astype(np.uint8), ".png"),
        ((GREY * 65535).astype(np.uint16), ".png"),
        ((GREY * 65535).astype(np.uint16), ".tif"),
        ((GREY * 65535).astype(np.int32), ".tif"),
        ((GREY * 255).astype(np.float32), ".tif"),
        (GREY.astype(np.float32), ".tif"),
    ],
    ids=["8-bit", "16-bit", "16-bit tiff", "32-bit", "float 255", "float 1"],
)
def test_grey_of_any_depth_becomes_three_equal_channels(values, suffix, tmp_path):
    Image.fromarray(values).save(tmp_path / f"p{suffix}")
    found = read_picture(tmp_path / f"p{suffix}", 40)
    assert found.shape == (40, 40, 3)
    assert (found == found[:, :, :1]).all()
    assert np.abs(found[:, :, 0] - GREY).max() < 0.01


def tiff(path, values, bits=32, form=3, zero=1):
    """A grey TIFF by hand: bits a value, 1 unsigned, 2 signed or 3 floating, what zero means."""
    if bits == 12:  # two values in three bytes
        even, odd = values.astype(int).reshape(-1, 2).T
        data = np.stack([even >> 4, (even & 15) << 4 | odd >> 8, odd & 255], 1)
        data = data.astype(np.uint8).tobytes()
    else:
        data = values.astype(f"<{' uif'[form]}{bits // 8}").tobytes()
    height, width = values.shape
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: zero, 273: 134, 277: 1, 278: height}
    tags |= {279: len(data), 339: form}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    path.write_bytes(struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + data)
    return path


@pytest.mark.parametrize("white", [1.2, 1.25, 255, 255 * 1.2, 65535, 65535 * 1.2])
@pytest.mark.parametrize("black", [0, -0.2])
def test_a_slight_overshoot_of_floating_point_is_clipped(white, black, tmp_path):
    unit = min((1, 255, 65535), key=lambda one: abs(white / one - 1))
    values = np.linspace(black * unit, white, 40)[None, :].repeat(40, 0)
    found = read_picture(tiff(tmp_path / "p.tif", values), 40)
    expected = (np.clip(values / unit, 0, 1) * 255).round() / 255
    assert np.abs(found[:, :, 0] - expected).max() < 0.004


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_name(wrong, tmp_path):
    values = GREY.copy()
    values[3, :2] = wrong
    tiff(tmp_path / "holiday.tif", values)
    with pytest.raises(ValueError, match=r"holiday.tif .*: 2 of its 1600 values are not finite"):
        load_photographs(str(tmp_path), size=8)


@pytest.mark.parametrize(
    ("values", "bits", "form"),
    [
        (GREY * 2 - 1, 32, 3),
        (GREY * 30, 32, 3),
        (GREY * 4095, 32, 3),
        (GREY * 1e6, 32, 3),
        (GREY * (2**31 - 1), 32, 2),
        (GREY * (2**32 - 1), 32, 1),
        (GREY * (2**15 - 1), 16, 2),
        (GREY * 127, 8, 2),
    ],
)
def test_grey_of_which_nothing_tells_white_is_refused_by_name(values, bits, form, tmp_path):
    tiff(tmp_path / "scan.tif", values, bits, form)
    with pytest.raises(ValueError, match=r"scan.tif .*(nothing tells|signed).*8 .*unsigned bits"):
        load_photographs(str(tmp_path), size=8)


@pytest.mark.parametrize("top", [1.0, 0.01])
@pytest.mark.parametrize(
    ("white", "bits", "form", "zero"),
    [
        (4095, 12, 1, 1),
        *((*one, z) for one in [(255, 8, 1), (65535, 16, 1), (1, 32, 3)] for z in (0, 1)),
    ],
)
def test_the_file_says_what_white_is(white, bits, form, zero, top, tmp_path):
    """Dark pictures stay dark, and zero is white where the file says so."""
    stored = GREY * top * white
    found = read_picture(tiff(tmp_path / "p.tif", stored, bits, form, zero), 40)[:, :, 0]
    assert np.abs(found - (GREY * top if zero else 1 - GREY * top)).max() < 0.008


@pytest.mark.parametrize("most", [100, 1023, 65535])
def test_portable_grey_is_scaled_by_its_largest_value(most, tmp_path):
    values = (GREY * most * 0.5).astype(">u2" if most > 255 else np.uint8)
    (tmp_path / "p.pgm").write_bytes(f"P5 40 40 {most}\n".encode() + values.tobytes())
    assert np.abs(read_picture(tmp_path / "p.pgm", 40)[:, :, 0] - GREY * 0.5).max() < 0.02


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_transparent_grey_is_white(kind, tmp_path):
    values = np.full((8, 8), np.iinfo(kind).max // 2, kind)
    values[:, :4] = 3
    Image.fromarray(values).save(tmp_path / "p.png", transparency=3)
    assert read_picture(tmp_path / "p.png", 8)[0, [0, -1], 0].round(1).tolist() == [1, 0.5]


def test_dark_picture_of_16_bits_stays_dark(tmp_path):
    Image.fromarray((GREY * 200).astype(np.uint16)).save(tmp_path / "p.png")
    assert read_picture(tmp_path / "p.png", 40).max() < 0.01


def test_black_and_white_bits(tmp_path):
    Image.fromarray(GREY > 0.5).save(tmp_path / "p.png")
    assert set(np.unique(read_picture(tmp_path / "p.png", 40)[:, [5, 35]])) == {0.0, 1.0}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotation_of_the_camera_is_undone(orientation, tmp_path):
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = Image.fromarray(BLOCKS)
    if orientation in undo:
        stored = stored.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "p.jpg", exif=exif, quality=100, subsampling=0)
    assert corners(read_picture(tmp_path / "p.jpg", 40)) == EXPECTED


@pytest.mark.parametrize("shape", [(40, 80), (80, 40), (4, 2), (1, 1)])
def test_central_square_of_any_shape(shape, tmp_path):
    values = np.zeros((*shape, 3), dtype=np.uint8)
    side = min(shape)
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    values[top : top + side, left : left + side] = 255
    Image.fromarray(values).save(tmp_path / "p.png")
    found = read_picture(tmp_path / "p.png", 24)
    assert found.shape == (24, 24, 3)
    assert found[4:-4, 4:-4].min() > 0.5


def test_folder_in_the_order_of_names(tmp_path):
    for name, value in (("b.png", 255), ("a.jpg", 0), ("c.png", 128)):
        Image.fromarray(np.full((9, 9, 3), value, np.uint8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "paper.pdf").write_text("no picture either")
    (tmp_path / "._a.jpg").write_text("what some systems leave beside a file")
    found = load_photographs(str(tmp_path), size=8)
    assert found.names == ("a", "b", "c")
    assert found.labels == (None, None, None)
    assert found.pixels.mean((1, 2, 3)).tolist() == pytest.approx([0, 1, 128 / 255], abs=0.01)


def test_names_stay_apart(tmp_path):
    for name in ("a.png", "a.jpg", "b.png"):
        Image.fromarray(BLOCKS).save(tmp_path / name)
    assert load_photographs(str(tmp_path), size=8).names == ("a.jpg", "a.png", "b")


def test_empty_and_missing_folders_are_named(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path.name} has no pictures"):
        load_photographs(str(tmp_path), size=8)
    with pytest.raises(ValueError, match=r"folder .*nowhere of photographs does not exist"):
        load_photographs(str(tmp_path / "nowhere"), size=8)
    with pytest.raises(ValueError, match=r"'foolbix'. Nearest: foolbox"):
        load_photographs("foolbix", size=8)


FORMATS = ["jpeg", "png", "tiff", "gif", "webp", *["avif"] * features.check("avif")]


@pytest.mark.parametrize("kind", ["text", "empty", *(f"{one} cut" for one in FORMATS)])
def test_damaged_file_is_named(kind, tmp_path):
    format = kind.split()[0] if kind.endswith("cut") else "jpeg"
    Image.fromarray(np.kron(BLOCKS, np.ones((8, 8, 1), np.uint8))).save(tmp_path / "good.png")
    path = tmp_path / f"holiday.{format}"
    noise = np.random.default_rng(0).integers(0, 255, (90, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    cut = {"text": b"dear diary", "empty": b""}.get(kind, whole[: len(whole) // 3])
    path.write_bytes(cut)
    with pytest.raises(ValueError, match=rf"holiday.{format} is not a picture"):
        load_photographs(str(tmp_path), size=8)


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL", "ignore:Image size")
@pytest.mark.parametrize("format", FORMATS)
def test_a_byte_that_is_wrong_raises_no_other_error(format, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # a wrong width takes no time
    path = tmp_path / f"holiday.{format}"
    noise = np.random.default_rng(0).integers(0, 255, (9, 9, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    whole, refused, right = path.read_bytes(), [], read_picture(path, 8)
    for place in range(0, len(whole), 1 + len(whole) // 50):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            found = read_picture(path, 8)
        except ValueError as error:
            refused.append(str(error))
        else:  # of these formats PNG alone has checksums
            assert format != "png" or np.array_equal(found, right)
    assert refused
    assert all(f"holiday.{format} is not a picture" in said for said in refused)


@pytest.mark.parametrize("count", [-1, 21, 1000])
def test_more_than_there_are_is_refused_with_the_number(count):
    with pytest.raises(ValueError, match=f"{count} photographs asked for, foolbox has 20"):
        load_photographs(size=8, count=count)


def test_dither_breaks_ties_within_a_grey_level():
    flat = torch.full((1, 3, 8, 8), 100 / 255)
    found = dithered(flat)
    assert len(found.unique()) == flat.numel()
    assert (found * 256).floor().unique().tolist() == [100]
    assert torch.equal(found, dithered(flat))
    assert not torch.equal(found, dithered(flat, seed=1))
    for extreme in (0.0, 1.0):
        assert 0 <= dithered(flat * 0 + extreme).min() <= dithered(flat * 0 + extreme).max() <= 1
    assert dithered(flat.double()).dtype == torch.float64
