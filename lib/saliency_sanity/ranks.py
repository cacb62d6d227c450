"""Ranks with ties, and correlation: Spearman's coefficient is Pearson's of the ranks."""

from dataclasses import dataclass

import numpy as np
import torch

from saliency_sanity.maps import Array, namespace, per_image

_MAGNITUDE = np.int64(2**63 - 1)


def ranks(values: Array) -> Array:
    """Ranks 1 to P along the last axis, ties sharing their mean: [N,...] -> [N,P] float64.

    Equal to `scipy.stats.rankdata(method="average")` to the last bit (virtanen2020scipy). A row
    that holds NaN is NaN all over. Counts are 64-bit: no overflow however many values tie.
    """
    if namespace(values) is torch:
        return _ranks_tensor(values.reshape(len(values), -1).to(torch.float64))
    rows = values.reshape(len(values), -1)
    out = np.empty(rows.shape)
    for row, target in zip(rows, out, strict=True):
        _ranks_row(row, target)
    return out


def _ranks_row(row: np.ndarray, out: np.ndarray) -> None:
    np.add(row, 0.0, out=out)  # -0.0 becomes 0.0
    order, ordered = _sorted(out)
    if np.isnan(ordered[-1]):
        out[:] = np.nan
        return
    out[order] = np.arange(1.0, len(row) + 1)
    same = ordered[1:] == ordered[:-1]
    tied = np.zeros(len(row), dtype=bool)
    tied[1:] = same
    starts = np.flatnonzero(same & ~tied[:-1])  # the first place of every group of ties
    tied[:-1] |= same
    if len(starts) == 0:
        return
    members = np.flatnonzero(tied)
    counts = np.diff(np.searchsorted(members, starts), append=len(members))
    out[order[members]] = np.repeat(starts + (counts + 1) / 2, counts)


def _sorted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order that sorts float64 values, and the sorted values (NaN last).

    NumPy sorts int64 several times faster than it sorts indices by value. So each value becomes
    an integer of the same order, and its index takes the place of the lowest bits. Where values
    differ in nothing but these bits the order may be wrong: it is put right afterwards.
    """
    mask = np.int64((1 << (len(values) - 1).bit_length()) - 1)
    keys = values.view(np.int64) >> 63
    keys &= _MAGNITUDE
    keys ^= values.view(np.int64)
    keys &= ~mask
    keys |= np.arange(len(values))
    keys.sort()
    keys &= mask
    ordered = values[keys]
    if not (ordered[1:] >= ordered[:-1]).all():  # NaN ends here as well
        again = np.argsort(ordered, kind="stable")
        keys, ordered = keys[again], ordered[again]
    return keys, ordered


def _ranks_tensor(rows: torch.Tensor) -> torch.Tensor:
    ordered, order = torch.sort(rows, dim=1)
    place = torch.arange(rows.shape[1], device=rows.device).expand_as(rows)
    new = torch.ones_like(rows, dtype=torch.bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = torch.where(new, place, 0).cummax(dim=1).values
    end = torch.ones_like(new)
    end[:, :-1] = new[:, 1:]
    last = torch.where(end, place, rows.shape[1]).flip(1).cummin(dim=1).values.flip(1)
    shared = (first + last).to(torch.float64) / 2 + 1
    out = torch.empty_like(rows).scatter_(1, order, shared)
    return torch.where(torch.isnan(rows).any(dim=1, keepdim=True), torch.nan, out)


def standardise(rows: Array) -> Array:
    """Rows [N,P] with mean 0 and length 1, so that a scalar product is a correlation.

    A constant row has no correlation with anything: it becomes NaN.
    """
    xp = namespace(rows)
    flat = xp.amax(rows, axis=1) == xp.amin(rows, axis=1)
    centred = rows - rows.mean(axis=1)[:, None]
    length = xp.sqrt((centred * centred).sum(axis=1))
    # Subtracting a mean leaves rounding errors in a constant row, so its length is no test.
    length = xp.where(flat | (length == 0), xp.nan, length)
    centred /= length[:, None]
    return centred


@dataclass(frozen=True)
class Ranks:
    """Describe a map, or a descriptor, by the ranks of its values. Source: spearman1904proof."""

    def __call__(self, values: Array) -> Array:
        """Ranks [N,P] float64 of values [N,...]."""
        return ranks(values)

    def __str__(self) -> str:
        return "ranks, ties sharing their mean"


@dataclass(frozen=True)
class Pearson:
    """Compare descriptors [N,...] by Pearson's correlation, in [-1, 1]."""

    def pairs(self, a: Array, b: Array) -> Array:
        """Correlation [N] of each descriptor in `a` with the one at the same place in `b`."""
        products = (_standard_rows(a) * _standard_rows(b)).sum(axis=1)
        # A correlation is at most 1, its rounding error may be more.
        return namespace(a).clip(products, -1.0, 1.0)

    def matrix(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Correlation [N,M] of each descriptor in `a` with each one in `b`: one product."""
        rows = per_image(_standard_rows, a)
        columns = rows if b is a else per_image(_standard_rows, b)
        return (rows @ columns.T).clip(-1.0, 1.0)

    def __str__(self) -> str:
        return "Pearson correlation"


def _standard_rows(descriptors: Array) -> Array:
    return standardise(descriptors.reshape(len(descriptors), -1))
