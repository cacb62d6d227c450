"""Rankings of methods: kappa with its interval, similarity beside chance."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from saliency_sanity.plots.layout import (
    SMALL,
    count_above,
    metric_title,
    panel_title,
    width_of,
    wrapped,
)
from saliency_sanity.plots.style import CEILING, CHANCE, VERDICTS
from saliency_sanity.verdict.wording import verdict_word


def metric_panels(
    metrics: Sequence[str], rows: int, height: float = 0.27, found: Sequence[str] = ()
) -> tuple[Figure, np.ndarray]:
    """A titled panel a metric, two beside each other, for ``rows`` rows of ``height`` inches.

    ``found`` says of each metric what its panel shows, below its name.
    """
    columns = min(2, len(metrics))
    lines = -(-len(metrics) // columns)
    figure, grid = plt.subplots(
        lines,
        columns,
        figsize=(width_of(columns), lines * (height * rows + 1.5)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, metric, said in zip(grid.flat, metrics, found or [""] * len(metrics), strict=False):
        panel_title(axes, metric_title(metric), said)
        axes.grid(visible=False, axis="y")
    for axes in grid.flat[len(metrics) :]:
        axes.set_visible(False)
    return figure, grid


def ranked(readings: pd.DataFrame, metric: str) -> list[str]:
    """Methods by their kappa of one metric, the lowest first and the undefined before it."""
    chosen = readings[readings["metric"] == metric].sort_values("kappa", na_position="first")
    return chosen["method"].tolist()


def label_rows(grid: np.ndarray, order: Sequence[str], controls: Sequence[str]) -> None:
    """Name the rows of all panels from the lowest up, controls in italics."""
    for axes in grid[:, 0]:
        axes.set_yticks(range(len(order)), order)
        for label in axes.get_yticklabels():
            if label.get_text() in controls:
                label.set_style("italic")
        axes.set_ylim(-0.7, len(order) - 0.3)


def kappa_ranking(
    readings: pd.DataFrame,
    metrics: Sequence[str],
    *,
    margin: float,
    words: Mapping[str, str],
    controls: Sequence[str] = (),
    one: str = "the same map",
    of: str = "methods",
) -> Figure:
    """Kappa with its interval for each method, a panel a metric, ranked by the first metric.

    ``readings`` has a row for each method and metric with kappa, low, high and verdict; ``words``
    gives the legend's text for below and above, ``one`` says what a kappa of 1 is, ``of`` what a
    row is. Each panel's title counts the rows above that are no controls. An upright stroke is the
    ceiling, where there is one; a shorter one is the line, where verdicts are on shares of it.
    Controls are set in italics.
    """
    order = ranked(readings, metrics[0])
    tables = [readings[readings["metric"] == metric] for metric in metrics]
    word = words.get("above", "above")
    found = [count_above(table, controls, word, of) for table in tables]
    figure, grid = metric_panels(metrics, len(order), found=found)
    for axes, table in zip(grid.flat, tables, strict=False):
        rows = table.set_index("method").reindex(order)
        axes.axvspan(-margin, margin, color=CHANCE, alpha=0.5, lw=0, label=f"margin ±{margin:g}")
        axes.axvline(0, color="#555555", lw=1)
        for verdict, (colour, marker) in VERDICTS.items():
            chosen = rows["verdict"] == verdict
            if chosen.any():
                at = np.flatnonzero(chosen)
                picked = rows[chosen]
                axes.hlines(at, picked["low"], picked["high"], color=colour, lw=2)
                axes.plot(
                    picked["kappa"],
                    at,
                    marker,
                    color=colour,
                    ms=6,
                    label=verdict_word(verdict, words),
                )
        if "ceiling" in rows and rows["ceiling"].notna().any():
            shares = "share" in rows
            label = "kappa of Canny's edges" if shares else "ceiling"
            axes.plot(rows["ceiling"], range(len(order)), "|", color=CEILING, ms=9, label=label)
            if shares:
                lines = rows["ceiling"] * rows["share_line"]
                label = f"{rows['share_line'].max():g} of that kappa"
                axes.plot(lines, range(len(order)), "|", color=CEILING, ms=6, label=label)
        axes.set_xlim(min(-0.25, rows["low"].min() - 0.05), 1.05)
        _scale(axes, f"kappa (0 chance, 1 {one})")
    label_rows(grid, order, controls)
    _legend(figure, grid)
    return figure


def similarity_beside_chance(
    readings: pd.DataFrame, metrics: Sequence[str], *, controls: Sequence[str] = ()
) -> Figure:
    """Raw similarity of each method with the band that other pictures give, a panel a metric.

    Each panel's title counts the methods above their band that are no controls.
    """
    order = ranked(readings, metrics[0])
    tables = [readings[readings["metric"] == metric] for metric in metrics]
    above = [
        rows.assign(verdict=np.where(rows["similarity"] > rows["chance_high"], "above", ""))
        for rows in tables
    ]
    found = [count_above(rows, controls, "above chance") for rows in above]
    figure, grid = metric_panels(metrics, len(order), found=found)
    for axes, table in zip(grid.flat, tables, strict=False):
        rows = table.set_index("method").reindex(order)
        at = np.arange(len(order))
        axes.hlines(
            at,
            rows["chance_low"],
            rows["chance_high"],
            color=CHANCE,
            lw=9,
            label="chance: other photographs, 95 %",
        )
        axes.plot(rows["chance"], at, "|", color="#555555", ms=10, mew=2, label="mean of chance")
        axes.plot(rows["similarity"], at, "o", color="#000000", ms=5, label="same photograph")
        axes.set_xlim(min(-0.25, rows["similarity"].min() - 0.05), 1.05)
        _scale(axes, "similarity (1 the same map)")
    label_rows(grid, order, controls)
    _legend(figure, grid)
    return figure


def _scale(axes: Axes, name: str) -> None:
    # Neither name nor numbers may run into those of the panel beside it.
    axes.set_xlabel(wrapped(name, 2.8), fontsize=SMALL)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))


def _legend(figure: Figure, grid: np.ndarray) -> None:
    entries: dict[str, object] = {}
    for axes in grid.flat:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    columns = min(2 * grid.shape[1], len(entries))
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns)
