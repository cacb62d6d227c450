"""What pages say of a grid of maps by method and stage: its finding, caption, kappa in tiles."""

from collections.abc import Mapping, Sequence

import pandas as pd

from saliency_sanity.experiments.outcome import MOST, halfway
from saliency_sanity.verdict.wording import (
    METRIC_TITLES,
    foremost,
    kappa_text,
    out_of,
    rounded,
    verdict_word,
)

_COLOURS = (
    "Absolute values are summed over channels: black is zero, bright is large. With signs: red is "
    "positive, blue negative, white zero."
)


def kept_sentence(readings: pd.DataFrame, metric: str, half: str | None = None) -> str:
    """How many methods' maps stay what they were when the network is random, and whose.

    ``readings`` have titles of methods; the last stage is wholly random. ``half`` is the stage
    ``halfway`` of a cascade from the logits down, where there is one: its maps are told first.
    """
    rows = readings[readings["metric"] == metric]
    last = rows[rows["position"] == rows["position"].max()]
    kept = last[last["verdict"] == "above"]
    if half is None:
        return f"With the whole network random, {_left('something', 'anything', kept, last)}."
    there = rows[rows["stage"] == half]
    most = _left("most", "most", there[there["sure_low"] > MOST], there)
    whole = "none surely keeps anything"
    if len(kept):
        count = "all" if len(kept) == len(last) else len(kept)
        whole = f"something is left of {count}: {foremost(kept)}"
    return f"With the upper half random, {most}. With everything random, {whole}."


def own_sentence(readings: pd.DataFrame, metric: str, method: str, half: str | None) -> str:
    """Kappa of one method's maps when the network is random, and its verdict.

    ``readings`` and ``half`` as in ``kept_sentence``; ``method`` is a title.
    """
    own = readings[(readings["metric"] == metric) & (readings["method"] == method)]
    if own.empty:
        return f"{method} does not apply to this network."
    rows = own.sort_values("position").to_dict("records")
    last = f"{kappa_text(rows[-1])}: {verdict_word(rows[-1]['verdict'])}"
    if half is None:
        return f"With the whole network random, kappa of {method} is {last}."
    (there,) = (kappa_text(row) for row in rows if row["stage"] == half)
    return (
        f"With the upper half random, kappa of {method} is {there}. With everything random, it is "
        f"{last}."
    )


def competing_sentence(last: pd.DataFrame, metric: str, twins: Mapping[str, str]) -> str:
    """How many methods keep their maps in a random network, and how many in competition.

    ``last`` are readings of the last stage with titles of methods, ``twins`` has by the title of
    each competitive method that of its base.
    """
    rows = last[last["metric"] == metric].set_index("method")["verdict"]
    kept, left = (
        [one for one in names if rows[one] == "above"] for names in (twins.values(), twins)
    )
    whose, count = ", ".join(twins[one] for one in left), out_of(len(kept), len(twins))
    if kept:
        found = f"something is left of the maps of {count} methods; in competition that is sure "
        found += f"of {len(left)}: {whose}" if left else "of none"
    else:
        found = f"{count} methods surely keeps anything of its map, "
        found += f"but in competition {len(left)}: {whose}" if left else "in competition or without"
    return f"With the whole network random, {found}."


def _left(some: str, any_: str, kept: pd.DataFrame, rows: pd.DataFrame) -> str:
    whose = out_of(len(kept), len(rows))
    if kept.empty:
        return f"{whose} methods surely keeps {any_} of its map"
    return f"{some} is left of the maps of {whose} methods: {foremost(kept)}"


def row_name(title: str, control: bool) -> str:
    """What stands beside a row of maps: a control says that it is one."""
    return f"{title}, control" if control else title


def stage_heads(stages: Sequence[str], half: str | None) -> list[str]:
    """What stands above the columns of a cascade; halfway and at the end it says what is random."""
    said = {half: "half random", stages[-1]: "all random"}
    return [f"{stage} ({said[stage]})" if stage in said else stage for stage in stages]


def upper_half(readings: pd.DataFrame, order: str) -> str | None:
    """The stage with the upper half random, of a cascade from the logits down of three or more."""
    return halfway(readings) if order == "top_down" and "random" in readings else None


def grid_caption(
    readings: pd.DataFrame, metric: str, count: int, margin: float, half: str | None = None
) -> str:
    """What such a grid of readings shows; ``metric`` decides, over ``count`` pictures.

    ``half`` is the stage that the finding names beside the last.
    """
    fewer = (readings["images"][readings["metric"] == metric] < count).any()
    most = f" Most is left where it lies above {MOST:g}."
    of = (
        " Where it says of how many pictures κ is, the maps of the others are one value everywhere "
        "and have no κ."
    )
    return (
        "Its maps by method (rows). The first column is the trained network. Each other column "
        "randomizes the block that it names, and in a cascade all blocks above it, too. κ says "
        "how much of a map is left: 0 is what another picture's map gives, 1 is the same map (by "
        f"{METRIC_TITLES[metric]}, mean over {count} pictures). At the last stage stands the "
        f"verdict, too: picture-driven, if κ's interval lies above the margin {margin:g}, so that "
        "something is left, responds, if it lies below, inconclusive, if the margin is within it."
        f"{most * (half is not None)}{of * bool(fewer)} {_COLOURS} "
        "Each map is cut at its 99th percentile. What looks the same from left to right does not "
        "need what was randomized."
    )


def kappas_by_stage(
    readings: pd.DataFrame, metric: str, count: int, says: str = "κ {}"
) -> Mapping[str, list[str]]:
    """Kappa in words by method, for the original, which has none, and each stage in order.

    Where it is of fewer pictures than all ``count`` it says of how many. At the last stage the
    verdict follows.
    """
    rows = readings[readings["metric"] == metric]

    def said(kappa: float, images: int) -> str:
        # A map that is zero in the random network is not like the trained one's, nor unlike it.
        return says.format(rounded(kappa)) + f" ({images} of {count})" * bool(images < count)

    found = {}
    for method, stages in rows.groupby("method"):
        found[method] = ["", *map(said, stages["kappa"], stages["images"])]
        found[method][-1] += f", {verdict_word(stages['verdict'].iloc[-1])}"
    return found
