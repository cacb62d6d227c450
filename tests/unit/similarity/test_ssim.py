import ctypes
import shutil
import subprocess

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
@pytest.mark.parametrize(
    # Also one row less and one more than whole tiles of 4 and of 64 windows of 11 or 5.
    "shape",
    [(3, 299, 299), (1, 12, 31), (2, 28, 28), (1, 73, 75), (1, 67, 69), (2, 138, 11)],
)
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


@pytest.mark.parametrize("channels", [(1, 1), (3, 3), (1, 3), (3, 1)])
def test_no_map_hangs_on_its_company(channels):
    a, b = (torch.from_numpy(RNG.random((20, c, 31, 24))) for c in channels)
    compare = Ssim(Gaussian(), 2.0)
    whole = compare.matrix(a, b)
    for rows, columns in ((slice(3, 5), slice(0, 20)), (slice(0, 19), slice(7, 8))):
        assert torch.equal(compare.matrix(a[rows], b[columns]), whole[rows, columns])
    a, b = a.numpy(), b.numpy()
    np.testing.assert_array_equal(compare.pairs(a[4:7], b[4:7]), compare.pairs(a, b)[4:7])


def test_undefined_maps_stay_by_themselves():
    a, b = torch.from_numpy(RNG.random((2, 4, 2, 30, 20)))
    a[1], b[2] = torch.nan, torch.nan
    compare = Ssim(Gaussian(), 2.0)
    matrix = compare.matrix(a, b)
    rows, columns = torch.tensor([0, 1, 0, 0]), torch.tensor([0, 0, 1, 0])
    assert torch.equal(matrix.isnan(), (rows[:, None] + columns) > 0)
    for pairs in (compare.pairs(a, b), torch.from_numpy(compare.pairs(a.numpy(), b.numpy()))):
        assert pairs.isnan().tolist() == [False, True, True, False]
        np.testing.assert_allclose(pairs, matrix.diagonal(), rtol=1e-12)


def _as_on_a_device(held, maps, compare):
    """The matrix as an accelerator makes it, with tensors on the CPU."""
    held, maps = map(torch.from_numpy, (held, maps))
    band = compare._band(maps)
    return compare._against(held, compare._moments(held, band), maps, band).T


@pytest.mark.parametrize("channels", [(2, 2), (1, 2), (2, 1)])
def test_a_device_that_takes_the_fraction_in_one_pass(channels, monkeypatch):
    a, b = (RNG.random((count, c, 75, 30)) for count, c in zip((3, 4), channels, strict=True))
    compare = Ssim(Gaussian(), 2.0)
    expected = compare.matrix(torch.from_numpy(a), torch.from_numpy(b))
    np.testing.assert_allclose(_as_on_a_device(a, b, compare), expected, atol=1e-14)

    def fused(maps, c1, c2):
        def kernel(product, x, y, x_spread, y_spread):
            above = (x * y + c1 / 2) * (product - x * y + c2 / 2)
            return above / ((x * x + y * y + c1) * (x_spread + y_spread))

        return kernel

    monkeypatch.setattr(ssim, "_fused", fused)
    np.testing.assert_allclose(_as_on_a_device(a, b, compare), expected, atol=1e-14)


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
def test_the_pixel_a_device_compiles_is_the_fraction(tmp_path):
    compare = Ssim(Gaussian(), 2.0)
    code = ssim._PIXEL.format(**dict(zip(("c1", "c2"), compare._constants(), strict=True)))
    torch.cuda.jiterator._create_jit_fn(code)  # its parser takes it
    call = "return ssim_pixel<double>(p, x, y, v, w);"
    source = (
        code + f'extern "C" double f(double p, double x, double y, double v, double w) {{{call}}}'
    )
    (tmp_path / "pixel.cpp").write_text(source)
    command = ["g++", "-shared", "-fPIC", "pixel.cpp", "-o", "pixel.so"]
    subprocess.run(command, cwd=tmp_path, check=True)
    pixel = ctypes.CDLL(str(tmp_path / "pixel.so")).f
    pixel.restype, pixel.argtypes = ctypes.c_double, [ctypes.c_double] * 5
    p, x, y, v, w = RNG.random((5, 9))
    expected = compare._fraction(p.copy(), x * y, x * x + y * y, v + w)
    np.testing.assert_allclose([pixel(*z) for z in zip(p, x, y, v, w, strict=True)], expected)


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
