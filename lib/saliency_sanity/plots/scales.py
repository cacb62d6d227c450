"""Scales of channels by layer and stage, and how much of them randomization leaves."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from saliency_sanity.plots.competition import styles_of
from saliency_sanity.plots.layout import SMALL, WIDTH, headline, legend
from saliency_sanity.plots.style import SIGNED

ORDER_TITLES = {"top_down": "from the logits down", "bottom_up": "from the input up"}


def scale_heatmap(table: pd.DataFrame, quantity: str, *, title: str = "") -> Figure:
    """A quantity by stage (row) and layer (column), a panel an order; random layers are framed.

    ``table`` as ``KeptScales.table`` gives it. Blue is below 0, red above it.
    """
    rows = table[table["quantity"] == quantity]
    orders = list(dict.fromkeys(rows["order"]))
    layers = rows.drop_duplicates("place").sort_values("place")["layer"].tolist()
    stages = max(rows.groupby("order")["position"].nunique())
    named = len(layers) <= 8
    figure, grid = plt.subplots(
        len(orders),
        1,
        figsize=(WIDTH, len(orders) * (0.3 * stages + 0.8) + (1.0 if named else 1.6)),
        squeeze=False,
        layout="constrained",
    )
    headline(figure, title)
    for axes, order in zip(grid[:, 0], orders, strict=True):
        own = rows[rows["order"] == order]
        values = own.pivot(index="position", columns="place", values="value")
        image = axes.imshow(values, cmap=SIGNED, vmin=-1, vmax=1, aspect="auto")
        for _, cell in own.iterrows():
            at = cell["place"], cell["position"]
            if np.isfinite(cell["value"]):
                shade = "#ffffff" if abs(cell["value"]) > 0.6 else "#000000"
                text = f"{cell['value']:.1f}".replace("-0.0", "0.0").replace("-", "−")
                axes.text(*at, text, ha="center", va="center", fontsize=SMALL, color=shade)
            if cell["random"]:
                corner = at[0] - 0.47, at[1] - 0.45
                axes.add_patch(Rectangle(corner, 0.94, 0.9, fill=False, ec="#000000", lw=1))
        names = own.drop_duplicates("position").sort_values("position")["stage"]
        axes.set_yticks(range(len(names)), names, fontsize=SMALL)
        turned = {} if named else {"rotation": 90}
        axes.set_xticks(range(len(layers)), layers, fontsize=SMALL, **turned)
        if order != orders[-1]:
            axes.tick_params(labelbottom=False)
        axes.set_title(f"Randomized {ORDER_TITLES[order]}", fontsize=SMALL + 1)
        axes.set_ylabel("stage", fontsize=SMALL)
        axes.grid(visible=False)
    grid[-1, 0].set_xlabel("layer, from the input on", fontsize=SMALL)
    bar = figure.colorbar(image, ax=grid[:, 0].tolist(), shrink=0.8)
    bar.set_label("rank correlation over channels", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    return figure


def edge_chart(
    rows: pd.DataFrame, words: Mapping[str, str], *, titles: Mapping[str, str], title: str = ""
) -> Figure:
    """What the layer just below the random ones keeps, over stages; a panel a kind of number.

    ``rows`` has quantity, stage, position, value, low, high and chance, a row a stage and quantity;
    ``words`` says what each quantity is called, ``titles`` names for the panels ``rank`` (rank
    correlations) and ``share``. Chance is dotted.
    """
    panels = {
        "rank": [q for q in words if q in ("carried", "influence")],
        "share": [q for q in words if q == "top"],
    }
    figure, grid = plt.subplots(
        1, len(panels), figsize=(WIDTH, 4.6), squeeze=False, layout="constrained"
    )
    headline(figure, title)
    stages, styles = rows.drop_duplicates("position").sort_values("position"), styles_of([*words])
    for axes, (panel, quantities) in zip(grid[0], panels.items(), strict=True):
        for quantity in quantities:
            own = rows[rows["quantity"] == quantity].sort_values("position")
            colour, marker, dashes = styles[quantity]
            axes.fill_between(
                own["position"], own["low"], own["high"], color=colour, alpha=0.18, lw=0
            )
            axes.plot(
                *(own["position"], own["value"]),
                color=colour,
                marker=marker,
                ls=dashes,
                lw=1.6,
                label=words[quantity],
            )
            axes.plot(own["position"], own["chance"], color="#555555", ls=":", lw=1.4)
        axes.plot([], [], color="#555555", ls=":", lw=1.4, label="chance")
        axes.set_ylim(-0.25 if panel == "rank" else 0, 1.05)
        axes.set_xticks(stages["position"], stages["label"], fontsize=SMALL)
        axes.tick_params(labelsize=SMALL)
        axes.set_title(titles[panel], fontsize=SMALL + 1)
        axes.set_xlabel("share of random blocks, from the logits down", fontsize=SMALL)
    legend(figure, {})
    return figure
