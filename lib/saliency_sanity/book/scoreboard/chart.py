"""The scoreboard as a picture: a row a method, a column a check, a tile with the verdict each."""

import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib import get_data_path
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle

from saliency_sanity._errors import unknown
from saliency_sanity.book.scoreboard.columns import CHECKS, Check
from saliency_sanity.book.scoreboard.table import in_order, method_title
from saliency_sanity.plots.layout import tell
from saliency_sanity.plots.style import VERDICTS
from saliency_sanity.verdict.wording import rounded

# Colour, marker and words by standing, and by verdict where neither answer is wanted: edges, whose
# words these are, have company in that.
STANDINGS = {
    "wanted": (*VERDICTS["below"], "as a map that sees the model should"),
    "unwanted": (*VERDICTS["above"], "as it should not"),
    "open": (*VERDICTS["inconclusive"], "inconclusive"),
    "cannot": (*VERDICTS["cannot tell"], "cannot tell"),
    "above": ("#333333", "^", "edge-like"),
    "below": ("#333333", "v", "not edge-like"),
}
# A picture for print, in inches and points; the page has the table.
_SMALL = 9
_WIDTHS = {False: 10.5, True: 5.2}
_NAMES, _ROW, _LETTER = 1.6, {False: 0.44, True: 0.31}, 0.07
# Narrow figures, so that limits stay in their tile; the font comes with matplotlib.
_LIMITS = FontProperties(fname=Path(get_data_path(), "fonts/ttf/cmss10.ttf"), size=_SMALL + 1)
_KEPT = "†"
_BETWEEN = 0.2  # columns between questions, and rows between methods and controls


def look(row: pd.Series) -> tuple[str, str, str]:
    """Colour, marker and words of one row of the scoreboard."""
    if row["standing"] != "neutral":
        return STANDINGS[row["standing"]]
    colour, marker, _ = STANDINGS[row["verdict"]]
    return colour, marker, row["words"]


def looks(table: pd.DataFrame) -> list[tuple[str, tuple[str, str, str]]]:
    """The standings of a scoreboard's rows, each once with its look, in their order."""
    found = {look(line): line for _, line in table.iterrows()}
    markers = [marker for _, marker, _ in STANDINGS.values()]
    return [
        (line["standing"], one)
        for one, line in sorted(found.items(), key=lambda item: markers.index(item[0][1]))
    ]


def columns_of(table: pd.DataFrame, checks: Sequence[Check]) -> list[Check]:
    """The checks that the table has, in their order; ValueError where one is unknown."""
    valid = [check.key for check in checks]
    for key in table["check"].unique():
        if key not in valid:
            raise ValueError(unknown("check", key, valid))
    return [check for check in checks if check.key in set(table["check"])]


def number(value: float, line: float = math.nan) -> str:
    """A kappa in few characters, e.g. ``.84``, ``-.05`` and ``1.0``; a dash where undefined.

    With more decimals where two would not show on which side of the ``line`` it is.
    """
    text = rounded(value, line)
    return text[:-1] if abs(value) >= 0.995 else text.replace("0.", ".", 1)


def scoreboard_chart(
    table: pd.DataFrame, checks: Sequence[Check] = CHECKS, *, narrow: bool = False
) -> Figure:
    """Draw the scoreboard: verdict by colour and marker, kappa and below it its 95 % interval.

    ``table`` as ``table.read_scoreboard`` gives it. Methods stand above, controls below a
    line and in italics; a dash is what was not measured. ``narrow`` leaves the numbers out and fits
    a phone. Raises ValueError for a table without rows or with a check that is not among
    ``checks``.
    """
    if table.empty:
        raise ValueError("the scoreboard is empty; read_scoreboard fills it")
    columns = columns_of(table, checks)
    methods, controls = in_order(table["method"])
    across, down = _places(columns), _rows(methods, controls)
    width, row = _WIDTHS[narrow], _ROW[narrow]
    names = [check.title + f" {_KEPT}" * bool(check.kept) for check in columns]
    # The longest heading upright, and above it the questions, upright too where it is narrow.
    questions = 1.3 * _LETTER * max(len(c.question) for c in columns) + 0.1 if narrow else 0.5
    head = _LETTER * max(map(len, names)) + questions
    foot = 0.75 if narrow else 0.35
    body = row * (max(down.values()) + 1)
    height = head + body + foot
    figure = plt.figure(figsize=(width, height), dpi=200 if narrow else 120)
    axes = figure.add_axes((_NAMES / width, foot / height, 1 - _NAMES / width, body / height))
    axes.set(xlim=(-0.5, max(across.values()) + 0.5), ylim=(max(down.values()) + 0.5, -0.5))
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    _label(axes, columns, names, across, down, controls, narrow)
    measured = {(line["method"], line["check"]): line for _, line in table.iterrows()}
    for _, (colour, marker, words) in looks(table):
        axes.plot([], [], marker, color=colour, ms=6, label=words, ls="")
    for method, y in down.items():
        for check in columns:
            cell = measured.get((method, check.key))
            _tile(axes, across[check.key], y, cell, narrow)
    _tell(figure, table[table["method"].isin(methods)], looks(table))
    if any(check.kept for check in columns):
        axes.plot([], [], " ", label=f"{_KEPT} batch norms kept")
    figure.legend(
        loc="lower center",
        ncols=2 if narrow else len(STANDINGS) + 1,
        fontsize=_SMALL,
        frameon=False,
    )
    return figure


