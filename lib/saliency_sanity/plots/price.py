"""What maps cost beside what becomes of them when the network is random."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saliency_sanity.plots.layout import SMALL, headline
from saliency_sanity.plots.style import CEILING, CHANCE, VERDICTS
from saliency_sanity.verdict.wording import verdict_word

_ROW, _HEAD = 0.2, 1.3  # inches


def price_chart(rows: pd.DataFrame, *, margin: float) -> Figure:
    """Seconds a picture beside kappa with its interval, the cheapest method on top.

    ``rows`` has a row a method and network, with seconds, kappa, low, high, ceiling, verdict and
    whether it is a control; each network is a pair of panels below the other. Titles say how many
    of the cheaper and of the dearer half of the methods respond. Controls are set in italics.
    """
    networks = list(dict.fromkeys(rows["network"]))
    heights = [_ROW * (rows["network"] == network).sum() + _HEAD for network in networks]
    figure = plt.figure(figsize=(9.5, sum(heights)), layout="constrained")
    for part, network in zip(
        np.atleast_1d(figure.subfigures(len(networks), 1, height_ratios=heights)),
        networks,
        strict=True,
    ):
        own = rows[rows["network"] == network].sort_values("seconds", ascending=False)
        headline(part, f"{network}: {finding(own)}")
        left, right = part.subplots(1, 2, sharey=True, width_ratios=(1, 1.6))
        _prices(left, own)
        _kappas(right, own, margin)
    part.legend(
        *right.get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=SMALL
    )
    return figure


def finding(rows: pd.DataFrame) -> str:
    """How many of the cheaper, and of the dearer half of the methods respond."""
    methods = rows[~rows["control"]].sort_values("seconds")
    half = len(methods) // 2
    cheap, dear = methods.iloc[: len(methods) - half], methods.iloc[len(methods) - half :]
    counts = [(int((part["verdict"] == "below").sum()), len(part)) for part in (cheap, dear)]
    (few, of), (more, than) = counts
    return f"{few} of the {of} cheaper methods respond, {more} of the {than} dearer ones"


def _prices(axes: Axes, rows: pd.DataFrame) -> None:
    at = np.arange(len(rows))
    axes.hlines(at, rows["seconds"].min() / 2, rows["seconds"], color="#bbbbbb", lw=1)
    axes.plot(rows["seconds"], at, "o", color="#333333", ms=4)
    axes.set_xscale("log")
    axes.set_xlabel("seconds a picture")
    axes.set_yticks(at, rows["method"], fontsize=SMALL)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.grid(visible=False, axis="y")
    for label, control in zip(axes.get_yticklabels(), rows["control"], strict=True):
        label.set_style("italic" if control else "normal")


def _kappas(axes: Axes, rows: pd.DataFrame, margin: float) -> None:
    at = np.arange(len(rows))
    axes.axvspan(-margin, margin, color=CHANCE, alpha=0.5, lw=0, label=f"margin ±{margin:g}")
    axes.axvline(0, color="#555555", lw=1)
    axes.plot(rows["ceiling"], at, "|", color=CEILING, ms=7, label="ceiling")
    for verdict, (colour, marker) in VERDICTS.items():
        chosen = (rows["verdict"] == verdict).to_numpy()
        picked = rows[chosen]
        axes.hlines(at[chosen], picked["low"], picked["high"], color=colour, lw=1.5)
        label = verdict_word(verdict)
        axes.plot(picked["kappa"], at[chosen], marker, color=colour, ms=5, label=label, ls="")
    lowest = rows[["kappa", "low"]].min(axis=None)
    axes.set_xlim(max(-1, min(-0.25, lowest - 0.05)), 1.05)  # beyond it an interval is cut off
    axes.set_xlabel("kappa, all random (0 chance, 1 the same map)")
    axes.grid(visible=False, axis="y")
