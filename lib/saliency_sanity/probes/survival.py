"""What is left of maps after competition: how much, which coordinates, and what chance leaves."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from torch import Tensor

from saliency_sanity.experiments.outcome import ORIGINAL, Outcome
from saliency_sanity.verdict.interval import interval, mean
from saliency_sanity.verdict.wording import METRIC_TITLES


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


def overlap_null(first: float | np.ndarray, second: float | np.ndarray) -> float | np.ndarray:
    """Expected overlap of two independent sets, these shares of the same many places."""
    both = first * second
    return both / (first + second - both)


def overlap_chance(outcome: Outcome, bases: Mapping[str, str]) -> pd.DataFrame:
    """Chance of the overlap with the trained network's survivors: method, position and chance.

    From the shares that survive in both networks, picture by picture, of the places where the
    base is not zero; the mean over pictures and networks. Positions as in ``survival_table``.
    """
    rows = []
    for method, base in bases.items():
        own, whole = (outcome.statistics[name, "survivors"] for name in (method, base))
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = own / whole
            chances = overlap_null(shares[:1], shares[1:])
        rows += [
            {"method": method, "position": position, "chance": float(mean(square, axis=(0, 1)))}
            for position, square in enumerate(chances, start=1)
        ]
    return pd.DataFrame(rows, columns=["method", "position", "chance"])


QUANTITY_TITLES = {
    "survivors": "survivors",
    "mass_kept": "mass kept",
    "overlap": "overlap",
    "spearman_union": METRIC_TITLES["spearman_union"],
}
QUANTITY_UNITS = {"spearman_union": "rank correlation"}  # the others are shares
STATISTICS = {"survivors": survivors, "mass": mass}


def survival_table(outcome: Outcome, bases: Mapping[str, str]) -> pd.DataFrame:
    """What competition leaves at each stage; a row a method, quantity and stage.

    ``outcome`` of an experiment with ``STATISTICS``; ``bases`` names for each competitive method
    the one whose maps compete. ``survivors`` is their share of the coordinates where the base is
    not zero, ``mass_kept`` the share of the base's absolute attribution; ``value`` with its
    interval over networks and images, ``low`` to ``high``. Position 0 is the trained network.
    """
    rows = []
    for method, base in bases.items():
        kept = {}
        for quantity, statistic in {"survivors": "survivors", "mass_kept": "mass"}.items():
            own, whole = (outcome.statistics[name, statistic] for name in (method, base))
            with np.errstate(invalid="ignore", divide="ignore"):
                kept[quantity] = own / whole
        for quantity, values in kept.items():
            for position, (stage, square) in enumerate(
                zip((ORIGINAL, *outcome.stages), values, strict=True)
            ):
                value, low, high = interval(square)
                low, high = np.clip((low, high), 0, 1)  # both are shares
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
