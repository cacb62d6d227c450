"""The book's one figure style: colours, markers, and how figures are saved."""

from pathlib import Path

import seaborn as sns
from matplotlib.figure import Figure

from saliency_sanity._files import replacing

SIGNED = "RdBu_r"  # diverging, zero is white
UNSIGNED = "magma"  # sequential, zero is black

# Colour and marker both carry the verdict, so that neither has to.
VERDICTS = {
    "above": ("#d55e00", "s"),
    "below": ("#0072b2", "o"),
    "inconclusive": ("#767676", "D"),
    "cannot tell": ("#882255", "X"),
}
CEILING = "#882255"
CHANCE = "#c9c9c9"
INTERVAL = "#56b4e9"


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


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, atomically; raises as ``_files.replacing``.

    What is shown after it is laid out as in the file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi="figure")
    figure.set_layout_engine("none")
    return path
