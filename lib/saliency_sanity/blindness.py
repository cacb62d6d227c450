"""What a map cannot see: its share inside a region, and what becomes of it after a change."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from saliency_sanity.bootstrap import interval
from saliency_sanity.classifier import Classifier, Scaling
from saliency_sanity.comparison import explain, rounded
from saliency_sanity.gradient import Attribution
from saliency_sanity.photographs import dithered
from saliency_sanity.pixels import PixelSpearman
from saliency_sanity.regions import area, share_inside
from saliency_sanity.rescaling import rescaled
from saliency_sanity.response import LEAST_IMAGES
from saliency_sanity.verdict import read, table

MOVED = "same map after the change"
UNCHANGED = 0.999  # kappa from which on two maps are the same up to rounding
# Drawn from the weights, which the units change: another map says nothing of them.
_DRAWN = ("noise", "input_x_noise")


@dataclass(frozen=True)
class Gap:
    """Mean difference of two numbers an image, with its 95 % interval over ``images``."""

    value: float
    low: float
    high: float
    images: int

    @property
    def verdict(self) -> str:
        """Whether the first is larger; open where images are too few or the interval has 0."""
        if self.images < LEAST_IMAGES or self.low <= 0 <= self.high:
            return "inconclusive"
        return "reproduced" if self.low > 0 else "not reproduced"

    def __str__(self) -> str:
        return f"{rounded(self.value)} ({rounded(self.low)} to {rounded(self.high)})"


def gap(first: np.ndarray, second: np.ndarray, *, resamples: int = 2000, seed: int = 0) -> Gap:
    """How much larger ``first`` ``[N]`` is than ``second`` ``[N]``, image by image."""
    difference = np.asarray(first, float) - np.asarray(second, float)
    known = int(np.isfinite(difference).sum())
    return Gap(*interval(difference[None], resamples=resamples, seed=seed), known)


def region_table(
    maps: Mapping[tuple[str, str], Tensor], mask: Tensor, *, resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Attribution inside a mask ``[N, H, W]`` for maps by method and by which colour is zero.

    A row a key of ``maps``: value is the share of ``|E|`` inside, density that share by the mask's
    area, each with its 95 % interval over images, low to high; area, area_low and area_high, the
    same for the mask. Raises as ``regions.share_inside``.
    """
    settings = {"resamples": resamples, "seed": seed}
    covered = area(mask).cpu().numpy()
    rows = []
    for (method, zero), found in maps.items():
        share = share_inside(found, mask).cpu().numpy()
        row = {"method": method, "zero": zero}
        for name, values in (("value", share), ("density", share / covered), ("area", covered)):
            prefix = "" if name == "value" else f"{name}_"
            row[name], row[f"{prefix}low"], row[f"{prefix}high"] = interval(
                values[None], **settings
            )
        rows.append(row | {"images": int(np.isfinite(share).sum())})
    return pd.DataFrame(rows)


def moved_table(
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    *,
    margin: float = 0.1,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """How alike each method's maps before and after a change are: a row a method, read as ever.

    Columns are method, metric (``MOVED``) and the fields of ``verdict.Reading``. Similarity is the
    rank correlation of absolute values, channels summed, over the pixels where the first map is not
    zero: elsewhere two sparse maps agree for no other reason. Kappa is 1 where nothing has changed.
    Methods that only one of both has are left out.
    """
    readings = {
        (name, MOVED): read(
            PixelSpearman((found != 0).any(1), signed=False).matrix(found, second[name]).cpu(),
            margin=margin,
            resamples=resamples,
            seed=seed,
        )
        for name, found in first.items()
        if name in second
    }
    return table(readings, index=("method", "metric"))


def units_table(
    methods: Mapping[str, Attribution],
    classifier: Classifier,
    pixels: Tensor,
    target: Tensor,
    *,
    margin: float = 0.1,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """How alike each method's maps are with black and with white as the network's zero.

    ``pixels`` ``[N, C, H, W]`` are raw, in [0, 1]; they get noise of one grey level, so that max
    pools meet no ties. Noise controls are left out. As ``moved_table``; raises NotApplicable where
    the network cannot be given other units. [kindermans2017unreliability]
    """
    steady = {name: method for name, method in methods.items() if name not in _DRAWN}
    uneven, channels, sides = dithered(pixels, seed), pixels.shape[1], []
    for zero in (0.0, 1.0):
        twin = rescaled(classifier, Scaling((zero,) * channels, (1.0,) * channels))
        x = twin.scaling.to_network(uneven)
        sides.append(explain(steady, twin, x, target).maps)
    return moved_table(*sides, margin=margin, resamples=resamples, seed=seed)
