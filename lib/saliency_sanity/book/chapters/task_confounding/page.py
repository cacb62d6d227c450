"""The page on tasks: maps of networks that were asked different things of the same pictures."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from textwrap import wrap
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler
from torch import Tensor

from saliency_sanity._hashing import describe
from saliency_sanity.attribution.catalogue import FIGURES, is_control
from saliency_sanity.book.chapters.claims import ClaimTable, tried
from saliency_sanity.book.chapters.measured import MOVES, measured
from saliency_sanity.book.chapters.page import (
    MethodsPage,
    check_shown,
    is_product,
    nonzero_metrics,
    nonzero_pixels,
    pictures_for,
    plain_table,
)
from saliency_sanity.book.chapters.task_confounding.claims import Shares, task_claims
from saliency_sanity.book.runs.provenance import ProvenanceBox
from saliency_sanity.networks.classifier import Classifier
from saliency_sanity.networks.forward import fitted
from saliency_sanity.plots.input_bias import share_chart
from saliency_sanity.plots.maps import map_grid
from saliency_sanity.plots.ranking import kappa_ranking
from saliency_sanity.plots.style import save
from saliency_sanity.probes.tasks import (
    OTHER,
    RANDOM,
    TRAINED,
    likeness,
    maps_under,
    share_gap,
    share_table,
    shares,
)
from saliency_sanity.probes.units import Gap
from saliency_sanity.similarity.metrics import Similarity, metric
from saliency_sanity.subjects.datasets import CLASS_NAMES, TASKS, by_turns, load_scenes, to_pixels
from saliency_sanity.subjects.models import load_tasks
from saliency_sanity.subjects.scenes import Scenes
from saliency_sanity.subjects.training.accuracy import trainings
from saliency_sanity.verdict.robustness import held_against
from saliency_sanity.verdict.wording import (
    METRIC_TITLES,
    RANDOMIZATION_WORDS,
    kappa_text,
    rounded,
    said,
)

# What is asked of a pair, by data set, and the data set of the other question.
PAIRED = {"pairs_garment": "garment", "pairs_shape": "shape"}
_OTHER = dict(zip(PAIRED, reversed(PAIRED), strict=True))
HALVES, ONE = "halves", "fashion_mnist"
_PICTURED = ("gradient", "guided_backprop")
# What a method that explains noisy copies has in its description.
_NOISY = "NoiseAverage("
_NOT_ZERO = "spearman_abs_not_zero"

# Comparisons of maps by kappa, by what tables call them.
_AGAINST = ", trained against random"
AGAINST_RANDOM = {
    "pairs_garment": f"two objects, garment task{_AGAINST}",
    "pairs_shape": f"two objects, shape task{_AGAINST}",
    ONE: f"one object{_AGAINST}",
}
AGAINST_OTHER = "two objects, garment task against shape task"
# What charts call networks, and the parts of a picture without lower half.
_NETWORKS = {
    TRAINED: "trained on this task",
    OTHER: "trained on the other task",
    RANDOM: "random network",
}
_PARTS = {"deleted": "deleted part", "boundary": "at the cut", "kept": "kept part"}


@dataclass(kw_only=True)
class TaskConfounding(MethodsPage):
    """One run of the notebook on tasks; its parameters are described there.

    ``networks`` are those of each data set, ``trainings`` of them; ``scenes`` the pictures with two
    objects and ``cut`` those without a lower half, with regions; ``x`` ``[N, C, H, W]`` by data set
    what its networks see, in their units.

    Raises ValueError for a name or number that cannot be, FileNotFoundError for networks that are
    not trained, before anything is explained.
    """

    notebook: ClassVar[str] = "13_task_confounding"

    model: str
    trainings: int
    image_count: int
    methods: list[str]
    metrics: list[str]
    preset: str
    layer: str
    samples: int
    steps: int
    ig_samples: int
    ig_steps: int
    top: int
    shown: int

    def __post_init__(self):
        super().__post_init__()
        self.chosen = self.at_scale(self.methods or FIGURES)
        self.measures = {key: metric(key, self.preset) for key in self.metrics}
        if self.image_count < 1:
            raise ValueError(f"image_count is {self.image_count}; valid are 1 and more")
        check_shown(self.shown, self.image_count)
        self.networks = load_tasks(self.model, [*TASKS, ONE], self.trainings, self.device)
        self.scenes = self._taken("pairs", "garment")
        self.cut = self._taken("halves", "state")
        first = self.networks[ONE][0]
        self.photographs, single = pictures_for(first, ONE, self.image_count)
        pair, half = (self._fed(first, scenes) for scenes in (self.scenes, self.cut))
        self.x: dict[str, Tensor] = dict.fromkeys(PAIRED, pair) | {HALVES: half, ONE: single}

    def _taken(self, kind: str, task: str) -> Scenes:
        """The first scenes with garments by turns, or those that have lost their lower half."""
        found = load_scenes(kind)
        labels = found.labels[task]
        order = labels.nonzero().flatten() if kind == HALVES else by_turns(labels)
        if self.image_count > len(order):
            raise ValueError(
                f"image_count is {self.image_count}; valid are 1 to {len(order)}, the test "
                f"pictures of {kind}"
            )
        return found.at(order[: self.image_count])

    def _pixels(self, scenes: Scenes) -> Tensor:
        first = self.networks[ONE][0]
        return to_pixels(scenes.images, first.size, len(first.scaling.mean))

    def _fed(self, network: Classifier, scenes: Scenes) -> Tensor:
        return fitted(network, network.scaling.to_network(self._pixels(scenes)))

    # What the networks have learned.

    @cached_property
    def trained(self) -> pd.DataFrame:
        """What the networks of each data set can do, the mean and the worst of them."""
        rows = []
        for data, networks in self.networks.items():
            found = trainings([network.provenance for network in networks])
            rows.append(
                {
                    "task": data,
                    "classes": len(CLASS_NAMES[data]),
                    "networks": len(found),
                    "pictures": int(found["pictures"].iloc[0]),
                    "test accuracy, mean": found["test accuracy"].mean(),
                    "test accuracy, worst": found["test accuracy"].min(),
                    "guessing": 1 / len(CLASS_NAMES[data]),
                }
            )
        return pd.DataFrame(rows)

    def accuracies(self) -> Styler:
        """What the networks can do, as a table."""
        formats = {name: "{:.1%}" for name in self.trained if "accuracy" in name}
        return plain_table(self.trained).format(formats | {"guessing": "{:.1%}"})

    # Maps.

    @cached_property
    def _explained(self) -> dict[tuple[str, str], dict[str, list[Tensor]]]:
        found = {}
        why: dict[str, str] = {}
        for data, networks in self.networks.items():
            for kind, start in ((TRAINED, None), (RANDOM, self.seed)):
                found[data, kind], refused = maps_under(
                    self.chosen,
                    networks,
                    self.x[data],
                    random_from=start,
                    precision=self.precision,
                )
                why |= refused
        self._refused = why
        return found

    @property
    def maps(self) -> dict[tuple[str, str], dict[str, list[Tensor]]]:
        """Maps by data set and kind of network, then by method, one a network."""
        return {
            key: {name: maps for name, maps in found.items() if name not in self.refused}
            for key, found in self._explained.items()
        }

    @property
    def refused(self) -> Mapping[str, str]:
        """Why methods do not apply to one of the networks, by name."""
        return self._explained and self._refused

    def _under(self, task: str) -> dict[str, dict[str, list[Tensor]]]:
        """Maps of pairs by kind of network, as a task sees them."""
        return {
            TRAINED: self.maps[task, TRAINED],
            OTHER: self.maps[_OTHER[task], TRAINED],
            RANDOM: self.maps[task, RANDOM],
        }

    def pictured(self) -> Figure:
        """Maps of the first networks of both tasks and of a random one."""
        columns = {}
        for key in (key for key in _PICTURED if key in self.chosen):
            for what, place in (
                *((f"{name} task", (data, TRAINED)) for data, name in PAIRED.items()),
                ("random", ("pairs_garment", RANDOM)),
            ):
                name = "\n".join([*wrap(self.titles[key], 16), what])
                columns[name] = self.maps[place][key][0][: self.shown]
        labels = [self.scenes.labels[name][: self.shown].tolist() for name in PAIRED.values()]
        names = [
            "\n".join(CLASS_NAMES[data][one] for data, one in zip(PAIRED, pair, strict=True))
            for pair in zip(*labels, strict=True)
        ]
        pixels = self._pixels(self.scenes)[: self.shown]
        return map_grid(pixels, names, columns, title=self._moving)

    # Where they lie.

    @cached_property
    def shares(self) -> pd.DataFrame:
        """Share of maps on the object that the label hangs on, as ``share_table``, by task."""
        return pd.concat(
            [
                share_table(self._under(data), self.scenes.regions[name]).assign(task=name)
                for data, name in PAIRED.items()
            ],
            ignore_index=True,
        )

    @cached_property
    def parts(self) -> pd.DataFrame:
        """Share of maps in each part of a picture without lower half, as ``share_table``."""
        under = {TRAINED: self.maps[HALVES, TRAINED], RANDOM: self.maps[HALVES, RANDOM]}
        return pd.concat(
            [share_table(under, mask).assign(part=part) for part, mask in self.cut.regions.items()],
            ignore_index=True,
        )

    @cached_property
    def values(self) -> dict[tuple[str, str, str], np.ndarray]:
        """Shares ``[R, N]`` by method, where they are taken, and kind of network.

        Where is a task of pairs, or ``cut``: at the boundary or below.
        """
        below = ~self.cut.regions["kept"]
        found: dict[tuple[str, str, str], np.ndarray] = {}
        for key in self.maps[HALVES, TRAINED]:
            for data, name in PAIRED.items():
                for kind, by_method in self._under(data).items():
                    found[key, name, kind] = shares(by_method[key], self.scenes.regions[name])
            for kind in (TRAINED, RANDOM):
                found[key, "cut", kind] = shares(self.maps[HALVES, kind][key], below)
                deleted = shares(self.maps[HALVES, kind][key], self.cut.regions["deleted"])
                found[key, "deleted", kind] = deleted
        return found

    @cached_property
    def moves(self) -> pd.DataFrame:
        """How far maps move to the object of their own task, a row a method.

        ``value`` is the share on the object that the label hangs on under the networks of this task
        less that under those of the other, the mean of both tasks, ``low`` to ``high`` its 95 %
        interval over pictures and networks; ``random`` that less the share under random networks,
        with its interval. ``verdict`` is ``above`` where the interval lies above 0.
        """
        rows = []
        for key in self.maps[HALVES, TRAINED]:
            row: dict[str, Any] = {"method": key}
            for name, kind in (("", OTHER), ("random", RANDOM)):
                found = self._gap(key, kind)
                prefix = f"{name}_" if name else ""
                row |= {name or "value": found.value, f"{prefix}low": found.low}
                row |= {f"{prefix}high": found.high}
                told = {"reproduced": "above", "not reproduced": "below"}
                row[f"{prefix}verdict"] = told.get(found.verdict, found.verdict)
            rows.append(row | {"images": found.images, "networks": self.trainings})
        return pd.DataFrame(rows)

    def _gap(self, key: str, kind: str, tasks: Iterable[str] = PAIRED.values()) -> Gap:
        """How much more lies on the object that decides than under another kind of network."""
        return share_gap(self._on_object(key, TRAINED, tasks), self._on_object(key, kind, tasks))

    def _on_object(self, key: str, kind: str, tasks: Iterable[str] = PAIRED.values()) -> np.ndarray:
        """A method's shares ``[R, N]`` on the object that decides, the mean of tasks."""
        return np.mean([self.values[key, name, kind] for name in tasks], axis=0)

    @property
    def _asked(self) -> list[str]:
        """Methods that are no controls."""
        return [key for key in self.maps[HALVES, TRAINED] if not is_control(key)]

    def _of_methods(self, rows: pd.DataFrame) -> pd.DataFrame:
        return rows[~rows["method"].map(is_control)]

    @cached_property
    def _telling(self) -> tuple[int, int]:
        """How many methods tell the tasks apart, and how many there are."""
        rows = self._of_methods(self.moves)
        return int((rows["verdict"] == "above").sum()), len(rows)

    def share_figure(self) -> Figure:
        """The share of every method on the object that the label hangs on, a panel a task."""
        rows = self.shares.assign(panel="")
        for name in PAIRED.values():
            more = sum(self._gap(key, OTHER, [name]).verdict == "reproduced" for key in self._asked)
            text = (
                f"the {name} decides: {more} of {len(self._asked)} methods\n"
                "have more on it than under the other task"
            )
            rows.loc[rows["task"] == name, "panel"] = text
        figure = self._share_chart(rows, self._moving)
        save(figure, self.figure("shares"))
        return figure

    @property
    def _moving(self) -> str:
        telling, asked = self._telling
        return f"{telling} of {asked} methods move to the object that the label depends on"

    def _share_chart(self, rows: pd.DataFrame, title: str) -> Figure:
        rows = self._titled(rows.assign(network=rows["network"].map(_NETWORKS)))
        return share_chart(
            rows, by="network", told="{}", controls=self.controls, title=title, columns=3
        )

    def halves_figure(self) -> Figure:
        """The share of every method in the parts of a picture without lower half."""
        below = [
            share_gap(self.values[key, "cut", TRAINED], self.values[key, "cut", RANDOM])
            for key in self._asked
        ]
        more = sum(found.verdict == "reproduced" for found in below)
        title = (
            f"{more} of {len(below)} methods have more at the cut or below it under trained "
            "networks than under random ones"
        )
        order = list(_PARTS)
        rows = self.parts.assign(panel=self.parts["part"].map(_PARTS))
        rows = rows.sort_values("part", key=lambda part: part.map(order.index), kind="stable")
        figure = self._share_chart(rows, title)
        save(figure, self.figure("halves"))
        return figure

    # The test of 2018, on the same networks and pictures.

    def _measured(self, data: str) -> dict[str, Similarity]:
        """The similarities, and those over the pixels of these pictures that are not zero."""
        where = nonzero_pixels(self.x[data])
        return self.measures | ({} if where is None else nonzero_metrics(where))

    @cached_property
    def readings(self) -> pd.DataFrame:
        """How alike maps are, by comparison, method and metric, read against chance."""
        found = {}
        for data, text in AGAINST_RANDOM.items():
            pair = (self.maps[data, kind] for kind in (TRAINED, RANDOM))
            found[text] = likeness(*pair, self._measured(data), margin=self.margin)
        first, second = PAIRED
        pair = (self.maps[data, TRAINED] for data in (first, second))
        found[AGAINST_OTHER] = likeness(*pair, self._measured(first), margin=self.margin)
        rows = [rows.assign(comparison=text) for text, rows in found.items()]
        return pd.concat(rows, ignore_index=True)

    @property
    def _judging(self) -> list[str]:
        """The similarities that claims are judged by: the first, and where products are not 0."""
        found = set(self.readings["metric"])
        return [key for key in (self.metrics[0], _NOT_ZERO) if key in found]

    @property
    def _decisive(self) -> pd.DataFrame:
        """Readings by the first similarity."""
        return self._by(self.metrics[0])

    def _by(self, metric: str) -> pd.DataFrame:
        return self.readings[self.readings["metric"] == metric]

    def kappa_figure(self) -> Figure:
        """Kappa by method, a panel a comparison."""
        panels = [AGAINST_RANDOM[ONE], *(AGAINST_RANDOM[data] for data in PAIRED), AGAINST_OTHER]
        rows = self._titled(self._decisive)
        figure = kappa_ranking(
            rows.assign(metric=rows["comparison"]),
            panels,
            margin=self.margin,
            words=RANDOMIZATION_WORDS,
            controls=self.controls,
        )
        save(figure, self.figure("kappa"))
        return figure

    def beside(self) -> Styler:
        """What both tests say of each method, who moves most first."""
        rows = self.moves.sort_values("value", ascending=False, na_position="last")
        shown = {"method": rows["method"].map(self.titles)}
        shown["moves to its task's object"] = [_span(row) for _, row in rows.iterrows()]
        for text in (AGAINST_RANDOM[ONE], *(AGAINST_RANDOM[data] for data in PAIRED)):
            own = self._decisive[self._decisive["comparison"] == text].set_index("method")
            shown[text] = [
                f"{kappa_text(own.loc[key])} {said(own.loc[key])}" for key in rows["method"]
            ]
        return plain_table(pd.DataFrame(shown))

    def summary(self) -> Markdown:
        """How many methods tell the tasks apart, and how many of them fail the test of 2018."""
        tell = set(self.moves["method"][self.moves["verdict"] == "above"])
        lines = [
            f"**{self._moving}.** Of these, the test of random weights calls picture-driven:",
            "",
        ]
        for key in self._judging:
            parts = []
            for text in (AGAINST_RANDOM[ONE], *(AGAINST_RANDOM[data] for data in PAIRED)):
                own = self._by(key)[self._by(key)["comparison"] == text]
                failed = set(own["method"][own["verdict"] == "above"])
                parts.append(f"{len(failed & tell)} on {text.removesuffix(_AGAINST)}")
            lines.append(f"* by {METRIC_TITLES.get(key, key)}: {'; '.join(parts)}")
        return Markdown("\n".join(lines))

    # What was said of it.

    @cached_property
    def claims(self) -> ClaimTable:
        """What [yona2021revisiting] says, and what this book does, held against measurements."""
        return tried(self._claims, self.margin)

    def _claims(self, margin: float, level: float) -> ClaimTable:
        claims = ClaimTable(self.name)
        task_claims(
            claims,
            Shares(self.values, {name: self._area(name) for name in PAIRED.values()}),
            held_against(self.readings, margin, level),
            self.titles,
            metrics=self._judging,
            one=AGAINST_RANDOM[ONE],
            two=[AGAINST_RANDOM[data] for data in PAIRED],
            products=self._products,
            margin=margin,
            confidence=1 - level,
        )
        return claims

    @property
    def _products(self) -> list[str]:
        """Methods that multiply by the picture itself; noisy copies of it are nowhere zero."""
        return [
            key
            for key in self.maps[HALVES, TRAINED]
            if is_product(key, self.chosen[key]) and _NOISY not in describe(self.chosen[key])
        ]

    def _area(self, name: str) -> float:
        return float(self.scenes.regions[name].double().mean())

    def write_all(self) -> None:
        """Write the claims and every table of the page."""
        self.claims.write(self.folder)
        self.write(self.readings, "readings")
        self.write(self.shares, "shares")
        self.write(self.parts, "halves")
        self.write(self.moves, "moves")
        moved = {
            key: self._on_object(key, TRAINED) - self._on_object(key, OTHER)
            for key in self.maps[HALVES, TRAINED]
        }
        self.write(measured(moved, MOVES, 0.0, least=-1.0, most=1.0), "moved")
        self.write_refused(self.refused)

    def numbers(self) -> dict[str, float]:
        """What other pages of the book quote, by name."""
        telling, asked = self._telling
        found = {"pictures": self.image_count, "networks": self.trainings}
        found |= {"methods_that_move": telling, "methods_compared": asked}
        for row in self.trained.to_dict("records"):
            found[f"test_{row['task']}"] = float(row["test accuracy, mean"])
        for row in self.moves.to_dict("records"):
            if np.isfinite(row["value"]):
                found[f"moves_{row['method']}"] = round(row["value"], 2) + 0.0
        return found

    def box(self) -> ProvenanceBox:
        """How this page was made."""
        return self.provenance(
            {
                "model": self.model,
                "tasks": ", ".join(self.networks),
                "networks of each, trained and random": self.trainings,
                "images": f"{self.image_count} test pictures with two objects, as many with one, "
                "and as many without lower half",
                "preset": self.preset,
                "samples, steps": f"{self.samples}, {self.steps}",
                "competing labels": self.top or "all",
                "margin": self.margin,
            },
            range(self.seed, self.seed + self.trainings),
            self.x[ONE].device,
        )


def _span(row: Mapping[str, Any]) -> str:
    return f"{rounded(row['value'])} ({rounded(row['low'], 0)} to {rounded(row['high'], 0)})"
