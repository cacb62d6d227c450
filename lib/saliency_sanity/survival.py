"""What is left of maps after competition: how much, which coordinates, and what chance leaves."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from saliency_sanity.bootstrap import interval
from saliency_sanity.maps import Array
from saliency_sanity.outcome import ORIGINAL, Outcome
from saliency_sanity.ranks import Pearson, ranks
from saliency_sanity.similarity import fitting

_LEAST_COORDINATES = 3  # two always correlate by 1 or -1


def survivors(maps: Tensor) -> Tensor:
    """Share ``[N]`` of the coordinates of each map ``[N, C, H, W]`` that are not zero."""
    return (maps != 0).double().flatten(1).mean(1)


def mass(maps: Tensor) -> Tensor:
    """Sum ``[N]`` of the absolute values of each map ``[N, C, H, W]``."""
    return maps.double().abs().flatten(1).sum(1)


def survival_null(classes: int) -> float:
    """Expected share of survivors where the logits' weights are symmetric noise.

    Exact for independent and identically distributed weights of the last layer and a label that
    does not depend on them: the largest of ``classes`` exchangeable values, and positive, or the
    smallest, and negative. Derived here; the competition is that of [gupta2019simple].
    """
    if classes < 2:
        raise ValueError(f"{classes} classes cannot compete; at least 2 are needed")
    return 2 / classes * (1 - 0.5**classes)


def overlap_null(share: float) -> float:
    """Expected overlap of two independent sets of survivors, each this share of many places."""
    return share / (2 - share)


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


STATISTICS = {"survivors": survivors, "mass": mass}


def survival_table(
    outcome: Outcome, bases: Mapping[str, str], *, resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """What competition leaves at each stage; a row a method, quantity and stage.

    ``outcome`` of an experiment with ``STATISTICS``; ``bases`` names for each competitive method
    the one whose maps compete. ``survivors`` is their share of the coordinates where the base is
    not zero, ``mass kept`` the share of the base's absolute attribution; ``value`` with its
    interval over networks and images, ``low`` to ``high``. Position 0 is the trained network.
    """
    rows = []
    for method, base in bases.items():
        kept = {}
        for quantity, statistic in {"survivors": "survivors", "mass kept": "mass"}.items():
            own, whole = (outcome.statistics[name, statistic] for name in (method, base))
            with np.errstate(invalid="ignore", divide="ignore"):
                kept[quantity] = own / whole
        for quantity, values in kept.items():
            for position, (stage, square) in enumerate(
                zip((ORIGINAL, *outcome.stages), values, strict=True)
            ):
                value, low, high = interval(square, resamples=resamples, seed=seed)
                rows.append(
                    {
                        "method": method,
                        "quantity": quantity,
                        "stage": stage,
                        "position": position,
                        "value": value,
                        "low": low,
                        "high": high,
                    }
                )
    return pd.DataFrame(rows)
