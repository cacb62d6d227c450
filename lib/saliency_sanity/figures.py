"""The book's one figure style: maps as pictures, similarities beside chance, kappa, intervals."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from saliency_sanity import maps as scales
from saliency_sanity.results import replacing

SIGNED = "RdBu_r"  # diverging, zero is white
UNSIGNED = "magma"  # sequential, zero is black

# Colour and marker both carry the verdict, so that neither has to.
VERDICTS = {
    "above": ("#d55e00", "s"),
    "below": ("#0072b2", "o"),
    "inconclusive": ("#767676", "D"),
}
CHANCE = "#c9c9c9"
METRIC_TITLES = {
    "spearman_abs": "rank correlation, absolute",
    "spearman_signed": "rank correlation, signed",
    "spearman_abs, not zero": "rank correlation, absolute, x ≠ 0",
    "spearman_signed, not zero": "rank correlation, signed, x ≠ 0",
    "ssim": "SSIM",
    "hog": "HOG correlation",
}


def use_style() -> None:
    """Set seaborn and matplotlib to the book's style; call it once at the top of a notebook."""
    sns.set_theme(
        context="notebook",
        style="whitegrid",
        palette="colorblind",
        rc={
            "figure.dpi": 120,
            "savefig.dpi": 120,
            "axes.titlesize": "medium",
            "axes.titleweight": "bold",
            "savefig.facecolor": "white",
        },
    )


def show_map(axes: Axes, attribution: Tensor, signed: bool = False) -> None:
    """Draw one map ``[C, H, W]`` as ``maps.absolute_picture`` or ``maps.signed_picture`` scale it.

    Signed maps have zero in the middle of the colours; a map that is zero everywhere says so.
    """
    batch = attribution[None].float().cpu()
    picture = (scales.signed_picture if signed else scales.absolute_picture)(batch)[0].numpy()
    axes.imshow(picture, cmap=SIGNED if signed else UNSIGNED, vmin=-1 if signed else 0, vmax=1)
    if not batch.any():
        colour = "black" if signed else "white"
        axes.text(0.5, 0.5, "zero", transform=axes.transAxes, ha="center", va="center", c=colour)


def _bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    sns.despine(ax=axes, left=True, bottom=True)


def map_grid(
    pictures: Tensor,
    names: Sequence[str],
    maps: Mapping[str, Tensor],
    *,
    signed: bool = False,
    width: float = 13,
) -> Figure:
    """One row a picture ``[C, H, W]`` in [0, 1], one column a method's maps of the pictures."""
    rows, columns = len(pictures), len(maps) + 1
    # Noisy maps hardly compress: a coarser figure keeps the page light.
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(width, width / columns * rows + 0.3),
        squeeze=False,
        dpi=90,
        layout="constrained",
    )
    for row, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        shown = picture.permute(1, 2, 0).squeeze(-1).cpu().numpy()
        grid[row, 0].imshow(shown, cmap="gray", vmin=0, vmax=1)
        grid[row, 0].set_ylabel(name, fontsize="small")
        for axes, (title, batch) in zip(grid[row, 1:], maps.items(), strict=True):
            show_map(axes, batch[row], signed)
            if not row:
                axes.set_title(title, fontsize="small")
    grid[0, 0].set_title("picture", fontsize="small")
    for axes in grid.flat:
        _bare(axes)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    return figure


def metric_panels(
    metrics: Sequence[str], rows: int, height: float = 0.27
) -> tuple[Figure, np.ndarray]:
    """A titled panel a metric, two beside each other, for ``rows`` rows of ``height`` inches."""
    columns = min(2, len(metrics))
    lines = -(-len(metrics) // columns)
    figure, grid = plt.subplots(
        lines,
        columns,
        figsize=(5.5 * columns, lines * (height * rows + 1.2)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, metric in zip(grid.flat, metrics, strict=False):
        name = METRIC_TITLES.get(metric, metric)
        axes.set_title(name[:1].upper() + name[1:])
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
) -> Figure:
    """Kappa with its interval for each method, a panel a metric, ranked by the first metric.

    ``readings`` has a row for each method and metric with kappa, low, high and verdict; ``words``
    gives the legend's text for below and above, ``one`` says what a kappa of 1 is. Controls are
    set in italics.
    """
    order = ranked(readings, metrics[0])
    figure, grid = metric_panels(metrics, len(order))
    for axes, metric in zip(grid.flat, metrics, strict=False):
        rows = readings[readings["metric"] == metric].set_index("method").reindex(order)
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
                    label=words.get(verdict, verdict),
                )
        axes.set_xlim(min(-0.25, rows["low"].min() - 0.05), 1.05)
        axes.set_xlabel(f"kappa (0 chance, 1 {one})")
    label_rows(grid, order, controls)
    _legend(figure, grid)
    return figure


def similarity_beside_chance(
    readings: pd.DataFrame, metrics: Sequence[str], *, controls: Sequence[str] = ()
) -> Figure:
    """Raw similarity of each method with the band that other pictures give, a panel a metric."""
    order = ranked(readings, metrics[0])
    figure, grid = metric_panels(metrics, len(order))
    for axes, metric in zip(grid.flat, metrics, strict=False):
        rows = readings[readings["metric"] == metric].set_index("method").reindex(order)
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
        axes.set_xlabel("similarity (1 the same map)")
    label_rows(grid, order, controls)
    _legend(figure, grid)
    return figure


def _legend(figure: Figure, grid: np.ndarray) -> None:
    entries: dict[str, object] = {}
    for axes in grid.flat:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    columns = min(2 * grid.shape[1], len(entries))
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns)


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, atomically; raises as ``results.replacing``."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi="figure")
    return path