def _tell(figure: Figure, rows: pd.DataFrame, standings: list) -> None:
    """How often methods, without controls, stand how."""
    found = [look(line) for _, line in rows.iterrows()]
    counts = (f"{one[2]}: {found.count(one)}" for _, one in standings)
    what = f"{rows['method'].nunique()} methods, {rows['check'].nunique()} checks"
    tell(figure, [what, ", ".join(counts)])


def _places(columns: Sequence[Check]) -> dict[str, float]:
    places, x = {}, 0.0
    for _, group in groupby(columns, key=lambda check: check.question):
        for check in group:
            places[check.key] = x
            x += 1
        x += _BETWEEN
    return places


def _rows(methods: Sequence[str], controls: Sequence[str]) -> dict[str, float]:
    first = len(methods) + (_BETWEEN if methods else 0)
    return {name: float(i) for i, name in enumerate(methods)} | {
        name: first + i for i, name in enumerate(controls)
    }


def _label(
    axes: Axes,
    columns: Sequence[Check],
    names: Sequence[str],
    across: dict[str, float],
    down: dict[str, float],
    controls: Sequence[str],
    narrow: bool,
) -> None:
    axes.xaxis.tick_top()
    axes.set_xticks(list(across.values()), names, rotation=90, fontsize=_SMALL)
    axes.set_yticks(
        list(down.values()),
        # "⊙ input" stays on one line.
        [fill(method_title(name).replace("⊙ ", "⊙\u00a0"), 23) for name in down],
        fontsize=_SMALL,
    )
    axes.tick_params(length=0, pad=2)
    for label, name in zip(axes.get_yticklabels(), down, strict=True):
        label.set(linespacing=0.95, fontstyle="italic" if name in controls else "normal")
    if 0 < len(controls) < len(down):
        line, left = down[controls[0]] - 0.5 - _BETWEEN / 2, _NAMES / _WIDTHS[narrow]
        axes.axhline(line, xmin=-left / (1 - left), color="#333333", lw=1, clip_on=False)
    above = _LETTER * max(map(len, names)) * 72 + 6
    for question, group in groupby(columns, key=lambda check: check.question):
        places = [across[check.key] for check in group]
        axes.annotate(
            question if narrow else fill(question, 9 * len(places) // 2, break_long_words=False),
            (sum(places) / len(places), 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, above),
            textcoords="offset points",
            ha="center",
            va="bottom",
            rotation=90 * narrow,
            fontsize=_SMALL,
            fontweight="bold",
            annotation_clip=False,
        )


def _tile(axes: Axes, x: float, y: float, cell: pd.Series | None, narrow: bool) -> None:
    if cell is None:
        axes.text(x, y, "–", ha="center", va="center", color="#767676", fontsize=_SMALL)
        return
    colour, marker, _ = look(cell)
    neutral = cell["standing"] == "neutral"
    tint = [1 - 0.15 * (1 - part) for part in to_rgb(colour)]
    face, edge = ("white", "#c9c9c9") if neutral else (tint, "none")
    tile = Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=face, edgecolor=edge, lw=0.7)
    if cell["standing"] == "cannot":  # to be told without its colour, too
        tile.set(hatch="////", edgecolor=[1 - 0.3 * (1 - part) for part in to_rgb(colour)], lw=0)
    axes.add_patch(tile)
    at = (x, y) if narrow else (x - 0.36, y - 0.27)
    axes.plot(*at, marker, color=colour, ms=6 if narrow else 5)
    if narrow:
        return
    text = {"va": "center", "color": "black"}
    text["ha"] = "right"
    axes.text(x + 0.44, y - 0.27, number(cell["kappa"]), **text, fontsize=_SMALL, fontweight="bold")
    if not pd.isna(cell["low"]):
        text["fontproperties"] = _LIMITS
        if cell["standing"] == "cannot":  # no line through a number
            text["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.85}
        axes.text(x + 0.44, y + 0.04, number(cell["low"], cell["margin"]), **text)
        axes.text(x + 0.44, y + 0.32, number(cell["high"], cell["margin"]), **text)
