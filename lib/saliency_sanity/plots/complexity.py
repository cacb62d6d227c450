"""Ranks of methods by several scores, and how much more complex maps become."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from saliency_sanity.plots.layout import SMALL, WIDTH, headline, legend, panel_title
from saliency_sanity.plots.style import CHANCE, VERDICTS
from saliency_sanity.verdict.wording import verdict_word

_BEFORE, _AFTER = "#000000", "#d55e00"
NOISE_TITLES = {
    "uniform": "uniform",
    "gaussian": "Gaussian",
    "laplace": "Laplace",
    "student-t3": "Student's t",
}


def rank_chart(
    scores: pd.DataFrame,
    columns: Mapping[str, tuple[bool, str]],
    *,
    title: str,
    controls: Sequence[str] = (),
) -> Figure:
    """A line a method through its places by several scores, the best on top.

    ``scores`` has a row a method with ``verdict`` and the columns, each with ``flip_COLUMN`` but
    the first; ``columns`` says of each whether the better is the lower, and its title. Colour and
    marker carry the verdict, thick lines are methods of which a rank contradicts it. Places, not
    ranks: of those that tie the one that stands first in the table is first. Controls in italics.
    """
    places = {
        key: scores[key]
        .dropna()
        .sort_values(ascending=lower, kind="stable")
        .reset_index()
        .reset_index()
        .set_index("index")["level_0"]
        for key, (lower, _) in columns.items()
    }
    figure, axes = plt.subplots(figsize=(WIDTH, 0.27 * len(scores) + 1.3), layout="constrained")
    at = dict(zip(columns, range(len(columns)), strict=True))
    for index, row in scores.iterrows():
        colour, marker = VERDICTS[row["verdict"]]
        known = [key for key in columns if index in places[key].index]
        flipped = [bool(row.get(f"flip_{key}")) for key in known]
        for (left, right), strong in zip(pairwise(known), flipped[1:], strict=True):
            axes.plot(
                [at[left], at[right]],
                [places[left][index], places[right][index]],
                color=colour,
                lw=3 if strong else 1.2,
                alpha=1 if strong else 0.35,
                zorder=2 if strong else 1,
            )
        for key in known:
            axes.plot(at[key], places[key][index], marker, color=colour, ms=7, zorder=3)
        style = "italic" if row["method"] in controls else "normal"
        for key, side, shift in ((known[0], "right", -8), (known[-1], "left", 8)):
            axes.annotate(
                row["method"],
                (at[key], places[key][index]),
                xytext=(shift, 0),
                textcoords="offset points",
                ha=side,
                va="center",
                fontsize=SMALL,
                fontstyle=style,
            )
    axes.set_xlim(-0.75, len(columns) - 0.25)
    axes.set_ylim(len(scores) - 0.3, -0.7)
    axes.set_xticks(range(len(columns)), [name for _, name in columns.values()])
    axes.xaxis.tick_top()
    axes.set_yticks([])
    figure.supylabel("place, the best on top", fontsize=SMALL)
    axes.grid(visible=False)
    for side in ("left", "right", "bottom", "top"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
    headline(figure, title)
    figure.legend(
        handles=_verdict_handles(scores),
        loc="outside lower center",
        ncols=4,
        fontsize=SMALL,
    )
    return figure


def _verdict_handles(scores: pd.DataFrame) -> list[Line2D]:
    found = [
        Line2D([], [], color=colour, marker=marker, ms=7, lw=1.2, label=_word(verdict))
        for verdict, (colour, marker) in VERDICTS.items()
        if verdict in set(scores["verdict"])
    ]
    return [*found, Line2D([], [], color="#555555", lw=3, label="rank contradicts kappa's verdict")]


def _word(verdict: str) -> str:
    return f"kappa: {verdict_word(verdict)}"


def rise_chart(
    scores: pd.DataFrame,
    null: pd.DataFrame,
    *,
    title: str,
    controls: Sequence[str] = (),
    published: Mapping[str, float] | None = None,
) -> Figure:
    """The eMPRT of each method above, of a change of noise alone below, on one axis.

    ``scores`` has a row a method with ``verdict``, ``emprt`` and its interval; ``null`` a row a
    pair of noises as ``complexity.noise_rises`` gives it. ``published`` values are hollow rings.
    Colour and marker are those of kappa's verdict. The axis holds all values; an interval that is
    longer ends at the panel's edge. Controls in italics.
    """
    rows = scores.sort_values("emprt", na_position="first").reset_index(drop=True)
    changed = null[null["before"] != null["after"]].sort_values("value").reset_index(drop=True)
    figure, (upper, lower) = plt.subplots(
        2,
        1,
        figsize=(WIDTH, 0.27 * (len(rows) + len(changed)) + 2.2),
        height_ratios=[len(rows) + 1, len(changed) + 1],
        sharex=True,
        layout="constrained",
    )
    for place, row in rows.iterrows():
        colour, marker = VERDICTS[row["verdict"]]
        upper.hlines(place, row["emprt_low"], row["emprt_high"], color=colour, lw=2)
        upper.plot(row["emprt"], place, marker, color=colour, ms=6)
        if published and row["method"] in published:
            upper.plot(
                published[row["method"]], place, "o", mfc="none", mec="#000000", ms=9, mew=1.2
            )
    handles = _verdict_handles(rows)[:-1]
    if published:
        handles.append(
            Line2D([], [], ls="", marker="o", mfc="none", mec="#000000", ms=9, label="published")
        )
    lower.hlines(changed.index, changed["low"], changed["high"], color="#555555", lw=2)
    lower.plot(changed["value"], changed.index, "o", color="#000000", ms=5)
    handles.append(Line2D([], [], color="#555555", marker="o", mfc="#000000", label="noise alone"))
    names = [
        " → ".join(NOISE_TITLES.get(one, one) for one in pair)
        for pair in changed[["before", "after"]].to_numpy()
    ]
    for axes, labels in ((upper, rows["method"]), (lower, names)):
        axes.set_yticks(range(len(labels)), labels, fontsize=SMALL)
        axes.set_ylim(-0.7, len(labels) - 0.3)
        axes.axvline(0, color="#555555", lw=1)
        axes.grid(visible=False, axis="y")
    for label in upper.get_yticklabels():
        if label.get_text() in controls:
            label.set_style("italic")
    points = [*rows["emprt"].dropna(), *changed["value"], *(published or {}).values()]
    room = 0.15 * np.ptp(points)
    upper.set_xlim(min(points) - room, max(points) + room)
    headline(figure, title)
    lower.set_title("noise before and after, nothing else")
    lower.set_xlabel("eMPRT: relative rise of entropy (0: as complex as before)", fontsize=SMALL)
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=SMALL)
    return figure


def histogram_chart(
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray, float, float]], *, bins: int
) -> Figure:
    """How a map's values are spread before and after the network is random, a panel a map.

    ``pairs`` has by title the values before and after, and the entropy of each. Each map's values
    run from its own least to its own largest; heights are shares of its values. Titles say both
    entropies.
    """
    columns = min(3, len(pairs))
    lines = -(-len(pairs) // columns)
    figure, grid = plt.subplots(
        lines,
        columns,
        figsize=(WIDTH, 2.4 * lines + 1),
        squeeze=False,
        layout="constrained",
    )
    for axes, (title, (before, after, first, second)) in zip(
        grid.flat, pairs.items(), strict=False
    ):
        for values, colour, what in (
            (before, _BEFORE, "before: trained"),
            (after, _AFTER, "after: random"),
        ):
            counts, _ = np.histogram(values, bins=bins)
            axes.stairs(
                counts / counts.sum(),
                np.linspace(0, 1, bins + 1),
                color=colour,
                lw=1.5,
                label=what,
            )
        found = f"entropy {first:.2f}, then {second:.2f}"
        panel_title(axes, title, found, 0.8 * WIDTH / columns)
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(labelsize=SMALL)
        axes.set_xticks([0, 1], ["smallest", "largest"])
        axes.set_xlabel("value of the map", fontsize=SMALL)
        axes.grid(color=CHANCE, lw=0.5)
    for axes in grid.flat[len(pairs) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("share of its pixels", fontsize=SMALL)
    legend(figure, {})
    return figure
