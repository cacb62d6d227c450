"""Negatives: the same thing in other colours, to a network that learned them."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler
from torch import Tensor

from saliency_sanity.book.chapters.claims import Claim, ClaimTable
from saliency_sanity.book.chapters.input_bias.claims import (
    MODIFIED,
    RECT,
    negative_claim,
    premise_claim,
    remember,
)
from saliency_sanity.book.chapters.input_bias.page import InputBias
from saliency_sanity.book.chapters.page import plain_table
from saliency_sanity.experiments.comparison import explain
from saliency_sanity.networks.classifier import Classifier
from saliency_sanity.probes.units import moved_matrices, read_moved, rescaled
from saliency_sanity.verdict.obstacle import LEAST_IMAGES
from saliency_sanity.verdict.wording import kappa_text, rounded

_PAIRED = (RECT, MODIFIED, "gradient_x_input", "gradient", "guided_backprop")


@dataclass
class Negatives:
    """The section on negatives, with black as zero for pictures and negatives alike."""

    page: InputBias

    @cached_property
    def network(self) -> Classifier:
        """The network that is shown negatives, with black as its zero."""
        return rescaled(self.page.both_ways, self.page.zeros["black"])

    @cached_property
    def _inputs(self) -> tuple[Tensor, Tensor]:
        pixels = self.page.pixels
        return tuple(self.network.scaling.to_network(side) for side in (pixels, 1 - pixels))

    @cached_property
    def _classes(self) -> tuple[Tensor, Tensor]:
        """What the network takes pictures and negatives for."""
        return tuple(self.network.predict(side) for side in self._inputs)

    @cached_property
    def _stays(self) -> Tensor:
        """The pictures whose negative gets their class, all of those searched."""
        pictures, negatives = self._classes
        return (pictures == negatives).nonzero().flatten()

    @property
    def compared(self) -> Tensor:
        """The pictures that are compared with their negatives."""
        return self._stays[self.page.first]

    @cached_property
    def _alike(self) -> dict[tuple[str, str], np.ndarray] | None:
        """Similarities of a picture's map and its negative's; None where nothing can be told."""
        if self.premise.verdict != "reproduced" or len(self.compared) < LEAST_IMAGES:
            return None
        paired = {key: self.page.methods[key] for key in _PAIRED}
        labels = self._classes[0][self.compared]
        first, second = (
            explain(paired, self.network, side[self.compared], labels, self.page.precision).maps
            for side in self._inputs
        )
        return moved_matrices(first, second)

    @cached_property
    def readings(self) -> pd.DataFrame | None:
        """How alike a picture's map and its negative's are; None where nothing can be told."""
        return None if self._alike is None else read_moved(self._alike, margin=self.page.margin)

    @cached_property
    def premise(self) -> Claim:
        """That a negative shows the network the same thing, added to the page's claims."""
        searched = len(self.page.pixels)
        weights = f"{self.page.both_ways.weights}"
        (claim,) = self.page.claims.try_claims(
            lambda claims, _, level: premise_claim(
                claims, len(self._stays), searched, weights, confidence=1 - level
            ),
            self.page.margin,
        )
        return claim

    @cached_property
    def claim(self) -> Claim:
        """That the two maps are more alike without the product, added to the page's claims."""
        premise, found = self.premise, self._alike
        claimed = {key: found[key] for key in found or () if key[0] in (RECT, MODIFIED)}

        def make(claims: ClaimTable, margin: float, level: float) -> Claim:
            rows = read_moved(claimed, margin=margin, confidence=1 - level) if claimed else None
            return negative_claim(claims, premise, rows, len(self.compared))

        (claim,) = self.page.claims.try_claims(make, self.page.margin)
        return claim

    def _own(self) -> tuple[int, int, str]:
        """Of the page's own network: negatives that stay, and the class of most, how many."""
        network = self.page.classifier
        found = network.predict(network.scaling.to_network(1 - self.page.pixels))
        label, count = Counter(found.tolist()).most_common(1)[0]
        return int((found == self.page.classes).sum()), count, network.class_name(label)

    def found(self) -> Markdown:
        """How many negatives keep their class, and how many are compared."""
        page, searched = self.page, len(self.page.pixels)
        lines = []
        if page.both_ways is not page.classifier:
            kept, most, name = self._own()
            lines = [
                f"To the page's network, which learned no negatives, {kept} of {searched} "
                f"negatives keep the class of their picture, and {most} are *{name}*.",
                f"To the one that learned them ({page.both_ways.weights}) "
                f"{len(self._stays)} of {searched} keep it.",
            ]
        else:
            lines = [f"{len(self._stays)} of {searched} negatives keep the class of their picture."]
        if self.readings is not None:
            lines.append(f"Of these {len(self.compared)} are compared.")
        return Markdown(" ".join(lines))

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
            f"{len(self._stays)} of {len(self.page.pixels)} pictures and their negatives are the "
            "same thing to the network; RectGrad's two maps are less alike with the product (kappa "
            f"{said[RECT]}) than without it ({said[MODIFIED]}).",
        )
