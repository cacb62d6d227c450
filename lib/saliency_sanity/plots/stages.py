"""Similarity, kappa and their spread over the stages of a randomization, as figures."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from saliency_sanity.plots.layout import (
    SMALL,
    chosen_names,
    count_above,
    headline,
    label_stages,
    legend,
    metric_title,
    multiples,
    panel_title,
    rows_of,
    stages_of,
    width_of,
)
from saliency_sanity.plots.style import CEILING, CHANCE, INTERVAL, SIGNED, VERDICTS
from saliency_sanity.verdict.obstacle import CANNOT_TELL
from saliency_sanity.verdict.wording import RANDOMIZATION_WORDS, verdict_word

PRIOR = "#009e73"

# A stage in the middle is above the margin; only the last one makes a method picture-driven.
_STAGE_WORDS = {"above": "kappa above the margin", "below": "kappa below the margin"}
_LOWEST = -0.6  # kappa
_TOP = {"color": CEILING, "lw": 1.2, "ls": "-."}


def similarity_curves(
    readings: pd.DataFrame,
    metrics: Sequence[str],
    *,
    methods: Sequence[str] | None = None,
    controls: Sequence[str] = (),
) -> Figure:
    """Similarity to the trained network's map over the stages: a row a method, a column a metric.

    ``readings`` has a row for each method, metric and stage, with stage, position and the fields of
    ``verdict.Reading``; ``methods`` chooses and orders the rows. The line is the mean with its
    interval, the grey band chance, the outlined band the prior and the dash-dotted line the
    ceiling, where there is one; markers give the verdict on each stage. The dashed line stands at
    the first randomized stage. Controls are set in italics. Raises ValueError for a method or
    metric that the table does not have.
    Source: adebayo2018sanity, figures 4 and 5.
    """
    figure, panels = multiples(readings, metrics, methods, controls)
    for axes, rows in panels:
        at = rows["position"].to_numpy() + 1
        _references(axes, at, rows)
        axes.fill_between(
            at,
            rows["similarity_low"],
            rows["similarity_high"],
            color=INTERVAL,
            alpha=0.6,
            lw=0,
            label="interval of the mean",
        )
        axes.plot([0, *at], [1, *rows["similarity"]], color="#000000", lw=1, label="similarity")
        axes.axvline(1, color="#555555", lw=0.8, ls="--")
        for verdict, (colour, marker) in VERDICTS.items():
            chosen = rows["verdict"] == verdict
            if chosen.any():
                axes.plot(
                    at[chosen],
                    rows["similarity"][chosen],
                    marker,
                    color=colour,
                    ms=5 if verdict == CANNOT_TELL else 3.2,  # a cross needs room to be one
                    label=verdict_word(verdict, _STAGE_WORDS),
                )
    label_stages(figure, readings, first=0)
    legend(figure, _STAGE_WORDS)
    return figure


def independent_boxes(
    measurements: pd.DataFrame,
    readings: pd.DataFrame,
    metrics: Sequence[str],
    *,
    methods: Sequence[str] | None = None,
    controls: Sequence[str] = (),
) -> Figure:
    """Box plots over images and networks for each block: a row a method, a column a metric.

    ``measurements`` has a row for each method, metric, stage, seed and image with similarity,
    ``readings`` is as for :func:`similarity_curves`. Boxes hold the middle half, whiskers reach to
    the last value within 1.5 box lengths; their colour gives the verdict, crossed where one cannot
    tell; the grey bar behind each is its chance, the dash-dotted line its ceiling. Undefined
    similarities are left out. Raises ValueError for a method or metric that the table does not
    have. Source: adebayo2018sanity, figure 21.
    """
    figure, panels = multiples(readings, metrics, methods, controls)
    values = dict(iter(measurements.groupby(["method", "metric", "position"])["similarity"]))
    labelled = set()
    for axes, rows in panels:
        for _, row in rows.iterrows():
            place = row["position"] + 1
            axes.bar(
                place,
                row["chance_high"] - row["chance_low"],
                bottom=row["chance_low"],
                width=0.9,
                color=CHANCE,
                lw=0,
                label="chance",
            )
            axes.hlines(row["chance"], place - 0.45, place + 0.45, color="#555555", lw=0.8)
            if np.isfinite(row["ceiling"]):
                ends = place - 0.45, place + 0.45
                axes.hlines(row["ceiling_similarity"], *ends, **_TOP, label="ceiling")
            colour, _ = VERDICTS[row["verdict"]]
            drawn = axes.boxplot(
                values[row["method"], row["metric"], row["position"]].dropna(),
                positions=[place],
                widths=0.55,
                patch_artist=True,
                manage_ticks=False,
                boxprops={
                    "facecolor": colour,
                    "edgecolor": "#000000",
                    "lw": 0.6,
                    "alpha": 0.8,
                    "hatch": "xxxx" if row["verdict"] == CANNOT_TELL else "",
                },
                medianprops={"color": "#000000", "lw": 1.4},
                whiskerprops={"lw": 0.8},
                capprops={"lw": 0.8},
                flierprops={"marker": ".", "ms": 2, "mec": "#555555"},
            )
            if row["verdict"] not in labelled:
                labelled.add(row["verdict"])
                word = verdict_word(row["verdict"], _STAGE_WORDS)
                drawn["boxes"][0].set_label(word)
    label_stages(figure, readings, first=1)
    legend(figure, _STAGE_WORDS)
    return figure


def kappa_curves(
    readings: pd.DataFrame,
    metrics: Sequence[str],
    *,
    margin: float,
    methods: Sequence[str] | None = None,
    controls: Sequence[str] = (),
    thick: Sequence[str] = (),
) -> Figure:
    """Kappa with its interval over the stages, all methods in one panel a metric.

    ``readings`` is as for :func:`similarity_curves`. Each line carries its method's name at its
    end; colour and end marker give the verdict on the last stage, controls are dashed, grey and in
    italics, ``thick`` are methods to tell from the others. Dash-dotted are the highest and the
    lowest ceiling of the methods at each stage, with a band between. What lies below a kappa of
    -0.6 is cut off, its name stands at the edge. Raises ValueError for a method or metric that the
    table does not have.
    """
    stages = stages_of(readings)
    methods = chosen_names(readings, "method", methods)
    metrics = chosen_names(readings, "metric", metrics)
    columns = min(2, len(metrics))
    lines = -(-len(metrics) // columns)
    longest = max(map(len, stages))
    figure, grid = plt.subplots(
        lines,
        columns,
        figsize=(
            width_of(columns),
            lines * max(3.5, 0.17 * len(methods) + 1.3) + 0.08 * longest + 0.3,
        ),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    chosen = readings[readings["method"].isin(methods) & readings["metric"].isin(metrics)]
    # Where chance leaves little room kappa runs far below 0: that would squeeze all the others.
    bottom = max(_LOWEST, min(-0.2, chosen["low"].min() - 0.05))
    for axes, metric in zip(grid.flat, metrics, strict=False):
        rows = chosen[chosen["metric"] == metric]
        last = rows[rows["position"] == rows["position"].max()]
        panel_title(axes, metric_title(metric), count_above(last, controls))
        axes.axhspan(-margin, margin, color=CHANCE, alpha=0.5, lw=0, label=f"margin ±{margin:g}")
        axes.axhline(0, color="#555555", lw=0.8)
        axes.axvline(1, color="#555555", lw=0.8, ls="--", label="first random stage")
        _ceilings(axes, rows[~rows["method"].isin(controls)])
        ends = {}
        for method in methods:
            rows = rows_of(readings, method, metric)
            if not rows["kappa"].notna().any():
                continue
            at = rows["position"].to_numpy() + 1
            verdict = rows["verdict"].iloc[-1]
            colour, marker = VERDICTS[verdict]
            control = method in controls
            shade = "#8c8c8c" if control else colour
            if not control:
                axes.fill_between(at, rows["low"], rows["high"], color=shade, alpha=0.13, lw=0)
            axes.plot(
                [0, *at],
                [1, *rows["kappa"]],
                color=shade,
                lw=1 if control else 3 if method in thick else 1.4,
                ls="--" if control else "-",
                label="controls" if control else None,
            )
            last = rows["kappa"].last_valid_index()
            word = verdict_word(verdict)
            tip = (rows["position"][last] + 1, max(bottom, rows["kappa"][last]))
            axes.plot(*tip, marker, color=shade, ms=5, label=None if control else word)
            ends[method] = (tip, shade, control)
        axes.set_ylim(bottom, 1.05)
        axes.tick_params(labelsize=SMALL)
        _name_ends(axes, ends, len(stages), bottom)
    for axes in grid.flat[len(metrics) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("kappa", fontsize=SMALL)
    label_stages(figure, readings, first=0)
    if len(metrics) < grid.size:  # the panel above the empty place is the lowest of its column
        grid[-2, -1].tick_params(labelbottom=True)
    legend(figure, RANDOMIZATION_WORDS)
    return figure


def kappa_heatmap(
    readings: pd.DataFrame, *, controls: Sequence[str] = (), title: str = ""
) -> Figure:
    """Kappa by method (row) and stage (column), a panel an order; bold above the margin.

    ``readings`` has order, method, stage, position, kappa and verdict, of one metric. Methods are
    in the order of their mean kappa in the first order, the lowest on top. Blue is below chance,
    red above it; controls are in italics, undefined cells grey.
    """
    orders = chosen_names(readings, "order", None)
    first = readings[readings["order"] == orders[0]]
    methods = first.groupby("method")["kappa"].mean().sort_values().index.tolist()
    figure, grid = plt.subplots(
        1,
        len(orders),
        figsize=(9, 0.25 * len(methods) + 2.4),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    headline(figure, title)
    for axes, order in zip(grid[0], orders, strict=True):
        rows = readings[readings["order"] == order]
        values = rows.pivot(index="method", columns="position", values="kappa").loc[methods]
        image = axes.imshow(values, cmap=SIGNED, vmin=-1, vmax=1, aspect="auto")
        axes.set_facecolor(CHANCE)
        for (method, position), row in rows.set_index(["method", "position"]).iterrows():
            shade = "#ffffff" if abs(row["kappa"]) > 0.6 else "#000000"
            at = position, methods.index(method)
            if np.isfinite(row["kappa"]):
                text = f"{row['kappa']:.1f}".replace("-0.0", "0.0").replace("-", "−")
                weight = "bold" if row["verdict"] == "above" else "normal"
                axes.text(
                    *at,
                    text,
                    ha="center",
                    va="center",
                    color=shade,
                    weight=weight,
                    fontsize=SMALL,
                )
        names = stages_of(rows)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=SMALL)
        axes.set_yticks(range(len(methods)), methods, fontsize=SMALL)
        axes.set_title(f"{order[:1].upper()}{order[1:]}", fontsize=SMALL + 2)
        axes.grid(visible=False)
    for label in grid[0, 0].get_yticklabels():
        label.set_style("italic" if label.get_text() in controls else "normal")
    bar = figure.colorbar(image, ax=grid[0].tolist(), shrink=0.6, aspect=30)
    bar.set_label("kappa (0 chance, 1 the same map)", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    return figure


def _ceilings(axes: Axes, rows: pd.DataFrame) -> None:
    """Between which kappas the ceilings of all methods lie, stage by stage."""
    span = rows.groupby("position")["ceiling"].agg(["min", "max"])
    if not span["max"].notna().any():
        return
    at = span.index.to_numpy() + 1
    wide = np.r_[at[0] - 0.25, at, at[-1] + 0.25]
    low, high = (np.pad(span[key].to_numpy(float), 1, mode="edge") for key in ("min", "max"))
    axes.fill_between(wide, low, high, color=CEILING, alpha=0.07, lw=0)
    axes.plot(wide, low, **_TOP, label="ceiling: lowest and highest of the methods")
    axes.plot(wide, high, **_TOP)


def _name_ends(axes: Axes, ends: dict, stages: int, bottom: float) -> None:
    """Write each name beside the end of its line, apart from each other, with a thin leader."""
    if not ends:
        return
    names = sorted(ends, key=lambda name: ends[name][0][1])
    tips = np.array([ends[name][0][1] for name in names])
    height = axes.get_position().height * axes.figure.get_figheight() * 72  # points, roughly
    gap = min(1.15 * SMALL * (1.05 - bottom) / height, (1.05 - bottom) / len(names))
    # The nearest heights that keep the order and the distance.
    steps = gap * np.arange(len(names))
    heights = np.clip(isotonic_regression(tips - steps).x, bottom, 1.05 - steps[-1]) + steps
    for name, height in zip(names, heights, strict=True):
        tip, shade, control = ends[name]
        axes.annotate(
            name,
            tip,
            xytext=(stages + max(0.6, 0.05 * stages), height),
            annotation_clip=False,
            va="center",
            fontsize=SMALL,
            color="#555555" if control else shade,
            fontstyle="italic" if control else "normal",
            arrowprops={
                "arrowstyle": "-",
                "color": shade,
                "lw": 0.6,
                "shrinkA": 1,
                "shrinkB": 3,
                "relpos": (0, 0.5),
            },
        )
    axes.set_xlim(-0.3, stages + 0.3)


def _references(axes: Axes, at: np.ndarray, rows: pd.DataFrame) -> None:
    # Half a stage more at each side: a single stage has bands, too.
    wide = np.r_[at[0] - 0.5, at, at[-1] + 0.5]

    def edge(name: str) -> np.ndarray:
        return np.pad(rows[name].to_numpy(float), 1, mode="edge")

    axes.fill_between(
        wide, edge("chance_low"), edge("chance_high"), color=CHANCE, lw=0, label="chance"
    )
    axes.plot(wide, edge("chance"), color="#555555", lw=0.8, ls=":", label="mean of chance")
    if rows["prior_similarity"].notna().any():
        axes.fill_between(
            wide,
            edge("prior_band_low"),
            edge("prior_band_high"),
            facecolor="none",
            edgecolor=PRIOR,
            lw=0.8,
            label="prior: two random networks",
        )
    if rows["ceiling"].notna().any():
        axes.plot(wide, edge("ceiling_similarity"), **_TOP, label="ceiling")
