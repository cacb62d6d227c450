"""What was claimed of input bias, held against our measurements."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from IPython.display import Markdown
from scipy.stats import binomtest

from saliency_sanity.book.chapters.claims import Claim, ClaimTable, judge
from saliency_sanity.probes.units import UNCHANGED, gap
from saliency_sanity.verdict.obstacle import LEAST_IMAGES
from saliency_sanity.verdict.wording import METRIC_TITLES, kappa_text, rounded

RECT, MODIFIED = "rectgrad", "modified_rectgrad"

_PAPER = "Brocki and Chung 2020, abstract"
_OURS = "this book"
_EXACT = 1e-5  # relative to the largest value
# Of fewer photographs, which differ as much as these do, a mean says too little.
LEAST_OBJECTS = 12
# Share of pictures that have to be the same thing to a network as their negatives.
KEEPS = 0.8


def remember(claim: Claim, sentence: str) -> Markdown:
    """The sentence of a panel where its claim is reproduced; else that it is not, and why."""
    if claim.verdict == "reproduced":
        return Markdown(f"**To remember.** {sentence}")
    measured = f" Measured: {claim.measured}." if claim.measured else ""
    said = f"**{claim.verdict.capitalize()}:** {claim.statement}{measured} ({claim.reason}.)"
    return Markdown(said)


def _power(value: float) -> str:
    return f"{value:.0e}" if value else "0"


def dark_claims(
    claims: ClaimTable,
    densities: Mapping[float, Mapping[tuple[str, str], np.ndarray]],
    *,
    zeros: tuple[str, str] = ("black", "mid-grey"),
    confidence: float = 0.95,
) -> list[Claim]:
    """Add what [brocki2020input] says of dark regions, image by image, at every percentile.

    ``densities`` ``[N]`` by percentile q, then by method and colour that is zero; ``zeros`` names
    the dark one and another. RectGrad with the dark zero is held against an average pixel, the map
    without the product, and the other zero. A verdict has to be the same at every q, and needs
    ``LEAST_OBJECTS`` pictures; without densities all three are "not tested".
    """
    blind, other = zeros
    sides = (
        (
            "dark objects are not highlighted",
            "dark-below-average",
            f"With {blind} as its zero, RectGrad gives dark objects less attribution than an "
            "average pixel.",
            None,
            "for an average pixel",
        ),
        (
            "the product takes from dark objects",
            "product-darkens",
            f"With {blind} as its zero, RectGrad gives dark objects less attribution than the "
            "same map does without the product with the input.",
            (MODIFIED, blind),
            "without the product",
        ),
        (
            "the blind spot is a convention",
            "zero-is-convention",
            f"With {other} as its zero, the same RectGrad of the same network gives dark objects "
            f"more attribution than with {blind}.",
            (RECT, other),
            f"with {other} as zero",
        ),
    )
    made = []
    for name, of, statement, key, words in sides:
        measured, verdict = None, "not tested"
        reason = "no picture has a dark object whose outline is known"
        if densities:
            parts, gaps = {}, []
            for q, found in densities.items():
                ours = found[RECT, blind]
                theirs = found[key] if key else np.ones_like(ours)
                gaps.append(gap(theirs, ours, confidence=confidence))
                means = rounded(np.nanmean(ours)), rounded(np.nanmean(theirs))
                parts.setdefault(f"{', '.join(means)}, difference {gaps[-1]}", []).append(f"{q:g}")
            images = min(one.images for one in gaps)
            by_q = "; ".join(f"q = {', '.join(qs)}: {text}" for text, qs in parts.items())
            measured = f"density with {blind} as zero, then {words}; {by_q}; N = {images}"
            verdicts = {one.verdict for one in gaps}
            verdict = verdicts.pop() if len(verdicts) == 1 else "inconclusive"
            reason = (
                "reproduced if the interval of the difference, image by image, lies above 0 at "
                "every q; not reproduced if below at every q"
            )
            if images < LEAST_OBJECTS:
                verdict = "inconclusive"
                reason = f"{images} pictures cannot tell; {LEAST_OBJECTS} are needed"
        made.append(
            claims.add(
                name,
                statement,
                source=_PAPER,
                paper_said="–" if key else "not highlighted",
                measured=measured,
                chance="density 1",
                verdict=verdict,
                reason=reason,
                of=of,
            )
        )
    return made


def exact_claim(claims: ClaimTable, off: Mapping[str, float]) -> Claim:
    """Add that a shift of the input, taken into the first layer, changes no map without product.

    ``off``: largest difference of ``logits``, of the map ``without`` and of that ``with`` the
    product, each relative to the largest value.
    """
    same = off["logits"] <= _EXACT and off["without"] <= _EXACT
    return claims.add(
        "shift invariance",
        "When the first layer takes back a shift of the input, logits and the map without the "
        "product stay as they were. The map with the product changes.",
        source=f"{_OURS}, after Kindermans et al. 2017",
        paper_said="–",
        measured=f"largest relative change: logits {_power(off['logits'])}, without the product "
        f"{_power(off['without'])}, with it {off['with']:.2g}",
        verdict="reproduced" if same and off["with"] > _EXACT else "not reproduced",
        reason=f"reproduced if the first two are at most {_EXACT:.0e} and the third is not",
        of="shift-invariance",
    )


def colour_claim(claims: ClaimTable, at_zero: Mapping[str, tuple[float, float]]) -> Claim:
    """Add that the blind spot moves to whatever colour is zero.

    ``at_zero``: for each artificial zero the mean ``|E|`` of the pixels that have just this colour,
    with and without the product, 1 for the map's mean.
    """
    product, without = (np.array(values) for values in zip(*at_zero.values(), strict=True))
    blind = bool((product == 0).all() and (without > 0).all())
    return claims.add(
        "an artificial blind spot",
        "With rescaled inputs the blind spot moves to an artificial colour; without the product "
        "there is none.",
        source=_PAPER,
        paper_said="moves",
        measured=f"|E| at the zero colour, 1 for the map's mean: {product.max():.2g} with the "
        f"product, {without.min():.2f} to {without.max():.2f} without ({', '.join(at_zero)})",
        chance="1",
        verdict="reproduced" if blind else "not reproduced",
        reason="reproduced if it is exactly 0 for every colour tried with the product, and for "
        "none without it",
        of="artificial-blind-spot",
    )


def premise_claim(
    claims: ClaimTable, stays: int, shown: int, weights: str, *, confidence: float = 0.95
) -> Claim:
    """Add that a network gives ``stays`` of ``shown`` negatives their picture's class."""
    share = binomtest(stays, shown).proportion_ci(confidence, method="wilson")
    verdict = "inconclusive"
    if share.low >= KEEPS:
        verdict = "reproduced"
    elif share.high < KEEPS:
        verdict = "not reproduced"
    return claims.add(
        "a negative shows the same thing",
        "The network gives a picture and its negative the same class.",
        source=_OURS,
        paper_said="–",
        measured=f"{stays} of {shown} negatives: {stays / shown:.0%} ({share.low:.0%} to "
        f"{share.high:.0%}), weights {weights}",
        verdict=verdict,
        reason=f"reproduced if the interval lies above {KEEPS:.0%}; not reproduced if below",
        of="negatives-show-same",
    )


