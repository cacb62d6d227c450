"""Heavy pictures become light ones that look the same, and light ones stay as they are."""

import base64
import io

import nbformat
import numpy as np
import pytest
from PIL import Image
from saliency_sanity.book.runs.pictures import LIMIT, light, lighten


def png(values: np.ndarray, dots: float = 120) -> bytes:
    into = io.BytesIO()
    # Without compression anything is heavy.
    Image.fromarray(values).save(into, "PNG", dpi=(dots, dots), compress_level=0)
    return into.getvalue()


def read(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def photograph(side: int = 600, blur: float = 1.5) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(0).normal(size=(side, side, 3))
    smooth = gaussian_filter(noise, (blur, blur, 0))
    return (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def test_a_light_picture_stays_byte_for_byte():
    data = png(photograph(100))
    assert len(data) <= LIMIT
    assert light(data) == ("image/png", data)


def test_few_colours_are_kept_to_the_last_one():
    drawn = np.full((700, 700, 4), 255, np.uint8)
    drawn[100:200, :, :3] = (0, 114, 178)
    kind, found = light(png(drawn))
    assert kind == "image/png"
    assert len(found) <= LIMIT
    assert np.array_equal(read(found).convert("RGBA"), drawn)


def test_a_photograph_keeps_pixels_inches_and_looks():
    drawn = photograph()
    _, found = light(png(drawn))
    assert len(found) <= LIMIT
    picture = read(found)
    assert picture.size == (600, 600)
    assert picture.info["dpi"][0] == pytest.approx(120, abs=0.5)
    change = np.subtract(picture.convert("RGB"), drawn, dtype=np.int16)
    assert np.abs(change).mean() < 6


def test_what_is_still_too_heavy_gets_fewer_pixels_and_as_many_inches():
    drawn = np.random.default_rng(0).integers(0, 256, (400, 300, 3), dtype=np.uint8)
    kind, found = light(png(drawn), limit=20_000)
    picture = read(found)
    assert kind == Image.MIME[picture.format]
    assert len(found) <= 20_000
    assert picture.width < 300
    inches = np.divide(picture.size, picture.info["dpi"])
    assert inches == pytest.approx([300 / 120, 400 / 120], rel=0.03)


def test_a_file_that_has_to_stay_a_png_does():
    kind, found = light(png(photograph()), limit=100_000, photographs=False)
    assert (kind, read(found).format) == ("image/png", "PNG")
    assert len(found) <= 100_000


def test_what_is_transparent_is_white():
    drawn = np.zeros((700, 700, 4), np.uint8)
    _, found = light(png(drawn))
    assert read(found).convert("RGB").getcolors() == [(700 * 700, (255, 255, 255))]


def test_no_picture_is_as_light_as_nothing():
    with pytest.raises(ValueError, match="as light as 10 bytes"):
        light(png(photograph(20)), limit=10)


def test_every_picture_of_a_notebook_and_what_is_said_of_it():
    heavy, small = (base64.b64encode(png(photograph(side))).decode() for side in (900, 50))
    output = nbformat.v4.new_output(
        "display_data",
        {"image/png": heavy, "text/plain": "it"},
        metadata={"image/png": {"width": 9}},
    )
    other = nbformat.v4.new_output("display_data", {"image/png": small})
    cell = nbformat.v4.new_code_cell("show()", outputs=[output, other])
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A"), cell])
    lighten(notebook)
    shown, kept = notebook.cells[1].outputs
    (kind,) = set(shown.data) - {"text/plain"}
    assert len(base64.b64decode(shown.data[kind])) <= LIMIT
    assert shown.metadata == {kind: {"width": 9}}
    assert shown.data["text/plain"] == "it"
    assert kept.data == {"image/png": small}
    nbformat.validate(notebook)
