"""Readings in words and as tables for a page."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from saliency_sanity._errors import unknown
from saliency_sanity.verdict.obstacle import (
    INCONCLUSIVE,
    LEAST_IMAGES,
    OPEN,
    CeilingKind,
    Note,
    NoteKind,
    Obstacle,
    notes_of,
)
from saliency_sanity.verdict.robustness import robustness

RANDOMIZATION_WORDS = {"below": "responds", "above": "picture-driven"}
EDGE_WORDS = {"below": "not edge-like", "above": "edge-like"}

_OBSTACLES = {
    Obstacle.FEW_IMAGES: "too few images: {images}{of} with a defined similarity, where "
    f"{LEAST_IMAGES} are needed",
    Obstacle.CHANCE_UNDEFINED: (
        "chance is undefined: no defined similarity between different images"
    ),
    Obstacle.NO_ROOM: "chance is {chance:.3f}: the metric cannot tell maps apart",
    Obstacle.UNDEFINED_SIMILARITIES: "too many undefined similarities for an interval",
    Obstacle.VANISHED: (
        "{undefined_diagonal} maps have no similarity, and counted as changed they may take "
        "{measure} to {lowest}"
    ),
    Obstacle.MARGIN_INSIDE: "the interval includes the margin {margin:g}",
    Obstacle.LINE_INSIDE: "the interval includes {line:g}",
    Obstacle.NOT_MEMORIZED: "the permuted labels were not memorized",
    Obstacle.LOW_CEILING: "{same} has kappa {ceiling:.2f}",
    Obstacle.SHARE_INSIDE: (
        "the interval of its share of Canny's kappa, {share_low:.2f} to {share_high:.2f}, includes "
        "{share_line:g}"
    ),
    Obstacle.UNCLEAR_CEILING: (
        "the kappa of Canny's own edges is {detector}, not clearly above the margin {margin:g}"
    ),
}
CEILINGS = {
    CeilingKind.ARITHMETIC: "the same map in double precision",
    CeilingKind.RANDOM_ARITHMETIC: "the random network's own map in double precision",
    CeilingKind.SEEDS: "the map of another training",
    CeilingKind.DETECTOR: "Canny's edge map",
}


def why(row: Mapping) -> str:
    """Why a verdict is open, in words; empty where it is not.

    ``row`` is one of a table, or ``Reading.row()``. Raises ValueError for an unknown obstacle or
    note.
    """
    obstacle = Obstacle.of(row["obstacle"])
    if obstacle is None:
        return ""
    of = "".join(f" of {note.count}" for note in notes_of(row["notes"]) if note.count)
    same = CEILINGS[CeilingKind(row["ceiling_kind"])] if obstacle is Obstacle.LOW_CEILING else ""
    unclear = obstacle is Obstacle.UNCLEAR_CEILING
    detector = (ceiling_text(row) if row["ceiling_kind"] else "undefined") if unclear else ""
    said = {"of": of, "same": same, "detector": detector}
    if obstacle is Obstacle.VANISHED:
        share = "share" in row
        lowest = (
            rounded(row["share_sure_low"]) if share else rounded(row["sure_low"], row["margin"])
        )
        said |= {"measure": "the share of Canny's kappa" if share else "kappa", "lowest": lowest}
    return _OBSTACLES[obstacle].format(**row, **said)


def reasons(row: Mapping) -> str:
    """Why a verdict is open, and what else is to be known of a row, as in ``why``."""
    once = Note(NoteKind.ONE_NETWORK) in notes_of(row["notes"])
    note = "one seed: the interval is for this network" * once
    return "; ".join(filter(None, [why(row), note]))


def verdict_word(verdict: str, words: Mapping[str, str] = RANDOMIZATION_WORDS) -> str:
    """The one word for a verdict; those that are open are their own."""
    return words.get(verdict, verdict)


def verdict_words(row: Mapping, words: Mapping[str, str] = RANDOMIZATION_WORDS) -> str:
    """A row's verdict in words, and why if there is none.

    ``words`` names what lies below and above the margin; see ``EDGE_WORDS`` for edge likeness.
    """
    if row["verdict"] in OPEN:
        return f"{row['verdict']} ({reasons(row)})"
    return words[row["verdict"]] + "; input and architecture explain it" * _explained(row)


def explained(row: Mapping) -> bool:
    """Whether input and architecture alone give as much, up to the margin.

    Never said where nothing tells how much of it is due to the networks that were drawn.
    """
    return bool(covers_networks(row) and row["excess_high"] < row["margin"])


def covers_networks(row: Mapping) -> bool:
    """Whether the interval of the excess over the prior covers networks, not pictures only."""
    return row["seeds"] > 2 and row["prior_seeds"] > 1


def _explained(row: Mapping) -> bool:
    """Whether a row above the margin is so with input and architecture alone."""
    return row["verdict"] == "above" and explained(row)


def summary(
    readings: pd.DataFrame, metric: str, *, words: Mapping[str, str], head: str = "method"
) -> Styler:
    """One metric's readings as a table for the page, the highest kappa first.

    ``words`` names what lies below and above the margin, ``head`` what is compared. Maps without
    a defined similarity are counted where there are any. Below it is how many verdicts stay when
    all are given at once, and with other margins, or lines where ``readings`` have a share.
    """
    rows = readings[readings["metric"] == metric].sort_values("kappa", ascending=False)
    shown = _shown(rows, words).rename(columns={"method": head})
    if "share" in rows:
        shown.insert(2, "share of Canny's", [share_text(row) for _, row in rows.iterrows()])
    return _styled(shown, rows)


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
    those of ``verdict.Cascade``, maybe with kappa of a half random network as ``upper``. Raises
    ValueError for an unknown metric.
    """
    rows = readings[readings["metric"] == metric]
    if rows.empty:
        raise ValueError(unknown("metric", metric, readings["metric"].unique()))
    rows = rows[rows["position"] == rows["position"].max()]
    rows = rows.sort_values("kappa", ascending=False)
    shown = _shown(rows, words)
    if rows["prior_similarity"].notna().any():
        shown["prior's kappa"] = rows["prior_kappa"].map(rounded)
    if rows["ceiling"].notna().any():
        shown["ceiling"] = [ceiling_text(row) for _, row in rows.iterrows()]
    if cascades is not None:
        own = cascades[cascades["metric"] == metric].set_index("method").loc[rows["method"]]
        if "upper" in own:
            shown["kappa, upper half random"] = own["upper"].tolist()
        shown["area under kappa"] = own["area"].map(rounded).tolist()
        shown["first below the margin"] = own["first_below"].fillna("never").tolist()
    return _styled(shown, rows)


