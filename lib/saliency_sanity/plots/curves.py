"""One figure of curves: a small panel a method, ours beside what was published."""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from saliency_sanity.experiments.outcome import ORIGINAL
from saliency_sanity.plots.layout import (
    PAGE,
    at_kappa,
    balanced,
    chosen_names,
    legend,
    rows_of,
    stages_of,
    tell,
)
from saliency_sanity.plots.style import CEILING, CHANCE, INTERVAL, VERDICTS
from saliency_sanity.verdict.obstacle import CANNOT_TELL
from saliency_sanity.verdict.wording import RANDOMIZATION_WORDS, verdict_word

TEXT = 8.5  # points, 11.3 pixels there
_COLUMNS = 4
_ROW = 1.28  # inches
_LINE = 22  # letters of a title beside each other
_MARGIN = "#9a9a9a"
_OURS = "interval of kappa"
_LINE_COLOUR = "#333333"
_THEIRS = "#000000"
# In the order of the similarities.
_SHAPES = "osD^v"


def method_curves(
    readings: pd.DataFrame,
    metric: str,
    *,
    margin: float,
    controls: Sequence[str] = (),
    joined: bool = True,
    title: str = "",
) -> Figure:
    """Similarity by stage, a small panel a method, the most similar at the end first.

    ``readings`` has a row for each method, metric and stage, with stage, position, the fields of
    ``verdict.Reading``, and where it is known ``published``, a similarity that others had there.
    Ours is the line, with kappa's interval, which is held against the margin; the marker and its
    colour give the verdict on the last stage, or, where stages are not ``joined`` to a line, on
    each. Published is dashed. Light grey is chance, dark grey a kappa of at most ``margin``
    either way, dotted the ceiling; what reaches below all means is cut off. Controls come last, in
    italics. Raises ValueError for a metric that the table does not have.
    """
    (metric,) = chosen_names(readings, "metric", [metric])
    stages = stages_of(readings)
    rows = {key: rows_of(readings, key, metric) for key in _by_end(readings, metric, controls)}
    figure, grid = _panels(len(rows), 0.062 * _longest(stages), title)
    for axes, (method, own) in zip(grid.flat, rows.items(), strict=False):
        at = own["position"].to_numpy() + 1
        _references(axes, at, own, margin)
        (_curve if joined else _points)(axes, at, own)
        if "published" in own and own["published"].notna().any():
            known = own["published"].notna()
            axes.plot(
                at[known],
                own["published"][known],
                color=_THEIRS,
                lw=1.2,
                ls="--" if joined else "",
                marker="" if joined and known.sum() > 1 else "_",
                ms=9,
                mew=1.4,
                zorder=4,
                label="the authors",
            )
        _name(axes, method, method in controls)
    first = 0 if joined else 1
    names = [ORIGINAL, *stages][first:]
    lowest = _lowest(pd.concat(rows.values()), "similarity", "chance", "published")
    grid.flat[0].set(
        xlim=(first - 0.5, first + len(names) - 0.5), ylim=(lowest, 1.08), yticks=[0, 0.5, 1]
    )
    _name_stages(grid, len(rows), {first + place: names[place] for place in _apart(len(names))})
    for axes in grid[:, 0]:
        axes.set_ylabel("similarity", fontsize=TEXT)
    legend(figure, RANDOMIZATION_WORDS, TEXT)
    return figure


