"""How alike two saliency maps are: metrics composed as prepare, describe, compare.

    Metric(Prepare("absolute", clip=99.0), (Ranks(),), Pearson())        Spearman, absolute values
    Metric(Prepare("each", scale="unit"), (), Ssim(Gaussian(1.5), 2.0))  structural similarity

`METRICS` holds the four metrics of the literature with their two presets: what the reference code
does and what the paper's text says, which differ.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch

from saliency_sanity import maps as of
from saliency_sanity.hog import Hog
from saliency_sanity.maps import Array, blank_undefined, per_image, raw_maps
from saliency_sanity.names import unknown
from saliency_sanity.ranks import Pearson, Ranks
from saliency_sanity.ssim import Gaussian, Ssim, Uniform

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
class Prepare:
    """From raw maps [N,C,H,W] to what is compared, each image by itself.

    `channels`: "absolute" or "signed" sums over channels, "each" keeps them. `clip`: percentile at
    which a sum is cut, None for not at all. `scale`: "unit" moves and scales the whole map to
    [0, 1], "signed" divides it by its largest absolute value, None leaves it.
    """

    channels: str = "each"
    clip: float | None = None
    scale: str | None = None

    def __post_init__(self):
        _known("channels", self.channels, ("absolute", "signed", "each"))
        _known("scale", self.scale, (None, "unit", "signed"))
        if self.clip is not None and self.channels == "each":
            raise ValueError(
                f"clip={self.clip} needs a sum over channels; use channels='absolute' or 'signed'"
            )
        if self.clip is not None and not 0 <= self.clip <= 100:
            raise ValueError(f"clip={self.clip} is no percentile; expected 0 to 100")

    def __call__(self, maps: Array) -> Array:
        """Prepared maps [N,H,W], or [N,C,H,W] with channels="each"."""
        if self.channels == "absolute":
            maps = of.absolute_sum(maps)
        elif self.channels == "signed":
            maps = of.signed_sum(maps)
        if self.clip is not None:
            cut = of.clip_above if self.channels == "absolute" else of.clip_diverging
            maps = cut(maps, self.clip)
        if self.scale is not None:
            maps = (of.unit_range if self.scale == "unit" else of.signed_range)(maps)
        return maps

    def __str__(self) -> str:
        words = [
            {
                "absolute": "sum over channels of absolute values",
                "signed": "sum over channels, signs kept",
                "each": "all channels, signs kept",
            }[self.channels]
        ]
        if self.clip is not None:
            side = "" if self.channels == "absolute" else ", at minus three times it below"
            words.append(f"cut at percentile {self.clip:g}{side}")
        if self.scale is not None:
            words.append(
                "whole map moved and scaled to [0, 1]"
                if self.scale == "unit"
                else "whole map divided by its largest absolute value, to [-1, 1]"
            )
        return "; ".join(words)


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
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    pairs = torch.cartesian_prod(torch.arange(len(a)), torch.arange(len(b)))
    values = []
    for i, j in (part.unbind(1) for part in pairs.split(chunk)):
        result = torch.as_tensor(similarity(a[i.to(a.device)], b[j.to(b.device)]))
        if result.shape != i.shape:
            raise ValueError(
                f"{similarity!r} returned shape {tuple(result.shape)} for {len(i)} pairs; "
                f"expected ({len(i)},), one number a pair"
            )
        values.append(result.to(torch.float64))
    return torch.cat(values).reshape(len(a), len(b))


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
    _known("metric", name, METRICS)
    _known("preset", preset, METRICS[name].presets)
    return METRICS[name].presets[preset]


def _known(what: str, value: object, valid: Iterable) -> None:
    valid = tuple(valid)
    if value not in valid:
        raise ValueError(unknown(what, value, map(str, valid)))


def fitting(a: Array, b: Array, *, paired: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Both batches of maps as [N,C,H,W] and [M,C,H,W], which can be compared; N is M if `paired`.

    Raises what a `Metric` does.
    """
    both = f"maps of shapes {tuple(a.shape)} and {tuple(b.shape)}"
    first, second = raw_maps(a), raw_maps(b)
    if first.device != second.device:
        raise ValueError(
            f"{both} are on {first.device} and {second.device}; move them to one device"
        )
    if first.shape[2:] != second.shape[2:]:
        raise ValueError(f"{both} differ in height or width; resize one of them")
    if first.shape[1] != second.shape[1] and 1 not in (first.shape[1], second.shape[1]):
        raise ValueError(f"{both} differ in channels; expected equal numbers, or 1 in one of them")
    if paired and len(first) != len(second):
        raise ValueError(
            f"{both} differ in the number of images; use .matrix(a, b) to compare each with each"
        )
    return first, second


