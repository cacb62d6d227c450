"""The page on the metrics: what each says of maps that have nothing to do with each other."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from saliency_sanity import Scaling, load_photographs
from saliency_sanity.book.chapters.page import Page
from saliency_sanity.book.runs.provenance import ProvenanceBox
from saliency_sanity.plots.style import save
from saliency_sanity.plots.unrelated import null_figure
from saliency_sanity.probes.unrelated import (
    MAPS_TITLES,
    NOISE,
    SAME,
    null_means,
    null_table,
    product_matrix,
)
from saliency_sanity.similarity.metrics import METRICS, PRESETS, metric
from saliency_sanity.verdict.reading import Reading, read
from saliency_sanity.verdict.reading import table as readings_table
from saliency_sanity.verdict.wording import METRIC_TITLES

_ABOUT = 0.05  # of 0, and so far a similarity may be called 0


@dataclass(kw_only=True)
class Metrics(Page):
    """One run of the notebook on metrics; its parameters are described there.

    ``x`` ``[N, C, H, W]`` are the photographs in units whose zero is mid-grey.

    Raises ValueError for pictures or a size that cannot be, before anything is compared.
    """

    notebook: ClassVar[str] = "00_metrics"

    images: str
    image_count: int
    size: int
    draws: int
    seeds: int
    # Nothing on this page asks for another one.
    margin: float = field(init=False, default=0.1)
    device: str = field(init=False, default="cpu")
    precision: str = field(init=False, default="exact")

    def __post_init__(self):
        super().__post_init__()
        self.photographs = load_photographs(self.images, size=self.size, count=self.image_count)
        # The scaling of Inception v3 and EfficientNet-Lite0: zero is mid-grey.
        self.x = Scaling((0.5,) * 3, (0.5,) * 3).to_network(self.photographs.pixels)
        self.titles = {
            f"{name}/{preset}": f"{METRIC_TITLES[name]}\n{preset}"
            for name in METRICS
            for preset in PRESETS
        }

    @cached_property
    def table(self) -> pd.DataFrame:
        """Similarities of unrelated maps, as ``null_table`` gives them; the long part."""
        similarities = {key: metric(*key.split("/")) for key in self.titles}
        return null_table(
            self.x, similarities, self.photographs.names, draws=self.draws, seed=self.seed
        )

    @cached_property
    def means(self) -> pd.DataFrame:
        """Their means over photographs and draws."""
        return null_means(self.table)

    def unrelated(self) -> Figure:
        """Similarities of unrelated maps by metric; the table and the figure are kept."""
        self.write(self.table)
        figure = null_figure(self.table, titles=self.titles, title=self._finding())
        save(figure, self.folder / "figures" / "metrics.png")
        return figure

    def mean_table(self) -> Styler:
        """The means to two decimals, a column a metric and preset."""
        headed = self.means.round(2) + 0.0  # no minus before a zero
        headed = headed.rename(index=MAPS_TITLES, columns=self.titles)
        headed.columns = headed.columns.str.split("\n", expand=True)
        return headed.style.format("{:.2f}").set_table_attributes('class="dataframe"')

    def unrelated_numbers(self) -> dict[str, float]:
        """What other pages of the book quote of unrelated maps, by name."""
        numbers = {}
        for name in METRICS:
            key = f"{name}/reference-code"
            numbers[f"noise_{name}"] = self.means.loc[(NOISE, "gaussian"), key]
            numbers[f"product_{name}"] = self.means.loc[(SAME, "gaussian"), key]
            numbers[f"heavy_tail_{name}"] = self.means.loc[(NOISE, "student-t3"), key]
        return numbers

    @cached_property
    def examples(self) -> dict[str, Reading]:
        """The worked example, a method known to see no model, read with and without signs."""
        return {
            name: read(
                product_matrix(self.x, metric(name), self.seeds, self.seed), margin=self.margin
            )
            for name in ("spearman_abs", "spearman_signed")
        }

    def example_table(self) -> Styler:
        """The readings of the worked example."""
        titled = {METRIC_TITLES[name]: reading for name, reading in self.examples.items()}
        shown = ["metric", "similarity", "chance", "kappa", "low", "high", "words"]
        verdicts = readings_table(titled, "metric")[shown].rename(columns={"words": "verdict"})
        return verdicts.style.format(precision=3).hide().set_table_attributes('class="dataframe"')

    def summary(self) -> Markdown:
        """Which similarities of unrelated maps lie at 0, and how far from it the others run."""
        level = self.means.abs()
        at_zero = level.columns[(level < _ABOUT).all()]
        still = at_zero.map(self.titles).str.replace("\n", ", ")
        return Markdown(
            f"**{self._finding()}**\n\n* *at 0 throughout*: {' · '.join(still) or 'none'}"
        )

    def _finding(self) -> str:
        gaussian = self.means.loc[(NOISE, "gaussian")].abs() < _ABOUT
        low, high = self.means.min().min() + 0.0, self.means.max().max()
        return (
            f"For Gaussian noise {gaussian.sum()} of {gaussian.size} similarities lie within "
            f"{_ABOUT:g} of 0, as the paper says. Over all pairs they run from {low:.2f} to "
            f"{high:.2f}."
        )

    def example_numbers(self) -> dict[str, float]:
        """What other pages of the book quote of the worked example, by name."""
        numbers = {"example_images": len(self.x), "example_seeds": self.seeds}
        absolute, signed = self.examples.values()
        for key in ("similarity", "chance", "kappa", "low", "high"):
            numbers[f"example_{key}"] = getattr(absolute, key)
            numbers[f"example_signed_{key}"] = getattr(signed, key)
        return numbers

    def box(self) -> ProvenanceBox:
        """How this page was made."""
        return self.provenance(
            {
                "images": self.images,
                "photographs": len(self.x),
                "size": self.size,
                "draws": self.draws,
            },
            [self.seed],
            None,
        )
