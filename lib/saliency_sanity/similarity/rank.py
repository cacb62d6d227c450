"""Rank correlations of maps: over all pixels, over chosen ones, over those that maps keep."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from saliency_sanity._hashing import digest
from saliency_sanity.similarity.prepare import (
    Array,
    Prepare,
    blank_undefined,
    fitting,
    namespace,
    per_image,
    to_tensor,
)

_MAGNITUDE = np.int64(2**63 - 1)


def ranks(values: Array) -> Array:
    """Ranks 1 to P along the last axis, ties sharing their mean: [N,...] -> [N,P] float64.

    Equal to `scipy.stats.rankdata(method="average")` to the last bit (virtanen2020scipy). A row
    that holds NaN is NaN all over. Counts are 64-bit: no overflow however many values tie.
    """
    if namespace(values) is torch:
        return _ranks_tensor(values.reshape(len(values), -1).to(torch.float64))
    rows = np.array(values.reshape(len(values), -1), dtype=np.float64, order="C")
    rows += 0.0  # -0.0 becomes 0.0
    count, size = rows.shape
    order, ordered = _sorted(rows)
    tied = np.zeros((count, size), dtype=bool)
    np.equal(ordered[:, 1:], ordered[:, :-1], out=tied[:, 1:])
    first = np.zeros_like(tied)  # the first place of every group of ties
    np.greater(tied[:, 1:], tied[:, :-1], out=first[:, :-1])
    places = np.empty(rows.shape)
    places[:] = np.arange(1.0, size + 1)
    starts = np.flatnonzero(first)
    if len(starts):
        members = np.flatnonzero(tied | first)
        counts = np.diff(np.searchsorted(members, starts), append=len(members))
        places.reshape(-1)[members] = np.repeat(starts % size + (counts + 1) / 2, counts)
    rows.reshape(-1)[order] = places
    rows[np.isnan(ordered[:, -1])] = np.nan
    return rows


def _sorted(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where in memory the sorted values of rows [N,P] of float64 are, and these (NaN last).

    NumPy sorts integers of 16 bits by counting, several times as fast as it sorts values. So each
    value becomes an integer of the same order, whose upper half is sorted in two steps. Where
    values differ in nothing but the lower half the order may be wrong: it is put right afterwards.
    """
    keys = rows.view(np.int64) >> 63
    keys &= _MAGNITUDE
    keys ^= rows.view(np.int64)
    starts = np.arange(0, rows.size, rows.shape[1])[:, None]
    order = np.argsort((keys >> 32).astype(np.uint16), axis=1, kind="stable") + starts
    upper = (keys >> 48).astype(np.int16).take(order)
    order = order.take(np.argsort(upper, axis=1, kind="stable") + starts)
    ordered = rows.take(order)
    right = (ordered[:, 1:] >= ordered[:, :-1]).all(axis=1)
    for row in np.flatnonzero(~right):  # NaN ends here as well
        again = np.argsort(ordered[row], kind="stable")
        order[row], ordered[row] = order[row, again], ordered[row, again]
    return order, ordered


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


def _centred(descriptors: Array) -> Array:
    """Descriptors as rows [N,P] with mean 0; constant ones, like nothing else, as NaN."""
    xp = namespace(descriptors)
    rows = descriptors.reshape(len(descriptors), -1)
    # Subtracting a mean leaves rounding errors in a constant row, so its length is no test.
    flat = xp.amax(rows, axis=1) == xp.amin(rows, axis=1)
    return rows - xp.where(flat, xp.nan, rows.sum(axis=1) / rows.shape[1])[:, None]


