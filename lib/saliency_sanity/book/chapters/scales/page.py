"""The page on scales and noise: what a ranking by randomization rewards, and what it cannot see."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler
from torch import Tensor

from saliency_sanity import load_model
from saliency_sanity.attribution.catalogue import FIGURES, is_control, title
from saliency_sanity.book.chapters.claims import ClaimTable, shown, tried
from saliency_sanity.book.chapters.page import (
    MethodsPage,
    bullets,
    described,
    pictures_for,
    pictures_used,
    plain_table,
)
from saliency_sanity.book.chapters.scales.claims import CONTROL, SAME, scale_claims, spanned
from saliency_sanity.book.chapters.scales.findings import (
    carried_finding,
    concord_finding,
    first_gone,
    inherited_finding,
    noise_finding,
    prepared_finding,
)
from saliency_sanity.book.runs.provenance import ProvenanceBox
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.experiments.comparison import explain
from saliency_sanity.experiments.outcome import Outcome, stage_table
from saliency_sanity.experiments.variants import has_batch_norms
from saliency_sanity.plots.rankings import preparation_dots, rank_slopes, score_ranking
from saliency_sanity.plots.scales import ORDER_TITLES, edge_chart, scale_heatmap
from saliency_sanity.plots.stages import kappa_heatmap
from saliency_sanity.plots.style import save
from saliency_sanity.probes.deletion import check_rising, removal_score
from saliency_sanity.probes.rankings import Concordance, ahead_of, concord, places
from saliency_sanity.probes.scales import QUANTITIES, KeptScales, kept_scales, summary
from saliency_sanity.similarity.metrics import Metric, metric
from saliency_sanity.similarity.prepare import Prepare
from saliency_sanity.similarity.rank import Pearson, Ranks
from saliency_sanity.similarity.ssim import Gaussian, Ssim
from saliency_sanity.verdict.interval import interval, mean, own_similarities
from saliency_sanity.verdict.wording import METRIC_TITLES, rounded

TOP_DOWN, BOTTOM_UP = "top_down", "bottom_up"
_RANKED = ("spearman_abs", "ssim")
_SSIM = Ssim(Gaussian(1.5), data_range=2.0)
# Ways to prepare maps beside those of the page's metrics, by what they are called.
_PREPARED = {
    "ssim_largest": Metric(Prepare("each", scale="signed"), (), _SSIM),
    "ssim_second_moment": Metric(Prepare("each", scale="second_moment"), (), _SSIM),
}
_NORMS = (
    "Running statistics of batch norms stay as they were learned, as in the rest of the book. "
    "They, too, carry scales."
)
_SCALINGS = {
    "ssim": "moved and scaled to [0, 1]",
    "ssim_largest": "divided by the largest absolute value",
    "ssim_second_moment": "divided by the root of the mean square",
}
# By which a rank correlation must not change.
_RANKS = Metric(Prepare("absolute", clip=99.0, scale="second_moment"), (Ranks(),), Pearson())
_SAID = {
    "carried": "trained norm with\ninfluence afterwards",
    "influence": "influence before\nwith influence afterwards",
    "top": "large before, and among the quarter\nwith most influence afterwards",
}


@dataclass(kw_only=True)
class Scales(MethodsPage):
    """One run of the notebook on scales and noise; its parameters are described there.

    ``chosen`` are the methods and controls by name, ``measures`` the similarities, ``x``
    ``[N, C, H, W]`` the pictures in the network's units and ``target`` ``[N]`` the classes that the
    trained network finds, which are explained throughout.

    Raises ValueError for a name, number or share that cannot be, before anything is explained.
    """

    notebook: ClassVar[str] = "09_scales_and_noise"

    model: str
    weights: str
    images: str
    image_count: int
    methods: list[str]
    seeds: int
    stage_limit: int
    scale_stages: int
    samples: int
    steps: int
    ig_samples: int
    ig_steps: int
    top: int
    shares: list[float]
    ceiling: int

    def __post_init__(self):
        super().__post_init__()
        check_rising(self.shares)
        if self.scale_stages == 1 or self.scale_stages < 0:
            raise ValueError(f"scale_stages {self.scale_stages}; 0 for all, or at least 2")
        names = dict.fromkeys([*(self.methods or FIGURES), CONTROL])
        self.chosen = self.at_scale(names)
        if sum(not is_control(name) for name in self.chosen) < 3:
            raise ValueError(f"methods {self.methods}: a ranking needs three that are no controls")
        self.measures = {key: metric(key) for key in _RANKED} | _PREPARED
        self.classifier = load_model(self.model, self.weights, self.device, self.seed)
        self.photographs, self.x = pictures_for(self.classifier, self.images, self.image_count)
        self.target = self.classifier.predict(self.x)
        self.experiment = Experiment(
            self.classifier,
            self.x,
            self.target,
            self.chosen,
            self.measures,
            explained="fixed",
            seeds=self.seeds,
            seed=self.seed,
            stage_limit=self.stage_limit,
            store=self.store,
            originals={},
            precision=self.precision,
            ceiling=self.ceiling,
        )

    # The two orders.

    @cached_property
    def outcomes(self) -> dict[str, Outcome]:
        """What was measured from the logits down, and from the input up."""
        orders = TOP_DOWN, BOTTOM_UP
        return {order: replace(self.experiment, order=order)() for order in orders}

    @property
    def refused(self) -> Mapping[str, str]:
        """Methods that do not apply to the network, with the reason."""
        return dict(self.outcomes[TOP_DOWN].refused) | dict(self.outcomes[BOTTOM_UP].refused)

    @cached_property
    def applicable(self) -> list[str]:
        """The methods and controls that apply to the network."""
        return [key for key in self.chosen if key not in self.refused]

    @cached_property
    def table(self) -> pd.DataFrame:
        """Readings by order, method, metric and stage, with the catalogue's names."""
        return pd.concat(
            stage_table(outcome.readings(margin=self.margin), outcome.random).assign(order=order)
            for order, outcome in self.outcomes.items()
        )

    def orders(self) -> Figure:
        """Kappa of every method by stage, in both orders, by the first similarity."""
        rows = self.table[self.table["metric"] == _RANKED[0]]
        rows = self._titled(rows[rows["method"].isin(self.applicable)])
        figure = kappa_heatmap(
            rows.assign(order=rows["order"].map(ORDER_TITLES)),
            controls=self.controls,
            title=first_gone(rows, self.controls, METRIC_TITLES[_RANKED[0]]),
        )
        save(figure, self.figure("orders"))
        return figure

    # Noise in the ranking.

    def scores(self, order: str, key: str) -> dict[str, np.ndarray]:
        """Similarity ``[R, N]`` of each method by network and picture, a mean over stages."""
        outcome = self.outcomes[order]
        return {
            method: mean(
                np.stack([own_similarities(s) for s in outcome.matrices[method, key]]), axis=0
            )
            for method in self.applicable
        }

    def ranking_of(self, order: str, key: str, confidence: float = 0.95) -> pd.DataFrame:
        """Methods by similarity, the lowest first, each beside noise."""
        return ahead_of(self.scores(order, key), CONTROL, confidence=confidence)

    @cached_property
    def ranking(self) -> pd.DataFrame:
        """Every ranking of the page, by order and metric, with what ``ahead_of`` gives."""
        return pd.concat(
            [
                self.ranking_of(order, key).assign(order=order, metric=key)
                for order in self.outcomes
                for key in self.measures
            ],
            ignore_index=True,
        )

    def _ranked(self, order: str, key: str) -> pd.DataFrame:
        rows = self.ranking
        return rows[(rows["order"] == order) & (rows["metric"] == key)]

    def ranking_figure(self) -> Figure:
        """Every method's similarity from the logits down, and where noise stands among them."""
        rows = self.ranking[self.ranking["order"] == TOP_DOWN]
        found = {METRIC_TITLES[key]: self._ranked(TOP_DOWN, key) for key in _RANKED[::-1]}
        figure = score_ranking(
            self._titled(rows),
            _RANKED[::-1],
            control=self.titles[CONTROL],
            controls=self.controls,
            title=noise_finding(found, CONTROL),
        )
        save(figure, self.figure("ranking"))
        return figure

    # Scales.

    @cached_property
    def kept(self) -> KeptScales:
        """What randomization leaves of the channels' scales."""
        return kept_scales(
            self.classifier,
            self.x,
            self.target,
            seeds=self.seeds,
            seed=self.seed,
            stage_limit=self.scale_stages,
        )

    @cached_property
    def scales(self) -> pd.DataFrame:
        """``kept`` as a table."""
        return self.kept.table()

    def norms_figure(self) -> Figure:
        """How alike channels' norms are before and after, by stage and layer."""
        title = inherited_finding(summary(self.kept.whole(TOP_DOWN, "norms"), "norms"))
        figure = scale_heatmap(self.scales, "norms", title=title)
        save(figure, self.figure("norms"))
        return figure

    @cached_property
    def edge(self) -> pd.DataFrame:
        """``scales`` of the highest layer that is as it was learned, by stage."""
        rows = self.scales[self.scales["order"] == TOP_DOWN]
        edges = self.kept.edges(TOP_DOWN)
        rows = rows[rows["place"] == rows["position"].map(edges)]
        blocks = len(self.kept.layers) + 1
        return rows.assign(
            label=[f"{(blocks - 1 - place) / blocks:.0%}" for place in rows["place"]]
        )

    def edge_figure(self) -> Figure:
        """What large channels of the highest learned layer do once all above is random."""
        figure = edge_chart(
            self.edge,
            _SAID,
            titles={"rank": "Rank correlation over channels", "share": "Share of large channels"},
            title=carried_finding(summary(self.kept.edge(TOP_DOWN, "top"), "top")),
        )
        save(figure, self.figure("influence"))
        return figure

    # Preparation of maps.

    def preparations(self) -> Figure:
        """The same similarities by how maps are scaled before they are compared."""
        rows = self.ranking[self.ranking["order"] == TOP_DOWN]
        ranks = [self._ranked(TOP_DOWN, key).set_index("method")["rank"] for key in _SCALINGS]
        figure = preparation_dots(
            self._titled(rows),
            _SCALINGS,
            control=self.titles[CONTROL],
            controls=self.controls,
            title=prepared_finding([float(rank[CONTROL]) for rank in ranks]),
        )
        save(figure, self.figure("preparations"))
        return figure

    @cached_property
    def explained(self) -> Mapping[str, Tensor]:
        """Maps ``[N, C, H, W]`` of the trained network by each method that applies."""
        methods = {key: self.chosen[key] for key in self.applicable}
        return explain(methods, self.classifier, self.x, self.target).maps

    @cached_property
    def rank_change(self) -> float:
        """By how much the root of the mean square changes a rank correlation of two maps, at most.

        Of the trained network's maps, each picture's with every other's.
        """
        plain = self.measures[_RANKED[0]]
        changes = [
            (plain.matrix(found, found) - _RANKS.matrix(found, found)).abs()
            for found in self.explained.values()
        ]
        return float(max(change[change.isfinite()].max() for change in changes))

    def rank_sentence(self) -> Markdown:
        """That change in a sentence."""
        change = shown(self.rank_change)
        return Markdown(
            f"Rank correlations of absolute values change by **{change}** at most when maps are "
            f"divided by the root of their mean square: maps of {len(self.photographs)} pictures "
            f"with each other, {len(self.explained)} methods."
        )

    # Faithfulness.

    @cached_property
    def faithful(self) -> dict[str, np.ndarray]:
        """Insertion less deletion ``[1, N]`` of each method's maps of the trained network."""
        given = self.classifier, self.x, self.target
        return {
            key: removal_score(*given, found, self.shares, seed=self.seed)[None]
            for key, found in self.explained.items()
        }

    @cached_property
    def concordances(self) -> dict[tuple[str, str], Concordance]:
        """Whether the two rankings agree, without controls, by order and metric.

        High for methods that change most and are the most faithful.
        """
        methods = [key for key in self.faithful if not is_control(key)]
        faithful = {key: self.faithful[key] for key in methods}
        found = {}
        for order in self.outcomes:
            for key in _RANKED:
                scores = self.scores(order, key)
                changed = {method: -scores[method] for method in methods}
                found[order, key] = concord(changed, faithful, seed=self.seed)
        return found

    def slopes(self) -> Figure:
        """The rank of each method by randomization in both orders, and by faithfulness between."""
        ranks = {
            f"changes most\n{ORDER_TITLES[order]}": places(
                {self.titles[k]: np.nanmean(v) for k, v in self.scores(order, "ssim").items()}
            )
            for order in self.outcomes
        }
        faithful = places({self.titles[k]: -np.nanmean(v) for k, v in self.faithful.items()})
        first, last = ranks.items()
        columns = dict([first, ("insertion less\ndeletion", faithful), last])
        figure = rank_slopes(
            columns,
            control=self.titles[CONTROL],
            controls=self.controls,
            title=concord_finding(self.concordances[TOP_DOWN, "ssim"]),
        )
        save(figure, self.figure("faithfulness"))
        return figure

    def agreement(self) -> Styler:
        """Rank correlation of the rankings, by order and similarity."""
        rows = []
        for (order, key), found in self.concordances.items():
            rows.append(
                {
                    "randomized": ORDER_TITLES[order],
                    "similarity": METRIC_TITLES[key],
                    "rank correlation": spanned(found.value, *found.interval(), SAME),
                    "ceiling": rounded(found.ceiling),
                    "methods": found.methods,
                }
            )
        return plain_table(pd.DataFrame(rows))

    # What is left behind.

    @cached_property
    def claims(self) -> ClaimTable:
        """What [binder2023shortcomings] says, held against what was measured here."""
        return tried(self._claims, self.margin)

    def _claims(self, margin: float, level: float) -> ClaimTable:
        claims = ClaimTable(self.name)
        scale_claims(
            claims,
            {key: self.ranking_of(TOP_DOWN, key, 1 - level) for key in _RANKED},
            {key: self.concordances[TOP_DOWN, key] for key in _RANKED},
            self.kept,
            self.rank_change,
            pictures=len(self.photographs),
            networks=self.seeds,
            margin=margin,
            level=level,
        )
        return claims

    def write_all(self) -> None:
        """Write the claims and every table of the page."""
        self.claims.write(self.folder)
        measured = [
            described(
                outcome.measurements(),
                self.photographs,
                self.chosen,
                model=self.classifier.name,
                order=order,
            )
            for order, outcome in self.outcomes.items()
        ]
        self.write(pd.concat(measured, ignore_index=True))
        for order, rows in self.table.drop(columns="words").groupby("order", sort=False):
            self.write(rows.drop(columns="order"), order)
        self.write_refused(self.refused)
        self.write(self.ranking, "ranking")
        self.write(self.scales, "scales")
        names = ("value", "low", "high")
        faithful = {key: interval(values) for key, values in self.faithful.items()}
        rows = [{"method": key} | dict(zip(names, f, strict=True)) for key, f in faithful.items()]
        self.write(pd.DataFrame(rows), "faithfulness")

    def limits(self) -> Markdown | None:
        """What is open with these methods on this network, a list; None if nothing more is."""
        absent = [title(name) for name in FIGURES if name not in self.chosen]
        lines = [f"Left out for the time that they take: {', '.join(absent)}."] if absent else []
        if has_batch_norms(self.classifier):
            lines.append(_NORMS)
        return bullets(lines)

    def numbers(self) -> dict[str, float]:
        """What other pages of the book quote, by name."""
        found = {
            "pictures": len(self.photographs),
            "networks": self.seeds,
            "methods": self.concordances[TOP_DOWN, "ssim"].methods,
        }
        for key in _RANKED:
            rows = self._ranked(TOP_DOWN, key).set_index("method")
            found[f"rank_of_noise_{key}"] = float(rows.loc[CONTROL, "rank"])
            found[f"concordance_{key}"] = round(self.concordances[TOP_DOWN, key].value, 2) + 0.0
        for quantity in QUANTITIES[1:]:
            edge = summary(self.kept.edge(TOP_DOWN, quantity), quantity)[0]
            found[f"edge_{quantity}"] = round(edge, 2) + 0.0
        found["whole_norms"] = (
            round(summary(self.kept.whole(TOP_DOWN, "norms"), "norms")[0], 2) + 0.0
        )
        return found

    def box(self) -> ProvenanceBox:
        """How this page was made."""
        return self.provenance(
            {
                "model": self.model,
                "weights": f"{self.classifier.weights}",
                "images": pictures_used(self.images, len(self.photographs)),
                "orders": ", ".join(ORDER_TITLES.values()),
                "randomization": str(self.experiment.randomization),
                "explained class": "the trained network's",
                "random networks": self.seeds,
                "samples": self.samples,
                "steps": self.steps,
                "margin": self.margin,
            },
            range(self.seed, self.seed + self.seeds),
            self.x.device,
        )
