"""Layout of figures over stages: a panel a method and metric, stages below, one legend."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from textwrap import wrap

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.text import Text

from saliency_sanity._errors import unknown
from saliency_sanity.experiments.outcome import ORIGINAL
from saliency_sanity.plots.style import VERDICTS
from saliency_sanity.verdict.wording import METRIC_TITLES, RANDOMIZATION_WORDS, verdict_word

WIDTH = 9.0  # inches, as the book's other figures
PAGE = 736 / 96  # inches: the page's column
# The one word among methods' names that is often too long for a column, and where it is parted.
_LONGEST, _PARTED = "backpropagation", "back- propagation"
_LINE = 0.2  # inches of a line of a headline
SMALL = 10  # points; 700 pixels of page leave 10 pixels of it


def multiples(
    readings: pd.DataFrame,
    metrics: Sequence[str],
    methods: Sequence[str] | None,
    controls: Sequence[str],
) -> tuple[Figure, Iterator[tuple[Axes, pd.DataFrame]]]:
    """A panel for each method (row) and metric (column), and what it shows, in order of stages.

    Columns say how many methods that are no controls are picture-driven at the last stage. Controls
    are set in italics. Raises ValueError for a method or metric that is not in the table.
    """
    methods = chosen_names(readings, "method", methods)
    metrics = chosen_names(readings, "metric", metrics)
    longest = max(map(len, stages_of(readings)))
    figure, grid = plt.subplots(
        len(methods),
        len(metrics),
        figsize=(width_of(len(metrics)), len(methods) + 0.08 * longest + 1.2),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    last = readings[readings["position"] == readings["position"].max()]
    width = 0.9 * figure.get_figwidth() / len(metrics)
    for axes, metric in zip(grid[0], metrics, strict=True):
        rows = last[(last["metric"] == metric) & last["method"].isin(methods)]
        found = metric_title(metric), count_above(rows, controls)
        tell(figure, found)
        axes.annotate(
            "\n".join(wrapped(part, width, SMALL + 1) for part in found),
            (0.5, 1),
            xycoords="axes fraction",
            xytext=(0, 15),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=SMALL + 1,
            fontweight="bold",
        )
    for axes, method in zip(grid[:, 0], methods, strict=True):
        style = "italic" if method in controls else "normal"
        axes.set_title(method, loc="left", fontsize=SMALL, fontstyle=style, pad=2)
    for axes in grid.flat:
        axes.tick_params(labelsize=SMALL, pad=1)
        axes.grid(lw=0.5)
    grid[0, 0].set_yticks([0, 0.5, 1])

    def panels() -> Iterator[tuple[Axes, pd.DataFrame]]:
        # Shared limits follow once all is drawn: every artist would move those of every panel.
        for axes in grid.flat:
            axes.set_autoscale_on(False)
        for line, method in zip(grid, methods, strict=True):
            for axes, metric in zip(line, metrics, strict=True):
                yield axes, rows_of(readings, method, metric)
        for axes in grid.flat:
            axes.set_autoscale_on(True)

    return figure, panels()


def label_stages(figure: Figure, readings: pd.DataFrame, first: int) -> None:
    """Name the stages upright below the lowest panels, from ``first``, 0 for the original."""
    names = [ORIGINAL, *stages_of(readings)][first:]
    for axes in figure.axes:
        axes.set_xticks(range(first, first + len(names)), names, rotation=90, fontsize=SMALL)
        axes.grid(visible=False, axis="x")
    figure.axes[0].set_xlim(first - 0.5, first + len(names) - 0.5)


def stages_of(readings: pd.DataFrame) -> list[str]:
    """Names of the stages in order; ValueError unless each has one position, from 0 on."""
    order = readings[["position", "stage"]].drop_duplicates().sort_values("position")
    if order["position"].tolist() != list(range(len(order))):
        raise ValueError(
            f"stages stand at positions {order['position'].tolist()}; each has one position, "
            "from 0 without a gap"
        )
    return order["stage"].tolist()


def width_of(columns: int) -> float:
    """Inches of a figure with so many panels beside each other."""
    return WIDTH if columns > 1 else 0.6 * WIDTH


def wrapped(title: str, inches: float, points: float = SMALL) -> str:
    """A title on as many lines as it takes to be so narrow; too long a word gets a hyphen."""
    letters = max(4, int(inches * 72 / (0.62 * points)))
    if letters < len(_LONGEST):
        title = title.replace(_LONGEST, _PARTED)
    long = re.compile(rf"(\S{{{letters - 1}}})(?=\S\S)")
    return "\n".join(balanced(long.sub(r"\1- ", line), letters) for line in title.split("\n"))


def balanced(text: str, letters: int) -> str:
    """The text on as few lines as are ``letters`` long, all about as long as each other."""

    def lines(width: int) -> list[str]:
        return wrap(text, width, break_long_words=False, break_on_hyphens=False)

    fewest = len(lines(letters))
    widths = range(max(1, len(text) // max(1, fewest)), letters)
    return "\n".join(
        next((lines(width) for width in widths if len(lines(width)) == fewest), lines(letters))
    )


def tell(figure: Figure | SubFigure, found: Iterable[str]) -> None:
    """Add what was found to the figure's label, as a sentence; its parts get dashes between them.

    With the label begins the figure's alternative text where it is shown in a page.
    """
    whole = figure.figure
    # A line that begins anew is a statement of its own.
    lines = (re.sub(r"(?<![,:;.])\n(?=[A-Z])", ". ", part) for part in found)
    said = " – ".join(" ".join(line.split()) for line in lines).removesuffix(".")
    whole.set_label(f"{whole.get_label()} {said}.".strip())


def headline(figure: Figure | SubFigure, finding: str) -> Text | None:
    """Put what was found above all panels, in bold, on as many lines as it takes.

    The figure gets higher by as much. Nothing, and None, for "".
    """
    letters = int(0.95 * figure.bbox.width / figure.dpi * 72 / (0.65 * (SMALL + 2)))
    text = "\n".join(balanced(line, letters) for line in finding.split("\n"))
    if not text:
        return None
    tell(figure, [finding])
    whole = figure.figure
    whole.set_figheight(whole.get_figheight() + _LINE * (text.count("\n") + 1))
    return figure.suptitle(text, fontsize=SMALL + 2, fontweight="bold")


def panel_title(axes: Axes, name: str, found: str = "", inches: float = 0.37 * WIDTH) -> None:
    """Name a panel, and below its name say what was found in it; by default two fit in a row."""
    parts = [part for part in (name, found) if part]
    if found:
        tell(axes.figure, parts)
    lines = (wrapped(part, inches, SMALL + 1) for part in parts)
    axes.set_title("\n".join(lines), fontsize=SMALL + 1)


def count_above(
    rows: pd.DataFrame,
    controls: Sequence[str] = (),
    word: str = RANDOMIZATION_WORDS["above"],
    of: str = "methods",
) -> str:
    """Of how many rows the verdict is *above*: ``picture-driven: 3 of 12 methods``.

    ``rows`` has one row a method, with method and verdict; ``controls`` are not counted, ``word``
    says *above*.
    """
    verdicts = rows["verdict"][~rows["method"].isin(controls)]
    return f"{word}: {(verdicts == 'above').sum()} of {len(verdicts)} {of}"


def chosen_names(readings: pd.DataFrame, column: str, names: Sequence[str] | None) -> list[str]:
    """The chosen values of a column, else all; ValueError for one that it does not hold."""
    valid = readings[column].unique().tolist()
    for name in names or ():
        if name not in valid:
            raise ValueError(unknown(column, name, valid))
    return list(names or valid)


def rows_of(readings: pd.DataFrame, method: str, metric: str) -> pd.DataFrame:
    """What the table says of one method by one metric, in the order of the stages."""
    rows = (readings["method"] == method) & (readings["metric"] == metric)
    return readings[rows].sort_values("position", ignore_index=True)


def at_kappa(kappa: pd.Series | float, rows: pd.DataFrame) -> pd.Series:
    """Where a kappa lies on an axis of similarities: above chance by such a share of the rest.

    An interval of kappa is drawn so where the margin is seen: chance differs from network to
    network as similarity does, so that the mean similarity's own may be much wider.
    """
    return rows["chance"] + kappa * (1 - rows["chance"])


def metric_title(metric: str) -> str:
    """What figures call a metric, as a heading."""
    name = METRIC_TITLES.get(metric, metric)
    return name[:1].upper() + name[1:]


def legend(figure: Figure, words: Mapping[str, str], points: float = SMALL) -> None:
    """Put each label of the panels once below them, the verdicts' ``words`` last."""
    entries: dict[str, object] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    # The verdicts come last, in one order.
    for word in (verdict_word(verdict, words) for verdict in VERDICTS):
        if word in entries:
            entries[word] = entries.pop(word)
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=min(max(1, int(figure.get_figwidth() / 2.6)), len(entries)),
        fontsize=points,
    )
