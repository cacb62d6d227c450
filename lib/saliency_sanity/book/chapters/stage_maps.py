"""What pages say of a grid of maps by method and stage: its finding, caption, kappa in tiles."""

from collections.abc import Mapping

import pandas as pd

from saliency_sanity.verdict.wording import METRIC_TITLES, foremost, rounded

_COLOURS = {
    "absolute": "Absolute values are summed over channels: black is zero, bright is large.",
    "signed": "With signs: red is positive, blue negative, white zero.",
}


def kept_sentence(last: pd.DataFrame, metric: str) -> str:
    """How many methods' maps stay what they were when the whole network is random, and whose.

    ``last`` are readings of the last stage with titles of methods.
    """
    rows = last[last["metric"] == metric]
    kept = rows[rows["verdict"] == "above"]
    if kept.empty:
        return f"With the whole network random, none of {len(rows)} methods surely keeps its map."
    whose = "all" if len(kept) == len(rows) else f"{len(kept)} of"
    return (
        f"With the whole network random, the maps of {whose} {len(rows)} methods are still like "
        f"the trained network's: {foremost(kept)}."
    )


def grid_caption(metric: str, count: int, modes: tuple[str, ...] = ("absolute", "signed")) -> str:
    """What such a grid shows, by the name of the similarity; kappa is over ``count`` pictures."""
    colours = " ".join(_COLOURS[mode] for mode in modes)
    return (
        "Its maps by method (rows). The first column is the trained network. Each other column "
        "randomizes the block that it names, and in a cascade all blocks above it, too. κ says "
        "how much of a map is left: 0 is what another picture's map gives, 1 is the same map (by "
        f"{METRIC_TITLES[metric]}, mean over {count} pictures). In brackets: over how many, where "
        f"maps of the others are one value everywhere and have no kappa. {colours} Each map is cut "
        "at its 99th percentile. What looks the same from left to right does not need what was "
        "randomized."
    )


def kappas_by_stage(
    readings: pd.DataFrame, metric: str, says: str = "κ {}"
) -> Mapping[str, list[str]]:
    """Kappa in words by method, for the original, which has none, and each stage in order.

    Where it is of fewer pictures than others it says of how many.
    """
    rows = readings[readings["metric"] == metric]
    most = rows["images"].max()

    def said(kappa: float, images: int) -> str:
        # A map that is zero in the random network is not like the trained one's, nor unlike it.
        return says.format(rounded(kappa)) + f" ({images} of {most})" * bool(images < most)

    return {
        method: ["", *map(said, by_stage["kappa"], by_stage["images"])]
        for method, by_stage in rows.groupby("method")
    }
