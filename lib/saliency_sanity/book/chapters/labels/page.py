"""The page on permuted labels: what was learned, how far maps agree, what remains of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from saliency_sanity._errors import known
from saliency_sanity.attribution.catalogue import FIGURES, is_control
from saliency_sanity.book.chapters.claims import LEVELS, ClaimTable, tried
from saliency_sanity.book.chapters.labels.claims import beside_published, label_claims
from saliency_sanity.book.chapters.labels.remains import what_remains
from saliency_sanity.book.chapters.labels.table import agreement_table, undecided
from saliency_sanity.book.chapters.page import (
    MethodsPage,
    at_least,
    bullets,
    check_shown,
    counted,
    described,
    memorized_by_all,
    named,
    nonzero_metrics,
    nonzero_pixels,
    pictures_for,
    pictures_used,
    verdict_counts,
    verdict_lists,
)
from saliency_sanity.book.chapters.published import PERMUTED, Published, published_labels
from saliency_sanity.book.runs.provenance import ProvenanceBox
from saliency_sanity.experiments.label_permutation import Agreed, Agreement
from saliency_sanity.networks.classifier import Classifier
from saliency_sanity.plots.labels import agreement_bars
from saliency_sanity.plots.mosaic import mosaic, tinted
from saliency_sanity.plots.style import save
from saliency_sanity.plots.tiles import COLUMNS, VIEWS, Tiles, View, network_tiles
from saliency_sanity.randomization.schemes import EXPLAINED
from saliency_sanity.similarity.hog import Hog
from saliency_sanity.similarity.metrics import metric
from saliency_sanity.subjects.datasets import CLASS_NAMES
from saliency_sanity.subjects.models import load_replicates
from saliency_sanity.subjects.training.accuracy import trainings
from saliency_sanity.verdict.robustness import at_margin
from saliency_sanity.verdict.wording import METRIC_TITLES, cross_table, rounded, verdict_word

# How accuracies are printed, by column.
_FORMATS = {
    "pictures": "{:,}",
    "labels changed": "{:.1%}",
    "epochs": "{:.3g}",
    "training accuracy": "{:.1%}",
    "test accuracy": "{:.1%}",
    "from guessing": "{:+.1f} s.e.",
}

_CARD = ("gradient_x_input", "guided_backprop")
_GRID = (
    "Its maps by method (rows) under networks that learned true labels and under networks that "
    "learned permuted ones. κ says how alike the maps of two networks are: 0 as maps of other "
    "pictures, 1 the same map; by {metric}, mean over {count} pictures and all pairs. It stands "
    "twice a row: “true” is for two networks that both learned true labels and differ in the seed, "
    "and “across” is for one that learned true and one that learned permuted labels. The verdict "
    "is on “across”: picture-driven, if its interval lies above the margin {margin:g}, responds, "
    "if it lies below, inconclusive, if the margin is within it; one cannot tell where “true” lies "
    "below as well. What other labels took from a map is the difference of the two. Absolute "
    "values: black is zero, bright is large. With signs: red is positive, blue negative, white "
    "zero. Each map is cut at its 99th percentile."
)


@dataclass(kw_only=True)
class Labels(MethodsPage):
    """One run of the notebook on permuted labels; its parameters are described there.

    ``chosen`` are the methods and ``measures`` the similarities by name, ``networks`` those with
    ``true`` and with ``permuted`` labels, ``x`` ``[N, C, H, W]`` the pictures in their units, and
    ``agreement`` what is run.

    Raises ValueError for a name or number that cannot be, FileNotFoundError for networks that are
    not trained, before anything is explained.
    """

    notebook: ClassVar[str] = "03_label_randomization"

    model: str
    dataset: str
    pairs: int
    image_count: int
    explained_class: str
    methods: list[str]
    choices: list[str]
    metrics: list[str]
    preset: str
    hog_cell: int
    layer: str
    samples: int
    steps: int
    ig_samples: int
    ig_steps: int
    top: int
    shown: int
    memorized: float

    def __post_init__(self):
        super().__post_init__()
        known("dataset", self.dataset, CLASS_NAMES)
        known("explained class", self.explained_class, EXPLAINED)
        if self.pairs < 1:
            raise ValueError(
                f"pairs is {self.pairs}; valid are 1 and more, 2 to have references beside it"
            )
        self.chosen = self.at_scale(self.methods or FIGURES)
        self.measures = {key: metric(key, self.preset) for key in self.metrics}
        if "hog" in self.measures:
            cells = (Hog(cell=self.hog_cell),)
            self.measures["hog"] = replace(self.measures["hog"], describe=cells)
        self._load()
        self.agreement = Agreement(
            self.networks["true"],
            self.networks["permuted"],
            self.x,
            self.chosen,
            self.measures | self._restricted,
            explained=self.explained_class,
            labels=torch.tensor(self.photographs.labels, device="cpu"),
            shown=self.shown,
            store=self.store,
            precision=self.precision,
        )

    def _load(self) -> None:
        self.networks = load_replicates(self.model, self.dataset, self.pairs, self.device)
        self.first = self.networks["true"][0]
        self.photographs, self.x = pictures_for(self.first, self.dataset, self.image_count)
        check_shown(self.shown, len(self.photographs))
        where = nonzero_pixels(self.x)
        self._restricted = {} if where is None else nonzero_metrics(where)

    @cached_property
    def trained(self) -> pd.DataFrame:
        """What each network can do, a row a network."""
        return trainings([network.provenance for network in self._every_network])

    @property
    def _every_network(self) -> list[Classifier]:
        return [network for kind in self.networks.values() for network in kind]

    @property
    def _reached(self) -> pd.Series:
        return self.trained.loc[self.trained["labels"] == "permuted", "training accuracy"]

    @property
    def learned(self) -> bool:
        """Whether every network knows its permuted labels; without it nothing is concluded."""
        return memorized_by_all(self._reached, self.memorized)

    def not_memorized(self) -> Markdown:
        """A warning for networks that do not know their permuted labels."""
        few = int((self._reached < self.memorized).sum())
        return Markdown(
            f"**Not memorized.** Of {len(self._reached)} networks with permuted labels {few} know "
            f"less than {100 * self.memorized:g}% of them, one only "
            f"{at_least(self._reached.min()):.1%}. This page shows what it measured and draws no "
            "conclusion."
        )

    def pictures_learned(self) -> Markdown:
        """How many pictures networks of both kinds learned; a warning where it was not as many."""
        learned = self.trained.groupby("labels")["pictures"].unique().map(sorted)
        if len({count for counts in learned for count in counts}) == 1:
            return Markdown(
                f"Each network, with true or with permuted labels, learned {learned.iloc[0][0]:,} "
                "pictures."
            )
        true, permuted = (
            " or ".join(f"{count:,}" for count in learned[labels]) for labels in self.networks
        )
        return Markdown(
            f"**Not as many pictures.** Networks with true labels learned {true} pictures, those "
            f"with permuted labels {permuted}. Here, whatever this difference changes in a map "
            "counts as an effect of the labels."
        )

    def accuracies(self) -> Styler:
        """What each network can do, as a table."""
        shown = self.trained.style.hide(axis="index").format(_FORMATS)
        return shown.set_table_attributes('class="dataframe"')

    @cached_property
    def agreed(self) -> Agreed:
        """How far maps agree; the long part of the page."""
        return self.agreement()

    @property
    def refused(self) -> Mapping[str, str]:
        """Why methods do not apply, by name."""
        return self.agreed.refused

    def _read(self, agreed: Agreed, confidence: float = 0.95) -> pd.DataFrame:
        found = agreed.readings(margin=self.margin, confidence=confidence)
        return found if self.learned else undecided(found)

    @cached_property
    def found(self) -> pd.DataFrame:
        """Readings with the catalogue's names of methods."""
        return self._read(self.agreed)

    @cached_property
    def readings(self) -> pd.DataFrame:
        """Readings with titles of methods."""
        return self._titled(self.found)

    @property
    def _methods_only(self) -> pd.DataFrame:
        return self.readings[~self.readings["method"].isin(self.controls)]

    @cached_property
    def scene(self) -> np.ndarray:
        """The pictures that are shown, ``[n, h, w]`` or ``[n, h, w, 3]``."""
        return self.photographs.arrays[: self.shown]

    def maps(self) -> Tiles:
        """Maps by method of networks of both kinds: at first three of each, all for a click."""
        names = [f"{labels}, seed {seed}" for labels in self.networks for seed in range(self.pairs)]
        few = range(min(self.pairs, COLUMNS // 2))
        films = {
            self.titles[key]: pictures
            for key, pictures in self.agreed.pictures.items()
            if not is_control(key)
        }
        main = self.metrics[0]
        rows = self._methods_only[self._methods_only["metric"] == main].to_dict("records")
        return network_tiles(
            [
                View(
                    self.photographs.names[i],
                    self.scene[i],
                    *({key: one[mode][:, i] for key, one in films.items()} for mode in (0, 1)),
                )
                for i in range(min(self.shown, VIEWS))
            ],
            names,
            [kind * self.pairs + seed for kind in range(2) for seed in few],
            finding=f"With permuted labels, {named(self._methods_only, main)}.",
            caption=_GRID.format(
                metric=METRIC_TITLES[main], count=len(self.photographs), margin=self.margin
            ),
            notes={
                row["method"]: [
                    # A pair's, not a network's: it stands once.
                    *(f"true: κ {rounded(row['true_kappa'])}", *[""] * (self.pairs - 1)),
                    *(
                        f"across: κ {rounded(row['kappa'])}, {verdict_word(row['verdict'])}",
                        *[""] * (self.pairs - 1),
                    ),
                ]
                for row in rows
                if row["method"] in films
            },
        )

    def bars(self) -> Figure:
        """The first similarity of maps under true and permuted labels, beside the authors'."""
        key = self.metrics[0]
        values = [
            self.theirs and self.theirs.value(method, metric, PERMUTED)
            for method, metric in zip(self.found["method"], self.found["metric"], strict=True)
        ]
        return agreement_bars(
            self.readings.assign(published=np.array(values, dtype=float)),
            [key],
            margin=self.margin,
            controls=self.controls,
            title=f"With permuted labels:\n{counted(self._methods_only, key)}",
        )

    def every_bar(self) -> Figure:
        """The same by every similarity; the figure is kept."""
        metrics = list(self.agreement.metrics)
        figure = agreement_bars(self.readings, metrics, margin=self.margin, controls=self.controls)
        save(figure, self.figure())
        return figure

    def summary(self) -> Markdown:
        """Methods by their verdict, by the first similarity."""
        return verdict_lists(self._methods_only, self.metrics[0])

    def verdicts(self) -> Styler:
        """Verdicts by the first similarity, beside their references."""
        return agreement_table(self.readings, self.metrics[0])

    def by_metric(self) -> Styler:
        """The verdicts by every similarity."""
        names = self.readings["metric"].map(METRIC_TITLES)
        return cross_table(self.readings.assign(metric=names), "method", "metric")

    def sentences(self) -> Markdown | None:
        """What remains of each method's map, and why."""
        told = [key for key in self.chosen if not is_control(key) and key not in self.refused]
        return bullets(what_remains(self.found, key, self.margin) for key in told)

    def by_class(self) -> list[Markdown | Styler]:
        """Kappa by explained class and method, a table with its heading a similarity."""
        compared = {
            key: self.chosen[key]
            for key in self.choices
            if key in self.chosen and key not in self.refused
        }
        if not compared:
            return []
        plain = replace(self.agreement, methods=compared, metrics=self.measures, shown=0)
        parts = []
        for option in EXPLAINED:
            part = self._titled(self._read(replace(plain, explained=option)()))
            parts.append(part.assign(choice=f"class: {option}"))
        effects = pd.concat(parts)
        shown = []
        for key in dict.fromkeys((self.metrics[0], *({"spearman_signed"} & set(self.metrics)))):
            text = f"Kappa of the {METRIC_TITLES[key]}, by explained class and method:"
            rows = effects[effects["metric"] == key]
            shown += [Markdown(text), cross_table(rows, "choice", "method")]
        return shown

    @cached_property
    def theirs(self) -> Published | None:
        """What was published of such networks."""
        return published_labels(self.model, self.dataset)

    @cached_property
    def claims(self) -> ClaimTable:
        """What [adebayo2018sanity] says, held against what was measured here."""
        return tried(self._claims, self.margin)

    def _claims(self, margin: float, level: float) -> ClaimTable:
        claims = ClaimTable(self.name)
        rows = self.found if level == LEVELS[0] else self._read(self.agreed, 1 - level)
        label_claims(claims, at_margin(rows, margin), self.theirs, margin, self.learned)
        return claims

    def write_all(self) -> None:
        """Write the claims, if there are any, and both tables of the page."""
        if len(self.claims):
            self.claims.write(self.folder)
        self.write(
            described(
                self.agreed.measurements(),
                self.photographs,
                self.chosen,
                model=self.first.name,
                dataset=self.dataset,
                preset=self.preset,
                explained=self.explained_class,
            )
        )
        self.write(self.found, "readings")
        self.write_refused(self.refused)
        self._keep_card()

    def _keep_card(self) -> None:
        """Keep a small picture: by method a picture, its map of true and of permuted labels."""
        films = self.agreed.pictures
        if not set(_CARD) <= set(films):
            return
        networks = (0, self.pairs)  # the first of each kind
        mosaic(
            [[self.scene[0], *(tinted(films[key][0][n, 0]) for n in networks)] for key in _CARD],
            self.card,
        )

    def beside_published(self) -> list[Markdown | Styler]:
        """The authors' numbers beside ours, under a line that says what they are; maybe none."""
        if self.theirs is None:
            return []
        if not set(self.found["method"]) & {method for method, _ in self.theirs.curves}:
            return []
        about = f"{self.theirs.subject}; {self.theirs.precision}. {self.theirs.source}"
        shown = beside_published(self.found, self.theirs)
        return [Markdown(f"*Published | ours. {about}*"), shown]

    def numbers(self) -> dict[str, float]:
        """What other pages of the book quote, by name."""
        numbers = {"pictures": len(self.photographs), "pairs": self.pairs}
        for labels in self.networks:
            rows = self.trained[self.trained["labels"] == labels]
            numbers[f"test_{labels}"] = float(rows["test accuracy"].mean())
            numbers[f"train_{labels}"] = at_least(rows["training accuracy"].min())
        for key in self.metrics:
            numbers |= verdict_counts(self._methods_only, key)
        for row in self.found.to_dict("records"):
            # As it is printed, without a minus before a zero.
            for kind, column in {"kappa": "kappa", "seeds": "true_kappa"}.items():
                if pd.notna(row[column]):
                    name = f"{kind}_{row['method']}_{row['metric']}"
                    numbers[name] = round(row[column], 2) + 0.0
        return numbers

    def box(self) -> ProvenanceBox:
        """How this page was made."""
        return self.provenance(
            {
                "model": self.model,
                "weights": ", ".join(network.weights for network in self._every_network),
                "images": pictures_used(self.dataset, len(self.photographs), kind="test pictures"),
                "explained class": self.explained_class,
                "preset": self.preset,
                "samples": self.samples,
                "steps": self.steps,
                "margin": self.margin,
            },
            [self.seed, *range(self.pairs)],
            self.x.device,
        )
