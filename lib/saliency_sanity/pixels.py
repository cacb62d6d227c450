"""Maps compared over some of their pixels only, such as those where the picture is not zero."""

from dataclasses import dataclass

import torch

from saliency_sanity.classifier import digest
from saliency_sanity.maps import Array, blank_undefined, namespace, per_image
from saliency_sanity.ranks import Pearson, ranks
from saliency_sanity.similarity import fitting, metric

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
        prepare = metric("spearman_signed" if self.signed else "spearman_abs", "paper").prepare
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
    where = torch.as_tensor(where)
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
