"""Negatives: the same thing to the network, in other colours."""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler
from torch import Tensor

from saliency_sanity.book.chapters.claims import Claim
from saliency_sanity.book.chapters.input_bias.claims import (
    MODIFIED,
    RECT,
    negative_claim,
    remember,
)
from saliency_sanity.book.chapters.input_bias.page import InputBias
from saliency_sanity.book.chapters.page import plain_table
from saliency_sanity.experiments.comparison import explain
from saliency_sanity.networks.classifier import Classifier
from saliency_sanity.probes.input_size import LEAST_IMAGES
from saliency_sanity.probes.units import moved_table, rescaled
from saliency_sanity.verdict.wording import kappa_text, rounded

_PAIRED = (RECT, MODIFIED, "gradient_x_input", "gradient", "guided_backprop")


@dataclass
class Negatives:
    """The section on negatives, with black as zero for pictures and negatives alike."""

    page: InputBias

    @cached_property
    def network(self) -> Classifier:
        """The page's network with black as its zero."""
        return rescaled(self.page.classifier, self.page.zeros["black"])

    @cached_property
    def _inputs(self) -> tuple[Tensor, Tensor]:
        pixels = self.page.pixels
        return tuple(self.network.scaling.to_network(side) for side in (pixels, 1 - pixels))

    @cached_property
    def _stays(self) -> Tensor:
        """The pictures whose negative gets their class, all of those searched."""
        same = self.network.predict(self._inputs[1]) == self.page.classes
        return same.nonzero().flatten()

    @property
    def compared(self) -> Tensor:
        """The pictures that are compared with their negatives."""
        return self._stays[self.page.first]

    @cached_property
    def readings(self) -> pd.DataFrame | None:
        """How alike a picture's map and its negative's are; None where too few keep their class."""
        if len(self.compared) < LEAST_IMAGES:
            return None
        paired = {key: self.page.methods[key] for key in _PAIRED}
        labels = self.page.classes[self.compared]
        first, second = (
            explain(paired, self.network, side[self.compared], labels, self.page.precision).maps
            for side in self._inputs
        )
        return moved_table(first, second, margin=self.page.margin)

    @cached_property
    def claim(self) -> Claim:
        """That the two maps are more alike without the product, added to the page's claims."""
        return negative_claim(self.page.claims, self.readings, len(self.compared))

    def count_text(self) -> str:
        """How many negatives keep their class, and how many are compared."""
        return (
            f"{len(self._stays)} of {len(self.page.pixels)} negatives keep their class; "
            f"at most {len(self.page.x)} are compared"
        )

    def table(self) -> Styler | None:
        """How alike the maps are, by method."""
        if self.readings is None:
            return None
        return plain_table(
            pd.DataFrame(
                {
                    "method": self.readings["method"].map(self.page.titles),
                    "kappa of picture and negative": [
                        kappa_text(row) for _, row in self.readings.iterrows()
                    ],
                    "similarity": self.readings["similarity"].map(rounded),
                    "chance": self.readings["chance"].map(rounded),
                }
            )
        )

    def panel(self) -> Markdown:
        """What to remember of negatives."""
        said = dict.fromkeys((RECT, MODIFIED), "")
        if self.readings is not None:
            rows = self.readings.set_index("method")
            said = {key: rounded(row["kappa"]) for key, row in rows.iterrows()}
        return remember(
            self.claim,
            "To the network a picture and its negative show the same thing; RectGrad's two maps "
            f"are less alike with the product (kappa {said[RECT]}) than without it "
            f"({said[MODIFIED]}).",
        )
