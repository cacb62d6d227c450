"""How alike two saliency maps are: metrics composed as prepare, describe, compare.

    Metric(Prepare("absolute", clip=99.0), (Ranks(),), Pearson())        Spearman, absolute values
    Metric(Prepare("each", scale="unit"), (), Ssim(Gaussian(1.5), 2.0))  structural similarity

`METRICS` holds the four metrics of the literature with their two presets: what the reference code
does and what the paper's text says, which differ.
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Protocol

import numpy as np
import torch

from saliency_sanity._errors import known
from saliency_sanity._groups import GROUP, grouped
from saliency_sanity.similarity.hog import Hog
from saliency_sanity.similarity.prepare import (
    Array,
    Prepare,
    blank_undefined,
    fitting,
    per_image,
    raw_maps,
    to_tensor,
)
from saliency_sanity.similarity.rank import Pearson, Ranks
from saliency_sanity.similarity.ssim import Gaussian, Ssim, Uniform

Similarity = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

PRESETS = ("reference-code", "paper")


class Compare(Protocol):
    """What puts a number on two descriptors: pair by pair, or each with each."""

    def pairs(self, a: Array, b: Array) -> Array:
        """Similarity [n] of descriptors [n,...] at the same place; NumPy or torch."""
        ...

    def matrix(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Similarity [N,M] of descriptors [N,...] with descriptors [M,...]."""
        ...


@dataclass(frozen=True)
class Metric:
    """A similarity of saliency maps; calling it compares image by image.

    Maps are [N,H,W] or [N,C,H,W] of any floating dtype, on one device; all arithmetic is float64.
    A map of one channel compares with a map of three as if it were repeated. A map with a value
    that is not finite, or that is constant over space, has similarity NaN with everything, and so
    has one that the preparation makes constant. Raises ValueError for shapes or devices that do
    not fit each other, TypeError for maps that are not floating-point.
    """

    prepare: Prepare
    describe: tuple[Callable[[Array], Array], ...]
    compare: Compare

    def __call__(self, a: Array, b: Array) -> torch.Tensor:
        """Similarity [N] float64 of `a` and `b`, image by image."""
        a, b = fitting(a, b, paired=True)
        return per_image(lambda x, y: self.compare.pairs(self._of(x), self._of(y)), a, b)

    def matrix(self, a: Array, b: Array) -> torch.Tensor:
        """Similarity [N,M] float64 of each map in `a` with each map in `b`."""
        same = a is b
        a, b = fitting(a, b, paired=False)
        left = per_image(self._of, a)
        return self.compare.matrix(left, left if same else per_image(self._of, b))

    def descriptors(self, maps: Array) -> torch.Tensor:
        """What is compared, [N,...]: `compare.matrix` of two of them is `matrix` of their maps."""
        return per_image(self._of, raw_maps(maps))

    def _of(self, maps: Array) -> Array:
        described = self.prepare(blank_undefined(maps))
        for step in self.describe:
            described = step(described)
        return described

    def settings(self) -> dict[str, str]:
        """The parts in words: prepare, describe, compare."""
        describe = "; then ".join(map(str, self.describe)) or "the map itself"
        return {"prepare": str(self.prepare), "describe": describe, "compare": str(self.compare)}


def similarity_matrix(similarity: Similarity, a: Array, b: Array, chunk: int = 64) -> torch.Tensor:
    """Matrix [N,M] float64 of any `similarity(a, b) -> [n]`, over `chunk` pairs at a time.

    What has a `matrix(a, b)` of its own, such as a `Metric`, computes it, which is much faster.
    Raises ValueError where the similarity does not return one number a pair.
    """
    if hasattr(similarity, "matrix"):
        return similarity.matrix(a, b)
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}; expected 1 pair or more")
    a, b = to_tensor(a), to_tensor(b)
    ranges = (torch.arange(len(maps), device="cpu") for maps in (a, b))
    pairs = torch.cartesian_prod(*ranges)
    values = []
    for i, j in (part.unbind(1) for part in pairs.split(chunk)):
        result = to_tensor(similarity(a[i.to(a.device)], b[j.to(b.device)]))
        if result.shape != i.shape:
            raise ValueError(
                f"{similarity!r} returned shape {tuple(result.shape)} for {len(i)} pairs; "
                f"expected ({len(i)},), one number a pair"
            )
        values.append(result.to(torch.float64))
    return torch.cat(values).reshape(len(a), len(b))


def similarity_rows(similarity: Similarity, a: Array, b: Array, group: int = GROUP) -> np.ndarray:
    """Similarities [N,P] float64 of each map in `a` with those in `b` of its group of P pictures.

    Up to P pictures this is `similarity_matrix`; in the last group what is missing to P is NaN.
    """

    def compared(rows: slice) -> torch.Tensor:
        return similarity_matrix(of_rows(similarity, rows), a[rows], b[rows]).cpu()

    return grouped(compared, len(a), group)


def of_rows(similarity: Similarity, rows: slice) -> Similarity:
    """A similarity for some of the pictures, where it knows of each; else itself."""
    return similarity.of_rows(rows) if hasattr(similarity, "of_rows") else similarity


@dataclass(frozen=True)
class MetricCard:
    """What the metrics page tells of a metric; `signed`: whether the signs of a map count."""

    name: str
    title: str
    formula: str
    summary: str
    sources: tuple[str, ...]
    signed: bool
    presets: dict[str, Metric]

    def settings(self) -> dict[str, dict[str, str]]:
        """For each preset the parts in words."""
        return {preset: built.settings() for preset, built in self.presets.items()}


def metric(name: str, preset: str = "reference-code") -> Metric:
    """The metric of this name with the settings of a preset, "reference-code" or "paper".

    Raises ValueError for an unknown name or preset, with the nearest valid ones.
    """
    known("metric", name, METRICS)
    known("preset", preset, METRICS[name].presets)
    return METRICS[name].presets[preset]


_ranked = partial(Metric, describe=(Ranks(),), compare=Pearson())
_PRESETS = {
    # Scaling a map does not change its ranks, but rounding in the scaling may tie some.
    "spearman_abs": {
        "reference-code": _ranked(Prepare("absolute", clip=99.0)),
        "paper": _ranked(Prepare("absolute")),
    },
    "spearman_signed": {
        "reference-code": _ranked(Prepare("signed", clip=99.0)),
        "paper": _ranked(Prepare("signed")),
    },
    "ssim": {
        "reference-code": Metric(
            Prepare("each", scale="unit"), (), Ssim(Gaussian(1.5), data_range=2.0)
        ),
        "paper": Metric(Prepare("each", scale="signed"), (), Ssim(Uniform(5), data_range=2.0)),
    },
    "hog": {
        "reference-code": Metric(Prepare("each", scale="unit"), (Hog(), Ranks()), Pearson()),
        "paper": Metric(Prepare("each", scale="signed"), (Hog(),), Pearson()),
    },
}


def _read() -> dict[str, MetricCard]:
    file = resources.files(__package__) / "cards.toml"
    texts = tomllib.loads(file.read_text(encoding="utf-8"))
    return {
        name: MetricCard(
            **texts[name] | {"sources": tuple(texts[name]["sources"])}, name=name, presets=presets
        )
        for name, presets in _PRESETS.items()
    }


METRICS = _read()
