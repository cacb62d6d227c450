"""The page on input bias: one network, its pictures, every method, and what may be zero."""

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from saliency_sanity import load_model
from saliency_sanity.attribution.catalogue import FIGURES, is_control, title
from saliency_sanity.attribution.rectgrad import Threshold
from saliency_sanity.book.chapters.page import Page, pictures_used
from saliency_sanity.book.runs.provenance import ProvenanceBox
from saliency_sanity.networks.classifier import Classifier, Scaling
from saliency_sanity.networks.forward import fitted
from saliency_sanity.probes.units import zero_at
from saliency_sanity.similarity.metrics import metric
from saliency_sanity.subjects.photographs import load_photographs

# What is 0 in the network's units, for inputs in [0, 1], in [-1, 1] and in [-1, 0]: mean and unit.
_ZEROS = {"black": (0.0, 1.0), "mid-grey": (0.5, 0.5), "white": (1.0, 1.0)}


@dataclass(kw_only=True)
class InputBias(Page):
    """One run of the notebook on input bias; its parameters are described there.

    Sections are objects of their own, each made of this page. ``pixels`` ``[P, C, H, W]`` are the
    pictures that are searched, in [0, 1], and ``classes`` ``[P]`` what the network takes them for;
    ``raw``, ``x`` and ``target`` are those that every method explains, raw, in the network's units,
    and their classes. ``zeros`` are the units whose zero is black, mid-grey and white.
    ``both_ways`` is the network that is shown negatives: one that learned them, too, where
    ``negative_weights`` names it, else the page's own.

    Raises ValueError for a method's scale, a metric, a colour or a number that cannot be, before
    anything is explained.
    """

    notebook: ClassVar[str] = "05_input_bias"

    model: str
    weights: str
    images: str
    masks: str
    negative_weights: str
    pool: int
    image_count: int
    dark_count: int
    darkest: float
    brightest: float
    quantiles: list[float]
    grid: list[float]
    exact: int
    colours: list[float]
    samples: int
    steps: int
    ig_samples: int
    ig_steps: int
    top: int
    seeds: int
    stage_limit: int
    metrics: list[str]
    preset: str
    shown: int

    def __post_init__(self):
        super().__post_init__()
        for percentile in (*self.quantiles, *self.grid):
            Threshold(percentile)
        self.q = self.quantiles[-1]
        if self.dark_count < 0:
            raise ValueError(f"dark_count is {self.dark_count}; valid are 1 and more, or 0 for all")
        self.garments = self.images == "fashion_mnist"
        if self.masks and not Path(self.images).is_dir():
            raise ValueError(
                f"masks is {self.masks!r}; they go with a folder of pictures, not {self.images!r}"
            )
        self.measures = {key: metric(key, self.preset) for key in self.metrics}
        self.methods = self.at_scale(FIGURES)
        self.titles = {key: title(key) for key in self.methods}
        self.controls = [self.titles[key] for key in self.methods if is_control(key)]
        self.classifier = load_model(self.model, self.weights, self.device, self.seed)
        self.both_ways = self.classifier
        if self.negative_weights:
            self.both_ways = load_model(self.model, self.negative_weights, self.device)
        self._look()

    def _look(self) -> None:
        """Load the pictures, and let the network name them."""
        scaling = self.classifier.scaling
        channels = len(scaling.mean)
        self.zeros = {
            zero: Scaling((mean,) * channels, (unit,) * channels)
            for zero, (mean, unit) in _ZEROS.items()
        }
        for colour in self.colours:
            zero_at(scaling, colour)
        self.photographs = load_photographs(
            self.images, size=self.classifier.size, count=self.pool, channels=channels
        )
        found = len(self.photographs)
        if not 1 <= (self.image_count or found) <= found:
            raise ValueError(f"image_count is {self.image_count}; valid are 1 to {found}, or 0")
        self.pixels = fitted(self.classifier, self.photographs.pixels)
        self.classes = self.classifier.predict(scaling.to_network(self.pixels))
        self.first = slice(self.image_count or None)
        self.raw, self.target = self.pixels[self.first], self.classes[self.first]
        self.x = scaling.to_network(self.raw)

    @cached_property
    def double(self) -> Classifier:
        """The network in double precision, where what is exact shows as exact."""
        return copy.deepcopy(self.classifier).double()

    def numbers(self) -> dict[str, float]:
        """What other pages of the book quote of the page itself, by name."""
        return {"pictures": len(self.x)}

    def box(self, dark: int) -> ProvenanceBox:
        """How this page was made, with so many dark objects."""
        found = self.masks or ("known" if self.garments else "dark within outlines by hand")
        return self.provenance(
            {
                "model": self.model,
                "weights": f"{self.classifier.weights}",
                "weights, negatives": f"{self.both_ways.weights}",
                "images": f"{pictures_used(self.images, len(self.photographs))}; {len(self.x)} are "
                "explained by every method",
                "dark objects": f"{found}, {dark} pictures",
                "q": self.q,
                "competing labels": self.top or "all",
                "samples, steps": f"{self.samples}, {self.steps}",
                "random networks": self.seeds,
                "preset": self.preset,
                "margin": self.margin,
            },
            range(self.seed, self.seed + self.seeds),
            self.x.device,
        )
