"""Structural similarity of maps in two dimensions, for pairs and for whole matrices of pairs."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view

from saliency_sanity.similarity.prepare import Array, namespace, per_image, with_channels

_BAND = 8  # outputs of one matrix product; small ones stay clear of BLAS's own threads
_HELD = 16  # maps whose statistics are held while the others pass by


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian window cut at 3.5 standard deviations: 11 x 11 for sigma 1.5 (wang2004image)."""

    sigma: float = 1.5

    def __post_init__(self):
        if not self.sigma > 0:
            raise ValueError(f"sigma is {self.sigma}; expected a positive number of pixels")

    def weights(self) -> np.ndarray:
        """The window along one axis, [size], with sum 1."""
        radius = int(3.5 * self.sigma + 0.5)
        weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / self.sigma) ** 2)
        return weights / weights.sum()

    def __str__(self) -> str:
        size = len(self.weights())
        return f"Gaussian window, sigma {self.sigma:g} ({size} x {size} pixels)"


@dataclass(frozen=True)
class Uniform:
    """A square window of `size` x `size` pixels, all of one weight."""

    size: int = 5

    def __post_init__(self):
        if self.size < 3 or self.size % 2 == 0:
            raise ValueError(f"window size is {self.size}; expected an odd number, 3 or more")

    def weights(self) -> np.ndarray:
        """The window along one axis, [size], with sum 1."""
        return np.full(self.size, 1 / self.size)

    def __str__(self) -> str:
        return f"uniform window of {self.size} x {self.size} pixels"


