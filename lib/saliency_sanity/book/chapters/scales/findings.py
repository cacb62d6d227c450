"""What the figures of this chapter show, in a line above each, from their numbers."""

from collections.abc import Mapping, Sequence

import pandas as pd

from saliency_sanity.book.chapters.scales.claims import SAME
from saliency_sanity.plots.scales import ORDER_TITLES
from saliency_sanity.probes.rankings import Concordance
from saliency_sanity.verdict.wording import rounded

_Numbers = tuple[float, float, float]


def noise_finding(rankings: Mapping[str, pd.DataFrame], control: str) -> str:
    """Which rank a control has, by the title of each similarity."""
    parts = []
    for title, ranking in rankings.items():
        ranks = ranking.set_index("method")["rank"]
        parts.append(f"{ranks[control]:g} of {int(ranks.notna().sum())} by {title}")
    return f"Noise, which explains nothing, has rank {parts[0]}, {', '.join(parts[1:])}"


def first_gone(rows: pd.DataFrame, controls: Sequence[str], metric: str) -> str:
    """How many methods are below the margin already at the first stage, by order."""
    methods = rows[~rows["method"].isin(controls)]
    parts = []
    for order, part in methods.groupby("order", sort=False):
        first = part[part["position"] == 0]
        below = int((first["verdict"] == "below").sum())
        parts.append(f"{below} of {len(first)} {ORDER_TITLES.get(order, order)}")
    return f"Methods that respond to the first random block: {', '.join(parts)} ({metric})"


def inherited_finding(found: _Numbers) -> str:
    """Whether channels of the wholly random network keep the order of their sizes."""
    value, low, high = found
    says = "keep some of" if low > 0 else "rather reverse" if high < 0 else "show nothing of"
    numbers = _minus(f"{rounded(value)}, {rounded(low)} to {rounded(high)}")
    return (
        f"Layers below the random ones are as they were; random ones {says} the order "
        f"of their channels' sizes (whole network random: {numbers})"
    )


def carried_finding(found: _Numbers) -> str:
    """How many of the large channels stay influential."""
    value, low, high = found
    return (
        f"{value:.0%} of the large channels stay influential, all layers above random "
        f"({low:.0%} to {high:.0%}, mean over stages; chance a quarter)"
    )


def prepared_finding(ranks: Sequence[float]) -> str:
    """Which rank noise has by SSIM, by the way maps are scaled."""
    *first, last = (f"{rank:g}" for rank in ranks)
    if {*first} == {last}:
        return f"By SSIM noise has rank {last} however maps are scaled"
    return f"By SSIM noise has rank {', '.join(first)} and {last}, depending on how maps are scaled"


def concord_finding(found: Concordance) -> str:
    """Whether two rankings are the same."""
    low, high = found.interval()
    known = found.ceiling > SAME
    says = "alike" if low > SAME else "otherwise" if high < SAME and known else "perhaps alike"
    return _minus(
        f"Change from the logits down and faithfulness rank methods {says}: "
        f"rank correlation {rounded(found.value)} ({rounded(low)} to {rounded(high)}; "
        f"ceiling {rounded(found.ceiling)}), by SSIM"
    )


def _minus(text: str) -> str:
    return text.replace("-", "−")
