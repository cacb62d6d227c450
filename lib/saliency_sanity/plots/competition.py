"""Charts of competition: what survives at each stage, sums against logits, pixels taken away."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saliency_sanity.plots.layout import (
    SMALL,
    WIDTH,
    chosen_names,
    headline,
    legend,
    tell,
    width_of,
    wrapped,
)
from saliency_sanity.probes.survival import QUANTITY_TITLES, QUANTITY_UNITS

# Okabe and Ito's, and a marker each, so that neither is needed alone.
_LINES = (
    ("#0072b2", "o", "-"),
    ("#d55e00", "s", "--"),
    ("#009e73", "^", "-."),
    ("#cc79a7", "D", ":"),
    ("#56b4e9", "v", (0, (5, 1))),
    ("#767676", "P", (0, (1, 1))),
)

# How far a method's marks stand from those of the next, in stages.
_BESIDE = 0.07
_OWN_CHANCE = "chance of a method, thin in its colour"


def styles_of(names: Sequence[str]) -> dict[str, tuple]:
    """A colour, marker and dash for each line; ValueError for more than can be told apart."""
    if len(names) > len(_LINES):
        raise ValueError(f"{len(names)} lines in one panel; {len(_LINES)} can be told apart")
    return dict(zip(names, _LINES, strict=False))


def survival_chart(
    table: pd.DataFrame,
    nulls: Mapping[str, float],
    *,
    logarithmic: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """A panel a quantity, a line a method over the stages, a dotted one for what chance leaves.

    ``table`` has method, quantity, stage, position, value, low and high; ``nulls`` has the level
    of chance of a quantity where it is known, a column ``chance``, if there, that of each row, a
    thin line in the method's colour. Marks of one stage stand beside each other.
    ``logarithmic`` names quantities on such an axis, ``title`` says what was found. Raises
    ValueError for more methods than can be told apart.
    """
    quantities = chosen_names(table, "quantity", None)
    styles = styles_of(chosen_names(table, "method", None))
    columns = min(2, len(quantities))
    lines = -(-len(quantities) // columns)
    stages = table.drop_duplicates("position").sort_values("position")
    figure, grid = plt.subplots(
        lines,
        columns,
        figsize=(width_of(columns), 3.2 * lines + 0.9),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, quantity in zip(grid.flat, quantities, strict=False):
        name = QUANTITY_TITLES.get(quantity, quantity)
        axes.set_title(name[:1].upper() + name[1:], fontsize=SMALL + 1)
        axes.set_ylabel(QUANTITY_UNITS.get(quantity, "share"), fontsize=SMALL)
        if quantity in nulls:
            axes.axhline(nulls[quantity], color="#000000", lw=1.2, ls=":", label="chance")
        for number, method in enumerate(styles):
            chosen = (table["method"] == method) & (table["quantity"] == quantity)
            rows = table[chosen].sort_values("position")
            # Methods at the same level would hide each other.
            beside = (number - (len(styles) - 1) / 2) * _BESIDE
            rows = rows.assign(position=rows["position"] + beside)
            draw_line(axes, rows, "position", method, styles[method])
            if "chance" in rows and rows["chance"].notna().any():
                axes.plot(rows["position"], rows["chance"], color=styles[method][0], lw=0.8)
                axes.plot([], [], color="#000000", lw=0.8, label=_OWN_CHANCE)
        if quantity in logarithmic:
            axes.set_yscale("log")
        axes.set_xticks(stages["position"], stages["stage"], rotation=90, fontsize=SMALL)
        axes.tick_params(labelsize=SMALL)
    for axes in grid.flat[len(quantities) :]:
        axes.set_visible(False)
    headline(figure, title)
    legend(figure, {})
    return figure


def sums_chart(sums: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """Sum of the map against the logit, a panel a kind, a point an image and label.

    ``sums`` has kind, logit and sum; ``titles`` says above each panel what it is and orders them.
    The line is where both are equal.
    """
    kinds = list(titles)
    columns = min(3, len(kinds))
    lines = -(-len(kinds) // columns)
    figure, grid = plt.subplots(
        lines,
        columns,
        figsize=(WIDTH * columns / 3, 3.4 * lines + 0.4),
        squeeze=False,
        layout="constrained",
    )
    for axes, kind in zip(grid.flat, kinds, strict=False):
        rows = sums[sums["kind"] == kind]
        ends = [rows["logit"].min(), rows["logit"].max()]
        axes.plot(ends, ends, color="#000000", lw=1, ls=":", label="equal")
        axes.plot(rows["logit"], rows["sum"], ".", color="#0072b2", ms=4, alpha=0.5, label="label")
        axes.set_title(wrapped(titles[kind], 0.85 * WIDTH / 3), fontsize=SMALL)
        tell(figure, titles[kind].split("\n"))
        axes.set_xlabel("logit that it explains", fontsize=SMALL)
        axes.tick_params(labelsize=SMALL)
    for axes in grid[:, 0]:
        axes.set_ylabel("sum of the map", fontsize=SMALL)
    for axes in grid.flat[len(kinds) :]:
        axes.set_visible(False)
    return figure


def removal_chart(table: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """Probability of the class against the share of pixels, deleted left and inserted right.

    ``table`` has method, way (``deleted`` or ``inserted``), share, value, low and high; ``titles``
    says above the panel of each way what was found.
    """
    styles = styles_of(chosen_names(table, "method", None))
    ways = chosen_names(table, "way", None)
    figure, grid = plt.subplots(
        1, len(ways), figsize=(WIDTH, 3.9), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, way in zip(grid[0], ways, strict=True):
        for method in styles:
            rows = table[(table["method"] == method) & (table["way"] == way)].sort_values("share")
            draw_line(axes, rows, "share", method, styles[method])
        axes.set_title(wrapped(titles[way], 0.45 * WIDTH), fontsize=SMALL)
        tell(figure, [titles[way]])
        axes.set_xlabel(f"share of the pixels {way}", fontsize=SMALL)
        axes.tick_params(labelsize=SMALL)
    grid[0, 0].set_ylabel("probability of the class", fontsize=SMALL)
    legend(figure, {})
    return figure


def draw_line(axes: Axes, rows: pd.DataFrame, across: str, label: str, style: tuple) -> None:
    """A line of values with its interval as a band; nothing where there are no rows."""
    if rows.empty:
        return
    colour, marker, dashes = style
    axes.fill_between(rows[across], rows["low"], rows["high"], color=colour, alpha=0.18, lw=0)
    axes.plot(
        *(rows[across], rows["value"]),
        color=colour,
        marker=marker,
        ls=dashes,
        ms=4,
        lw=1.4,
        label=label,
    )