def negative_claim(
    claims: ClaimTable, premise: Claim, readings: pd.DataFrame | None, images: int
) -> Claim:
    """Add that maps of a picture and its negative differ more with the product than without.

    ``readings`` of ``moved_table`` for the ``images`` whose class stays, or None. Where the
    ``premise`` of ``premise_claim`` fails, they cannot tell: what the network sees has changed.
    """
    measured, verdict = f"{images} negatives with their original's class", "not tested"
    reason = f"{LEAST_IMAGES} negatives that keep their original's class are needed"
    if premise.verdict != "reproduced":
        reason = "it cannot tell: a negative does not show the network the same thing"
        if premise.verdict == "inconclusive":
            reason = "it cannot tell: whether a negative shows the network the same thing is open"
    elif readings is not None:
        rows = readings.set_index("method")
        product, without = rows.loc[RECT], rows.loc[MODIFIED]
        measured = (
            f"kappa of a picture's map and its negative's: {kappa_text(product)} with the product, "
            f"{kappa_text(without)} without; {images} pictures"
        )
        verdict = "inconclusive"
        if without["low"] > product["high"]:
            verdict = "reproduced"
        elif without["high"] < product["low"]:
            verdict = "not reproduced"
        reason = "reproduced if the interval without lies above that with the product"
    return claims.add(
        "negatives",
        "When a picture and its negative get the same class, their maps are more alike without "
        "the product than with it.",
        source=_OURS,
        paper_said="–",
        measured=measured,
        chance="kappa 0",
        verdict=verdict,
        reason=reason,
        of="negatives-alike",
    )


def following_claims(
    claims: ClaimTable, likeness: pd.DataFrame, moved: pd.DataFrame, multiplied: Sequence[str]
) -> list[Claim]:
    """Add which methods follow the input, and which hang on its zero.

    ``likeness`` of ``likeness_table``, ``moved`` of ``moved_table``; ``multiplied`` names
    the methods that multiply by the input at the end or at the first layer. A map of one value,
    such as Canny's, has no ranks, and is not counted.
    """
    made = []
    for by, rows in likeness.groupby("metric", sort=False):
        product, without = (rows.set_index("method").loc[key] for key in (RECT, MODIFIED))
        verdict = "inconclusive"
        if product["verdict"] == "above" and product["low"] > without["high"]:
            verdict = "reproduced"
        elif product["verdict"] == "below":
            verdict = "not reproduced"
        made.append(
            claims.add(
                f"a strong input bias, by {METRIC_TITLES.get(by, by)}",
                "RectGrad's map follows the size of the input; without the product it does so "
                "less.",
                source=_PAPER,
                paper_said="strong",
                measured=f"kappa {kappa_text(product)} with the product, {kappa_text(without)} "
                "without",
                chance="kappa 0",
                verdict=verdict,
                reason="reproduced if the interval with the product lies above the margin and "
                "above that without it; not reproduced if below the margin",
                of="follows-input",
                by=str(by),
            )
        )
    kept = moved.set_index("method")["kappa"].dropna()
    changed = {name for name, kappa in kept.items() if kappa < UNCHANGED}
    expected = {name for name in kept.index if name in multiplied}
    wrong = sorted(changed ^ expected)
    last = claims.add(
        "methods that multiply depend on the zero",
        "The maps that change with the units of the input alone are those of methods that "
        "multiply by the input.",
        source=_OURS,
        paper_said="–",
        measured=f"{len(changed)} of {len(kept)} methods and controls change"
        + (f"; otherwise than expected: {', '.join(wrong)}" if wrong else ""),
        verdict="not reproduced" if wrong else "reproduced",
        reason=f"reproduced if kappa of the maps before and after is at least {UNCHANGED} for "
        "every method that does not multiply, and for none that does",
        of="hangs-on-zero",
    )
    return [*made, last]


