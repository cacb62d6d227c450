"""What was claimed of relevance that converges, held against our cosines and similarities."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.probes.random_logit import FLIPS
from saliency_sanity.verdict.interval import interval
from saliency_sanity.verdict.obstacle import LEAST_IMAGES

_PAPER = "Sixt et al. 2020, abstract and introduction"

# What the paper says of which method: that it converges, that it ignores later layers, which is
# shown by the same cosines, or that it does neither.
CONVERGES = ("lrp_zplus", "lrp_alpha_beta")
IGNORES = ("guided_backprop", "modified_rectgrad")
STAYS = ("lrp_z", "deeplift")

# What a state says of the claim that a method converges, and of the claim that it does not.
_OUTCOMES = (
    {"converges": "reproduced", "stays apart": "not reproduced"},
    {"converges": "not reproduced", "stays apart": "reproduced"},
)


@dataclass(frozen=True)
class Levels:
    """Where lines are drawn.

    Relevances with cosines from ``converged`` on have one direction, below ``apart`` they have not;
    maps of a similarity from ``alike`` on are nearly the same.
    """

    converged: float
    apart: float
    alike: float


@dataclass(frozen=True)
class Mean:
    """A mean over pictures with its interval, which is shown within ``least`` and 1.

    A limit is printed on its side of the ``lines``, with more decimals where it takes them.
    """

    value: float
    low: float
    high: float
    images: int
    least: float = 0.0
    lines: tuple[float, ...] = ()

    def __str__(self) -> str:
        low, high = max(self.low, self.least), min(self.high, 1.0)
        return f"{self.value:.3f} ({self._limit(low)} to {self._limit(high)})"

    def _limit(self, value: float) -> str:
        digits = 3
        while digits < 6 and any(
            np.sign(round(value, digits) - line) != np.sign(value - line) for line in self.lines
        ):
            digits += 1
        return f"{value:.{digits}f}"


def from_starts(pictures: pd.DataFrame, method: str, confidence: float = 0.95) -> dict[str, Mean]:
    """The cosine at the lowest layer by layer of the start, mean over pictures.

    ``pictures`` as ``converging`` gives them. With ``confidence`` all intervals together hold what
    is true: each has a confidence as much nearer to 1 as there are starts.
    """
    rows = pictures[pictures["method"] == method]
    rows = rows[rows["position"] == rows["position"].min()]
    each = 1 - (1 - confidence) / rows["start"].nunique()
    return {
        start: _mean(part["cosine"].to_numpy(), each)
        for start, part in rows.groupby("start", sort=False)
    }


def least_start(found: Mapping[str, Mean]) -> str:
    """The start from which the cosine is least. To converge is to forget whatever it came from."""
    return min(found, key=lambda start: found[start].value)


def state(found: Mapping[str, Mean], levels: Levels) -> str:
    """``converges`` from all starts, ``stays apart`` from one at least, or ``open``."""
    if min(one.images for one in found.values()) < LEAST_IMAGES:
        return "open"
    if all(one.low >= levels.converged for one in found.values()):
        return "converges"
    return "stays apart" if any(one.high < levels.apart for one in found.values()) else "open"


def logit_alike(matrix: np.ndarray, confidence: float = 0.95) -> Mean:
    """The similarity of maps of two labels of the same picture, of matrices ``[R, N, N]``."""
    own = matrix.diagonal(axis1=1, axis2=2)
    # Draws of another label are no networks: they are averaged within a picture.
    return replace(_mean(own.mean(axis=0), confidence), least=-1.0)


def _mean(values: np.ndarray, confidence: float) -> Mean:
    known = int(np.isfinite(values).sum())
    return Mean(*interval(values[None], confidence=confidence), known)


def factor_claim(claims: ClaimTable, cosines: Mapping[str, np.ndarray], chance: float) -> None:
    """Add the theorem: ``cosines`` ``[factors + 1, pairs]`` of random vectors by kind of matrix."""
    least, middle = cosines["non-negative"][-1].min(), np.median(cosines["signed"][-1])
    lowest = cosines["signed"][-1].min()
    pairs, factors = cosines["signed"].shape[1], len(cosines["signed"]) - 1
    claims.add(
        "non-negative factors",
        "Random matrices without negative entries turn two random vectors to one direction; the "
        "same number of matrices with signs does not.",
        source="Sixt et al. 2020, theorem",
        paper_said="a product of non-negative matrices converges to rank 1",
        measured=f"{factors} factors, {pairs} pairs: least cosine {least:.4f} without negative "
        f"entries; with signs median {middle:.2f}, least {lowest:.2f}",
        chance=f"cosine {chance:.2f}",
        verdict="reproduced" if least >= 0.999 > middle else "not reproduced",
        reason="reproduced if every pair has a cosine of 0.999 or more without negative entries, "
        "and the median is less with signs",
        of="non-negative-product",
    )


def convergence_claims(
    claims: ClaimTable,
    pictures: pd.DataFrame,
    chances: Mapping[str, float],
    titles: Mapping[str, str],
    network: str,
    levels: Levels,
    confidence: float = 0.95,
) -> None:
    """Add what [sixt2020explanations] says of cosines: which methods converge, and which do not.

    ``pictures`` as ``converging`` gives them, ``chances`` by layer, ``titles`` by method;
    ``network`` is what a row calls the network.
    """
    kinds = (
        (CONVERGES, "converges", "relevance-converges", "converges to rank 1"),
        (IGNORES, "ignores later layers", "later-layers-ignored", "ignores later layers"),
        (STAYS, "does not converge", "relevance-stays", "does not converge"),
    )
    lowest = pictures.loc[pictures["position"].idxmin(), "layer"]
    for methods, words, of, said in kinds:
        for method in methods:
            if method not in set(pictures["method"]):
                continue
            found = from_starts(pictures, method, confidence)
            reached = state(found, levels)
            lines = (
                f"the intervals from all starts are of at least {levels.converged:g}",
                f"one is below {levels.apart:g}",
            )
            for_it, against = lines[::-1] if methods is STAYS else lines
            few = min(found.values(), key=lambda one: one.images)
            claims.add(
                f"{titles[method]} {words}",
                f"{titles[method]}: what comes out below "
                + (
                    "depends on the relevance that is put in above."
                    if methods is STAYS
                    else "has one direction, whatever relevance is put in above."
                ),
                source=_PAPER,
                paper_said=said,
                measured=f"cosine at {lowest} "
                + ", ".join(
                    f"{replace(one, lines=(levels.apart, levels.converged))} from {start}"
                    for start, one in found.items()
                )
                + f"; {few.images} pictures, {network}",
                chance=f"cosine {chances[lowest]:.2f}",
                verdict=_OUTCOMES[methods is STAYS].get(reached, "inconclusive"),
                reason=f"reproduced if {for_it}, not reproduced if {against}" + _few(few),
                of=of,
                about=titles[method],
            )


def logit_claims(
    claims: ClaimTable,
    matrices: Mapping[tuple[str, str], np.ndarray],
    chances: Mapping[str, float],
    titles: Mapping[str, str],
    network: str,
    levels: Levels,
    confidence: float = 0.95,
) -> None:
    """Add what [sixt2020explanations] says of the map of a random other logit.

    ``matrices`` ``[R, N, N]`` by method and flip, as ``logit_similarities`` gives them; ``chances``
    by method, of either sign.
    """
    for method in (*CONVERGES, *IGNORES, *STAYS):
        if (method, FLIPS[1]) not in matrices:
            continue
        plain, found = (
            replace(logit_alike(matrices[method, flip], confidence), lines=(levels.alike,))
            for flip in FLIPS
        )
        same, other = found.low >= levels.alike, found.high < levels.alike
        stays = method in STAYS
        words = "follows the label" if stays else "is the same for another label"
        sides = (f"at least {levels.alike:g}", f"below {levels.alike:g}")
        for_it, against = sides[::-1] if stays else sides
        claims.add(
            f"{titles[method]} {words}",
            f"{titles[method]}: up to its sign, the map of a random other label is "
            + ("another one." if stays else "nearly that of the class."),
            source=_PAPER,
            paper_said="less alike than maps that converge" if stays else "alike",
            measured=f"SSIM {found} with the sign flipped where that is more alike, {plain} as it "
            f"is; {found.images} pictures, {_count(len(matrices[method, FLIPS[1]]))} each, "
            f"{network}",
            chance=f"SSIM {chances[method]:.2f}",
            verdict=_verdict(found, *((other, same) if stays else (same, other))),
            reason=f"reproduced if the interval is {for_it}, not reproduced if {against}"
            + _few(found),
            of="logit-matters" if stays else "logit-ignored",
            about=titles[method],
            by="ssim",
        )
    for method in CONVERGES:
        if (method, FLIPS[1]) in matrices:
            _sign(claims, matrices, method, titles[method], network, levels, confidence)


def _sign(
    claims: ClaimTable,
    matrices: Mapping[tuple[str, str], np.ndarray],
    method: str,
    title: str,
    network: str,
    levels: Levels,
    confidence: float,
) -> None:
    plain, either = (
        replace(logit_alike(matrices[method, flip], confidence), lines=(levels.alike,))
        for flip in FLIPS
    )
    same = either.low >= levels.alike
    claims.add(
        f"of the label {title} keeps the sign",
        f"{title}: maps of two labels are nearly the same once the sign of one is flipped, but "
        "not before.",
        source="this book",
        paper_said="–",
        measured=f"SSIM {either} with the sign flipped where that is more alike, {plain} as it is; "
        f"{either.images} pictures, {network}",
        verdict=_verdict(
            either,
            same and plain.high < levels.alike,
            either.high < levels.alike or (same and plain.low >= levels.alike),
        ),
        reason=f"reproduced if the first interval is at least {levels.alike:g} and the second "
        "below; not reproduced if the first is below, or both are at least that" + _few(either),
        of="sign-is-left",
        about=title,
        by="ssim",
    )


def _count(labels: int) -> str:
    return f"{labels} other label{'s' * (labels > 1)}"


def _verdict(found: Mean, holds: bool, fails: bool) -> str:
    if found.images < LEAST_IMAGES:
        return "inconclusive"
    return "reproduced" if holds else "not reproduced" if fails else "inconclusive"


def _few(found: Mean) -> str:
    short = found.images < LEAST_IMAGES
    return f"; {found.images} pictures are too few, {LEAST_IMAGES} are needed" if short else ""
