"""What was said of randomization as a ranking, held against what was measured."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from saliency_sanity.book.chapters.claims import ClaimTable, shown
from saliency_sanity.probes.rankings import Concordance
from saliency_sanity.probes.scales import KeptScales, summary
from saliency_sanity.verdict.obstacle import CANNOT_TELL, LEAST_IMAGES
from saliency_sanity.verdict.wording import METRIC_TITLES, rounded

CONTROL = "noise"
# From this rank correlation on two rankings count as the same.
SAME = 0.5
# A probability above this is more likely than not.
EVEN = 0.5
_TOLERANCE = 1e-6  # dividing may round two values to one, and then they tie
_PAPER = "Binder et al. 2023, abstract"


def scale_claims(
    claims: ClaimTable,
    rankings: Mapping[str, pd.DataFrame],
    concordances: Mapping[str, Concordance],
    kept: KeptScales,
    rank_change: float,
    *,
    pictures: int,
    networks: int,
    margin: float,
    level: float = 0.05,
) -> None:
    """Add what [binder2023shortcomings] says in its abstract, and two statements of our own.

    ``rankings`` of ``ahead_of`` beside noise and ``concordances`` by metric, with intervals of
    confidence 1 - ``level``; ``kept`` of randomization from the logits down; ``rank_change`` the
    most that dividing maps by the root of their mean square changed a rank correlation. With fewer
    than five pictures or two networks nothing is decided.
    """
    many = pictures >= LEAST_IMAGES and networks > 1
    of = f"{pictures} pictures, {networks} random networks"
    for metric, ranking in rankings.items():
        _noise(claims, metric, ranking, of, margin=margin, many=many)
    for metric, found in concordances.items():
        _differ(claims, metric, found, of, level=level, many=many)
    _carried(claims, kept, of, margin=margin, level=level, many=many)
    _likely(claims, kept, of, level=level, many=many)
    _inherit(claims, kept, of, margin=margin, level=level, many=many)
    claims.add(
        "the second moment leaves ranks alone",
        "Dividing a map by the root of its mean square changes no rank correlation.",
        source="identity: ranks do not change when all values are divided by one positive number",
        paper_said="–",
        measured=f"largest change {shown(rank_change)}",
        chance=None,
        verdict="reproduced" if rank_change <= _TOLERANCE else "not reproduced",
        reason=f"reproduced if no rank correlation changes by more than {_TOLERANCE:g}",
        of="second-moment-ranks",
    )


def held(low: float, high: float, line: float, *, many: bool) -> str:
    """Whether an interval lies ``above`` or ``below`` a line; ``inconclusive`` where neither."""
    if not many or not np.isfinite([low, high]).all():
        return "inconclusive"
    return "above" if low > line else "below" if high < line else "inconclusive"


_SUPPORTS = {"above": "reproduced", "below": "not reproduced"}
_DENIES = {"above": "not reproduced", "below": "reproduced"}


def spanned(value: float, low: float, high: float, line: float = np.nan) -> str:
    """A number with its interval, whose ends are printed on their side of a line."""
    return f"{rounded(value)} ({rounded(low, line)} to {rounded(high, line)})"


def _noise(
    claims: ClaimTable, metric: str, ranking: pd.DataFrame, of: str, *, margin: float, many: bool
) -> None:
    rows = ranking.set_index("method")
    own, others = rows.loc[CONTROL], rows.drop(CONTROL)
    others = others[others["value"].notna()]
    ahead = others[others["behind_high"] < -margin]
    tied = others[(others["behind_low"] <= -margin) & (others["behind_high"] >= -margin)]
    unknown = others["behind_low"].isna().any()
    verdict = "inconclusive"
    if many and len(ahead):
        verdict = "not reproduced"
    elif many and not len(tied) and not unknown:
        verdict = "reproduced"
    claims.add(
        f"noise wins, by {METRIC_TITLES[metric]}",
        "When the network is randomized from the logits down, no method's similarity is more "
        f"than {margin:g} below that of noise, which explains nothing.",
        source=_PAPER,
        paper_said="uninformative maps score high",
        measured=f"similarity {spanned(own['value'], own['low'], own['high'])}, rank "
        f"{own['rank']:g} of {int(rows['rank'].notna().sum())}; {len(ahead)} ahead by more than "
        f"{margin:g}; {of}",
        chance="similarity of unrelated maps: noise's own",
        verdict=verdict,
        reason="similarity minus that of noise, picture by picture: reproduced if every interval "
        f"lies above −{margin:g}; not reproduced if one lies below",
        of="noise-wins",
        by=metric,
    )


def _differ(
    claims: ClaimTable, metric: str, found: Concordance, of: str, *, level: float, many: bool
) -> None:
    low, high = found.interval(1 - level)
    verdict = _DENIES.get(held(low, high, SAME, many=many), "inconclusive")
    if verdict != "not reproduced" and not found.ceiling > SAME:
        verdict = CANNOT_TELL
    claims.add(
        f"rankings differ, by {METRIC_TITLES[metric]}",
        "Methods whose maps change most are not those whose maps are the most faithful, by "
        "insertion and deletion.",
        source=_PAPER,
        paper_said="a gap between the rankings",
        measured=f"rank correlation {spanned(found.value, low, high, SAME)} over {found.methods} "
        f"methods; {of}",
        chance="rank correlation 0",
        verdict=verdict,
        reason=f"reproduced if the interval lies below {SAME:g}; not reproduced if above; cannot "
        f"tell where rankings that differ only by their pictures would not reach {SAME:g}: here "
        f"{rounded(found.ceiling)}",
        of="rankings-differ",
        by=metric,
    )


def _along(kept: KeptScales, quantity: str) -> str:
    """Of what the mean over stages is made."""
    stages = [rounded(float(np.nanmean(s))) for s in kept.at_edges("top_down", quantity)]
    return f"a mean over stages, {stages[0]} at the first and {stages[-1]} at the last"


def _carried(
    claims: ClaimTable, kept: KeptScales, of: str, *, margin: float, level: float, many: bool
) -> None:
    value, low, high = summary(kept.edge("top_down", "carried"), "carried", 1 - level)
    chance = float(np.nanmean(kept.edge("top_down", "carried", chance=True)))
    claims.add(
        "large channels stay influential",
        "In the layer below the random ones, channels that were large have much influence on the "
        "logit, although every weight above is random.",
        source=_PAPER,
        paper_said="channels with large activations contribute strongly",
        measured=f"rank correlation {spanned(value, low, high, margin)}, "
        f"{_along(kept, 'carried')}; {of}",
        chance=f"rank correlation {rounded(chance)}, channels permuted",
        verdict=_SUPPORTS.get(held(low, high, margin, many=many), "inconclusive"),
        reason=f"reproduced if the interval lies above {margin:g}; not reproduced if below",
        of="scales-carry",
    )


def _likely(claims: ClaimTable, kept: KeptScales, of: str, *, level: float, many: bool) -> None:
    value, low, high = summary(kept.edge("top_down", "top"), "top", 1 - level)
    chance = float(np.nanmean(kept.edge("top_down", "top", chance=True)))
    claims.add(
        "a large channel is more likely than not influential",
        "Take the quarter of the channels with the largest activations: more than half of them "
        "are also in the quarter with the most influence, although every weight above is random.",
        source=_PAPER,
        paper_said="with high probability",
        measured=f"share {spanned(value, low, high, EVEN)}, {_along(kept, 'top')}; {of}",
        chance=f"share {rounded(chance)}, channels permuted",
        verdict=_SUPPORTS.get(held(low, high, EVEN, many=many), "inconclusive"),
        reason=f"reproduced if the interval lies above {EVEN:g}; not reproduced if below. Which "
        "probability counts as high is our reading",
        of="large-stay-likely",
    )


def _inherit(
    claims: ClaimTable, kept: KeptScales, of: str, *, margin: float, level: float, many: bool
) -> None:
    value, low, high = summary(kept.whole("top_down", "norms"), "norms", 1 - level)
    chance = float(np.nanmean(kept.chances["top_down", "norms"][-1]))
    claims.add(
        "random layers inherit scales",
        "Channels of a wholly random network keep the order of their sizes.",
        source="this book",
        paper_said="–",
        measured=f"rank correlation of norms {spanned(value, low, high, margin)}, a mean over "
        f"layers; {of}",
        chance=f"rank correlation {rounded(chance)}, channels permuted",
        verdict=_SUPPORTS.get(held(low, high, margin, many=many), "inconclusive"),
        reason=f"reproduced if the interval lies above {margin:g}; not reproduced if below",
        of="random-layers-inherit",
    )
