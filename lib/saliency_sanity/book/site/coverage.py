"""How often intervals hold what is true, as the book shows what ``make coverage`` has found."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from saliency_sanity.plots.style import save, use_style

FIGURE = Path("figures/coverage.png")
WIDTHS = "coverage_widths.md"

SAID, ENOUGH = 0.95, 0.92
_STYLE = {  # Okabe and Ito's colours; the marker says the same
    "normal": ("#000000", "o", "symmetric (normal)"),
    "lognormal": ("#0072b2", "D", "skewed (lognormal, 1.75)"),
    "gamma": ("#d55e00", "s", "very skewed (gamma, 2.8)"),
}


def read_coverage(book: Path) -> tuple[dict, pd.DataFrame]:
    """What the simulation was run with, and its table, a row a cell."""
    content = json.loads((book / "coverage.json").read_text(encoding="utf-8"))
    cells = pd.DataFrame(content.pop("cells"))
    return content, cells


def coverage_figure(cells: pd.DataFrame) -> Figure:
    """The share of intervals that hold kappa: a panel a number of networks, a point a cell."""
    networks = sorted(set(cells["networks"].tolist()))
    counts = sorted(set(cells["pictures"].tolist()))
    figure, grid = plt.subplots(
        *(1, len(networks)), figsize=(2.2 * len(networks), 3.2), sharey=True, layout="constrained"
    )
    for axes, count in zip(grid, networks, strict=True):
        axes.axhline(SAID, color="#555555", lw=1)
        axes.axhline(ENOUGH, color="#555555", lw=1, ls=":")
        for shift, (kind, (colour, marker, words)) in zip(
            (-0.25, 0, 0.25), _STYLE.items(), strict=True
        ):
            rows = cells[(cells["networks"] == count) & (cells["kind"] == kind)]
            at = rows["pictures"].map(counts.index) + shift
            axes.plot(at, rows["covered"], marker, color=colour, ms=4, alpha=0.8, label=words)
        axes.set(title=f"{count} network{'s' * (count > 1)}", xlabel="pictures")
        axes.set(xticks=range(len(counts)), xticklabels=counts, ylim=(0.895, 1.0))
        axes.grid(visible=False, axis="x")
    grid[0].set_ylabel("share that holds kappa")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    return figure


def width_table(about: dict, cells: pd.DataFrame) -> str:
    """Median widths for symmetric pictures, a MyST table: pictures by networks and their spread."""
    ends = cells["spread"].isin([cells["spread"].min(), cells["spread"].max()])
    rows = cells[(cells["kind"] == "normal") & ends]
    wide = rows.pivot_table(index="pictures", columns=["networks", "spread"], values="width")
    heads = [f"{count}, {spread:g}" for count, spread in wide.columns]
    lines = [f"| pictures | {' | '.join(heads)} |", f"| --: |{' --: |' * len(heads)}"]
    lines += [
        f"| {pictures} | {' | '.join(f'{value:.2f}' for value in row)} |"
        for pictures, row in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    caption = (
        "Median width of the interval of kappa for symmetric pictures, a column a number of "
        "networks and their standard deviation. "
        f"{about['runs']} runs of each cell, seed {about['seed']}, {about['date']}."
    )
    return f"```{{table}} {caption}\n:name: coverage-widths\n\n" + "\n".join(lines) + "\n```\n"


def write_coverage(book: Path) -> None:
    """Draw the figure, and write the table, of ``coverage.json`` in the book's staged folder."""
    about, cells = read_coverage(book)
    use_style()
    figure = coverage_figure(cells)
    save(figure, book / FIGURE)
    plt.close(figure)
    (book / WIDTHS).write_text(width_table(about, cells), encoding="utf-8")
