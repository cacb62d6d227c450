"""The page on edge detectors: maps of many methods against the edges of their pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import pandas as pd
import torch
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler
from torch import Tensor

from saliency_sanity import CATALOGUE, load_model, load_photographs, resolve, weights_hash
from saliency_sanity._hashing import describe
from saliency_sanity.attribution.base import passes
from saliency_sanity.attribution.catalogue import FIGURES, is_control, title
from saliency_sanity.attribution.controls import Canny, Sobel
from saliency_sanity.book.chapters.claims import ClaimTable, tried
from saliency_sanity.book.chapters.edge_detectors.claims import (
    layer_claims,
    picture_claims,
    product_claims,
)
from saliency_sanity.book.chapters.edge_detectors.one_layer import OneLayer
from saliency_sanity.book.chapters.page import (
    MethodsPage,
    pictures_for,
    pictures_used,
)
from saliency_sanity.book.runs.provenance import ProvenanceBox
from saliency_sanity.experiments.comparison import Explained, compare, explain
from saliency_sanity.plots.layout import count_above
from saliency_sanity.plots.maps import map_grid
from saliency_sanity.plots.mosaic import mosaic, tinted
from saliency_sanity.plots.ranking import kappa_ranking, similarity_beside_chance
from saliency_sanity.plots.style import save
from saliency_sanity.plots.tiles import VIEWS, Tiles, View, map_tiles
from saliency_sanity.probes.unrelated import noise
from saliency_sanity.similarity.metrics import metric
from saliency_sanity.similarity.prepare import absolute_picture, signed_picture
from saliency_sanity.subjects.photographs import targets
from saliency_sanity.verdict.robustness import held_against
from saliency_sanity.verdict.wording import (
    EDGE_WORDS,
    METRIC_TITLES,
    foremost,
    out_of,
    rounded,
    summary,
)

_PICTURE_WORDS = {"below": "within the margin", "above": "the picture shows through"}
_PRODUCT_WORDS = {"below": "unlike x⊙edges", "above": "like x⊙edges"}
# Shown on the landing page beside a photograph and its edges, and beside their product.
_CARD = ("guided_backprop", "gradient", "integrated_gradients", "grad_cam")
_MULTIPLIED = ("gradient_x_input", "integrated_gradients", "guided_backprop", "guided_grad_cam")
_GRID = (
    "Its maps by every method, beside its edges (Sobel gradient magnitude of the luminance). κ "
    "says how much more the method's map is like the edges of its own photograph than like those "
    "of others: 0 is chance, 1 the edges themselves (by {metric}, mean over {count} photographs). "
    "The share is κ divided by that of Canny's edges, {canny}: another detector's. A map is "
    "edge-like if the whole interval of its share lies above a half. κ is of all photographs, not "
    "of the one that is shown. "
    "Absolute values are summed over channels: black is zero, bright is large. Signed: red is "
    "positive, blue negative, white zero. Each map is cut at its 99th percentile."
)
_MARGINALS = ("gaussian", "uniform")
# Of several random networks only methods are asked that need no more passes.
_PASSES = 2
_COUNTED = {
    "above": "edge_like",
    "inconclusive": "inconclusive",
    "below": "not_edge_like",
    "cannot tell": "cannot_tell",
}


def edge_sentence(readings: pd.DataFrame, metrics: Sequence[str]) -> str:
    """How many methods' maps are edge-like, and whose, by each of these similarities.

    ``readings`` have titles of methods.
    """
    parts: list[str] = []
    for key in metrics:
        rows = readings[readings["metric"] == key]
        like = rows[rows["verdict"] == "above"]
        count = len(like) or "none" if parts else f"{out_of(len(like), len(rows))} methods"
        whose = f" ({foremost(like)})" * (not like.empty)
        parts.append(f"of {count} by {METRIC_TITLES[key]}{whose}")
    return (
        "An edge detector has never seen a network. Like its edges are the maps "
        f"{', and '.join(parts)}."
    )


@dataclass(kw_only=True)
class EdgeDetectors(MethodsPage):
    """One run of the notebook on edge detectors; its parameters are described there.

    ``chosen`` are the methods and ``measures`` the similarities by name, ``x`` ``[N, C, H, W]`` the
    photographs in the network's units, ``target`` ``[N]`` the classes that are explained.

    Raises ValueError for a name or number that cannot be, before anything is explained.
    """

    notebook: ClassVar[str] = "01_edge_detectors"

    model: str
    weights: str
    images: str
    image_count: int
    explain_class: str
    methods: list[str]
    metrics: list[str]
    preset: str
    layer: str
    samples: int
    steps: int
    ig_samples: int
    ig_steps: int
    filters: int
    untrained: list[str]
    untrained_seeds: int
    shown: int

    def __post_init__(self):
        super().__post_init__()
        # A pass for each of the labels: those methods have a page.
        plain = [key for key in FIGURES if not CATALOGUE[key].every_label]
        self.chosen = self.at_scale(self.methods or plain)
        self.measures = {name: metric(name, self.preset) for name in self.metrics}
        self.main = self.metrics[0]
        # What is drawn for whole untrained networks, and what the paper's picture is judged by.
        self.drawing = {
            name: self.measures[name] for name in self.metrics if name in (self.main, "hog")
        }
        # First of all, for they come with a checkout only.
        self.garments = load_photographs("fashion_mnist", size=28)
        self.classifier = load_model(self.model, self.weights, self.device, self.seed)
        self.photographs, self.x = pictures_for(self.classifier, self.images, self.image_count)
        self.predicted = self.classifier.predict(self.x)
        self.target = targets(self.photographs, self.predicted, self.explain_class)

    @cached_property
    def explained(self) -> Explained:
        """Maps by method."""
        return explain(self.chosen, self.classifier, self.x, self.target, self.precision)

    @property
    def _maps(self) -> dict[str, Tensor]:
        return self.explained.maps

    @property
    def refused(self) -> Mapping[str, str]:
        """Why methods do not apply, by name."""
        return self.explained.refused

    @cached_property
    def edges(self) -> Tensor:
        """Sobel magnitudes of the photographs, ``[N, 1, H, W]``."""
        return Sobel()(self.classifier, self.x, self.target)

    @cached_property
    def canny(self) -> Tensor:
        """Another detector's edges, ``[N, 1, H, W]``: how like the first a map can be."""
        return Canny()(self.classifier, self.x, self.target)

    @cached_property
    def product(self) -> Tensor:
        """The photographs times their edges, ``[N, C, H, W]``."""
        return self.x * self.edges

    @property
    def _captions(self) -> list[str]:
        """Names of the photographs that are shown, with the class that is explained."""
        named = zip(self.photographs.names, self.target, strict=True)
        texts = [f"{name}\n{self.classifier.class_name(int(c))}" for name, c in named]
        return texts[: self.shown]

    def _grid(
        self,
        names: list[str],
        maps: dict[str, Tensor],
        signed: bool = False,
        title: str = "",
    ) -> Figure:
        columns = {head: batch[: self.shown] for head, batch in maps.items()}
        pixels = self.photographs.pixels[: self.shown]
        return map_grid(pixels, names[: self.shown], columns, signed=signed, title=title)

    def maps(self) -> Tiles:
        """Maps by method beside the edges."""
        shown = {"Sobel edges": self.edges} | {
            title(name): batch for name, batch in self._maps.items() if not is_control(name)
        }
        every = self._titled(self.readings)
        rows = every[(every["metric"] == self.main) & every["method"].isin(shown)]
        return map_tiles(
            [self._view(i, shown) for i in range(min(self.shown, VIEWS, len(self.x)))],
            finding=edge_sentence(every[~every["method"].isin(self.controls)], list(self.drawing)),
            caption=_GRID.format(
                metric=METRIC_TITLES[self.main],
                count=len(self.x),
                canny=rounded(rows["ceiling"].iloc[0]),
            ),
            notes={
                row.method: f"κ {rounded(row.kappa)}"
                + f", share {rounded(row.share)}" * (row.method != "Sobel edges")
                for row in rows.itertuples()
            },
        )

    def _view(self, i: int, shown: Mapping[str, Tensor]) -> View:
        one = {name: batch[i : i + 1].float().cpu() for name, batch in shown.items()}
        return View(
            f"{self.photographs.names[i]}: {self.classifier.class_name(int(self.target[i]))}",
            self.photographs.arrays[i],
            {name: absolute_picture(batch).numpy() for name, batch in one.items()},
            {name: signed_picture(batch).numpy() for name, batch in one.items()},
        )

    def _keep_card(self) -> None:
        """Keep a small picture of the first photograph, its edges and its maps."""
        if not set(_CARD) <= set(self._maps):
            return
        maps = [self.edges, *(self._maps[name] for name in _CARD)]
        shown = [tinted(absolute_picture(batch[:1].cpu())[0].numpy()) for batch in maps]
        tiles = [self.photographs.arrays[0], *shown]
        mosaic([tiles[:3], tiles[3:]], self.card)

    @cached_property
    def _to_edges(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        return compare(
            self._maps, self.edges, self.measures, margin=self.margin, detector=self.canny
        )

    @cached_property
    def _to_product(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        return compare(self._maps, self.product, self.measures, margin=self.margin)

    @property
    def readings(self) -> pd.DataFrame:
        """Maps against the edges, as shares of what Canny's have; methods by catalogue name."""
        return self._to_edges[0]

    def ranking(self) -> Figure:
        """How edge-like each method is; the figure is kept."""
        figure = kappa_ranking(
            self._titled(self.readings),
            self.metrics,
            margin=self.margin,
            words=EDGE_WORDS,
            controls=self.controls,
            one="the edges themselves",
        )
        save(figure, self.folder / "figures" / "edge_kappa.png")
        return figure

    def beside_chance(self) -> Figure:
        """The same similarities, before chance is taken off."""
        return similarity_beside_chance(
            self._titled(self.readings), self.metrics, controls=self.controls
        )

    def verdicts(self) -> Styler:
        """Which methods are edge-like, by the first similarity."""
        return summary(self._titled(self.readings), self.main, words=EDGE_WORDS)

    def product_maps(self) -> Figure:
        """Input times edges beside the maps that it is said to resemble, with signs."""
        columns = {
            title(name, short=True): self._maps[name] for name in _MULTIPLIED if name in self._maps
        }
        columns = {"x⊙edges": self.product} | columns
        rows = self._first(self._titled(self._to_product[0]))
        found = count_above(rows, self.controls, "Like the product of input and edges")
        return self._grid(self._captions, columns, signed=True, title=found)

    def _first(self, readings: pd.DataFrame) -> pd.DataFrame:
        return readings[readings["metric"] == self.main]

    def product_ranking(self) -> Figure:
        """How like the product of input and edges each method is."""
        return kappa_ranking(
            self._titled(self._to_product[0]),
            self.metrics,
            margin=self.margin,
            words=_PRODUCT_WORDS,
            controls=self.controls,
        )

    @cached_property
    def noisy(self) -> pd.DataFrame:
        """Readings of pictures times noise against the same pictures times other noise."""
        pictures = {
            "MNIST": load_photographs("mnist", size=28).pixels[:, :1],
            "Fashion-MNIST": self.garments.pixels[:, :1],
            "photographs in [0, 1]": self.photographs.pixels,
            "photographs in network units": self.x.cpu(),
        }
        parts = []
        for source, batch in pictures.items():
            for marginal in _MARGINALS:
                u, v = (self._noise(marginal, batch, side) for side in "uv")
                maps = {f"{source} × {marginal}": batch * u}
                parts.append(compare(maps, batch * v, self._small, margin=self.margin)[0])
        return pd.concat(parts, ignore_index=True)

    @property
    def _small(self) -> dict:
        """Similarities that 28 pixels are enough for."""
        return {name: self.measures[name] for name in self.metrics if name != "hog"}

    def _noise(self, marginal: str, like: Tensor, side: str) -> Tensor:
        draws = (noise(marginal, like.shape[1:], self.seed, i, side) for i in range(len(like)))
        return torch.stack(list(draws))

    def noise_ranking(self) -> Figure:
        """How like each other are products of one picture with unrelated noise."""
        return kappa_ranking(
            self.noisy,
            list(self._small),
            margin=self.margin,
            words=_PICTURE_WORDS,
            of="products",
        )

    def noise_verdicts(self) -> Styler:
        """The same by the first similarity, as a table."""
        return summary(self.noisy, self.main, words=_PICTURE_WORDS, head="pictures × noise")

    @cached_property
    def one_layer(self) -> OneLayer:
        """Untrained networks of one convolution."""
        methods = {
            "G": resolve("gradient"),
            "SG": resolve("smoothgrad", samples=self.samples, seed=self.seed),
            "IG": resolve("integrated_gradients", steps=self.steps),
            "GBP": resolve("guided_backprop"),
        }
        return OneLayer(methods, self.photographs.pixels, self.filters, self.seed)

    def one_layer_maps(self) -> Figure:
        """Maps of the first of them beside the edges."""
        drawn = {name: draws[0] for name, draws in self.one_layer.maps.items()}
        columns = {"Sobel": self.edges.cpu()} | drawn
        found = count_above(
            self._first(self._one_layer_readings), word="One random convolution, edge-like"
        )
        return self._grid(self.photographs.names, columns, title=found)

    @cached_property
    def _one_layer_readings(self) -> pd.DataFrame:
        return compare(
            self.one_layer.maps,
            self.edges.cpu(),
            self.measures,
            margin=self.margin,
            detector=self.canny.cpu(),
        )[0]

    def one_layer_ranking(self) -> Figure:
        """How edge-like maps of one random convolution are."""
        return kappa_ranking(
            self._one_layer_readings, self.metrics, margin=self.margin, words=EDGE_WORDS
        )

    def agreement(self) -> list[str]:
        """How far what was derived by hand agrees with what was computed."""
        closed, linear = self.one_layer.closed_error, self.one_layer.linear_error
        return [
            f"closed form against automatic differentiation, relative: {closed:.1e}",
            f"linear network, maps against its weights, relative: {linear:.1e}",
        ]

    @cached_property
    def blank(self) -> pd.DataFrame:
        """Readings of whole untrained networks against the edges; no row without such."""
        parts = [self._of_untrained(name) for name in self.untrained]
        return pd.concat([self.readings.iloc[:0], *parts], ignore_index=True)

    def _of_untrained(self, name: str) -> pd.DataFrame:
        networks = [
            load_model(name, "none", self.device, self.seed + draw)
            for draw in range(self.untrained_seeds)
        ]
        first = networks[0]
        scenes = load_photographs(self.images, size=first.size, count=self.image_count)
        inputs = first.scaling.to_network(scenes.pixels).to(self.x.device)
        methods = {
            key: method
            for key, method in self.chosen.items()
            if not is_control(key) and passes(method) <= _PASSES
        }
        draws = [
            explain(methods, network, inputs, network.predict(inputs), self.precision).maps
            for network in networks
        ]
        maps = {f"{title(key)}, {name}": [draw[key] for draw in draws] for key in draws[0]}
        edges, canny = (found(first, inputs, self.target) for found in (Sobel(), Canny()))
        return compare(maps, edges, self.drawing, margin=self.margin, detector=canny)[0]

    def untrained_ranking(self) -> Figure | None:
        """How edge-like maps of whole untrained networks are; None without such."""
        if self.blank.empty:
            return None
        return kappa_ranking(
            self.blank, list(self.drawing), margin=self.margin, words=EDGE_WORDS, of="cases"
        )

    def untrained_verdicts(self) -> Styler | None:
        """The same by the first similarity, as a table; None without such."""
        return None if self.blank.empty else summary(self.blank, self.main, words=EDGE_WORDS)

    @cached_property
    def claims(self) -> ClaimTable:
        """What [adebayo2018sanity] says, held against what was measured here."""
        return tried(self._claims, self.margin)

    def _claims(self, margin: float, level: float) -> ClaimTable:
        claims = ClaimTable(self.name)
        edges, product, noisy, layer = (
            held_against(rows, margin, level)
            for rows in (self.readings, self._to_product[0], self.noisy, self._one_layer_readings)
        )
        picture_claims(claims, edges, self.drawing)
        product_claims(claims, product, noisy, self.main)
        one = self.one_layer
        layer_claims(claims, layer, self.main, one.closed_error, one.linear_error)
        return claims

    @cached_property
    def _weights_hash(self) -> str:
        return weights_hash(self.classifier)

    def write_all(self) -> None:
        """Write the claims, both tables of the page, and its small picture."""
        self._keep_card()
        self.claims.write(self.folder)
        measured = {"edges": self._to_edges[1], "input_x_edges": self._to_product[1]}
        everything = pd.concat(measured, names=["reference"]).reset_index("reference")
        names = dict(enumerate(self.photographs.names))
        texts = {name: describe(method) for name, method in self.chosen.items()}
        self.write(
            everything.assign(
                model=self.classifier.name,
                weights=self._weights_hash,
                preset=self.preset,
                photograph=everything["image"].map(names),
                repr=everything["method"].map(texts),
            )
        )
        self.write(self.readings.drop(columns="words"), "readings")
        self.write_refused(self.refused)

    def numbers(self) -> dict[str, float]:
        """What other pages of the book quote, by name."""
        own = [name for name in self._maps if not is_control(name)]
        right = zip(self.predicted.tolist(), self.photographs.labels, strict=True)
        numbers = {
            "photographs": len(self.photographs),
            "photographs_right": sum(guess == label for guess, label in right),
            "methods_compared": len(own),
        }
        for key in self.drawing:
            rows = self.readings[self.readings["metric"] == key]
            trained = rows[rows["method"].isin(own)].set_index("method")
            bare = self.blank[self.blank["metric"] == key].set_index("method")
            numbers[f"untrained_compared_{key}"] = len(bare)
            numbers[f"canny_{key}"] = rows["ceiling"].iloc[0]
            shares = rows.set_index("method")["share"]
            numbers |= {f"share_{n}_{key}": v for n, v in shares.items() if n in CATALOGUE}
            for name, kappa in rows.set_index("method")["kappa"].items():
                if name in CATALOGUE:
                    numbers[f"kappa_{name}_{key}"] = kappa
                    # The same network before it has learned anything.
                    if (untrained := f"{title(name)}, {self.model}") in bare.index:
                        numbers[f"untrained_{name}_{key}"] = bare["kappa"][untrained]
            for verdict, word in _COUNTED.items():
                numbers[f"{word}_{key}"] = int((trained["verdict"] == verdict).sum())
                numbers[f"untrained_{word}_{key}"] = int((bare["verdict"] == verdict).sum())
        return numbers

    def box(self) -> ProvenanceBox:
        """How this page was made."""
        return self.provenance(
            {
                "model": self.model,
                "weights": f"{self.classifier.weights} ({self._weights_hash})",
                "images": pictures_used(self.images, len(self.photographs)),
                "explained class": self.explain_class,
                "preset": self.preset,
                "samples": self.samples,
                "steps": self.steps,
                "margin": self.margin,
            },
            [self.seed],
            self.x.device,
        )
