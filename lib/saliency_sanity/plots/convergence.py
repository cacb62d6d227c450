"""Charts of rank one: cosines by number of matrices and by layer, and maps of another label."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saliency_sanity.plots.competition import styles_of
from saliency_sanity.plots.layout import SMALL, chosen_names, headline, legend, wrapped
from saliency_sanity.plots.style import CHANCE
from saliency_sanity.probes.random_logit import FLIPS

# Inches: text of SMALL points has 10 pixels where a page leaves 700.
_WIDTH = 8.2


def factors_chart(cosines: Mapping[str, np.ndarray], chance: float, finding: str) -> Figure:
    """Cosines ``[factors + 1, pairs]`` by kind of matrix against the number of factors.

    A line is the median over pairs, its band the 5th to 95th percentile; ``chance`` is the median
    of random vectors, ``finding`` the title.
    """
    figure, axes = plt.subplots(figsize=(_WIDTH, 3.6), layout="constrained")
    for kind, (colour, marker, dashes) in styles_of(list(cosines)).items():
        at = np.arange(len(cosines[kind]))
        low, median, high = np.percentile(cosines[kind], [5, 50, 95], axis=1)
        axes.fill_between(at, low, high, color=colour, alpha=0.18, lw=0)
        axes.plot(at, median, color=colour, marker=marker, ls=dashes, ms=4, lw=1.4, label=kind)
    axes.axhline(chance, color="#000000", lw=1.2, ls=":", label="chance")
    axes.set(ylim=(0, 1.02))
    axes.set_xlabel("number of random matrices", fontsize=SMALL)
    axes.set_ylabel("absolute cosine", fontsize=SMALL)
    axes.tick_params(labelsize=SMALL)
    headline(figure, finding)
    legend(figure, {})
    return figure


def convergence_chart(
    pooled: pd.DataFrame, titles: Mapping[str, str], finding: str, *, converged: float
) -> Figure:
    """A panel a method, a line a layer of the start, from there down to the pixels on the right.

    ``pooled`` as ``converging`` gives it; ``titles`` names methods and orders them. A line is the
    median, its band reaches from the 5th to the 95th percentile; dotted is chance, dashed the level
    from which on relevances count as converged, and ``finding`` is the title.
    """
    methods = [name for name in titles if name in set(pooled["method"])]
    starts = chosen_names(pooled, "start", None)
    styles = styles_of(starts)
    layers = pooled.drop_duplicates("layer").sort_values("position", ascending=False)
    top = int(layers["position"].max())
    columns = min(4, len(methods))
    lines = -(-len(methods) // columns)
    figure, grid = plt.subplots(
        lines,
        columns,
        figsize=(_WIDTH * columns / 4, 2.1 * lines + 1.9),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, method in zip(grid.flat, methods, strict=False):
        axes.set_title(wrapped(titles[method], 0.85 * _WIDTH / 4), fontsize=SMALL)
        axes.axhline(converged, color="#555555", lw=0.8, ls="--", label=f"{converged:g}: converged")
        rows = pooled[pooled["method"] == method]
        for start, style in styles.items():
            _curve(axes, rows[rows["start"] == start], top, f"from {start}", style)
        axes.plot(
            top - layers["position"],
            layers["chance"],
            color="#000000",
            lw=1.2,
            ls=":",
            label="chance: random vectors",
        )
        axes.set_xticks(top - layers["position"], layers["layer"], rotation=90, fontsize=SMALL)
        axes.tick_params(labelsize=SMALL)
    grid[0, 0].set(ylim=(0, 1.03))
    for axes in grid.flat[len(methods) :]:
        axes.set_visible(False)
    for number in range(len(methods), grid.size):  # the panel above an empty place is the lowest
        grid.flat[number - columns].tick_params(labelbottom=True)
    for axes in grid[:, 0]:
        axes.set_ylabel("absolute cosine", fontsize=SMALL)
    headline(figure, finding)
    legend(figure, {})
    return figure


def _curve(axes: Axes, rows: pd.DataFrame, top: int, label: str, style: tuple) -> None:
    rows = rows.sort_values("position", ascending=False)
    colour, marker, dashes = style
    at = top - rows["position"]
    axes.fill_between(at, rows["low"], rows["high"], color=colour, alpha=0.13, lw=0)
    axes.plot(at, rows["median"], color=colour, marker=marker, ls=dashes, ms=4, lw=1.4, label=label)


def logits_chart(
    readings: pd.DataFrame, titles: Mapping[str, str], finding: str, *, alike: float
) -> Figure:
    """Similarity of the maps of a class and another label: a row a method, a marker a flip of sign.

    ``readings`` has method, flip and the fields of ``verdict.Reading``. Bars are intervals of the
    mean, grey is chance of either sign, the maps of other pictures; dashed is the level from which
    on maps count as nearly the same, and ``finding`` the title.
    """
    methods = [name for name in titles if name in set(readings["method"])]
    figure, axes = plt.subplots(figsize=(_WIDTH, 0.42 * len(methods) + 1.6), layout="constrained")
    rows = {
        flip: readings[readings["flip"] == flip].set_index("method").loc[methods] for flip in FLIPS
    }
    at = np.arange(len(methods))
    chance = rows[FLIPS[1]]
    axes.barh(
        at,
        chance["chance_high"] - chance["chance_low"],
        left=chance["chance_low"],
        height=0.8,
        color=CHANCE,
        lw=0,
        label="chance: other pictures, either sign",
    )
    axes.vlines(chance["chance"], at - 0.4, at + 0.4, color="#000000", lw=1, ls=":")
    looks = zip(FLIPS, (-0.16, 0.16), ("#0072b2", "#d55e00"), ("D", "o"), strict=True)
    for flip, shift, colour, marker in looks:
        own = rows[flip]
        axes.hlines(at + shift, own["similarity_low"], own["similarity_high"], color=colour, lw=2.2)
        words = "the map as it is" if flip == FLIPS[0] else "the more alike of both signs"
        axes.plot(own["similarity"], at + shift, marker, color=colour, ms=6, label=words)
    axes.axvline(alike, color="#555555", lw=0.8, ls="--", label=f"{alike:g}: nearly the same")
    axes.axvline(0, color="#555555", lw=0.8)
    axes.set_yticks(at, [titles[name] for name in methods], fontsize=SMALL)
    axes.invert_yaxis()
    low = float(readings["similarity_low"].min())
    axes.set_xlim(max(-1.02, min(-0.05, low - 0.03)), 1.02)
    axes.set_xlabel("structural similarity (1 the same map)", fontsize=SMALL)
    axes.tick_params(axis="x", labelsize=SMALL)
    axes.grid(visible=False, axis="y")
    headline(figure, finding)
    legend(figure, {})
    return figure
