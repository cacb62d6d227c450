"""Completeness: how well the sum of a map tells the logit that it explains."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.stats import linregress
from torch import Tensor, nn

from saliency_sanity.attribution.base import Attribution, logits
from saliency_sanity.attribution.competition import Compete
from saliency_sanity.attribution.compose import PathAverage, TimesInput, baseline_of
from saliency_sanity.attribution.per_label import explaining
from saliency_sanity.networks.classifier import network_of


@dataclass(frozen=True)
class Line:
    """A straight line through points, by least squares; ``r2`` is the share it explains."""

    slope: float
    intercept: float
    r2: float


def explained_logits(method: Attribution, model: nn.Module, x: Tensor) -> Tensor:
    """What a complete map of each label sums up to, ``[N, L]``: logits, less those of a baseline.

    Of a baseline only where the method, alone or in competition, is a product with the average
    along a path: integrated gradients. [sundararajan2017axiomatic]
    """
    if isinstance(method, Compete):
        method = method.method
    found = logits(model, x)
    if isinstance(method, TimesInput) and isinstance(method.method, PathAverage):
        start = baseline_of(model, x, method.baseline)
        found = found - logits(model, torch.zeros_like(x) + start)
    return found


def map_sums(method: Attribution, model: nn.Module, x: Tensor) -> pd.DataFrame:
    """Sum of the map and ``explained_logits``, a row for each image and label of the network.

    A complete method gives the same twice. Maps come from one forward
    pass where the method can do so. Raises as the method does.
    """
    nothing = torch.zeros(len(x), dtype=torch.long, device=x.device)
    found, rows = explained_logits(method, model, x), []
    with explaining(method, model, x) as maps:
        for label in range(found.shape[1]):
            sums = maps(torch.full_like(nothing, label)).double().flatten(1).sum(1)
            rows.append(
                pd.DataFrame(
                    {
                        "image": np.arange(len(x)),
                        "label": label,
                        "logit": found[:, label].double().cpu().numpy(),
                        "sum": sums.cpu().numpy(),
                    }
                )
            )
    return pd.concat(rows, ignore_index=True)


def line(sums: pd.DataFrame) -> Line:
    """The line of ``sum`` against ``logit``, over all rows of a table of ``map_sums``."""
    found = linregress(sums["logit"], sums["sum"])
    return Line(float(found.slope), float(found.intercept), float(found.rvalue**2))


@contextmanager
def without_biases(model: nn.Module) -> Iterator[None]:
    """Set every bias of a network to zero, for as long as it lasts.

    What is left is positively homogeneous if it is made of linear layers, rectifiers and pools.
    Raises TypeError for a network with batch norms, whose running means are biases too.
    """
    network = network_of(model)
    norms = [
        name for name, m in network.named_modules() if isinstance(m, nn.modules.batchnorm._NormBase)
    ]
    if norms:
        raise TypeError(
            f"{norms[0]} is a batch norm: its running mean is a bias as well; merge batch norms "
            "into the layers before them first"
        )
    biases = [p for name, p in network.named_parameters() if name.rpartition(".")[2] == "bias"]
    before = [bias.detach().clone() for bias in biases]
    try:
        with torch.no_grad():
            for bias in biases:
                bias.zero_()
        yield
    finally:
        with torch.no_grad():
            for bias, value in zip(biases, before, strict=True):
                bias.copy_(value)
