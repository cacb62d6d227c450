"""Small pictures of figures: every map is where it was put, in the figures' colours."""

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image
from saliency_sanity.plots.mosaic import TILE, mosaic, tinted


def test_tiles_keep_their_places_and_colours(tmp_path):
    levels = [[0.1, 0.5, 0.9], [0.8, 0.3, 0.0]]
    rows = [[tinted(np.full((28, 28), level)) for level in row] for row in levels]
    path = mosaic(rows, tmp_path / "new" / "card.webp")
    with Image.open(path) as image:
        pixels = np.asarray(image, dtype=float)
    pitch = (pixels.shape[1] - 3 * TILE) // 2 + TILE
    for i, row in enumerate(levels):
        for j, level in enumerate(row):
            tile = pixels[i * pitch :, j * pitch :][20 : TILE - 20, 20 : TILE - 20]
            wanted = 255 * np.array(mpl.colormaps["magma"](level)[:3])
            np.testing.assert_allclose(tile.mean((0, 1)), wanted, atol=6)
    assert path.stat().st_size < 300_000


def test_signs_have_white_between_them_and_what_is_undefined_is_grey():
    colours = tinted(np.array([[-1, 0, 1, np.nan]]), signed=True)[0]
    assert colours[0, 2] > colours[0, 0]
    assert colours[1].min() > 0.95
    assert colours[2, 0] > colours[2, 2]
    assert colours[3].tolist() == [0.5, 0.5, 0.5]


def test_photographs_of_any_size_and_grey_ones_fit(tmp_path):
    rng = np.random.default_rng(0)
    path = mosaic([[rng.random((224, 224, 3)), rng.random((28, 28))]], tmp_path / "a.webp")
    with Image.open(path) as image:
        assert image.height == TILE


def test_rows_of_different_lengths_are_refused(tmp_path):
    one = np.zeros((4, 4))
    with pytest.raises(ValueError, match=r"rows of \[1, 2\] pictures"):
        mosaic([[one], [one, one]], tmp_path / "a.webp")
