"""The sanity check: whether a map that is free of the bias sees the network."""

from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure

from saliency_sanity.book.chapters.claims import Claim, ClaimTable
from saliency_sanity.book.chapters.input_bias.claims import (
    MODIFIED,
    RECT,
    remember,
    sanity_claims,
)
from saliency_sanity.book.chapters.input_bias.page import InputBias
from saliency_sanity.book.chapters.page import titled
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.experiments.outcome import Outcome, stage_table
from saliency_sanity.plots.stages import kappa_curves
from saliency_sanity.verdict.wording import kappa_text

_TESTED = (RECT, MODIFIED, "guided_backprop", "gradient_x_input", "gradient", "input_x_noise")


@dataclass
class Sanity:
    """The section on the sanity check: the network randomized from the logits down."""

    page: InputBias

    @cached_property
    def outcome(self) -> Outcome:
        """What the network randomized from the logits down leaves of the maps."""
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
        return experiment()

    @cached_property
    def readings(self) -> pd.DataFrame:
        """Similarity to the trained network's maps, read against chance, by stage."""
        return stage_table(self.outcome.readings(margin=self.page.margin), self.outcome.random)

    @cached_property
    def claims(self) -> list[Claim]:
        """That RectGrad fails with the product and without, added to the page's claims."""
        metric = self.page.metrics[0]
        matrices = {
            key: found
            for key, found in self.outcome.matrices.items()
            if key[0] in (RECT, MODIFIED) and key[1] == metric
        }
        outcome = replace(self.outcome, matrices=matrices)

        def make(claims: ClaimTable, margin: float, level: float) -> None:
            found = outcome.readings(margin=margin, confidence=1 - level)
            sanity_claims(claims, stage_table(found, outcome.random), metric)

        return self.page.claims.try_claims(make, self.page.margin)

    def panel(self) -> Markdown:
        """What to remember of dropping the product."""
        _, without = self.claims
        last = self.readings[self.readings["position"] == self.readings["position"].max()]
        row = last.set_index(["method", "metric"]).loc[MODIFIED, self.page.metrics[0]]
        return remember(
            without,
            "Dropping the product is not enough to pass: once the whole network is random, kappa "
            f"of RectGrad without the product is still {kappa_text(row)}.",
        )

    def curves(self) -> Figure:
        """Kappa over the stages of randomization."""
        return kappa_curves(
            titled(self.readings, self.page.titles),
            self.page.metrics,
            margin=self.page.margin,
            controls=self.page.controls,
        )

    def write(self) -> None:
        """Write the readings."""
        self.page.write(self.readings.drop(columns="words"), "cascade")
