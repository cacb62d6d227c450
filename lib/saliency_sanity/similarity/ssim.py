"""Structural similarity of maps in two dimensions, for pairs and for whole matrices of pairs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from math import prod

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided

from saliency_sanity.similarity.prepare import Array, at_once, namespace, per_image, with_channels

_HELD = 16  # maps whose statistics are held while the others pass by
_CPU_TILE = 4  # rows out of one matrix product; wide ones multiply zeros, narrow ones call often
_DEVICE_TILE = 64  # so many fill an accelerator's matrix units

# As `Ssim._fraction`, for a device that then passes over memory once and not ten times.
_PIXEL = """template <typename T> T ssim_pixel(T product, T x, T y, T x_spread, T y_spread) {{
    T means = x * y;
    T above = (means + {c1} / 2) * (product - means + {c2} / 2);
    return above / ((x * x + y * y + {c1}) * (x_spread + y_spread));
}}"""


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
        band = self._band(a)
        return _over_channels(lambda x, y: self._paired(x, y, band), a, b)

    def matrix(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Similarity [N,M] of each map in `a` with each in `b`.

        What depends on one map is computed once for a group of maps of `a`, and again for `b` with
        each group, so that memory does not grow with N x M. Of a pair only the product of its two
        maps is filtered.
        """
        a, b = with_channels(a), with_channels(b)
        on_cpu = a.device.type == "cpu"
        band = self._band(a.numpy() if on_cpu else a)
        moments, columns = partial(self._moments, band=band), []
        for start in range(0, len(a), _HELD):
            held = a[start : start + _HELD]
            known = per_image(moments, held)
            if on_cpu:
                held, known = held.numpy(), known.numpy()
            columns.append(per_image(partial(self._against, held, known, band=band), b))
        return torch.cat(columns, dim=1).T.contiguous()

    def _paired(self, x: Array, y: Array, band: Array) -> Array:
        """Similarity [N] of maps [N,...,H,W], pair by pair."""
        mean, other, product = _blur(x, band), _blur(y, band), _blur(x * y, band)
        spread = _blur(x * x + y * y, band)
        powers = mean * mean + other * other
        spread -= powers
        spread += self._constants()[1]
        return _mean(self._fraction(product, mean * other, powers, spread), 1)

    def _moments(self, maps: Array, band: Array) -> Array:
        """Of each map [N,C,H,W] the windowed mean, and variance with half of c2: [N,C,2,W',H']."""
        mean, spread = _blur(maps, band), _blur(maps * maps, band)
        spread -= mean * mean
        spread += self._constants()[1] / 2
        return namespace(maps).stack((mean, spread), 2)

    def _against(self, held: Array, known: Array, maps: Array, band: Array) -> Array:
        """Similarity [n,k] of each of `maps` [n,C,H,W] with each of the k held ones."""
        across = partial(self._across, band=band)
        return _over_channels(across, held, known, maps, self._moments(maps, band)).T

    def _across(self, held: Array, known: Array, maps: Array, own: Array, band: Array) -> Array:
        """Similarity [k,n] of maps [k,...,H,W] with maps [n,...,H,W], whose moments are known."""
        xp = namespace(maps)
        mean, spread = own[..., 0, :, :], own[..., 1, :, :]
        if xp is np:
            maps, mean, spread = map(np.ascontiguousarray, (maps, mean, spread))
        power, fused = mean * mean, _fused(maps, *self._constants())
        step = at_once(prod(maps.shape), on_cpu=xp is np)
        rows = []
        for start in range(0, len(held), step):
            some = slice(start, start + step)
            product = _blur(held[some, None] * maps, band)
            first, first_spread = known[some, None, ..., 0, :, :], known[some, None, ..., 1, :, :]
            if fused is not None:
                pixels = fused(product, first, mean, first_spread, spread)
            else:
                powers, spreads = first * first + power, first_spread + spread
                pixels = self._fraction(product, first * mean, powers, spreads)
            rows.append(_mean(pixels, 2))
        return xp.concatenate(rows)

    def _fraction(self, product: Array, means: Array, powers: Array, spread: Array) -> Array:
        """A quarter of the usual fraction, pixel by pixel; changes all that it gets.

        Of two maps the filtered product, the product of their means, the sum of the squares of
        these, and the sum of their variances with c2; the sample-covariance factor is taken out of
        both halves.
        """
        c1, c2 = self._constants()
        product -= means
        product += c2 / 2
        means += c1 / 2
        product *= means
        powers += c1
        powers *= spread
        product /= powers
        return product

    def _constants(self) -> tuple[float, float]:
        """The usual c1, and c2 over the sample-covariance factor."""
        size = len(self.window.weights()) ** 2
        c1, c2 = (self.k1 * self.data_range) ** 2, (self.k2 * self.data_range) ** 2
        return c1, c2 * (size - 1) / size

    def _band(self, maps: Array) -> Array:
        """A matrix whose rows are the window, each one further to the right."""
        weights = self.window.weights()
        if min(maps.shape[-2:]) < len(weights):
            raise ValueError(
                f"maps of {maps.shape[-2]} x {maps.shape[-1]} pixels are smaller than the "
                f"{self.window}; use larger maps or a smaller window, such as Uniform(3)"
            )
        on_cpu = namespace(maps) is np
        tile = _CPU_TILE if on_cpu else _DEVICE_TILE
        band = np.zeros((tile, tile + len(weights) - 1))
        for row in range(tile):
            band[row, row : row + len(weights)] = weights
        return band if on_cpu else torch.from_numpy(band).to(maps)

    def __str__(self) -> str:
        return f"structural similarity, {self.window}, data range {self.data_range:g}"


