"""The page on image recovery: random networks, max pooling, dense units, adversarial pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler
from torch import Tensor

from saliency_sanity import load_model, load_photographs, metric, resolve, weights_hash
from saliency_sanity._arithmetic import arithmetic
from saliency_sanity.attribution.catalogue import title
from saliency_sanity.book.chapters.claims import ClaimTable, tried
from saliency_sanity.book.chapters.image_recovery.claims import (
    ATTACK,
    CLASS,
    DENSE,
    NOISE,
    PLAIN,
    POOLED,
    Held,
    adversarial_claims,
    recovery_claims,
)
from saliency_sanity.book.chapters.page import (
    MethodsPage,
    check_shown,
    pictures_for,
    pictures_used,
    plain_table,
)
from saliency_sanity.book.runs.provenance import ProvenanceBox
from saliency_sanity.experiments.comparison import Explained, explain
from saliency_sanity.experiments.outcome import MOST
from saliency_sanity.plots.maps import network_grid
from saliency_sanity.plots.recovery import changes_chart, recovery_chart, recovery_grid
from saliency_sanity.plots.style import save
from saliency_sanity.probes.adversarial import adversarial, check_steps, displaced
from saliency_sanity.probes.recovery import (
    SCALING,
    RandomConvolution,
    RandomDense,
    Recovered,
    expected,
    recovered,
)
from saliency_sanity.similarity.metrics import similarity_rows
from saliency_sanity.similarity.prepare import absolute_picture
from saliency_sanity.verdict.interval import averaged
from saliency_sanity.verdict.reading import read, table
from saliency_sanity.verdict.wording import cross_table, rounded

# Whose maps of random networks are compared with the picture.
RANDOM = ("guided_backprop", "gradient", "deconvnet")
_GREY = 255
_CAUSES = {
    NOISE: "noise of the same size",
    CLASS: "another class, the same picture",
    ATTACK: "adversarial picture, its own class",
}
_STATES = ("picture", "noise", "class", "adversarial")
# Pictures whose maps fit beside each other, in four states each.
_BESIDE = 2


@dataclass(kw_only=True)
class ImageRecovery(MethodsPage):
    """One run of the notebook on image recovery; its parameters are described there.

    ``chosen`` are the methods that explain adversarial pictures, ``measures`` the similarities by
    name, ``x`` ``[N, C, H, W]`` the photographs in the trained network's units, ``seen`` those that
    random networks are shown, in theirs.

    Raises ValueError for a name or number that cannot be, before anything is explained.
    """

    notebook: ClassVar[str] = "12_image_recovery"

    model: str
    weights: str
    images: str
    image_count: int
    methods: list[str]
    metrics: list[str]
    preset: str
    bound: float
    steps: int
    size: int
    random_count: int
    filters: list[int]
    kernel: int
    pooled: list[int]
    pool: int
    hidden: list[int]
    classes: int
    seeds: int
    shown: int

    def __post_init__(self):
        super().__post_init__()
        self.chosen = self.at_scale(self.methods)
        self.measures = {name: metric(name, self.preset) for name in self.metrics}
        self._check()
        self.classifier = load_model(self.model, self.weights, self.device, self.seed)
        self.photographs, self.x = pictures_for(self.classifier, self.images, self.image_count)
        self.small = load_photographs(self.images, size=self.size, count=self.random_count)
        check_shown(self.shown, min(len(self.small), len(self.photographs)))
        self.seen = SCALING.to_network(self.small.pixels).to(self.x.device)
        self.predicted = self.classifier.predict(self.x)

    def _check(self) -> None:
        check_steps(self.bound / _GREY, self.steps)
        for name, counts in (
            ("filters", self.filters),
            ("pooled", self.pooled),
            ("hidden", self.hidden),
        ):
            if counts != sorted({count for count in counts if count > 0}):
                raise ValueError(f"{name} is {counts}; give numbers of units from 1 up, rising")
        if not self.filters:
            raise ValueError("filters is empty; give numbers of filters, such as [16, 64, 256]")
        for name, value, least in (
            ("size", self.size, 8),
            ("classes", self.classes, 2),
            ("seeds", self.seeds, 1),
        ):
            if value < least:
                raise ValueError(f"{name} is {value}; give {least} or more")
        for name, value in (("kernel", self.kernel), ("pool", self.pool)):
            if value < 1 or value % 2 == 0:
                raise ValueError(f"{name} is {value}; give an odd number, which has a middle")

    def _network(self, kind: str, units: int, seed: int) -> RandomConvolution | RandomDense:
        if kind == DENSE:
            return RandomDense(units, self.size, classes=self.classes, seed=seed)
        pool = self.pool if kind == POOLED else 0
        return RandomConvolution(
            *(units, self.size), kernel=self.kernel, pool=pool, classes=self.classes, seed=seed
        )

    @cached_property
    def runs(self) -> dict[tuple[str, int], dict[str, Recovered]]:
        """What maps of random networks show, by network, number of units and method."""
        methods = {name: resolve(name) for name in RANDOM}
        seeds = range(self.seed, self.seed + self.seeds)
        kinds = {PLAIN: self.filters, POOLED: self.pooled, DENSE: self.hidden}
        return {
            (kind, units): recovered(
                lambda seed, kind=kind, units=units: self._network(kind, units, seed),
                seeds,
                methods,
                self.seen,
            )
            for kind, counts in kinds.items()
            for units in counts
        }

    @cached_property
    def expected(self) -> dict[tuple[str, int], np.ndarray]:
        """Correlations ``[N]`` that are to be expected of guided backpropagation without a pool."""
        return {
            (kind, units): expected(self._network(kind, units, self.seed), self.seen)
            for kind, units in self.runs
            if kind != POOLED
        }

    def held(self, margin: float | None = None, level: float = 0.05) -> Held:
        """The random networks' maps held against a margin, the page's own where none is given."""
        margin = self.margin if margin is None else margin
        return Held(self.runs, self.expected, margin, level)

    @cached_property
    def recovery(self) -> pd.DataFrame:
        """Readings of random networks' maps against their pictures, a row a method and network.

        ``expected`` is the correlation that was to be expected, ``limit`` that with the closed form
        and ``across`` kappa of maps of two classes.
        """
        held = self.held()
        found = {
            (method, *key): held.reading(*key, method)
            for key, methods in self.runs.items()
            for method in methods
        }
        rows = table(found, index=("method", "network", "units"))
        keys = list(zip(rows["method"], rows["network"], rows["units"], strict=True))
        guided = [method == RANDOM[0] for method in rows["method"]]
        return rows.assign(
            metric="correlation",
            expected=[
                float(self.expected[key[1:]].mean()) if own and key[1:] in self.expected else np.nan
                for key, own in zip(keys, guided, strict=True)
            ],
            limit=[averaged(self.runs[key[1:]][key[0]].limit).value for key in keys],
            across=[held.across(*key[1:], key[0]).kappa for key in keys],
        )

    def recovery_maps(self) -> Figure:
        """Maps of the first random networks as colour pictures."""
        columns = {}
        for units in self.filters:
            columns[f"GBP\n{units} filters"] = self._maps(PLAIN, units, "guided_backprop")
        most = self.filters[-1]
        columns[f"G\n{most} filters"] = self._maps(PLAIN, most, "gradient")
        columns[f"DCN\n{most} filters"] = self._maps(PLAIN, most, "deconvnet")
        for units in self.pooled[-1:]:
            columns[f"DCN, pool\n{units} filters"] = self._maps(POOLED, units, "deconvnet")
        for units in self.hidden[-1:]:
            columns[f"GBP, dense\n{units} units"] = self._maps(DENSE, units, "guided_backprop")
        words = (
            "Random networks: guided backpropagation correlates "
            f"{rounded(self._similarity(PLAIN, RANDOM[0]))} with the picture, the gradient "
            f"{rounded(self._similarity(PLAIN, 'gradient'))}"
        )
        return recovery_grid(self.small.pixels[: self.shown], columns, words)

    def _maps(self, kind: str, units: int, method: str) -> Tensor:
        return self.runs[kind, units][method].maps[: self.shown]

    def _similarity(self, kind: str, method: str) -> float:
        """Mean correlation with the picture in the networks of one kind with the most units."""
        rows = self.recovery
        rows = rows[(rows["network"] == kind) & (rows["method"] == method)]
        return float(rows.sort_values("units")["similarity"].iloc[-1])

    def recovery_figure(self) -> Figure:
        """How much of the picture is in the map, by the number of units."""
        rows = self.recovery.assign(
            method=self.recovery["method"].map(title),
            value=self.recovery["similarity"],
            low=self.recovery["similarity_low"],
            high=self.recovery["similarity_high"],
        )
        titles = {
            PLAIN: f"one convolution of {self.kernel} px",
            POOLED: f"with max pooling over {self.pool} px",
            DENSE: "each unit sees all of it",
        }
        titles = {kind: text for kind, text in titles.items() if kind in set(rows["network"])}
        figure = recovery_chart(rows, titles, self._finding())
        save(figure, self.figure("units"))
        return figure

    def _finding(self) -> str:
        first, last = (
            self.held().reading(PLAIN, self.filters[place], RANDOM[0]).similarity
            for place in (0, -1)
        )
        return (
            f"Guided backpropagation: correlation {rounded(first)} with {self.filters[0]} filters, "
            f"{rounded(last)} with {self.filters[-1]}"
        )

    def recovery_table(self) -> Styler:
        """The same numbers, with the closed form and with maps of two classes."""
        rows = self.recovery
        shown = pd.DataFrame(
            {
                "network": rows["network"],
                "units": rows["units"],
                "method": rows["method"].map(title),
                "correlation with the picture": rows["similarity"].map(rounded),
                "chance": rows["chance"].map(rounded),
                "expected": rows["expected"].map(rounded),
                "with the closed form": rows["limit"].map(rounded),
                "kappa, maps of two classes": rows["across"].map(rounded),
            }
        )
        return plain_table(shown)

    @cached_property
    def attacked(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Pictures and the classes to explain, by cause, of those whose class the attack changed.

        The untouched ones are ``""``. Raises ValueError where no class changed.
        """
        x, scaling = self.x, self.classifier.scaling
        with arithmetic("exact", x.device):
            moved = adversarial(
                *(self.classifier, x, self.predicted, scaling), self.bound / _GREY, self.steps
            )
            found = self.classifier.predict(moved)
            changed = found != self.predicted
            if not changed.any():
                raise ValueError(
                    f"with a bound of {self.bound:g} grey levels none of {len(x)} pictures got "
                    "another class; give a larger bound, or more steps"
                )
            noisy = displaced(x, moved, scaling, self.seed)
            states = {
                "": (x, self.predicted),
                NOISE: (noisy, self.classifier.predict(noisy)),
                CLASS: (x, found),
                ATTACK: (moved, found),
            }
        self._changed = changed
        return {
            cause: (batch[changed], wanted[changed]) for cause, (batch, wanted) in states.items()
        }

    def attack_text(self) -> str:
        """How large the change was, and of how many pictures it changed the class."""
        before = self.attacked[""][1]
        noisy = int((self.attacked[NOISE][1] != before).sum())
        return (
            f"With changes of at most {self.bound:g} of {_GREY} grey levels, in {self.steps} "
            f"step{'s' * (self.steps > 1)}, {len(before)} of {len(self.x)} pictures got another "
            f"class; with noise of the same size, {noisy} of these."
        )

    @cached_property
    def explained(self) -> dict[str, Explained]:
        """Maps by cause and method, each of its own class."""
        return {
            cause: explain(self.chosen, self.classifier, batch, wanted, self.precision)
            for cause, (batch, wanted) in self.attacked.items()
        }

    @property
    def refused(self) -> Mapping[str, str]:
        """Why methods do not apply, by name."""
        return self.explained[""].refused

    @cached_property
    def similarities(self) -> dict[tuple[str, str, str], np.ndarray]:
        """Similarities ``[N, P]`` of maps before and after, by method, metric and cause."""
        before = self.explained[""].maps
        with arithmetic("exact", self.x.device):
            return {
                (method, name, cause): similarity_rows(
                    measure, before[method], self.explained[cause].maps[method]
                )
                for method in before
                for name, measure in self.measures.items()
                for cause in _CAUSES
            }

    @cached_property
    def changes(self) -> pd.DataFrame:
        """Readings of maps before and after, a row a method, metric and cause."""
        found = {key: read(values, margin=self.margin) for key, values in self.similarities.items()}
        return table(found, index=("method", "metric", "cause"))

    @property
    def _left(self) -> str:
        """What adversarial pictures leave of two methods' maps, by the first similarity."""
        rows = self.changes[self.changes["metric"] == self.metrics[0]]
        rows = rows[rows["cause"] == ATTACK].set_index("method")
        words = ", ".join(
            f"{self.titles[key].lower()} {rounded(rows.loc[key, 'kappa'])}"
            for key in ("gradient", "guided_backprop")
            if key in self.chosen
        )
        return f"Kappa left of maps of adversarial pictures: {words}"

    def changes_figure(self) -> Figure:
        """What is left of the map, by method and by what was changed."""
        figure = changes_chart(
            self._titled(self.changes), self.metrics, _CAUSES, MOST, self._left, self.controls
        )
        save(figure, self.figure("changes"))
        return figure

    def changes_table(self) -> Styler:
        """Kappa of each method by cause, by the first similarity."""
        rows = self._titled(self.changes)
        rows = rows[rows["metric"] == self.metrics[0]]
        return cross_table(rows.assign(cause=rows["cause"].map(_CAUSES)), "method", "cause")

    def attacked_maps(self) -> Figure:
        """Maps of the first pictures before and after, by method."""
        count = min(self.shown, _BESIDE, len(self.attacked[""][0]))
        maps = {
            self.titles[method]: np.stack(
                [
                    absolute_picture(
                        self.explained[cause].maps[method][:count].double().cpu()
                    ).numpy()
                    for cause in ("", *_CAUSES)
                ]
            )
            for method in self.explained[""].maps
        }
        pixels = self.photographs.pixels[self._changed.cpu()][:count]
        shown = pixels.permute(0, 2, 3, 1).squeeze(-1).numpy()
        return network_grid(shown, maps, _STATES, title=self._left)

    @cached_property
    def claims(self) -> ClaimTable:
        """What [nie2018theoretical] says, held against what was measured here."""
        return tried(self._claims, self.margin)

    def _claims(self, margin: float, level: float) -> ClaimTable:
        claims = ClaimTable(self.name)
        recovery_claims(claims, self.held(margin, level))
        adversarial_claims(claims, self.similarities, margin, level)
        return claims

    @cached_property
    def _weights_hash(self) -> str:
        return weights_hash(self.classifier)

    def write_all(self) -> None:
        """Write the claims and the tables of the page."""
        self.claims.write(self.folder)
        self.write(self.recovery.drop(columns="words"), "recovery")
        rows = self.changes.drop(columns="words")
        rows = rows.assign(model=self.classifier.name, weights=self._weights_hash)
        # Each cause has one reading of a method by a metric.
        by_cause = dict(tuple(rows.groupby("cause")))
        self.write(by_cause[NOISE], "noise")
        self.write(by_cause[CLASS], "class")
        self.write(by_cause[ATTACK], "adversarial")
        self.write_refused(self.refused)

    def numbers(self) -> dict[str, float]:
        """What other pages of the book quote, by name."""
        numbers: dict[str, float] = {
            "random_pictures": len(self.seen),
            "random_networks": self.seeds,
            "photographs": len(self.x),
            "class_changed": len(self.attacked[""][0]),
        }
        for _, row in self.recovery.iterrows():
            kind = row["network"].replace(", ", "_")
            numbers[f"correlation_{row['method']}_{kind}_{row['units']}"] = row["similarity"]
        for _, row in self.changes.iterrows():
            key = f"kappa_{row['method']}_{row['cause']}_{row['metric']}"
            numbers[key] = row["kappa"]
        return numbers

    def box(self) -> ProvenanceBox:
        """How this page was made."""
        shown = f"{len(self.seen)} of {self.size} px" if len(self.seen) else ""
        return self.provenance(
            {
                "model": self.model,
                "weights": f"{self.classifier.weights} ({self._weights_hash})",
                "images": pictures_used(self.images, len(self.photographs)),
                "pictures for random networks": shown,
                "random networks": f"{self.seeds} of each kind and number of units",
                "classes of random networks": self.classes,
                "bound": f"{self.bound:g} grey levels, {self.steps} steps",
                "preset": self.preset,
                "margin": self.margin,
            },
            range(self.seed, self.seed + self.seeds),
            self.x.device,
        )
