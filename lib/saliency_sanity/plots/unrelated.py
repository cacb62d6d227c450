"""What the metrics say of maps that have nothing to do with each other, as a figure."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from saliency_sanity.plots.layout import headline
from saliency_sanity.probes.unrelated import MAPS_TITLES, MARGINALS, NOISE, OTHER, SAME

# Okabe and Ito's colours; the marker says the same.
_STYLE = {NOISE: ("#000000", "o"), OTHER: ("#0072b2", "D"), SAME: ("#d55e00", "s")}


def null_figure(
    table: pd.DataFrame,
    columns: int = 2,
    titles: Mapping[str, str] | None = None,
    *,
    title: str = "",
) -> Figure:
    """Draw a ``null_table``: a panel a metric, mean as marker, bar from lowest to highest value.

    ``titles`` replaces the names of metrics, ``title`` says what was found.
    """
    metrics = list(dict.fromkeys(table["metric"]))
    marginals = [name for name in MARGINALS if name in set(table["marginal"])]
    lines = -(-len(metrics) // columns)
    figure = plt.figure(figsize=(4.2 * columns, 1.9 * lines + 1), layout="constrained")
    # A part of the figure, so that the name of its axis keeps clear of the legend.
    part = figure.subfigures()
    grid = part.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    headline(part, title)
    for axes, metric in zip(grid.flat, metrics, strict=False):
        chosen = table[table["metric"] == metric]
        for shift, (maps, (colour, marker)) in zip((-0.24, 0, 0.24), _STYLE.items(), strict=True):
            values = chosen[chosen["maps"] == maps].groupby("marginal")["value"]
            summary = values.agg(["min", "mean", "max"]).reindex(marginals)
            at = [i + shift for i in range(len(marginals))]
            axes.hlines(at, summary["min"], summary["max"], color=colour, lw=2.5, alpha=0.6)
            axes.plot(summary["mean"], at, marker, color=colour, ms=6, label=MAPS_TITLES[maps])
        axes.set_title((titles or {}).get(metric, metric))
        axes.axvline(0, color="#555555", lw=1)
        axes.set(yticks=range(len(marginals)), yticklabels=marginals, xlim=(-0.15, 1.02))
        axes.grid(visible=False, axis="y")
    for axes in grid.flat[len(metrics) :]:
        axes.set_visible(False)
    part.supxlabel("similarity of unrelated maps (1: the same map)", fontsize="medium")
    grid[0, 0].invert_yaxis()
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure
