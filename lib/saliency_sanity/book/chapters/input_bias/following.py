"""Following the input: which methods do, which hang on its zero, and which of LRP's rules do."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler
from torch import Tensor

from saliency_sanity import CATALOGUE, resolve
from saliency_sanity.attribution.lrp import Lrp
from saliency_sanity.book.chapters.claims import Claim, ClaimTable
from saliency_sanity.book.chapters.input_bias.claims import (
    MODIFIED,
    RECT,
    following_claims,
    remember,
    rule_claim,
)
from saliency_sanity.book.chapters.input_bias.page import InputBias
from saliency_sanity.book.chapters.page import is_product, plain_table, titled
from saliency_sanity.experiments.comparison import Explained, explain
from saliency_sanity.plots.input_bias import response_chart
from saliency_sanity.plots.layout import count_above
from saliency_sanity.plots.ranking import kappa_ranking
from saliency_sanity.probes.input_size import (
    GROWS,
    INPUT_WORDS,
    KEPT,
    LIKENESS,
    curve_table,
    likeness_matrices,
    read_likeness,
    response_curve,
    response_edges,
)
from saliency_sanity.probes.units import UNCHANGED, units_table
from saliency_sanity.verdict.wording import kappa_text, rounded

# Whether a map hangs on the zero, few samples tell as well as many.
_LEAN = {"samples": 2, "steps": 2, "top": 2}
_ACROSS = "|x|, in units of the network"
_LRP = "lrp_epsilon"
_RULES = {"z": "z", "zᴮ": "zbox", "w²": "wsquare", "flat": "flat"}


def responses(page: InputBias, maps: Mapping[str, Tensor]) -> pd.DataFrame:
    """The mean size of maps ``[N, C, H, W]`` over the size of the input, by method."""
    edges = response_edges(page.x)
    curves = {key: response_curve(found, page.x, edges) for key, found in maps.items()}
    return curve_table(curves, (edges[1:] + edges[:-1]) / 2)


def _grown(table: pd.DataFrame) -> str:
    """The size of each map at the largest inputs, as a multiple of its average, in words."""
    last = table[table["at"] == table["at"].max()]
    told = (f"{row.method} {rounded(row.value)}" for row in last.itertuples())
    return f"At the largest inputs, as a multiple of the map's average: {' · '.join(told)}"


@dataclass
class Following:
    """The section on methods that follow the input, for every method of the page."""

    page: InputBias

    @cached_property
    def explained(self) -> Explained:
        """Every method's maps, and which methods do not apply."""
        page = self.page
        return explain(page.methods, page.classifier, page.x, page.target, page.precision)

    @cached_property
    def responses(self) -> pd.DataFrame:
        """The size of each method's maps over that of the input."""
        return responses(self.page, self.explained.maps)

    @cached_property
    def _alike(self) -> dict[tuple[str, str], np.ndarray]:
        return likeness_matrices(self.explained.maps, self.page.x)

    @cached_property
    def likeness(self) -> pd.DataFrame:
        """Rank correlation of map and input, by method, as ``likeness_table`` gives it."""
        return read_likeness(self._alike, margin=self.page.margin)

    @property
    def overall(self) -> pd.DataFrame:
        """``likeness`` over all pixels, who follows the most first."""
        rows = self.likeness[self.likeness["metric"] == LIKENESS]
        return rows.sort_values("kappa", ascending=False)

    @cached_property
    def unmoved(self) -> pd.DataFrame:
        """How alike each method's maps are in units where black and where white is zero."""
        lean = {
            key: resolve(key, **{part: _LEAN[part] for part in _LEAN if part in card.defaults})
            for key, card in CATALOGUE.items()
            if key in self.explained.maps
        }
        page = self.page
        return units_table(
            lean, page.classifier, page.raw, page.target, margin=page.margin, seed=page.seed
        )

    @cached_property
    def claims(self) -> list[Claim]:
        """Which methods follow, and which hang on the zero, added to the page's claims."""
        methods = self.page.methods
        multiplied = [key for key in self.unmoved["method"] if is_product(key, methods[key])]
        claimed = {key: found for key, found in self._alike.items() if key[0] in (RECT, MODIFIED)}

        def make(claims: ClaimTable, margin: float, level: float) -> None:
            rows = read_likeness(claimed, margin=margin, confidence=1 - level)
            following_claims(claims, rows, self.unmoved, multiplied)

        return self.page.claims.try_claims(make, self.page.margin)

    def refused_text(self) -> str:
        """Which methods are left out, a line each, and why."""
        return "\n".join(
            f"left out: {self.page.titles[key]}: {reason}"
            for key, reason in self.explained.refused.items()
        )

    def response_figure(self) -> Figure:
        """The size of maps over that of the input, who follows the most first."""
        ranked = pd.concat(
            [self.responses[self.responses["method"] == key] for key in self.overall["method"]]
        )
        ranked = titled(ranked, self.page.titles)
        rows = titled(self.overall, self.page.titles)
        found = count_above(rows, self.page.controls, GROWS)
        return response_chart(ranked, across=_ACROSS, title=found)

    def ranking(self) -> Figure:
        """Methods by how far they follow the input."""
        return kappa_ranking(
            titled(self.likeness, self.page.titles),
            [LIKENESS, KEPT],
            margin=self.page.margin,
            words=INPUT_WORDS,
            controls=self.page.controls,
            one="the input itself",
        )

    def table(self) -> Styler:
        """Likeness to the input beside the test by other units, by method."""
        kept = self.likeness[self.likeness["metric"] == KEPT].set_index("method")
        still = self.unmoved.set_index("method")["kappa"]
        keys = self.overall["method"]
        return plain_table(
            pd.DataFrame(
                {
                    "method": keys.map(self.page.titles),
                    "follows the input: kappa": [
                        kappa_text(row) for _, row in self.overall.iterrows()
                    ],
                    "where the map is not zero": [kappa_text(kept.loc[key]) for key in keys],
                    "verdict, by all pixels": [
                        INPUT_WORDS.get(verdict, verdict) for verdict in self.overall["verdict"]
                    ],
                    "same map with another zero: kappa": [
                        rounded(still.get(key, np.nan)) for key in keys
                    ],
                }
            )
        )

    @property
    def _moved(self) -> tuple[int, int]:
        """How many methods change with the units, and how many were asked."""
        defined = self.unmoved["kappa"].dropna()
        return int((defined < UNCHANGED).sum()), len(defined)

    def panel(self) -> Markdown:
        """What to remember of the units of the input."""
        *_, hangs = self.claims
        changed, asked = self._moved
        return remember(
            hangs,
            f"{changed} of {asked} methods and controls change their maps with the units of the "
            "input alone, and those are the ones that multiply by the input.",
        )

    def write(self) -> None:
        """Write likeness, responses, and what other units change."""
        self.page.write(self.likeness.drop(columns="words"), "likeness")
        self.page.write(self.unmoved, "moved")
        self.page.write(self.responses, "responses")
        self.page.write_refused(self.explained.refused)

    def numbers(self) -> dict[str, float]:
        """How many methods there are and move, and kappa of RectGrad's maps and the input."""
        changed, asked = self._moved
        kept = self.likeness[self.likeness["metric"] == KEPT].set_index("method")["kappa"]
        return {"methods_compared": asked, "methods_that_move": changed} | {
            f"follows_{key}": round(kept[key], 2) + 0.0 for key in (RECT, MODIFIED)
        }


