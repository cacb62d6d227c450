"""Verdicts on permuted labels as a table, and what is left of them where nothing was learned."""

from collections.abc import Mapping

import pandas as pd
from pandas.io.formats.style import Styler

from saliency_sanity._errors import unknown
from saliency_sanity.attribution.catalogue import title
from saliency_sanity.book.chapters.labels.references import has_reference, no_more
from saliency_sanity.experiments.label_permutation import CONTROL
from saliency_sanity.verdict.obstacle import Obstacle
from saliency_sanity.verdict.robustness import robustness
from saliency_sanity.verdict.wording import kappa_text, rounded, said, settled, verdict_words


def undecided(readings: pd.DataFrame) -> pd.DataFrame:
    """The same readings without verdicts, for networks that did not learn their permuted labels."""
    rows = readings.assign(verdict="inconclusive", obstacle=Obstacle.NOT_MEMORIZED.value, notes="")
    return rows.assign(words=[verdict_words(row) for row in rows.to_dict("records")])


def agreement_table(readings: pd.DataFrame, metric: str) -> Styler:
    """One metric's verdicts as a table for the page, the highest kappa first.

    The references' kappas stand beside it, and how much lower it is than between two seeds.
    Raises ValueError for a metric without readings.
    """
    rows = readings[readings["metric"] == metric].sort_values("kappa", ascending=False)
    if rows.empty:
        raise ValueError(unknown("metric", metric, readings["metric"].unique()))
    cells = []
    for row in rows.to_dict("records"):
        below = {"kappa": "excess", "low": "excess_high", "high": "excess_low"}
        less = {key: 0 - row[f"true_{name}"] for key, name in below.items()} | {"margin": 0}
        difference = kappa_text(less) if has_reference(row, "true") else "–"
        cells.append(
            {
                "method": row["method"],
                "verdict": said(row),
                "kappa (95 % interval)": kappa_text(row),
                "two seeds": rounded(row["true_kappa"]),
                "less than two seeds": difference,
                "two permuted": rounded(row["permuted_kappa"]),
                "x ⊙ noise: as much or more": _noise(row),
            }
        )
    shown = pd.DataFrame(cells)
    if rows["undefined_diagonal"].any():
        shown["undefined maps"] = rows["undefined_diagonal"].tolist()
    style = shown.style.hide(axis="index").set_table_attributes('class="dataframe"')
    return style.set_caption(robustness(rows))


def _noise(row: Mapping) -> str:
    """Whether the control explains what of a map remains."""
    if row["method"] == title(CONTROL) or row["verdict"] == "below" or not settled(row):
        return "–"
    found = no_more(row, "noise", row["margin"]) if has_reference(row, "noise") else None
    return {True: "yes", False: "no", None: "open"}[found]
