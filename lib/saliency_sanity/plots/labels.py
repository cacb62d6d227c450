"""Agreement of true-label and permuted-label networks as bars, beside what would explain it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saliency_sanity.plots.layout import (
    PAGE,
    SMALL,
    at_kappa,
    chosen_names,
    count_above,
    legend,
    tell,
)
from saliency_sanity.plots.ranking import label_rows, metric_panels, ranked
from saliency_sanity.plots.style import CHANCE, VERDICTS
from saliency_sanity.verdict.wording import RANDOMIZATION_WORDS, kappa_text

_ROW = 0.36  # inches: two lines of text
_BAND, _BAR, _SLIM, _APART = 0.9, 0.34, 0.17, 0.29  # of a row's height
_WORDS = {
    verdict: f"true against permuted: {RANDOMIZATION_WORDS.get(verdict, verdict)}"
    for verdict in VERDICTS
}
# Place in the row and filling tell them apart.
_REFERENCES = {
    "true": (_APART, "none", "ceiling: two true-label networks"),
    "permuted": (-_APART, "#333333", "two permuted-label networks"),
}


def agreement_bars(
    readings: pd.DataFrame,
    metrics: Sequence[str],
    *,
    margin: float,
    methods: Sequence[str] | None = None,
    controls: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """Similarity of true-label and permuted-label networks' maps, a panel a metric, a row a method.

    ``readings`` has a row for each method and metric with the fields of ``verdict.Reading``,
    ``true_similarity``, ``permuted_similarity`` and ``noise_excess_high``; those that are NaN are
    left out. ``methods`` chooses the rows; kappa by the first metric orders them, the highest on
    top. The coloured bar is the mean with kappa's interval, its marker the verdict; the slim bars
    are two networks that both saw true labels (hollow) or both permuted ones (dark), grey is
    chance, the dotted stroke ``margin``. Without ``title`` each panel's counts the methods that are
    picture-driven. A triangle is ``published``, a similarity that others had, where there is one.
    Beside the row stand kappa and, for methods that do not respond, whether input times noise
    gives as much up to ``margin``; not for ``controls``, which are set in italics. Raises
    ValueError for a method or metric that the table does not have, or has not exactly once.
    Source: adebayo2018sanity, figure 6.
    """
    methods = chosen_names(readings, "method", methods)
    metrics = chosen_names(readings, "metric", metrics)
    chosen = readings[readings["method"].isin(methods) & readings["metric"].isin(metrics)]
    _check_once(chosen, methods, metrics)
    order = ranked(chosen, metrics[0])
    tables = [chosen[chosen["metric"] == metric] for metric in metrics]
    found = [] if title else [count_above(table, controls) for table in tables]
    figure, grid = metric_panels(metrics, len(order), _ROW, found)
    if len(metrics) == 1:
        figure.set_figwidth(PAGE)
    if title:
        tell(figure, [title])
        figure.suptitle(title, fontsize=SMALL + 1, fontweight="bold", x=0.01, ha="left")
    for axes, table in zip(grid.flat, tables, strict=False):
        rows = table.set_index("method").loc[order]
        axes.tick_params(labelsize=SMALL)
        _draw(axes, rows, margin)
        _say(axes, rows, margin, controls)
        axes.set_xlabel("similarity (1 the same map)", fontsize=SMALL)
    label_rows(grid, order, controls)
    legend(figure, _WORDS)
    return figure


def _check_once(readings: pd.DataFrame, methods: Sequence[str], metrics: Sequence[str]) -> None:
    found = readings.groupby(["method", "metric"]).size()
    for method in methods:
        for metric in metrics:
            count = found.get((method, metric), 0)
            if count != 1:
                raise ValueError(
                    f"{count} readings of {method!r} by {metric!r}; expected one: choose methods, "
                    "metrics and one network that have it"
                )


def _draw(axes: Axes, rows: pd.DataFrame, margin: float) -> None:
    at = np.arange(len(rows))
    axes.barh(
        at,
        rows["chance_high"] - rows["chance_low"],
        left=rows["chance_low"],
        height=_BAND,
        color=CHANCE,
        lw=0,
        zorder=1,
        label="chance: other pictures",
    )
    for name, (shift, colour, label) in _REFERENCES.items():
        values = rows[f"{name}_similarity"]
        there = values.notna()
        if there.any():
            axes.barh(
                at[there] + shift,
                values[there],
                height=_SLIM,
                facecolor=colour,
                edgecolor="#000000",
                lw=0.7,
                zorder=2,
                label=label,
            )
    for verdict, (colour, marker) in VERDICTS.items():
        there = (rows["verdict"] == verdict) & rows["similarity"].notna()
        if there.any():
            ends = rows["similarity"][there]
            axes.barh(at[there], ends, height=_BAR, color=colour, lw=0, zorder=3)
            axes.plot(
                ends,
                at[there],
                marker,
                color=colour,
                mec="#000000",
                ms=6,
                zorder=6,
                label=_WORDS[verdict],
            )
    axes.hlines(
        at,
        at_kappa(rows["low"], rows),
        at_kappa(rows["high"], rows),
        color="#000000",
        lw=1.5,
        zorder=7,
        label="interval of kappa",
    )
    axes.vlines(
        at_kappa(margin, rows),
        at - _BAND / 2,
        at + _BAND / 2,
        color="#000000",
        lw=1,
        ls=":",
        zorder=5,
        label=f"margin: kappa {margin:g}",
    )
    if "published" in rows and rows["published"].notna().any():
        axes.plot(
            rows["published"],
            at,
            "^",
            mfc="none",
            mec="#000000",
            mew=1.3,
            ms=8,
            zorder=8,
            label="the authors, read from bars",
        )
    axes.axvline(0, color="#555555", lw=0.8, zorder=4)
    drawn = rows[["similarity", "chance_low", *(f"{name}_similarity" for name in _REFERENCES)]]
    lowest = np.fmin(drawn.min().min(), at_kappa(rows["low"], rows).min())
    axes.set_xlim(np.fmin(-0.1, lowest - 0.05), 1.05)


def _say(axes: Axes, rows: pd.DataFrame, margin: float, controls: Sequence[str]) -> None:
    beside = axes.get_yaxis_transform()
    axes.annotate(
        "kappa (interval)",
        (1.03, 0),
        xycoords="axes fraction",
        xytext=(0, -5),
        textcoords="offset points",
        va="top",
        fontsize=SMALL,
    )
    for place, (method, row) in enumerate(rows.iterrows()):
        said = kappa_text(row)
        as_much = row["verdict"] != "below" and row["noise_excess_high"] < margin
        if as_much and method not in controls:
            said += f"\nx ⊙ noise: as much (±{margin:g})"
        axes.text(
            1.015,
            place,
            said,
            transform=beside,
            va="center",
            fontsize=SMALL,
            linespacing=1.0,
        )
        if np.isnan(row["similarity"]):
            axes.text(0.02, place, "undefined", va="center", fontsize=SMALL, zorder=7)