@dataclass
class FirstLayer:
    """The section on LRP's rules for the layer of the pixels, where LRP applies."""

    following: Following

    @cached_property
    def maps(self) -> dict[str, Tensor]:
        """Relevance by rule; nothing where LRP has no rules for the network."""
        if _LRP not in self.following.explained.maps:
            return {}
        page = self.following.page
        rules = {text: Lrp("epsilon", rule) for text, rule in _RULES.items()}
        return dict(explain(rules, page.classifier, page.x, page.target, page.precision).maps)

    def responses(self) -> Figure | None:
        """The size of relevance over that of the input, by rule."""
        if not self.maps:
            return None
        table = responses(self.following.page, self.maps)
        return response_chart(table, across=_ACROSS, title=_grown(table))

    @cached_property
    def claim(self) -> Claim:
        """That of the rules only z follows the input, added to the page's claims."""
        page = self.following.page
        found = likeness_matrices(self.maps, page.x)
        refused = self.following.explained.refused.get(_LRP, "").partition(". ")[0]

        def make(claims: ClaimTable, margin: float, level: float) -> None:
            rows = read_likeness(found, margin=margin, confidence=1 - level) if found else None
            rule_claim(claims, rows, refused)

        (claim,) = page.claims.try_claims(make, page.margin)
        return claim

    def panel(self) -> Markdown:
        """What to remember of rules."""
        return remember(
            self.claim,
            "How far LRP follows the size of the input depends on the rule of its first layer.",
        )
