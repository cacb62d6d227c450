"""Removal: what becomes of the class as pixels go, in the order of a map and in random order."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from saliency_sanity.networks.classifier import Classifier
from saliency_sanity.probes.deletion import removal_curve, removal_order
from saliency_sanity.verdict.interval import interval

# Its key beside those of methods.
RANDOM_ORDER = "random_order"


def removal_table(
    classifier: Classifier,
    x: Tensor,
    target: Tensor,
    maps: Mapping[str, Tensor],
    shares: Sequence[float],
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean probability of ``target``, a row a method, way and share of the pixels.

    ``maps`` ``[N, C, H, W]`` by method; a random order, which any mask has by its size alone and
    which ``seed`` draws, comes last. Pixels are ``deleted`` or ``inserted``; ``low`` to ``high`` is
    the interval over pictures.
    """
    orders = {method: removal_order(found, seed) for method, found in maps.items()}
    orders[RANDOM_ORDER] = removal_order(torch.zeros_like(x[:, :1]), seed)
    rows = []
    for method, order in orders.items():
        for way in ("deleted", "inserted"):
            curve = removal_curve(classifier, x, target, order, shares, insertion=way == "inserted")
            for share, values in zip(shares, curve.T, strict=True):
                value, low, high = interval(values[None])
                rows.append((method, way, share, value, low, high))
    return pd.DataFrame(rows, columns=["method", "way", "share", "value", "low", "high"])


def areas(removed: pd.DataFrame) -> pd.DataFrame:
    """The area under each curve of ``removal_table``, a row a method, a column a way."""
    found = removed.groupby(["method", "way"], sort=False)[["share", "value"]].apply(
        lambda part: float(np.trapezoid(part["value"], part["share"]))
    )
    return found.unstack().rename_axis(None, axis=1)
