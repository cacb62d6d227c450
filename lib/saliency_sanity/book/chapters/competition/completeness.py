"""Approximate completeness: what the sum of a map still says of the logit that it explains."""

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from saliency_sanity.attribution.base import Attribution
from saliency_sanity.experiments.variants import has_batch_norms
from saliency_sanity.networks.classifier import Classifier
from saliency_sanity.probes.completeness import explained_logits, line, map_sums, without_biases

# A map for each picture and label takes its time.
_PICTURES = 10


def sums_of_labels(
    methods: Mapping[str, Attribution], classifier: Classifier, x: Tensor
) -> list[pd.DataFrame]:
    """Sums of the maps of every label, for a few of the pictures ``x``: tables of ``map_sums``.

    ``kind`` is the method, and once more with the network's biases zero where it has no batch
    norm.
    """
    few = x[:_PICTURES]
    found = [
        map_sums(method, classifier, few).assign(kind=kind) for kind, method in methods.items()
    ]
    if methods and not has_batch_norms(classifier):
        with without_biases(classifier):
            found += [
                map_sums(method, classifier, few).assign(kind=f"{kind}, biases zero")
                for kind, method in methods.items()
            ]
    return found


def predicted_sums(
    methods: Mapping[str, Attribution],
    maps: Mapping[str, Tensor],
    classifier: Classifier,
    x: Tensor,
    target: Tensor,
) -> list[pd.DataFrame]:
    """Sums of maps ``[N, C, H, W]`` that explain ``target``, as ``map_sums`` has them."""
    with torch.no_grad():
        scores = {
            kind: explained_logits(methods[kind], classifier, x).gather(1, target[:, None])[:, 0]
            for kind in maps
        }
    return [
        pd.DataFrame(
            {
                "image": range(len(x)),
                "label": target.cpu().numpy(),
                "logit": scores[kind].double().cpu().numpy(),
                "sum": found.double().flatten(1).sum(1).cpu().numpy(),
            }
        ).assign(kind=f"{kind}, predicted class")
        for kind, found in maps.items()
    ]


def fits(sums: pd.DataFrame) -> pd.DataFrame:
    """The line of sum against logit, a row a ``kind``, in the order of the table."""
    found = {kind: line(rows) for kind, rows in sums.groupby("kind", sort=False)}
    return pd.DataFrame(
        [
            {"sum of": kind, "slope": fit.slope, "intercept": fit.intercept, "R²": fit.r2}
            for kind, fit in found.items()
        ]
    )
