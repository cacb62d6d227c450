"""Colours as zeros: the blind spot moves to whichever is zero, and only with the product."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from torch import Tensor

from saliency_sanity.attribution.catalogue import title
from saliency_sanity.book.chapters.claims import Claim
from saliency_sanity.book.chapters.input_bias.claims import (
    MODIFIED,
    colour_claim,
    exact_claim,
    remember,
)
from saliency_sanity.book.chapters.input_bias.page import InputBias
from saliency_sanity.networks.classifier import Classifier
from saliency_sanity.plots.input_bias import value_chart
from saliency_sanity.probes.input_size import curve_table, value_curve
from saliency_sanity.probes.units import rescaled, zero_at
from saliency_sanity.subjects.photographs import dithered
from saliency_sanity.verdict.wording import rounded

_LEVELS = np.linspace(0, 1, 18)
_PANELS = {"with": "rectgrad", "without": "modified_rectgrad"}


@dataclass
class Colours:
    """The section on colours: the same network with each colour of the page as its zero."""

    page: InputBias

    def _measured(self, network: Classifier, pictures: Tensor) -> dict[str, Tensor]:
        """Logits, and RectGrad's maps without and with the product, of raw pictures."""
        own = network.scaling.to_network(pictures)
        target = self.page.target[: len(own)]
        without = self.page.methods[MODIFIED](network, own, target)
        return {"logits": network.logits(own), "without": without, "with": without * own}

    @cached_property
    def zeros(self) -> dict[float, float]:
        """For each colour of the page the nearest that the pictures have.

        Its pixels are zero to the last bit.
        """
        values = self.page.raw.unique()
        return {
            wanted: values[(values - wanted).abs().argmin()].item() for wanted in self.page.colours
        }

    @cached_property
    def off(self) -> dict[str, float]:
        """The largest change of logits and maps, relative to the largest value, in doubles.

        For the extreme colours only: double precision takes its time.
        """
        page = self.page
        uneven = dithered(page.raw[: page.exact].double(), page.seed)
        before = self._measured(page.double, uneven)
        off = dict.fromkeys(before, 0.0)
        for wanted in dict.fromkeys((min(page.colours), max(page.colours))):
            moved = rescaled(page.double, zero_at(page.classifier.scaling, self.zeros[wanted]))
            for key, after in self._measured(moved, uneven).items():
                change = (after - before[key]).abs().max() / before[key].abs().max()
                off[key] = max(off[key], change.item())
        return off

    @cached_property
    def _seen(self) -> tuple[dict[tuple[str, str], np.ndarray], dict[str, tuple[float, float]]]:
        """Curves over colours by panel and line, and ``|E|`` at the zero colour itself."""
        raw, curves, at_zero = self.page.raw, {}, {}
        for colour in self.zeros.values():
            network = rescaled(self.page.classifier, zero_at(self.page.classifier.scaling, colour))
            maps = self._measured(network, raw)
            for key, panel in _PANELS.items():
                curves[panel, _line(colour)] = value_curve(maps[key], raw, _LEVELS)
            here = raw == colour
            at_zero[f"{colour:.2f}"] = tuple(
                (maps[key].abs()[here].mean() / maps[key].abs().mean()).item() for key in _PANELS
            )
        return curves, at_zero

    @cached_property
    def sweep(self) -> pd.DataFrame:
        """Mean size of the map at pixels of each colour, by panel and zero."""
        tables = [
            curve_table({line: curve}, _LEVELS).assign(panel=panel)
            for (panel, line), curve in self._seen[0].items()
        ]
        return pd.concat(tables, ignore_index=True)

    @cached_property
    def claims(self) -> tuple[Claim, Claim]:
        """That a shift changes no map without product, and that the blind spot moves."""
        claims = self.page.claims
        return exact_claim(claims, self.off), colour_claim(claims, self._seen[1])

    def panel(self) -> Markdown:
        """What to remember of artificial zeros."""
        _, artificial = self.claims
        return remember(
            artificial,
            "Move the zero, and the blind spot moves with it: at pixels of the colour that is zero "
            "the product is 0 to the last bit, whatever the network makes of them.",
        )

    def curves(self) -> Figure:
        """The size of the map over the pixel's colour, a line for each zero."""
        shown = {_line(colour): f"zero is {colour:.2f}" for colour in self.zeros.values()}
        sweep = self.sweep.assign(
            method=self.sweep["method"].map(shown), panel=self.sweep["panel"].map(title)
        )
        with_product = [found[0] for found in self._seen[1].values()]
        without = [found[1] for found in self._seen[1].values()]
        return value_chart(
            sweep,
            {shown[_line(c)]: c for c in self.zeros.values()},
            title="Size of the map at the colour that is zero, of its average: "
            f"{_span(with_product)} with the product, {_span(without)} without",
        )

    def write(self) -> None:
        """Write the sweep over colours."""
        self.page.write(self.sweep, "colours")


def _span(values: Sequence[float]) -> str:
    low, high = rounded(min(values)), rounded(max(values))
    return low if low == high else f"{low} to {high}"


def _line(colour: float) -> str:
    return f"zero_{colour:.2f}"