_ranked = partial(Metric, describe=(Ranks(),), compare=Pearson())

METRICS: dict[str, MetricCard] = {
    card.name: card
    for card in (
        MetricCard(
            name="spearman_abs",
            title="Rank correlation of absolute values",
            formula=r"\rho = \mathrm{corr}\bigl(\mathrm{rank}\,|E|, \mathrm{rank}\,|E'|\bigr)",
            summary="Do both maps put the same pixels first, whichever sign they give them? Blind "
            "to every increasing transformation. Two maps multiplied by the same input agree in "
            "part whatever they are multiplied with, and almost wholly where the input is mostly "
            "zero.",
            sources=("adebayo2018sanity", "adebayo2018code", "spearman1904proof"),
            signed=False,
            # Scaling a map does not change its ranks, but rounding in the scaling may tie some.
            presets={
                "reference-code": _ranked(Prepare("absolute", clip=99.0)),
                "paper": _ranked(Prepare("absolute")),
            },
        ),
        MetricCard(
            name="spearman_signed",
            title="Rank correlation with signs",
            formula=r"\rho = \mathrm{corr}\bigl(\mathrm{rank}\,E, \mathrm{rank}\,E'\bigr)",
            summary="Evidence for and evidence against the class are opposite ends of the order. "
            "Near zero for maps that share only where they are large.",
            sources=("adebayo2018sanity", "adebayo2018code", "spearman1904proof"),
            signed=True,
            presets={
                "reference-code": _ranked(Prepare("signed", clip=99.0)),
                "paper": _ranked(Prepare("signed")),
            },
        ),
        MetricCard(
            name="ssim",
            title="Structural similarity",
            formula=r"\mathrm{SSIM} = \Bigl\langle \frac{(2\mu_x\mu_y + C_1)(2\sigma_{xy} + C_2)}"
            r"{(\mu_x^2+\mu_y^2+C_1)(\sigma_x^2+\sigma_y^2+C_2)} \Bigr\rangle,"
            r"\quad C_i = (k_i R)^2",
            summary="Local means, contrasts and correlations in a small window. The constants "
            "rest on the assumed span R: where a few large values leave the rest of a scaled map "
            "nearly flat, they dominate, and unrelated maps come out alike.",
            sources=("wang2004image", "adebayo2018sanity", "adebayo2018code"),
            signed=True,
            presets={
                "reference-code": Metric(
                    Prepare("each", scale="unit"), (), Ssim(Gaussian(1.5), data_range=2.0)
                ),
                "paper": Metric(
                    Prepare("each", scale="signed"), (), Ssim(Uniform(5), data_range=2.0)
                ),
            },
        ),
        MetricCard(
            name="hog",
            title="Correlation of edge histograms",
            formula=r"\mathrm{corr}\bigl(\mathrm{HOG}(E), \mathrm{HOG}(E')\bigr)",
            summary="In every cell of 16 x 16 pixels, how strong edges of each direction are. "
            "Compares the drawing, not the shading: the negative of a whole map scores as the map "
            "itself, while flipping signs pixel by pixel changes the drawing.",
            sources=("dalal2005histograms", "adebayo2018sanity", "adebayo2018code"),
            signed=True,
            presets={
                "reference-code": Metric(
                    Prepare("each", scale="unit"), (Hog(), Ranks()), Pearson()
                ),
                "paper": Metric(Prepare("each", scale="signed"), (Hog(),), Pearson()),
            },
        ),
    )
}