def _lengths(centred: Array) -> Array:
    """Length of each row [N,P]; NaN for one that is too small to have any."""
    xp = namespace(centred)
    length = xp.sqrt((centred * centred).sum(axis=1))
    return xp.where(length == 0, xp.nan, length)


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
    """Compare descriptors [N,...] by Pearson's correlation, in [-1, 1].

    Lengths are divided out last: twice a centred rank is a whole number, and so up to 250,000 ranks
    no sum of products is ever rounded. A correlation of ranks is the same to the last bit whatever
    else is compared with them, in whatever order a matrix product adds; others may differ there.
    """

    def pairs(self, a: Array, b: Array) -> Array:
        """Correlation [N] of each descriptor in `a` with the one at the same place in `b`."""
        a, b = _centred(a), _centred(b)
        # A correlation is at most 1, its rounding error may be more.
        products = (a * b).sum(axis=1) / (_lengths(a) * _lengths(b))
        return namespace(a).clip(products, -1.0, 1.0)

    def matrix(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Correlation [N,M] of each descriptor in `a` with each one in `b`: one product."""
        rows = per_image(_centred, a)
        columns = rows if b is a else per_image(_centred, b)
        heights, widths = per_image(_lengths, rows), per_image(_lengths, columns)
        return ((rows @ columns.T) / (heights[:, None] * widths)).clip(-1.0, 1.0)

    def __str__(self) -> str:
        return "Pearson correlation"


_LEAST_PIXELS = 3  # two always correlate by 1 or -1


@dataclass(frozen=True, eq=False, repr=False)
class PixelSpearman:
    """Rank correlation over chosen pixels; `signed` tells whether the signs of a map count.

    Whatever is multiplied with the input is zero where the input is zero: over all pixels two
    such maps agree for this reason alone. Over the pixels where the input is not zero they have
    to agree in what is left. Maps are summed over channels, and not cut, as in the preset "paper"
    of spearman_abs and spearman_signed; all arithmetic is float64.
    Sources: sundararajan2018note, spearman1904proof.
    """

    where: torch.Tensor
    signed: bool

    def __repr__(self) -> str:
        count = f"{int(self.where.sum())} of {self.where.numel()} pixels"
        return f"PixelSpearman(signed={self.signed}, where={count}, {digest(self.where)})"

    def of_rows(self, rows: slice) -> "PixelSpearman":
        """The same for some of the pictures."""
        return replace(self, where=self.where[rows])

    def matrix(self, a: Array, b: Array) -> torch.Tensor:
        """Similarity [N,M] float64 of each map in `a` with each map in `b`.

        `a` is [N,H,W] or [N,C,H,W], `b` likewise for M maps. `where`, booleans [N,H,W], are the
        pixels that count, chosen by the picture behind each map in `a`: all of row i is taken over
        `where[i]`, so that its chance level lies on the same pixels as its own similarity. NaN
        where fewer than 3 pixels are chosen, where a map is constant over them, and where a map has
        a value that is not finite, chosen or not. Raises ValueError for shapes or devices that do
        not fit each other, TypeError for maps that are not floating-point and for a `where` that is
        not boolean.
        """
        a, b = fitting(a, b, paired=False)
        where = _pixels(self.where, a)
        prepare = Prepare("signed" if self.signed else "absolute")
        first, second = (per_image(lambda m: prepare(blank_undefined(m)), maps) for maps in (a, b))
        second = second.numpy() if second.device.type == "cpu" else second

        def rows(maps: Array, chosen: Array) -> Array:
            return namespace(maps).stack(
                [_row(one, second, here) for one, here in zip(maps, chosen, strict=True)]
            )

        return per_image(rows, first, where)


def _row(one: Array, others: Array, here: Array) -> Array:
    """Correlation [M] of one map [H,W] with others [M,H,W] over the pixels `here` [H,W]."""
    if here.sum() < _LEAST_PIXELS:
        return others[:, 0, 0] * float("nan")
    return Pearson().pairs(ranks(one[here][None]), ranks(others[:, here]))


def _pixels(where: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    where = to_tensor(where)
    if where.dtype != torch.bool:
        raise TypeError(
            f"where has dtype {where.dtype}; expected booleans, for example (x != 0).any(dim=1)"
        )
    expected = (len(maps), *maps.shape[2:])
    if where.shape != expected:
        raise ValueError(f"where has shape {tuple(where.shape)}; expected [N,H,W], here {expected}")
    if where.device != maps.device:
        raise ValueError(f"where is on {where.device}, maps on {maps.device}; move them together")
    return where


_LEAST_COORDINATES = 3  # two always correlate by 1 or -1


@dataclass(frozen=True)
class Overlap:
    """How far two maps keep the same coordinates: shared ones over those that either keeps.

    In [0, 1], 1 for the same survivors; NaN for a map without any or with a value that is not
    finite. Maps of one channel are repeated beside maps of three. [jaccard1912distribution]
    """

    def matrix(self, a: Array, b: Array) -> Tensor:
        """Overlap ``[N, M]`` float64 of each map in ``a`` with each map in ``b``."""
        first, second = _vectors(a, b)
        kept = [(vectors != 0).double() for vectors in (first, second)]
        shared = kept[0] @ kept[1].T
        found = shared / (kept[0].sum(1)[:, None] + kept[1].sum(1)[None] - shared)
        defined = _defined(first)[:, None] & _defined(second)[None]
        return torch.where(defined, found, torch.nan)


@dataclass(frozen=True)
class UnionSpearman:
    """Rank correlation, with signs, over the coordinates that at least one of two maps keeps.

    Everywhere else both are zero, and would agree for that reason alone. NaN where fewer than 3
    coordinates are kept, where a map is constant over them, and for values that are not finite.
    [spearman1904proof]
    """

    def matrix(self, a: Array, b: Array) -> Tensor:
        """Correlation ``[N, M]`` float64 of each map in ``a`` with each map in ``b``."""
        first, second = _vectors(a, b)
        defined = _defined(first)[:, None] & _defined(second)[None]
        rows, columns = first.cpu().numpy(), second.cpu().numpy()
        found = np.full(defined.shape, np.nan)
        for i, j in defined.nonzero().tolist():
            union = (rows[i] != 0) | (columns[j] != 0)
            if union.sum() >= _LEAST_COORDINATES:
                pair = (ranks(vector[union][None]) for vector in (rows[i], columns[j]))
                found[i, j] = Pearson().pairs(*pair)[0]
        return torch.from_numpy(found).to(first.device)


def _vectors(a: Array, b: Array) -> tuple[Tensor, Tensor]:
    first, second = fitting(a, b, paired=False)
    channels = max(first.shape[1], second.shape[1])
    # A map of one channel stands for all.
    shaped = (maps.double().expand(-1, channels, -1, -1) for maps in (first, second))
    first, second = (maps.flatten(1) for maps in shaped)
    return first, second


def _defined(vectors: Tensor) -> Tensor:
    return vectors.isfinite().all(1) & (vectors != 0).any(1)
