"""Figures of image recovery: maps as colour pictures, correlation by units, changes by cause."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from torch import Tensor

from saliency_sanity.plots.competition import draw_line, styles_of
from saliency_sanity.plots.layout import SMALL, headline, legend
from saliency_sanity.plots.ranking import label_rows, metric_panels
from saliency_sanity.plots.style import CHANCE
from saliency_sanity.similarity.prepare import percentile
from saliency_sanity.verdict.obstacle import Obstacle

# Inches: on 700 pixels of page SMALL is 10 pixels high.
_NARROW = 8.5
_GRID_DPI = 100


def colour_picture(maps: Tensor, q: float = 99.0) -> Tensor:
    """Maps ``[N, 3, H, W]`` as colours ``[N, H, W, 3]`` in [0, 1], with zero as mid-grey.

    The limits are the q-th percentile of each map's absolute values; a map of zeros is grey.
    """
    limit = percentile(maps.double().abs(), q).view(-1, 1, 1, 1)
    scaled = maps.double() / limit.where(limit > 0, 1.0)
    return (0.5 + scaled.clamp(-1, 1) / 2).permute(0, 2, 3, 1)


def recovery_grid(pictures: Tensor, maps: Mapping[str, Tensor], title: str) -> Figure:
    """One row a picture ``[C, H, W]`` in [0, 1], one column a map of it in its own colours.

    ``maps`` are ``[N, 3, H, W]`` by what is to stand above them.
    """
    columns = len(maps) + 1
    width = _NARROW / columns
    figure, grid = plt.subplots(
        len(pictures),
        columns,
        figsize=(_NARROW, width * len(pictures) + 0.9),
        squeeze=False,
        dpi=_GRID_DPI,
        layout="constrained",
    )
    colours = {head: colour_picture(batch.cpu()).numpy() for head, batch in maps.items()}
    for row, (line, picture) in enumerate(zip(grid, pictures, strict=True)):
        line[0].imshow(picture.permute(1, 2, 0).cpu().numpy(), vmin=0, vmax=1)
        for axes, batch in zip(line[1:], colours.values(), strict=True):
            axes.imshow(batch[row], vmin=0, vmax=1)
    for axes, head in zip(grid[0], ["picture", *maps], strict=True):
        axes.set_title(head, fontsize=SMALL, fontweight="normal")
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
    headline(figure, title)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    return figure


def recovery_chart(table: pd.DataFrame, titles: Mapping[str, str], title: str) -> Figure:
    """Correlation of maps with their picture over units, a panel a network, a line a method.

    ``table`` has network, method, units, value, low, high and chance, and expected: what is to be
    expected of guided backpropagation, dashed, NaN where nothing is known. ``titles`` says what is
    above the panel of a network, in their order. Grey is the span of chance over lines and units.
    """
    styles = styles_of(list(dict.fromkeys(table["method"])))
    figure, grid = plt.subplots(
        1, len(titles), figsize=(_NARROW, 4.3), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, (network, head) in zip(grid[0], titles.items(), strict=True):
        rows = table[table["network"] == network].sort_values("units")
        known = rows.dropna(subset=["expected"]).drop_duplicates("units")
        if len(known):
            axes.plot(
                known["units"], known["expected"], color="#000000", ls=(0, (4, 2)), lw=1.2,
                label="expected of guided backpropagation, nothing fitted", zorder=3,
            )  # fmt: skip
        axes.axhspan(rows["chance"].min(), rows["chance"].max(), color=CHANCE, alpha=0.8, lw=0,
                     label="chance: other pictures")  # fmt: skip
        for method, style in styles.items():
            draw_line(axes, rows[rows["method"] == method], "units", method, style)
        axes.set_xscale("log", base=2)
        units = sorted(set(rows["units"]))
        axes.set_xticks(units, [str(count) for count in units])
        axes.minorticks_off()
        axes.set_title(head, fontsize=SMALL + 1)
        axes.set_xlabel("units of the hidden layer", fontsize=SMALL)
        axes.tick_params(labelsize=SMALL)
        _room(axes, units)
    grid[0, 0].set_ylim(-0.1, 1.02)
    grid[0, 0].set_ylabel("correlation of map and picture (1: the picture)", fontsize=SMALL)
    headline(figure, title)
    legend(figure, {})
    return figure


def _room(axes: Axes, units: Sequence[int]) -> None:
    axes.set_xlim(units[0] / 1.6, units[-1] * 1.6)


def changes_chart(
    readings: pd.DataFrame,
    metrics: Sequence[str],
    causes: Mapping[str, str],
    line: float,
    title: str,
    controls: Sequence[str] = (),
) -> Figure:
    """Kappa of the map before and after, a panel a metric, a row a method, a marker a cause.

    ``readings`` has method, metric, cause, kappa, low and high; ``causes`` says what each cause is
    called. ``line`` is the kappa from which on most of a map is left. Pale is where ``obstacle``
    says that chance leaves no room. Intervals are cut at the panel's edge. Controls are in italics.
    """
    order = list(dict.fromkeys(readings["method"]))[::-1]
    styles = styles_of(list(causes))
    figure, grid = metric_panels(metrics, len(order), height=0.42)
    figure.set_size_inches(_NARROW + 0.5, figure.get_figheight() + 0.5)
    for axes, metric in zip(grid.flat, metrics, strict=False):
        axes.axvline(0, color="#555555", lw=1, label="chance: the map of another picture")
        axes.axvline(1, color="#555555", lw=1, ls=":", label="ceiling: the same map")
        axes.axvline(line, color="#555555", lw=1, ls="--", label=f"half way ({line:g})")
        for place, (cause, (colour, marker, _)) in enumerate(styles.items()):
            chosen = (readings["metric"] == metric) & (readings["cause"] == cause)
            rows = readings[chosen].set_index("method").reindex(order)
            at = [i + 0.24 - 0.24 * place for i in range(len(order))]
            pale = rows["obstacle"] == Obstacle.NO_ROOM
            shades = [to_rgba(colour, 0.25 if one else 1.0) for one in pale]
            axes.hlines(at, rows["low"], rows["high"], color=shades, lw=2)
            axes.scatter(rows["kappa"], at, marker=marker, color=shades, s=36, zorder=3)
            axes.plot([], [], marker, color=colour, ms=6, ls="", label=causes[cause])
        axes.set_xlim(-0.28, 1.08)
        axes.set_xlabel("kappa (0 chance, 1 the same map)")
    label_rows(grid, order, controls)
    headline(figure, title)
    entries: dict[str, object] = {}
    for handle, label in zip(*grid[0, 0].get_legend_handles_labels(), strict=True):
        entries[label] = handle
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=2)
    return figure