def _shown(rows: pd.DataFrame, words: Mapping[str, str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "method": rows["method"],
            "verdict": [said(row, words) for _, row in rows.iterrows()],
            "kappa (95 % interval)": [kappa_text(row) for _, row in rows.iterrows()],
            "similarity": rows["similarity"].map(rounded),
            "chance": rows["chance"].map(rounded),
        }
    )


def _styled(shown: pd.DataFrame, rows: pd.DataFrame) -> Styler:
    if rows["undefined_diagonal"].any():
        shown["undefined maps"] = rows["undefined_diagonal"]
    style = shown.style.hide(axis="index").set_table_attributes('class="dataframe"')
    return style.set_caption(robustness(rows))


def said(row: Mapping, words: Mapping[str, str] = RANDOMIZATION_WORDS) -> str:
    """A reading's verdict in words; "(prior)" where input and architecture explain it."""
    if row["verdict"] in OPEN:
        return f"{row['verdict']}: {why(row)}"
    return words[row["verdict"]] + " (prior)" * _explained(row)


def rounded(value: float, line: float = math.nan) -> str:
    """Two decimals, no minus before a zero, and a dash for what is undefined.

    One or two decimals more where two would put it on the other side of a ``line``, or on it.
    """
    if math.isnan(value):
        return "–"
    shown = {digits: round(value, digits) + 0.0 for digits in (2, 3, 4)}
    told = (n for n in shown if np.sign(shown[n] - line) == np.sign(value - line))
    digits = 2 if math.isnan(line) else next(told, 4)
    return f"{shown[digits]:.{digits}f}"