def against_published(
    readings: pd.DataFrame,
    metrics: Sequence[str],
    *,
    words: Mapping[str, str],
    title: str = "",
) -> Figure:
    """Our similarities, upright, by those published at the same place, a panel a method.

    ``readings`` is as for :func:`method_curves`; rows without ``published`` are left out, and
    methods that have no other. A point is a stage, the darker the more is randomized; its shape is
    the similarity, called by ``words``, its line the interval of our mean. On the dashed line both
    are the same. Raises ValueError for a metric that the table does not have, or where nothing was
    published.
    """
    metrics = chosen_names(readings, "metric", metrics)
    known = readings[readings["published"].notna() & readings["metric"].isin(metrics)]
    if known.empty:
        raise ValueError("nothing was published of these readings")
    methods = known["method"].unique().tolist()
    figure, grid = _panels(len(methods), 0.5, title, square=True)
    depth = Normalize(-0.6 * (len(stages_of(readings)) - 1), len(stages_of(readings)) - 1)
    colours = plt.get_cmap("Blues")
    ends = _lowest(known, "similarity", "published"), 1.08
    for axes, method in zip(grid.flat, methods, strict=False):
        axes.plot([-2, 2], [-2, 2], color="#555555", lw=1, ls="--", label="the same")
        for shape, metric in zip(_SHAPES, metrics, strict=False):
            own = known[(known["method"] == method) & (known["metric"] == metric)]
            for _, row in own.iterrows():
                shade = colours(depth(row["position"]))
                place = row["published"]
                axes.vlines(place, row["similarity_low"], row["similarity_high"], color=shade, lw=1)
                axes.plot(
                    place, row["similarity"], shape, color=shade, mec="#333333", mew=0.5, ms=5
                )
        _name(axes, method, False)
        axes.set_aspect("equal")
    grid.flat[0].set(xlim=ends, ylim=ends, xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    for axes in grid[:, 0]:
        axes.set_ylabel("ours", fontsize=TEXT)
    for axes in _lowest_of_columns(grid, len(methods)):
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("the authors'", fontsize=TEXT)
    own = {metric for metric in metrics if (known["metric"] == metric).any()}
    stages = stages_of(readings)
    marks = [
        Line2D([], [], ls="", marker=shape, color="#8ab6d9", mec="#333333", mew=0.5, ms=5)
        for shape, metric in zip(_SHAPES, metrics, strict=False)
        if metric in own
    ]
    labels = [words.get(metric, metric) for metric in metrics if metric in own]
    for place in dict.fromkeys((0, len(stages) - 1)):
        marks.append(Line2D([], [], lw=5, color=colours(depth(place))))
        labels.append(f"randomized: {stages[place]}" if place == 0 else f"… to {stages[place]}")
    marks.append(Line2D([], [], color="#555555", lw=1, ls="--"))
    labels.append("the same")
    figure.legend(
        marks, labels, loc="outside lower center", ncols=min(3, len(labels)), fontsize=TEXT
    )
    return figure


def _by_end(readings: pd.DataFrame, metric: str, controls: Sequence[str]) -> list[str]:
    """Methods by kappa at the last stage, the highest first, undefined ones and controls last."""
    rows = readings[readings["metric"] == metric]
    last = rows[rows["position"] == rows["position"].max()].set_index("method")["kappa"]
    last = last.sort_values(ascending=False, na_position="last", kind="stable")
    return sorted(last.index, key=lambda method: method in controls)


def _panels(
    count: int, below: float, title: str, square: bool = False
) -> tuple[Figure, np.ndarray]:
    columns = min(_COLUMNS, count)
    lines = math.ceil(count / columns)
    row = PAGE / _COLUMNS + 0.1 if square else _ROW
    # Few panels are no wider than those of many.
    width = PAGE if columns > 2 else PAGE * 0.75
    figure, grid = plt.subplots(
        lines,
        columns,
        figsize=(width, row * lines + below + 1.1),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.03, wspace=0.02, hspace=0.02)
    if title:
        tell(figure, [title])
        figure.suptitle(
            balanced(title, int(width * 12.5)),
            fontsize=TEXT + 2.5,
            fontweight="bold",
            x=0.01,
            ha="left",
        )
    for axes in grid.flat:
        axes.tick_params(labelsize=TEXT, pad=1)
        axes.grid(lw=0.5)
    return figure, grid


def _lowest_of_columns(grid: np.ndarray, count: int) -> list[Axes]:
    """The lowest panel of each column that shows something; hides those that are left over."""
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    return [[axes for axes in column if axes.get_visible()][-1] for column in grid.T]


def _name_stages(grid: np.ndarray, count: int, names: Mapping[int, str]) -> None:
    """Write names of stages upright below each column, where there is an empty place into it."""
    for axes in grid.flat:
        axes.xaxis.set_major_locator(FixedLocator([*names]))
        axes.tick_params(labelbottom=False)
        axes.grid(visible=False, axis="x")
    for axes in _lowest_of_columns(grid, count):
        for place, name in names.items():
            text = axes.annotate(
                name,
                (place, 0),
                xycoords=axes.get_xaxis_transform(),
                xytext=(0, -4),
                textcoords="offset points",
                rotation=90,
                ha="center",
                va="top",
                fontsize=TEXT,
                annotation_clip=False,
            )
            # What hangs into an empty place takes none.
            text.set_in_layout(axes in grid[-1])


def _lowest(rows: pd.DataFrame, *columns: str) -> float:
    """Where an axis begins: below all means. Intervals that reach further would squeeze them."""
    return min(0.0, rows[rows.columns.intersection(columns)].min().min()) - 0.08


def _name(axes: Axes, method: str, control: bool) -> None:
    axes.set_title(
        balanced(method, _LINE),
        loc="left",
        fontsize=TEXT,
        fontstyle="italic" if control else "normal",
        fontweight="normal" if control else "bold",
        pad=2,
        linespacing=1.0,
    )


def _longest(names: Sequence[str]) -> int:
    return max(map(len, (ORIGINAL, *names)))


def _apart(count: int) -> list[int]:
    """The first, the last, and between them as many as are as far apart as letters are high."""
    room = int((PAGE / _COLUMNS - 0.35) * 72 / (1.25 * TEXT))
    step = max(1, math.ceil((count - 1) / max(1, room - 1)))
    places = list(range(0, count - 1, step))
    if len(places) > 1 and count - 1 - places[-1] < step:
        places.pop()
    return [*places, count - 1]


def _references(axes: Axes, at: np.ndarray, rows: pd.DataFrame, margin: float) -> None:
    # Half a stage more at each side: a single stage has bands, too.
    wide = np.r_[at[0] - 0.5, at, at[-1] + 0.5]

    def edge(values: pd.Series) -> np.ndarray:
        return np.pad(values.to_numpy(float), 1, mode="edge")

    low, high = edge(rows["chance_low"]), edge(rows["chance_high"])
    axes.fill_between(
        wide, low, high, color=CHANCE, alpha=0.55, lw=0, label="chance: other pictures' maps"
    )
    axes.fill_between(
        wide,
        edge(at_kappa(-margin, rows)),
        edge(at_kappa(margin, rows)),
        color=_MARGIN,
        alpha=0.75,
        lw=0,
        label=f"margin: kappa within ±{margin:g}",
    )
    if rows["ceiling"].notna().any():
        axes.plot(
            wide, edge(rows["ceiling_similarity"]), color=CEILING, lw=1.3, ls=":", label="ceiling"
        )


def _curve(axes: Axes, at: np.ndarray, rows: pd.DataFrame) -> None:
    colour, marker = VERDICTS[rows["verdict"].iloc[-1]]
    low, high = at_kappa(rows["low"], rows), at_kappa(rows["high"], rows)
    axes.fill_between(at, low, high, color=INTERVAL, alpha=0.55, lw=0, zorder=3, label=_OURS)
    axes.plot([0, *at], [1, *rows["similarity"]], color=_LINE_COLOUR, lw=1.5, zorder=5)
    known = rows["similarity"].last_valid_index()
    if known is None:
        axes.text(0.5, 0.5, "undefined", transform=axes.transAxes, ha="center", fontsize=TEXT)
        return
    verdict = rows["verdict"].iloc[-1]
    word = verdict_word(verdict)
    axes.plot(
        at[known], rows["similarity"][known], marker, color=colour, ms=7, zorder=6, label=word
    )


def _points(axes: Axes, at: np.ndarray, rows: pd.DataFrame) -> None:
    for verdict, (colour, marker) in VERDICTS.items():
        there = ((rows["verdict"] == verdict) & rows["similarity"].notna()).to_numpy()
        if there.any():
            own = rows[there]
            low, high = at_kappa(own["low"], own), at_kappa(own["high"], own)
            axes.vlines(at[there], low, high, color=INTERVAL, lw=3.5, zorder=3, label=_OURS)
            size = 7 if verdict == CANNOT_TELL else 5
            word = verdict_word(verdict)
            axes.plot(
                at[there],
                own["similarity"],
                marker,
                color=colour,
                ms=size,
                zorder=6,
                label=word,
            )