def rule_claim(claims: ClaimTable, likeness: pd.DataFrame | None, refused: str = "") -> Claim:
    """Add that of LRP's rules for the input layer only z follows the input.

    ``likeness`` of ``input_size.likeness_table``, its methods being input rules, or None where LRP
    is ``refused``. The first metric is read.
    """
    verdict, measured, reason = "not tested", None, refused or "LRP has no rule for this network"
    if likeness is not None:
        rows = likeness[likeness["metric"] == likeness["metric"].iloc[0]].set_index("method")
        measured = "kappa of |E| and |x|: " + "; ".join(
            f"{name} {kappa_text(row)}" for name, row in rows.iterrows()
        )
        lower = rows.drop("z")["high"] < rows.loc["z", "low"]
        verdict = judge([rows.loc["z", "verdict"]])
        # Intervals that overlap say nothing against it.
        if verdict == "reproduced" and not lower.all():
            verdict = "inconclusive"
        reason = (
            "reproduced if the z rule's interval lies above the margin and every other interval "
            "lies below it; not reproduced if the z rule's lies below the margin"
        )
    return claims.add(
        "LRP has it, too",
        "Layer-wise relevance propagation (LRP) has the bias with the z rule at the input layer, "
        "and less of it with rules that share relevance regardless of the pixel.",
        source=f"{_PAPER} (LRP); the rules: {_OURS}",
        paper_said="strong bias in modified maps such as LRP",
        measured=measured,
        chance="kappa 0",
        verdict=verdict,
        reason=reason,
        of="lrp-follows-input",
    )


def tau_claim(claims: ClaimTable, off: float) -> Claim:
    """Add that RectGrad with threshold 0 is guided backpropagation times input, but for ``off``."""
    return claims.add(
        "threshold 0",
        "With a threshold of 0 RectGrad is guided backpropagation times the input.",
        source="Kim et al. 2019, code",
        paper_said="equal",
        measured=f"largest relative difference {_power(off)}",
        verdict="reproduced" if off <= _EXACT else "not reproduced",
        reason=f"reproduced if at most {_EXACT:.0e}",
        of="threshold-zero",
    )


def trick_claim(
    claims: ClaimTable,
    plain: np.ndarray,
    trick: np.ndarray,
    *,
    confidence: float = 0.95,
) -> Claim:
    """Add that the padding trick clears the border: densities ``[N]`` in the outermost ring."""
    found = gap(plain, trick, confidence=confidence)
    return claims.add(
        "padding trick",
        "Clearing the ring of each padded convolution takes attribution off the picture's border.",
        source="Kim et al. 2019, code",
        paper_said="–",
        measured=f"density of the border {rounded(np.nanmean(plain))} without, "
        f"{rounded(np.nanmean(trick))} with the trick; difference {found}",
        chance="density 1",
        verdict=found.verdict,
        reason="reproduced if the interval of the difference, image by image, lies above 0",
        of="padding-trick",
    )


def sanity_claims(claims: ClaimTable, readings: pd.DataFrame, metric: str) -> list[Claim]:
    """Add that RectGrad fails the sanity check with the product and without it.

    ``readings`` of a cascade as ``outcome.stage_table`` makes them; the last stage is read.
    """
    last = readings[readings["position"] == readings["position"].max()]
    rows = last[last["metric"] == metric].set_index("method")
    made = []
    for key, words in ((RECT, "with the product"), (MODIFIED, "without the product")):
        row = rows.loc[key]
        made.append(
            claims.add(
                f"RectGrad {words} sees the picture",
                f"RectGrad {words} keeps more than the margin when the whole network is random.",
                source=f"{_OURS}, after Sixt et al. 2020",
                paper_said="–",
                measured=f"kappa {kappa_text(row)}, similarity {rounded(row['similarity'])}",
                chance=f"similarity {rounded(row['chance'])}, kappa 0",
                verdict=judge([row["verdict"]]),
                reason="reproduced if the interval lies above the margin; not reproduced if below",
                of="rectgrad-sees-picture",
                about=words,
                by=metric,
            )
        )
    return made
