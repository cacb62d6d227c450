"""How often intervals hold what is true, as the book shows what ``make coverage`` has found."""

import json
import math
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from saliency_sanity.plots.layout import headline
from saliency_sanity.plots.style import save, use_style

FIGURE = Path("figures/coverage.png")
WIDTHS, FOUND = "coverage_widths.md", "coverage_found.md"

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
    held = _between(cells["covered"])
    headline(figure, f"Of intervals that say {100 * SAID:g} %, {held} hold kappa")
    return figure


def _between(shares: pd.Series) -> str:
    """The lowest and the highest share in per cent, rounded outwards."""
    low, high = math.floor(1000 * shares.min()) / 10, math.ceil(1000 * shares.max()) / 10
    return f"{low:.1f} to {high:.1f} %"


def findings(cells: pd.DataFrame) -> str:
    """What intervals hold, how often each side is wrong, and the excess, as a list for a page."""
    most = {side: math.ceil(1000 * cells[side].max()) / 10 for side in ("below", "above")}
    few = cells["networks"][cells["excess"].notna()].min()
    return "\n".join(
        [
            f"* *They hold what they should* in {_between(cells['covered'])} of a cell's runs.",
            f"* *Wrong words at the margin.* The interval lies below kappa, and the word is "
            f"*responds*, in at most {most['below']:.1f} % of the runs of a cell. It lies above in "
            f"at most {most['above']:.1f} %. A long tail to the right is not seen before a picture "
            "comes from it.",
            f"* *The excess over the prior* is held in {_between(cells['excess'].dropna())}, from "
            f"{few} networks on.",
            "",
        ]
    )


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
    """Draw the figure and write findings and table of ``coverage.json`` in a staged book."""
    about, cells = read_coverage(book)
    use_style()
    figure = coverage_figure(cells)
    save(figure, book / FIGURE)
    plt.close(figure)
    (book / FOUND).write_text(findings(cells), encoding="utf-8")
    (book / WIDTHS).write_text(width_table(about, cells), encoding="utf-8")
