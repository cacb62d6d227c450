"""Histograms of oriented gradients: where in a map edges run in which direction."""

from dataclasses import dataclass

import numpy as np
import torch

from saliency_sanity.similarity.prepare import Array, namespace, with_channels

_EPSILON = 1e-5  # keeps empty blocks at zero
_CEILING = 0.2  # no single direction may dominate a block ("Hys")


@dataclass(frozen=True)
class Hog:
    """Describe maps [N,C,H,W] by their histograms of oriented gradients, [N,F] float64.

    Per pixel the gradient of the channel where it is strongest; unsigned directions; blocks of
    cells normalised by their length, cut at 0.2 and normalised again (L2-Hys). As of
    `skimage.feature.hog` with the same settings (vanderwalt2014scikit), but for directions so
    little below a half turn that in degrees they are 180: that one drops them, here the last bin
    has them. Raises ValueError for maps smaller than one block. Source: dalal2005histograms.
    """

    cell: int = 16
    orientations: int = 9
    block: int = 3

    def __post_init__(self):
        for name in ("cell", "orientations", "block"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")

    def __call__(self, maps: Array) -> Array:
        """Descriptors [N,F] of maps [N,C,H,W] or [N,H,W]."""
        maps = with_channels(maps)
        least = self.cell * self.block
        if min(maps.shape[-2:]) < least:
            raise ValueError(
                f"maps of {maps.shape[-2]} x {maps.shape[-1]} pixels are smaller than one block of "
                f"{least} x {least}; use larger maps or Hog(cell={min(maps.shape[-2:]) // 3 or 1})"
            )
        return self._blocks(self._cells(maps))

    def _cells(self, maps: Array) -> Array:
        """Mean gradient length by direction, [N,rows,columns,orientations]."""
        xp = namespace(maps)
        angle, length = _gradient(maps)
        inside = [slice(size // self.cell * self.cell) for size in maps.shape[-2:]]
        # Half turns: -1 to 1. The division comes first so that the limits are exact.
        bins = angle[:, *inside] / np.pi
        bins *= self.orientations
        sums = _sums_numpy if xp is np else _sums_tensor
        return sums(xp.floor(bins), length[:, *inside], self) / self.cell**2

    def _blocks(self, cells: Array) -> Array:
        """Normalised blocks of neighbouring cells, flattened to [N,F]."""
        xp = namespace(cells)
        rows, columns = (size - self.block + 1 for size in cells.shape[1:3])
        reach = range(self.block)
        blocks = xp.stack(
            [xp.stack([cells[:, r : r + rows, c : c + columns] for c in reach], 3) for r in reach],
            3,
        ).reshape(len(cells), rows, columns, -1)
        blocks = xp.clip(_unit(blocks), None, _CEILING)
        return _unit(blocks).reshape(len(cells), -1)

    def __str__(self) -> str:
        return (
            f"histograms of oriented gradients, cells of {self.cell} x {self.cell} pixels, "
            f"{self.orientations} orientations, blocks of {self.block} x {self.block} cells, L2-Hys"
        )


def _gradient(maps: Array) -> tuple[Array, Array]:
    """Direction (radians) and length of the central difference, [N,H,W], strongest channel."""
    xp = namespace(maps)
    width, flat = maps.shape[-1], maps.reshape(-1)
    differences = np.empty((2, *maps.shape)) if xp is np else maps.new_empty((2, *maps.shape))
    down, right = differences
    # All of memory in one go. Where that takes pixels of two rows or maps is the border: zero.
    xp.subtract(flat[2 * width :], flat[: -2 * width], out=down.reshape(-1)[width:-width])
    xp.subtract(flat[2:], flat[:-2], out=right.reshape(-1)[1:-1])
    down[..., :: max(1, maps.shape[-2] - 1), :] = 0.0
    right[..., :: max(1, width - 1)] = 0.0
    squares = down * down
    squares += right * right
    y, x = differences[:, :, 0] if maps.shape[1] == 1 else _strongest(differences, squares)
    return xp.arctan2(y, x), xp.sqrt(xp.amax(squares, axis=1))


def _strongest(differences: Array, squares: Array) -> Array:
    """Of differences [2,N,C,H,W] those of the channel with the largest sum of squares."""
    xp = namespace(squares)
    least = xp.amax(squares, axis=1) * (1 - 4e-15)
    longest = squares[:, 0] > least
    close, strongest = xp.zeros_like(longest), xp.zeros_like(longest, dtype=xp.int64)
    for channel in range(1, squares.shape[1]):
        long = squares[:, channel] > least
        strongest += channel * long
        close |= longest & long
        longest |= long
    if close.any():
        # Which channel wins a tie is a matter of the last bit, so it takes the exact length; for
        # all pixels that would be the slowest step of all.
        n, i, j = xp.where(close)
        y, x = (each[n, :, i, j] for each in differences)
        strongest[n, i, j] = xp.hypot(y, x).argmax(axis=1)
    if xp is torch:
        return torch.take_along_dim(differences, strongest[None, :, None], dim=2)[:, :, 0]
    count, channels, height, width = squares.shape
    strongest += channels * np.arange(count)[:, None, None]
    strongest *= height * width
    strongest += np.arange(height * width).reshape(height, width)
    return differences.reshape(2, -1).take(strongest, axis=1)


def _sums_numpy(bins: np.ndarray, length: np.ndarray, hog: Hog) -> np.ndarray:
    """Sum of lengths [N,H,W] by cell and direction; `bins` runs from -orientations to it."""
    count, height, width = bins.shape
    rows, columns, turns = height // hog.cell, width // hog.cell, 2 * hog.orientations + 1
    # Undefined maps are NaN all over: any bin will do, the sum is NaN.
    place = np.fmax(bins, -hog.orientations).astype(np.int64)
    row = np.arange(count)[:, None] * rows + np.arange(height) // hog.cell
    place += (row * columns * turns)[..., None]
    place += np.arange(width) // hog.cell * turns + hog.orientations
    size = count * rows * columns * turns
    sums = np.bincount(place.ravel(), length.ravel(), minlength=size)
    sums = sums.reshape(count, rows, columns, turns)
    half = sums[..., : hog.orientations] + sums[..., hog.orientations : -1]
    half[..., 0] += sums[..., -1]  # a half turn is no turn
    return half


def _sums_tensor(bins: torch.Tensor, length: torch.Tensor, hog: Hog) -> torch.Tensor:
    """As `_sums_numpy`, by masks: atomic additions would not give the same bits every time."""
    count, height, width = bins.shape
    shape = (count, height // hog.cell, hog.cell, width // hog.cell, hog.cell)
    bins = torch.remainder(bins, hog.orientations)
    sums = [
        torch.where(bins == k, length, 0.0).reshape(shape).sum(dim=(2, 4))
        for k in range(hog.orientations)
    ]
    return torch.stack(sums, dim=-1)


def _unit(blocks: Array) -> Array:
    xp = namespace(blocks)
    squares = (blocks * blocks).sum(axis=-1)[..., None]
    return blocks / xp.sqrt(squares + _EPSILON**2)
