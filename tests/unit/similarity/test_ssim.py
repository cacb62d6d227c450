import numpy as np
import pytest
import torch
from saliency_sanity.similarity import ssim
from saliency_sanity.similarity.ssim import Gaussian, Ssim, Uniform
from skimage.metrics import structural_similarity

RNG = np.random.default_rng(2)
WINDOWS = [
    (Gaussian(1.5), {"gaussian_weights": True}),
    (Gaussian(0.8), {"gaussian_weights": True, "sigma": 0.8}),
    (Uniform(5), {"win_size": 5}),
    (Uniform(7), {"win_size": 7}),
]


@pytest.mark.parametrize(("window", "options"), WINDOWS, ids=lambda x: str(x))
@pytest.mark.parametrize("shape", [(3, 299, 299), (1, 12, 31), (2, 28, 28)])
def test_equals_scikit_image(window, options, shape):
    a = RNG.random((2, *shape))
    b = 0.7 * a + 0.3 * RNG.random((2, *shape))
    compare = Ssim(window, data_range=1.3)
    expected = [
        structural_similarity(x, y, data_range=1.3, channel_axis=0, **options)
        for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(compare.pairs(a, b), expected, rtol=1e-10)
    tensors = compare.pairs(torch.from_numpy(a), torch.from_numpy(b))
    np.testing.assert_allclose(tensors.numpy(), expected, rtol=1e-10)


def test_smallest_map_has_one_window():
    a, b = RNG.random((2, 1, 1, 11, 11))
    expected = structural_similarity(a[0, 0], b[0, 0], data_range=1, gaussian_weights=True)
    np.testing.assert_allclose(Ssim(Gaussian(), 1.0).pairs(a, b), [expected], rtol=1e-10)


@pytest.mark.parametrize("held", [1, 2, 16])
def test_matrix_is_all_pairs_whatever_is_held(held, monkeypatch):
    monkeypatch.setattr(ssim, "_HELD", held)
    a, b = (
        torch.from_numpy(RNG.random((3, 2, 40, 50))),
        torch.from_numpy(RNG.random((5, 2, 40, 50))),
    )
    compare = Ssim(Uniform(5), 2.0)
    matrix = compare.matrix(a, b)
    assert matrix.shape == (3, 5)
    expected = [[compare.pairs(a[i : i + 1], b[j : j + 1])[0] for j in range(5)] for i in range(3)]
    np.testing.assert_allclose(matrix.numpy(), np.array(expected), rtol=1e-12, atol=1e-14)


def test_one_channel_stands_for_its_repetition():
    a, b = RNG.random((3, 1, 30, 30)), RNG.random((3, 3, 30, 30))
    compare = Ssim(Uniform(5), 1.0)
    expected = compare.pairs(np.repeat(a, 3, axis=1), b)
    np.testing.assert_allclose(compare.pairs(a, b), expected, rtol=1e-12)
    np.testing.assert_allclose(compare.pairs(b, a), expected, rtol=1e-12)
    one, three = torch.from_numpy(a), torch.from_numpy(b)
    np.testing.assert_allclose(compare.matrix(one, three).diagonal(), expected, rtol=1e-12)
    np.testing.assert_allclose(compare.matrix(three, one).diagonal(), expected, rtol=1e-12)


def test_shuffled_rows_are_another_map():
    a = np.cumsum(RNG.normal(size=(1, 1, 60, 60)), axis=2)
    a = (a - a.min()) / np.ptp(a)
    b = np.clip(a + 0.05 * RNG.normal(size=a.shape), 0, 1)
    order = RNG.permutation(60)
    compare = Ssim(Gaussian(), 1.0)
    before, after = compare.pairs(a, b)[0], compare.pairs(a[:, :, order], b[:, :, order])[0]
    assert abs(before - after) > 0.02


def test_data_range_decides():
    a, b = RNG.random((2, 1, 1, 50, 50)) * 0.1
    narrow, wide = (Ssim(Uniform(5), r).pairs(a, b)[0] for r in (0.1, 2.0))
    assert narrow < 0.3
    assert wide > 0.6


def test_bad_settings_name_the_value():
    with pytest.raises(ValueError, match="window size is 4"):
        Uniform(4)
    with pytest.raises(ValueError, match="sigma is 0"):
        Gaussian(0)
    with pytest.raises(ValueError, match="data_range is -1"):
        Ssim(Uniform(5), -1)
    with pytest.raises(ValueError, match="maps of 8 x 40 pixels are smaller than the Gaussian"):
        Ssim(Gaussian(), 1.0).pairs(np.zeros((1, 1, 8, 40)), np.zeros((1, 1, 8, 40)))
