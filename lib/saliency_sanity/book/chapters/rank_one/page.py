"""The page on rank one: cosines of random relevance by layer, maps of a random other logit."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from textwrap import wrap
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler
from torch import Tensor

from saliency_sanity import load_model
from saliency_sanity.attribution.base import Attribution
from saliency_sanity.attribution.catalogue import title
from saliency_sanity.attribution.lrp import Lrp
from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.book.chapters.page import (
    Page,
    check_shown,
    pictures_for,
    pictures_used,
    plain_table,
    titled,
)
from saliency_sanity.book.chapters.rank_one.claims import (
    Levels,
    convergence_claims,
    factor_claim,
    from_starts,
    least_start,
    logit_alike,
    logit_claims,
    state,
)
from saliency_sanity.book.runs.provenance import ProvenanceBox
from saliency_sanity.plots.convergence import convergence_chart, factors_chart, logits_chart
from saliency_sanity.plots.maps import map_grid
from saliency_sanity.plots.style import save
from saliency_sanity.probes.convergence import (
    FACTORS,
    Convergence,
    chance,
    converging,
    inner_layers,
    product_cosines,
)
from saliency_sanity.probes.random_logit import FLIPS, label_maps, logit_similarities, other_labels
from saliency_sanity.verdict.reading import read
from saliency_sanity.verdict.reading import table as readings_table

# As good as none: what a sum is moved from zero by, in units of the activations.
_NO_EPSILON = 1e-12

# Where an abbreviation would not be understood, or is of something else.
_SAME = "Nearly the same for another label"
_SHORT = {"gradient": "Gradient", "lrp_z": "LRP-z", "modified_rectgrad": "RectGrad"}


@dataclass(kw_only=True)
class RankOne(Page):
    """One run of the notebook on rank one; its parameters are described there.

    ``methods`` are those compared, by name, ``layers`` module paths of the layers looked at, from
    the pixels up, ``starts`` those where random relevance is put in; ``x`` ``[N, C, H, W]`` are the
    pictures in the network's units, ``target`` ``[N]`` the classes that it finds, ``others``
    ``[R, N]`` random other labels.

    Raises ValueError for a method, number or level that cannot be, FileNotFoundError for a network
    that is not trained, before anything is explained.
    """

    notebook: ClassVar[str] = "11_rank_one"

    model: str
    weights: str
    images: str
    image_count: int
    size: int
    bases: list[str]
    epsilon: float
    layer_limit: int
    start_count: int
    draws: int
    labels: int
    factors: int
    channels: int
    pairs: int
    converged: float
    apart: float
    alike: float
    shown: int

    def __post_init__(self):
        super().__post_init__()
        self._check()
        self._choose()
        self.classifier = load_model(self.model, self.weights, self.device, self.seed)
        self.classifier.size = self.size or self.classifier.size
        self.photographs, self.x = pictures_for(self.classifier, self.images, self.image_count)
        check_shown(self.shown, len(self.photographs))
        self.target = self.classifier.predict(self.x)
        count = int(self.classifier.logits(self.x[:1]).shape[1])
        self.others = other_labels(self.target, count, self.labels, self.seed)
        self.layers = inner_layers(self.classifier, self.x, self.layer_limit)
        self.starts = self._upper([*self.layers])
        random = "random weights" if self.classifier.weights == "none" else "trained"
        self.network = f"1 network ({self.classifier.name}, {random})"

    def _check(self) -> None:
        for name, least in {"factors": 1, "pairs": 2, "start_count": 1, "draws": 2}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; valid are {least} and more")
        if self.size < 0:
            raise ValueError(f"size is {self.size}; valid are 0, for the network's own, and more")
        if not 0 < self.apart <= self.converged <= 1:
            raise ValueError(
                f"apart {self.apart} and converged {self.converged}: cosines of 0 < apart <= "
                "converged <= 1 are valid"
            )
        if not 0 < self.alike <= 1:
            raise ValueError(f"alike is {self.alike}; valid are similarities above 0, up to 1")

    def _choose(self) -> None:
        self.methods: dict[str, Attribution] = {}
        for key in self.bases:
            if key == "lrp_z":
                self.methods[key] = Lrp("epsilon", epsilon=_NO_EPSILON)
            elif key == "lrp_epsilon":
                self.methods[key] = Lrp("epsilon", epsilon=self.epsilon)
            else:
                self.methods |= self.at_scale([key])
        self.titles = {key: title(key) for key in self.methods} | {
            key: words
            for key, words in {
                "lrp_z": "LRP-z",
                "lrp_epsilon": f"LRP-ε ({self.epsilon:g})",
                "modified_rectgrad": "RectGrad",
            }.items()
            if key in self.methods
        }

    def _upper(self, names: list[str]) -> list[str]:
        """Layers of the start, from the logits down, evenly spread over the upper half."""
        half = len(names) // 2
        places = np.linspace(len(names) - 1, max(half, 1), self.start_count).round().astype(int)
        return [names[place] for place in dict.fromkeys(places.tolist())]

    @property
    def levels(self) -> Levels:
        """Where the lines between claims are drawn."""
        return Levels(self.converged, self.apart, self.alike)

    # Products of random matrices

    @cached_property
    def products(self) -> dict[str, np.ndarray]:
        """Cosines ``[factors + 1, pairs]`` by kind of matrix."""
        return {
            kind: product_cosines(
                kind, self.factors, self.channels, pairs=self.pairs, seed=self.seed
            )
            for kind in FACTORS
        }

    def factors_figure(self) -> Figure:
        """Cosine against the number of random matrices."""
        known, signed = (np.median(self.products[kind], axis=1) for kind in FACTORS)
        reached = np.flatnonzero(self.products[FACTORS[0]].min(axis=1) >= self.converged)
        first = f"from {reached[0]} on" if len(reached) else "at no number of them"
        finding = (
            f"After {self.factors} random matrices: median cosine {known[-1]:.3f} without "
            f"negative entries, {signed[-1]:.2f} with signs\n"
            f"Without negative entries every cosine is {self.converged:g} or more {first}"
        )
        figure = factors_chart(self.products, chance(self.channels), finding)
        save(figure, self.figure("factors"))
        return figure

    # Cosines by layer

    @cached_property
    def convergence(self) -> Convergence:
        """Cosines of random relevances by method, start and layer."""
        return converging(
            self.methods,
            self.classifier,
            self.x,
            self.layers,
            self.starts,
            draws=self.draws,
            seed=self.seed,
        )

    @property
    def refused(self) -> Mapping[str, str]:
        """Methods that do not apply to the network, with the reason."""
        return self.convergence.refused

    @property
    def applicable(self) -> dict[str, Attribution]:
        """The methods that apply to the network."""
        return {key: one for key, one in self.methods.items() if key not in self.refused}

    @cached_property
    def scores(self) -> pd.DataFrame:
        """The cosine at the lowest layer from the start from which it is least, a row a method.

        ``verdict`` is of all starts, and so is the confidence of the interval.
        """
        rows = []
        lowest = next(iter(self.layers))
        for key in self.applicable:
            found = from_starts(self.convergence.pictures, key)
            start = least_start(found)
            rows.append(
                {
                    "method": key,
                    "value": found[start].value,
                    "low": max(found[start].low, 0.0),
                    "high": min(found[start].high, 1.0),
                    "start": start,
                    "layer": lowest,
                    "chance": self._chances[lowest],
                    "images": found[start].images,
                    "verdict": state(found, self.levels),
                }
            )
        return pd.DataFrame(rows)

    @property
    def _chances(self) -> dict[str, float]:
        return dict(self.convergence.pooled.groupby("layer")["chance"].first())

    def convergence_figure(self) -> Figure:
        """Cosine by layer, a panel a method; says which methods are left out."""
        for key, reason in self.refused.items():
            print(f"left out: {self.titles[key]}: {reason}")
        named = {
            state: self._listed(rows["method"]) for state, rows in self.scores.groupby("verdict")
        }
        finding = (
            f"One direction, wherever it came from: {named.get('converges', 'none')}\n"
            f"Not so from one layer at least: {named.get('stays apart', 'none')}"
        )
        figure = convergence_chart(
            self.convergence.pooled,
            self.titles,
            finding,
            converged=self.converged,
        )
        save(figure, self.figure("convergence"))
        return figure

    def scores_table(self) -> Styler:
        """The cosines that decide, by method."""
        shown = titled(self.scores, self.titles)
        return plain_table(shown.rename(columns={"value": "cosine"}), precision=3)

    # Another label

    @cached_property
    def _explained(self) -> tuple[dict[tuple[str, str], np.ndarray], dict[str, Tensor]]:
        """Similarities by method and flip, and maps of class and one other label to be shown."""
        labels = torch.cat([self.target[None], self.others])
        found: dict[tuple[str, str], np.ndarray] = {}
        pictured: dict[str, Tensor] = {}
        for key, method in self.applicable.items():
            maps = label_maps(method, self.classifier, self.x, labels)
            found |= {
                (key, flip): values for flip, values in logit_similarities(method, maps).items()
            }
            pictured[key] = maps[:2, : self.shown].transpose(0, 1).flatten(0, 1).cpu()
        return found, pictured

    @property
    def similarities(self) -> dict[tuple[str, str], np.ndarray]:
        """Similarities ``[R, N, N]`` of maps of class and other labels, by method and flip."""
        return self._explained[0]

    @cached_property
    def readings(self) -> pd.DataFrame:
        """These similarities, mean over labels, read against those of other pictures."""
        found = {
            key: read(matrices.mean(axis=0), margin=self.margin)
            for key, matrices in self.similarities.items()
        }
        return readings_table(found, ["method", "flip"]).assign(metric="ssim")

    def logits_figure(self) -> Figure:
        """Similarity of the maps of the class and of another label, by method."""
        same, other = map(self._listed, self._another_label)
        finding = f"{_SAME}: {same}\nAnother map: {other}"
        figure = logits_chart(self.readings, self.titles, finding, alike=self.alike)
        save(figure, self.figure("logits"))
        return figure

    @property
    def _another_label(self) -> tuple[pd.Index, pd.Index]:
        """Methods whose maps another label leaves nearly the same, and those it does not."""
        rows = self.readings[self.readings["flip"] == FLIPS[1]].set_index("method")
        same = rows.index[rows["similarity_low"] >= self.alike]
        return same, rows.index[rows["similarity_high"] < self.alike]

    def _listed(self, keys: Iterable[str]) -> str:
        return " · ".join(self.titles[key] for key in keys) or "none"

    def maps(self) -> Figure:
        """Maps of the class and of another label, a row each, of the shown pictures."""
        both = torch.stack([self.target, self.others[0]], 1)[: self.shown].flatten()
        short = {key: title(key, short=True) for key in self.methods} | _SHORT
        columns = {short[key]: maps for key, maps in self._explained[1].items()}
        names = [
            "\n".join(wrap(self.classifier.class_name(int(label)), 16)) for label in both.tolist()
        ]
        pixels = self.photographs.pixels[: self.shown].repeat_interleave(2, 0)
        same, _ = self._another_label
        return map_grid(pixels, names, columns, signed=True, title=f"{_SAME}: {self._listed(same)}")

    # What is written

    @cached_property
    def claims(self) -> ClaimTable:
        """The claims of this copy, in the order of the page."""
        claims = ClaimTable(self.name)
        claims.try_claims(self._claim, self.margin)
        return claims

    def _claim(self, claims: ClaimTable, margin: float, level: float) -> None:  # noqa: ARG002
        factor_claim(claims, self.products, chance(self.channels))
        beside = self.titles, self.network, self.levels, 1 - level
        convergence_claims(claims, self.convergence.pictures, self._chances, *beside)
        chances = self.readings[self.readings["flip"] == FLIPS[1]].set_index("method")["chance"]
        logit_claims(claims, self.similarities, dict(chances), *beside)

    def write_all(self) -> None:
        """Write the claims and every table of the page."""
        self.claims.write(self.folder)
        rows = self.readings.drop(columns="words")
        self.write(rows, "another_label")
        # One reading of a method each, for the scoreboard.
        self.write(rows[rows["flip"] == FLIPS[1]].drop(columns="flip"), "either_sign")
        self.write(self.scores, "converged")
        self.write(self.convergence.pooled, "cosines")
        self.write(self.convergence.pictures, "pictures")
        self.write_refused(self.refused)

    def numbers(self) -> dict[str, float]:
        """What other pages of the book quote, by name."""
        found = {"pictures": len(self.photographs), "layers": len(self.layers)}
        found |= {f"cosine_{row.method}": row.value for row in self.scores.itertuples()}
        for key in self.applicable:
            if (key, FLIPS[1]) in self.similarities:
                found[f"ssim_{key}"] = logit_alike(self.similarities[key, FLIPS[1]]).value
        return {name: round(value, 3) for name, value in found.items()}

    @property
    def _accuracy(self) -> str:
        found = self.classifier.accuracy
        return "" if found is None else f", {found:.1%} of test pictures right"

    def box(self) -> ProvenanceBox:
        """How this page was made."""
        return self.provenance(
            {
                "model": self.model,
                "weights": f"{self.classifier.weights}{self._accuracy}",
                "images": pictures_used(self.images, len(self.photographs)),
                "size": f"{self.classifier.size} px",
                "layers looked at": len(self.layers),
                "relevance put in at": ", ".join(self.starts),
                "random relevances at each": self.draws,
                "other labels": self.labels,
                "networks": 1,
                "epsilon": self.epsilon,
                "converged from, apart below": f"{self.converged:g}, {self.apart:g}",
                "nearly the same from": self.alike,
            },
            [self.seed],
            self.x.device,
        )
