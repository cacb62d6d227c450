"""The sanity check: whether a map that is free of the bias sees the network."""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure

from saliency_sanity.book.chapters.claims import Claim
from saliency_sanity.book.chapters.input_bias.claims import (
    MODIFIED,
    RECT,
    remember,
    sanity_claims,
)
from saliency_sanity.book.chapters.input_bias.page import InputBias
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.experiments.outcome import stage_table
from saliency_sanity.plots.stages import kappa_curves
from saliency_sanity.verdict.wording import kappa_text

_TESTED = (RECT, MODIFIED, "guided_backprop", "gradient_x_input", "gradient", "input_x_noise")


@dataclass
class Sanity:
    """The section on the sanity check: the network randomized from the logits down."""

    page: InputBias

    @cached_property
    def readings(self) -> pd.DataFrame:
        """Similarity to the trained network's maps, read against chance, by stage."""
        page = self.page
        experiment = Experiment(
            page.classifier,
            page.x,
            page.target,
            {key: page.methods[key] for key in _TESTED},
            page.measures,
            seeds=page.seeds,
            seed=page.seed,
            stage_limit=page.stage_limit,
            store=page.store,
            precision=page.precision,
        )
        outcome = experiment()
        return stage_table(outcome.readings(margin=page.margin), outcome.random)

    @cached_property
    def claims(self) -> list[Claim]:
        """That RectGrad fails with the product and without, added to the page's claims."""
        return sanity_claims(self.page.claims, self.readings, self.page.metrics[0])

    def panel(self) -> Markdown:
        """What to remember of dropping the product."""
        _, without = self.claims
        last = self.readings[self.readings["position"] == self.readings["position"].max()]
        row = last.set_index(["method", "metric"]).loc[MODIFIED, self.page.metrics[0]]
        return remember(
            without,
            "To drop the product is not to pass: once the whole network is random, kappa of "
            f"RectGrad without it is still {kappa_text(row)}.",
        )

    def curves(self) -> Figure:
        """Kappa over the stages of randomization."""
        return kappa_curves(
            self.readings.assign(method=self.readings["method"].map(self.page.titles)),
            self.page.metrics,
            margin=self.page.margin,
            controls=self.page.controls,
        )

    def write(self) -> None:
        """Write the readings."""
        self.page.write(self.readings.drop(columns="words"), "readings")