def _fused(maps: Array, c1: float, c2: float) -> Callable[..., torch.Tensor] | None:
    """`_PIXEL` for tensors that broadcast, where the device compiles it."""
    return _compiled(c1, c2) if namespace(maps) is torch and maps.is_cuda else None


@cache
def _compiled(c1: float, c2: float) -> Callable[..., torch.Tensor]:
    return torch.cuda.jiterator._create_jit_fn(_PIXEL.format(c1=c1, c2=c2))


def _over_channels(similarity: Callable[..., Array], *maps: Array) -> Array:
    """Mean over channels of a similarity of maps [N,C,...], one channel standing for all.

    On the CPU one channel after the other, which stays in the cache; elsewhere all together.
    """
    if namespace(maps[0]) is torch:
        return similarity(*maps)
    count = max(batch.shape[1] for batch in maps)
    channels = ([batch[:, c % batch.shape[1]] for batch in maps] for c in range(count))
    return sum(similarity(*each) for each in channels) / count


def _mean(quarters: Array, lead: int) -> Array:
    """Mean similarity over all but the first `lead` axes, of what `Ssim._fraction` returns."""
    return 4 * quarters.mean(axis=tuple(range(lead, quarters.ndim)))


def _blur(maps: Array, band: Array) -> Array:
    """Maps [...,H,W] filtered along both axes, only where the window fits: [...,W',H']."""
    if namespace(maps) is torch:
        return _down_tensor(_down_tensor(maps, band).mT, band)
    # Products along rows in memory are so much faster that a transpose pays.
    return _down(np.ascontiguousarray(_down(maps, band).swapaxes(-1, -2)), band)


def _down(maps: np.ndarray, band: np.ndarray) -> np.ndarray:
    """Filter down the rows of [...,H,W] by matrix products.

    A tile of outputs needs only a slightly higher tile of inputs. The product multiplies more often
    than a sliding sum would, and is several times as fast.
    """
    tile, span = band.shape
    *lead, height, width = maps.shape
    full, rest = divmod(height - span + tile, tile)
    out = np.empty((*lead, full * tile + rest, width))
    *steps, row, column = maps.strides
    tiles = as_strided(maps, (*lead, full, span, width), (*steps, tile * row, row, column))
    np.matmul(band, tiles, out=out[..., : full * tile, :].reshape(*lead, full, tile, width))
    if rest:
        part = band[:rest, : span - tile + rest]
        np.matmul(part, maps[..., full * tile :, :], out=out[..., full * tile :, :])
    return out


def _down_tensor(maps: torch.Tensor, band: torch.Tensor) -> torch.Tensor:
    """As `_down`, all maps in one product a tile; no map meets another, not even its NaN."""
    tile, reach = band.shape[0], band.shape[1] - band.shape[0]
    flat = maps.reshape(-1, *maps.shape[-2:])
    size = flat.shape[1] - reach
    out = flat.new_empty(len(flat), size, flat.shape[2])
    for start in range(0, size, tile):
        stop = min(start + tile, size)
        part = band[: stop - start, : stop - start + reach].expand(len(flat), -1, -1)
        torch.bmm(part, flat[:, start : stop + reach], out=out[:, start:stop])
    return out.reshape(*maps.shape[:-2], *out.shape[1:])