@dataclass(frozen=True)
class Ssim:
    """Compare maps [N,C,H,W] by mean structural similarity, in [-1, 1].

    Sample covariance, windows that lie wholly inside the map, mean over windows and channels:
    `skimage.metrics.structural_similarity` with the same window (vanderwalt2014scikit).
    `data_range` is the span the two constants refer to; it is never guessed from the maps,
    because two maps on different spans then mean different things. Source: wang2004image.
    """

    window: Gaussian | Uniform
    data_range: float
    k1: float = 0.01
    k2: float = 0.03

    def __post_init__(self):
        if not self.data_range > 0:
            raise ValueError(f"data_range is {self.data_range}; expected a positive number")

    def pairs(self, a: Array, b: Array) -> Array:
        """Similarity [N] of each map in `a` with the one at the same place in `b`."""
        a, b = with_channels(a), with_channels(b)
        weights = self._weights_for(a)
        channels = max(a.shape[1], b.shape[1])
        total = 0.0
        for channel in range(channels):
            x, y = a[:, channel % a.shape[1]], b[:, channel % b.shape[1]]
            filtered = (_blur(z, weights) for z in (x, y, x * y, x * x + y * y))
            total = total + self._mean(*filtered)
        return total / channels

    def matrix(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Similarity [N,M] of each map in `a` with each in `b`.

        What depends on one map is computed once for a group of maps of `a`, and again for `b` with
        each group, so that memory does not grow with N x M.
        """
        a, b = with_channels(a), with_channels(b)
        weights = self._weights_for(a)
        columns = []
        for start in range(0, len(a), _HELD):
            held = a[start : start + _HELD]
            moments = per_image(lambda x: _moments(x, weights), held)
            if a.device.type == "cpu":
                held, moments = held.numpy(), moments.numpy()
            against = partial(self._against, held, moments, weights=weights)
            columns.append(per_image(against, b))
        return torch.cat(columns, dim=1).T.contiguous()

    def _against(self, held: Array, moments: Array, maps: Array, weights: np.ndarray) -> Array:
        """Similarity [n,k] of each of `maps` [n,C,H,W] with each of the k held ones."""
        xp = namespace(maps)
        own = _moments(maps, weights)
        channels = max(held.shape[1], maps.shape[1])
        columns = []
        for x, (x_mean, x_square) in zip(held, moments, strict=True):
            total = 0.0
            for channel in range(channels):
                i, j = channel % len(x), channel % maps.shape[1]
                product = _blur(x[i] * maps[:, j], weights)
                squares = x_square[i] + own[:, 1, j]
                total = total + self._mean(x_mean[i], own[:, 0, j], product, squares)
            columns.append(total / channels)
        return xp.stack(columns, 1)

    def _mean(self, mean_x: Array, mean_y: Array, product: Array, squares: Array) -> Array:
        """Mean over [...,H,W] from the filtered x, y, x y and x^2 + y^2; changes the last two.

        The usual fraction, with 4 times the sample-covariance factor taken out of both halves.
        """
        size = len(self.window.weights()) ** 2
        c1 = (self.k1 * self.data_range) ** 2
        c2 = (self.k2 * self.data_range) ** 2 * (size - 1) / size
        means = mean_x * mean_y
        powers = mean_y * mean_y
        powers += mean_x * mean_x
        product -= means
        product += c2 / 2
        squares -= powers
        squares += c2
        means += c1 / 2
        powers += c1
        means *= product
        powers *= squares
        means /= powers
        return 4 * means.mean(axis=(-2, -1))

    def _weights_for(self, maps: Array) -> np.ndarray:
        weights = self.window.weights()
        if min(maps.shape[-2:]) < len(weights):
            raise ValueError(
                f"maps of {maps.shape[-2]} x {maps.shape[-1]} pixels are smaller than the "
                f"{self.window}; use larger maps or a smaller window, such as Uniform(3)"
            )
        return weights

    def __str__(self) -> str:
        return f"structural similarity, {self.window}, data range {self.data_range:g}"


def _moments(maps: Array, weights: np.ndarray) -> Array:
    """Windowed mean of each map [N,C,H,W] and of its square: [N,2,C,H',W']."""
    return _blur(namespace(maps).stack((maps, maps * maps), 1), weights)


def _blur(maps: Array, weights: np.ndarray) -> Array:
    """Maps [...,H,W] filtered along both axes, only where the window fits."""
    if namespace(maps) is torch:
        return _blur_tensor(maps, weights)
    reach = len(weights) - 1
    band = np.zeros((_BAND, _BAND + reach))
    for row in range(_BAND):
        band[row, row : row + reach + 1] = weights
    return _filter_columns(_filter_rows(maps, band), band)


def _filter_rows(maps: np.ndarray, band: np.ndarray) -> np.ndarray:
    """Filter down the rows of [...,H,W] by matrix products.

    A band of outputs needs only a slightly wider band of inputs. The product multiplies more
    often than a sliding sum would, and is several times as fast.
    """
    size, width = maps.shape[-2] - band.shape[1] + _BAND, maps.shape[-1]
    full = size // _BAND
    out = np.empty((*maps.shape[:-2], size, width))
    if full:
        windows = sliding_window_view(maps, band.shape[1], axis=-2)[..., ::_BAND, :, :]
        whole = out[..., : full * _BAND, :].reshape(*maps.shape[:-2], full, _BAND, width)
        np.matmul(band, windows[..., :full, :, :].swapaxes(-1, -2), out=whole)
    rest = size - full * _BAND
    part = band[:rest, : band.shape[1] - _BAND + rest]
    np.matmul(part, maps[..., full * _BAND :, :], out=out[..., full * _BAND :, :])
    return out


def _filter_columns(maps: np.ndarray, band: np.ndarray) -> np.ndarray:
    """Filter along the columns of [...,H,W]: as `_filter_rows`, without copying a transpose."""
    size = maps.shape[-1] - band.shape[1] + _BAND
    full = size // _BAND
    out = np.empty((*maps.shape[:-1], size))
    if full:
        windows = sliding_window_view(maps, band.shape[1], axis=-1)[..., ::_BAND, :]
        whole = out[..., : full * _BAND].reshape(*maps.shape[:-1], full, _BAND)
        np.matmul(
            np.moveaxis(windows[..., :full, :], -2, -3), band.T, out=np.moveaxis(whole, -2, -3)
        )
    rest = size - full * _BAND
    part = band[:rest, : band.shape[1] - _BAND + rest]
    np.matmul(maps[..., full * _BAND :], part.T, out=out[..., full * _BAND :])
    return out


def _blur_tensor(maps: torch.Tensor, weights: np.ndarray) -> torch.Tensor:
    kernel = torch.from_numpy(weights).to(maps)
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    flat = F.conv2d(F.conv2d(flat, kernel[None, None, :, None]), kernel[None, None, None, :])
    return flat.reshape(*maps.shape[:-2], *flat.shape[-2:])
