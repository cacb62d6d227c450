"""Rankings by different tests beside each other, and a control's place in them."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from saliency_sanity.plots.competition import styles_of
from saliency_sanity.plots.layout import SMALL, WIDTH, headline, metric_title
from saliency_sanity.plots.ranking import label_rows
from saliency_sanity.plots.style import VERDICTS

CONTROL, _METHOD, _OTHER = (VERDICTS[key][0] for key in ("above", "below", "inconclusive"))


def score_ranking(
    scores: pd.DataFrame,
    metrics: Sequence[str],
    *,
    control: str,
    controls: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """Mean similarity of each method with its interval, a panel a metric, the lowest on top.

    ``scores`` has metric, method, value, low and high; methods are in the order of the first
    metric. The upright line is the ``control``'s similarity, its name and mark in its colour; all
    ``controls`` are in italics.
    """
    first = scores[scores["metric"] == metrics[0]].sort_values("value", ascending=False)
    order = first["method"].tolist()
    figure, grid = plt.subplots(
        1,
        len(metrics),
        figsize=(WIDTH, 0.23 * len(order) + 1.4),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    headline(figure, title)
    for axes, metric in zip(grid[0], metrics, strict=True):
        rows = scores[scores["metric"] == metric].set_index("method").reindex(order)
        own = (rows.index == control).tolist()
        axes.axvline(rows.loc[control, "value"], color=CONTROL, lw=1.2, ls="--")
        for at, (low, high, value, is_own) in enumerate(
            zip(rows["low"], rows["high"], rows["value"], own, strict=True)
        ):
            colour = CONTROL if is_own else _OTHER if order[at] in controls else _METHOD
            axes.hlines(at, low, high, color=colour, lw=2)
            axes.plot(value, at, "s" if is_own else "o", color=colour, ms=6 if is_own else 5)
        axes.set_title(metric_title(metric), fontsize=SMALL + 1)
        axes.set_xlabel("similarity (1 the same map)", fontsize=SMALL)
        axes.tick_params(labelsize=SMALL)
        axes.grid(visible=False, axis="y")
    label_rows(grid, order, controls)
    for label in grid[0, 0].get_yticklabels():
        label.set_color(CONTROL if label.get_text() == control else "#000000")
    return figure


def rank_slopes(
    ranks: Mapping[str, Mapping[str, float]],
    *,
    control: str,
    controls: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """Ranks of methods in several rankings, a column each, a line a method; rank 1 is on top.

    ``ranks`` has by the title of a ranking the rank of each method. The ``control`` has a thick
    line, other ``controls`` dashed grey ones. Names stand at both ends; equal ranks apart from each
    other. Methods that a ranking lacks are left out.
    """
    names = [
        name
        for name in next(iter(ranks.values()))
        if all(np.isfinite(ranking.get(name, np.nan)) for ranking in ranks.values())
    ]
    figure, axes = plt.subplots(figsize=(WIDTH, 0.26 * len(names) + 1.2), layout="constrained")
    headline(figure, title)
    # Names of equal rank, and of all that were left out, have a place of their own.
    tables = [
        {name: place for place, name in enumerate(sorted(names, key=ranking.__getitem__), 1)}
        for ranking in ranks.values()
    ]
    for name in names:
        heights = [table[name] for table in tables]
        style = _line(name, control, controls)
        axes.plot(range(len(tables)), heights, marker="o", ms=4, **style)
        for end, side in ((0, "right"), (len(tables) - 1, "left")):
            axes.annotate(
                name,
                (end, heights[end]),
                xytext=(-8 if side == "right" else 8, 0),
                textcoords="offset points",
                ha=side,
                va="center",
                fontsize=SMALL,
                color=style["color"] if name == control else "#000000",
                style="italic" if name in controls else "normal",
                annotation_clip=False,
            )
    axes.set_xticks(range(len(tables)), list(ranks), fontsize=SMALL)
    axes.xaxis.tick_top()
    axes.set_yticks([])
    axes.set_xlim(-0.75, len(tables) - 0.25)
    axes.set_ylim(len(names) + 0.7, 0.3)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def _line(name: str, control: str, controls: Sequence[str]) -> dict:
    if name == control:
        return {"color": CONTROL, "lw": 3, "zorder": 3}
    if name in controls:
        return {"color": _OTHER, "lw": 1, "ls": "--"}
    return {"color": _METHOD, "lw": 1.3, "alpha": 0.8}


def preparation_dots(
    scores: pd.DataFrame,
    words: Mapping[str, str],
    *,
    control: str,
    controls: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """Similarity of each method by how maps are prepared, a mark a preparation.

    ``scores`` has metric, method and value; ``words`` says what the preparation of each metric is
    called. Methods are in the order of the first metric, the lowest on top; the ``control``'s name
    is in its colour, all ``controls`` are in italics.
    """
    rows = scores[scores["metric"] == next(iter(words))].sort_values("value", ascending=False)
    order = rows["method"].tolist()
    found = scores.pivot(index="method", columns="metric", values="value").loc[order, [*words]]
    figure, grid = plt.subplots(
        figsize=(WIDTH, 0.25 * len(order) + 1.8), squeeze=False, layout="constrained"
    )
    headline(figure, title)
    axes, at = grid[0, 0], np.arange(len(order))
    axes.hlines(at, found.min(axis=1), found.max(axis=1), color="#bbbbbb", lw=1)
    # The first mark is the largest, so that equal ones are all seen.
    for size, (metric, style) in zip(range(9, 0, -2), styles_of([*words]).items(), strict=False):
        colour, marker, _ = style
        axes.plot(found[metric], at, marker, color=colour, ms=size, label=words[metric], ls="")
    axes.set_xlabel("similarity, mean over stages (1 the same map)", fontsize=SMALL)
    axes.tick_params(labelsize=SMALL)
    axes.grid(visible=False, axis="y")
    label_rows(grid, order, controls)
    for label in axes.get_yticklabels():
        label.set_color(CONTROL if label.get_text() == control else "#000000")
    figure.legend(loc="outside lower center", ncols=2, fontsize=SMALL)
    return figure