def kappa_text(reading: Mapping) -> str:
    """Kappa with its interval, e.g. ``0.41 (0.35 to 0.47)``, or that there is none.

    The interval's ends are printed on their side of the margin, if the reading has one.
    """
    if math.isnan(reading["kappa"]):
        return "undefined"
    low, high = (rounded(reading[end], reading.get("margin", math.nan)) for end in ("low", "high"))
    return f"{rounded(reading['kappa'])} ({low} to {high})"


def share_text(reading: Mapping) -> str:
    """A share of Canny's kappa with its interval, or a dash where there is none."""
    share, low, high = (reading[f"share{end}"] for end in ("", "_low", "_high"))
    if math.isnan(low):
        return rounded(math.nan)
    line = reading["share_line"]
    return f"{rounded(share)} ({rounded(low, line)} to {rounded(high, line)})"


def cross_table(readings: pd.DataFrame, index: str, columns: str) -> Styler:
    """Kappa with its interval and the verdict, one column of ``readings`` against another.

    Why a verdict is open is said unless the interval shows it. Below it is how many verdicts stay
    when all are given at once, and with other margins.
    """
    cells = readings.assign(cell=[_cell(row) for _, row in readings.iterrows()])
    shown = cells.pivot_table(
        index=index, columns=columns, values="cell", aggfunc="first", sort=False
    )
    shown.columns.name = shown.index.name = None
    style = shown.style.set_table_attributes('class="dataframe"')
    return style.set_caption(robustness(readings.drop_duplicates([index, columns])))


def _cell(row: Mapping) -> str:
    text = f"{kappa_text(row)} {verdict_word(row['verdict'])}"
    seen = row["verdict"] == INCONCLUSIVE and row["low"] <= row["margin"] <= row["high"]
    if row["verdict"] in OPEN and not seen:
        text += f" ({why(row)})"
    return text


def foremost(readings: pd.DataFrame, most: int = 3) -> str:
    """Methods of these readings by kappa, highest first: at most so many names, then a count."""
    names = [*readings.sort_values("kappa", ascending=False)["method"]]
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} others"]
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def out_of(few: int, every: int) -> str:
    """So many of all of them, as figures say it: none of 5, 3 of 5, all 5."""
    return f"all {every}" if few == every > 1 else f"{few or 'none'} of {every}"


METRIC_TITLES = {
    "spearman_abs": "rank correlation, absolute",
    "spearman_signed": "rank correlation, signed",
    "spearman_abs_not_zero": "rank correlation, absolute, x ≠ 0",
    "spearman_signed_not_zero": "rank correlation, signed, x ≠ 0",
    "ssim": "SSIM",
    "hog": "HOG correlation",
    "spearman_union": "ranks where either is kept",
    "input_likeness": "input likeness",
    "input_likeness_not_zero": "input likeness, E ≠ 0",
}


def settled(reading: Mapping) -> bool:
    """Whether the interval may be held against any line: nothing but the margin kept it open."""
    held = (Obstacle.MARGIN_INSIDE, Obstacle.LINE_INSIDE, Obstacle.VANISHED)
    return reading["verdict"] not in OPEN or Obstacle.of(reading["obstacle"]) in held


def ceiling_text(reading: Mapping) -> str:
    """The ceiling with its interval and what it is, or a dash where there is none."""
    if not reading["ceiling_kind"]:
        return "–"
    low, high = (rounded(reading[f"ceiling_{key}"]) for key in ("low", "high"))
    return f"{rounded(reading['ceiling'])} ({low} to {high})"
