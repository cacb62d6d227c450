import numpy as np
import pytest
import torch
from saliency_sanity.similarity.hog import Hog
from skimage.feature import hog

RNG = np.random.default_rng(3)
DENSE = RNG.standard_t(3, size=(3, 299, 299))
MAPS = {
    "dense": DENSE,
    "unit": (DENSE - DENSE.min()) / np.ptp(DENSE),
    "sparse": np.where(RNG.random(DENSE.shape) < 0.94, 0, DENSE),
    # Gradients of two channels are often equally long and differ in direction.
    "thirds": RNG.integers(0, 4, DENSE.shape) / 3,
    "tenths": RNG.integers(0, 11, DENSE.shape) / 10,
    "one channel": DENSE[:1],
    "one channel repeated": np.repeat(DENSE[:1], 3, axis=0),
    "ramp to the right": np.tile(np.arange(100.0), (1, 80, 1)),
    "ramp to the left": -np.tile(np.arange(100.0), (1, 80, 1)),
    "ramp down": np.tile(np.arange(80.0)[:, None], (1, 1, 100)),
    "ramp up": -np.tile(np.arange(80.0)[:, None], (1, 1, 100)),
    "zero": np.zeros((2, 48, 48)),
    "exactly three cells": DENSE[:, :48, :48],
    "higher than wide": DENSE[:, :130, :48],
    "wider than high": DENSE[:2, :49, :97],
    "sparse, one channel": np.where(RNG.random(DENSE.shape) < 0.94, 0, DENSE)[:1],
    "faint": DENSE * 1e-80,
}


@pytest.mark.parametrize("name", MAPS)
def test_equals_scikit_image(name):
    image = MAPS[name]
    expected = hog(image, pixels_per_cell=(16, 16), channel_axis=0)
    batch = np.stack([image, image])
    np.testing.assert_allclose(Hog()(batch), [expected] * 2, rtol=1e-6, atol=1e-7)
    # Which of two equally long gradients wins hangs on the last bit of a square root, which the
    # two libraries round differently; thirds and whole numbers happen to be safe.
    loose = 0.01 if name == "tenths" else 1e-7
    np.testing.assert_allclose(Hog()(torch.from_numpy(batch))[1], expected, rtol=1e-6, atol=loose)


@pytest.mark.parametrize(("cell", "orientations", "block"), [(8, 9, 2), (5, 4, 3), (16, 8, 1)])
def test_other_settings_equal_scikit_image(cell, orientations, block):
    expected = hog(
        DENSE,
        orientations=orientations,
        pixels_per_cell=(cell, cell),
        cells_per_block=(block, block),
        channel_axis=0,
    )
    ours = Hog(cell, orientations, block)(DENSE[None])[0]
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("slope", [-1e-17, -1e-18, -1e-25])
def test_directions_just_below_a_half_turn_count(slope):
    """An edge from top to bottom, and beside it a slope too small to turn its direction."""
    edge = np.zeros((48, 48))
    edge[:, 24:] = 1
    tilted = edge.copy()
    tilted[:, 23] = slope * np.arange(48)
    for maps in (tilted[None, None], torch.from_numpy(tilted[None, None])):
        blocks = np.asarray(Hog()(maps)).reshape(9, 9)
        # All is in the first bin, the tilted half of the middle cells' in the last.
        assert (blocks[:, 1:8] == 0).all()
        assert blocks[:, 8].max() == pytest.approx(blocks[:, 0].max())


def test_each_image_by_itself():
    batch = RNG.random((4, 3, 64, 70))
    single = np.concatenate([Hog()(batch[i : i + 1]) for i in range(4)])
    np.testing.assert_array_equal(Hog()(batch), single)


def test_undefined_maps_stay_by_themselves():
    batch = RNG.random((3, 2, 64, 50))
    batch[1] = np.nan
    for maps in (batch, torch.from_numpy(batch)):
        found = np.asarray(Hog()(maps))
        np.testing.assert_array_equal(found[[0, 2]], np.asarray(Hog()(maps[[0, 2]])))
    assert np.isnan(Hog()(batch)[1]).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 2), (2, 3), (3, 2)])
def test_tiny_maps(shape):
    maps = RNG.random((2, 3, *shape))
    found = Hog(cell=1, block=1)(maps)
    expected = [
        hog(m, pixels_per_cell=(1, 1), cells_per_block=(1, 1), channel_axis=0) for m in maps
    ]
    np.testing.assert_allclose(found, expected, atol=1e-7)
    np.testing.assert_allclose(Hog(cell=1, block=1)(torch.from_numpy(maps)), found, atol=1e-12)


def test_blind_to_the_negative_and_to_scale():
    np.testing.assert_allclose(Hog()(-DENSE[None]), Hog()(DENSE[None]), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(Hog()(9 * DENSE[None]), Hog()(DENSE[None]), rtol=1e-3, atol=1e-6)


def test_too_small_maps_and_bad_settings_name_the_value():
    with pytest.raises(ValueError, match="maps of 28 x 28 pixels are smaller than one block"):
        Hog()(np.zeros((1, 28, 28)))
    with pytest.raises(ValueError, match="cell is 0"):
        Hog(cell=0)
