"""Readings in words and as tables for a page."""

import math
from collections.abc import Mapping

import pandas as pd
from pandas.io.formats.style import Styler

from saliency_sanity._errors import unknown
from saliency_sanity.verdict.reading import (
    RANDOMIZATION_WORDS,
    Reading,
)


def summary(
    readings: pd.DataFrame, metric: str, *, words: Mapping[str, str], head: str = "method"
) -> Styler:
    """One metric's readings as a table for the page, the highest kappa first.

    ``words`` names what lies below and above the margin, ``head`` what is compared. Maps without
    a defined similarity are counted where there are any.
    """
    rows = readings[readings["metric"] == metric].sort_values("kappa", ascending=False)
    shown = pd.DataFrame(
        {
            head: rows["method"],
            "verdict": [words.get(row["verdict"]) or _open(row) for _, row in rows.iterrows()],
            "kappa (95 % interval)": [kappa_text(row) for _, row in rows.iterrows()],
            "similarity": rows["similarity"].map(rounded),
            "chance": rows["chance"].map(rounded),
        }
    )
    if rows["undefined_diagonal"].any():
        shown["undefined maps"] = rows["undefined_diagonal"]
    return shown.style.hide(axis="index").set_table_attributes('class="dataframe"')


def verdict_table(
    readings: pd.DataFrame,
    metric: str,
    cascades: pd.DataFrame | None = None,
    *,
    words: Mapping[str, str] = RANDOMIZATION_WORDS,
) -> Styler:
    """One metric's verdicts at the last stage as a table for the page, the highest kappa first.

    "(prior)" after a verdict says that input and architecture explain it. ``readings`` has a row
    for each method, metric and stage with stage, position and the fields of
    ``verdict.Reading``; ``cascades``, for stages that add up, one for each method and metric with
    those of ``verdict.Cascade``. Raises ValueError for an unknown metric.
    """
    rows = readings[readings["metric"] == metric]
    if rows.empty:
        raise ValueError(unknown("metric", metric, readings["metric"].unique()))
    rows = rows[rows["position"] == rows["position"].max()]
    rows = rows.sort_values("kappa", ascending=False)
    shown = pd.DataFrame(
        {
            "method": rows["method"],
            "verdict": [said(row, words) for _, row in rows.iterrows()],
            "kappa (95 % interval)": [kappa_text(row) for _, row in rows.iterrows()],
            "similarity": rows["similarity"].map(rounded),
            "chance": rows["chance"].map(rounded),
        }
    )
    if rows["prior_similarity"].notna().any():
        shown["prior's kappa"] = rows["prior_kappa"].map(rounded)
    if cascades is not None:
        own = cascades[cascades["metric"] == metric].set_index("method").loc[rows["method"]]
        shown["area under kappa"] = own["area"].map(rounded).tolist()
        shown["first below the margin"] = own["first_below"].fillna("never").tolist()
    if rows["undefined_diagonal"].any():
        shown["undefined maps"] = rows["undefined_diagonal"]
    return shown.style.hide(axis="index").set_table_attributes('class="dataframe"')


def said(row: Mapping, words: Mapping[str, str] = RANDOMIZATION_WORDS) -> str:
    """A reading's verdict in words; "(prior)" where input and architecture explain it."""
    reading = Reading(**{name: row[name] for name in Reading.__annotations__})
    if reading.verdict == "inconclusive":
        return _open(row)
    explained = reading.verdict == "above" and reading.explained_by_prior
    return words[reading.verdict] + " (prior)" * explained


def _open(row: Mapping) -> str:
    # Of several reasons the first is the one that decides.
    return f"inconclusive: {row['reason'].partition(';')[0]}"


def rounded(value: float) -> str:
    """Two decimals, no minus before a zero, and a dash for what is undefined."""
    return "–" if math.isnan(value) else f"{round(value, 2) + 0.0:.2f}"


def holds_margin(reading: Mapping) -> bool:
    """Whether the interval shows by itself that a verdict is open."""
    return reading["low"] <= reading["margin"] <= reading["high"]


def kappa_text(reading: Mapping) -> str:
    """Kappa with its interval, e.g. ``0.41 (0.35 to 0.47)``, or that there is none."""
    if math.isnan(reading["kappa"]):
        return "undefined"
    kappa, low, high = (rounded(reading[key]) for key in ("kappa", "low", "high"))
    return f"{kappa} ({low} to {high})"


def cross_table(readings: pd.DataFrame, index: str, columns: str) -> Styler:
    """Kappa with its interval and the verdict, one column of ``readings`` against another.

    Why a verdict is open is said unless the interval shows it.
    """
    cells = readings.assign(cell=[_cell(row) for _, row in readings.iterrows()])
    shown = cells.pivot_table(
        index=index, columns=columns, values="cell", aggfunc="first", sort=False
    )
    shown.columns.name = shown.index.name = None
    return shown.style.set_table_attributes('class="dataframe"')


def _cell(row: Mapping) -> str:
    text = f"{kappa_text(row)} {RANDOMIZATION_WORDS.get(row['verdict'], row['verdict'])}"
    if row["verdict"] == "inconclusive" and not holds_margin(row):
        text += f" ({row['reason'].partition(';')[0]})"
    return text


METRIC_TITLES = {
    "spearman_abs": "rank correlation, absolute",
    "spearman_signed": "rank correlation, signed",
    "spearman_abs, not zero": "rank correlation, absolute, x ≠ 0",
    "spearman_signed, not zero": "rank correlation, signed, x ≠ 0",
    "ssim": "SSIM",
    "hog": "HOG correlation",
}


def settled(reading: Mapping) -> bool:
    """Whether the interval may be held against any line: nothing but the margin kept it open."""
    # Of several reasons the first is the one that decides.
    return reading["verdict"] != "inconclusive" or reading["reason"].startswith("the interval")
