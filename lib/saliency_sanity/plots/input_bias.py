"""Charts of input bias: maps against the input's size, against colours, inside dark objects."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from saliency_sanity._errors import known
from saliency_sanity.plots.competition import draw_line, styles_of
from saliency_sanity.plots.layout import SMALL, WIDTH, chosen_names, headline, legend, wrapped
from saliency_sanity.plots.ranking import label_rows
from saliency_sanity.plots.style import CHANCE

_RELATIVE = "absolute map (1 = its average)"
_ONE = {"color": "#000000", "lw": 1.2, "ls": ":"}


def response_chart(
    table: pd.DataFrame, *, across: str, columns: int = 4, title: str = ""
) -> Figure:
    """Mean relative attribution against the size of the input, a panel a method, on shared axes.

    ``table`` has method, at, value, low and high, as ``curve_table`` gives it; ``across`` names
    the horizontal axis with its unit, ``title`` says what was found. Where the interval is NaN
    there is a line alone.
    """
    methods = chosen_names(table, "method", None)
    columns = min(columns, len(methods))
    lines = -(-len(methods) // columns)
    width = WIDTH if columns > 2 else 0.6 * WIDTH
    heads = {method: wrapped(method, 0.85 * width / columns) for method in methods}
    most = max(head.count("\n") for head in heads.values())
    figure, part, grid = _grid(lines, columns, width, 2.2 + 0.2 * most)
    for axes, method in zip(grid.flat, methods, strict=False):
        rows = table[table["method"] == method].sort_values("at")
        axes.axhline(1, **_ONE, label="average of the map")
        draw_line(axes, rows, "at", "mean with its interval", ("#0072b2", "o", "-"))
        axes.set_title(heads[method], fontsize=SMALL, loc="left", pad=3)
        axes.tick_params(labelsize=SMALL)
    for axes in grid.flat[len(methods) :]:
        axes.set_visible(False)
    # What stands above an empty place is the lowest of its column.
    for axes in grid.flat[max(0, len(methods) - columns) : len(methods)]:
        axes.tick_params(labelbottom=True)
    grid[0, 0].set_ylim(bottom=0)
    grid[0, 0].set_xlim(left=0)
    part.supxlabel(across, fontsize=SMALL)
    part.supylabel(_RELATIVE, fontsize=SMALL)
    headline(part, title)
    legend(figure, {})
    return figure


def value_chart(table: pd.DataFrame, blind: Mapping[str, float], *, title: str = "") -> Figure:
    """Mean relative attribution against the pixel's colour: panels with and without the input.

    ``table`` has panel, method, at, value, low and high, ``at`` a raw value in [0, 1]; a method is
    a line, and ``blind`` gives the colour that is zero to its network, drawn dotted in the colour
    of the line; ``title`` says what was found. Raises ValueError for more methods than can be told
    apart and for a blind method that is not in the table.
    """
    panels = chosen_names(table, "panel", None)
    styles = styles_of(chosen_names(table, "method", None))
    figure, grid = plt.subplots(
        1, len(panels), figsize=(WIDTH, 4.2), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, panel in zip(grid[0], panels, strict=True):
        for place, (method, style) in enumerate(styles.items()):
            rows = table[(table["panel"] == panel) & (table["method"] == method)]
            draw_line(axes, rows.sort_values("at"), "at", method, style)
            # Without the input lines fall on each other: each shows around the next.
            below = len(styles) - 1 - place
            if not rows.empty:
                axes.lines[-1].set(lw=1.4 + 0.7 * below, ms=4 + 1.6 * below, clip_on=False)
        for method in blind:
            colour = styles[known("method", method, styles)][0]
            axes.axvline(blind[method], color=colour, lw=1.4, ls=":")
        axes.plot([], [], color="#555555", lw=1.4, ls=":", label="zero of the network")
        axes.set_title(panel, fontsize=SMALL + 1)
        axes.set_xlabel("pixel value (0 black, 1 white)", fontsize=SMALL)
        axes.set_xlim(-0.03, 1.03)
        _ramp(axes)
    grid[0, 0].set_ylim(bottom=0)
    grid[0, 0].set_ylabel(_RELATIVE, fontsize=SMALL)
    headline(figure, title)
    legend(figure, {})
    return figure


def share_chart(
    table: pd.DataFrame,
    *,
    by: str = "zero",
    told: str = "zero is {}",
    controls: Sequence[str] = (),
    title: str = "",
    columns: int = 2,
) -> Figure:
    """Share of the attribution inside a mask, a row a method, a marker a value of ``by``.

    By default that is the colour that is zero. ``table`` has method, the column ``by``, value, low,
    high, and area, area_low and area_high: the mask's share of the picture, which a map that knows
    nothing has inside it, dotted with its interval; with a column panel a panel for each, so many
    ``columns`` of them.
    ``told`` makes the legend's text of a value of ``by``; controls are set in italics. Raises
    ValueError for a panel with more than one area.
    """
    table = table if "panel" in table else table.assign(panel="")
    panels = chosen_names(table, "panel", None)
    order = chosen_names(table, "method", None)[::-1]
    markers = styles_of(chosen_names(table, by, None))
    columns = min(columns, len(panels))
    lines = -(-len(panels) // columns)
    width = WIDTH if columns > 1 else 0.7 * WIDTH
    figure, part, grid = _grid(lines, columns, width, 0.4 * len(order) + 0.4)
    for axes, panel in zip(grid.flat, panels, strict=False):
        rows = table[table["panel"] == panel]
        area, low, high = _area(rows, panel)
        axes.axvspan(low, high, color=CHANCE, alpha=0.7, lw=0, label="interval of the area")
        axes.axvline(area, **_ONE, label="share of the area")
        for shift, name in zip(_shifts(len(markers)), markers, strict=True):
            colour, marker, _ = markers[name]
            own = rows[rows[by] == name].set_index("method").reindex(order)
            at = np.arange(len(order)) + shift
            axes.hlines(at, own["low"], own["high"], color=colour, lw=2)
            axes.plot(
                own["value"], at, marker, color=colour, ms=6, clip_on=False, label=told.format(name)
            )
        axes.set_title(wrapped(panel, 0.66 * width / columns, SMALL + 1), fontsize=SMALL + 1)
        axes.tick_params(labelsize=SMALL)
        axes.grid(visible=False, axis="y")
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    label_rows(grid, order, controls)
    # No share is above 1, though an interval from few networks may be.
    grid[0, 0].set_xlim(0, min(1.02, grid[0, 0].get_xlim()[1]))
    part.supxlabel("share of the absolute map inside the object (0 to 1)", fontsize=SMALL)
    headline(part, title)
    legend(figure, {})
    return figure


def percentile_chart(table: pd.DataFrame, *, title: str = "") -> Figure:
    """Density of the attribution in a dark region against RectGrad's percentile q.

    ``table`` has method, a line each, q in 0 to 100, value, low and high; 1 is the average of the
    picture; ``title`` says what was found. Raises ValueError for more lines than can be told apart.
    [kim2019rectgrad]
    """
    figure, axes = plt.subplots(figsize=(0.7 * WIDTH, 3.9), layout="constrained")
    axes.axhline(1, **_ONE, label="no preference")
    for method, style in styles_of(chosen_names(table, "method", None)).items():
        draw_line(axes, table[table["method"] == method].sort_values("q"), "q", method, style)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("percentile q that each layer drops (%)", fontsize=SMALL)
    axes.set_ylabel("absolute map in the dark object\n(1 = its average)", fontsize=SMALL)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=SMALL)
    headline(figure, title)
    legend(figure, {})
    return figure


def _grid(
    lines: int, columns: int, width: float, height: float
) -> tuple[Figure, SubFigure, np.ndarray]:
    """Panels on shared axes, in a part of the figure whose labels keep clear of the legend."""
    figure = plt.figure(figsize=(width, height * lines + 0.9), layout="constrained")
    part = figure.subfigures()
    return figure, part, part.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)


def _ramp(axes: Axes) -> None:
    """Show the colours from black to white between the axis and its numbers."""
    axes.tick_params(labelsize=SMALL)
    axes.tick_params(axis="x", pad=14)
    strip = axes.inset_axes((0, -0.055, 1, 0.04), sharex=axes)
    strip.imshow(np.linspace(0, 1, 256)[None], cmap="gray", extent=(0, 1, 0, 1), aspect="auto")
    strip.set(yticks=[])
    strip.grid(visible=False)
    strip.tick_params(labelbottom=False, length=0)


def _area(rows: pd.DataFrame, panel: str) -> tuple[float, float, float]:
    areas = rows[["area", "area_low", "area_high"]].drop_duplicates()
    if len(areas) != 1:
        raise ValueError(
            f"panel {panel!r} has {len(areas)} shares of the area {areas['area'].tolist()}; "
            "expected one: take shares and area over the same masks, or give each its panel"
        )
    return tuple(areas.iloc[0])


def _shifts(count: int) -> np.ndarray:
    """Places within a row, the first on top."""
    return 0.26 * (np.arange(count)[::-1] - (count - 1) / 2) * min(1, 3 / count)
