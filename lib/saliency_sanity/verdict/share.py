"""How much of another edge detector's kappa a map has: the ratio of two kappas of one reference.

Two detectors of the same edges are less than alike, by some metrics far less. So a map's kappa
against the edges of one is held against what the edges of the other have, on the same pictures.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from saliency_sanity.verdict.interval import Estimate, corrected, with_changed
from saliency_sanity.verdict.obstacle import CANNOT_TELL, CeilingKind, Obstacle
from saliency_sanity.verdict.reading import Reading, read, side, squares
from saliency_sanity.verdict.wording import share_text

LINE = 0.5  # of Canny's kappa
_HELD = (None, Obstacle.MARGIN_INSIDE, Obstacle.VANISHED, Obstacle.LOW_CEILING)
_MOST = 2.0**20  # of a share: what is not excluded here has no limit


@dataclass(frozen=True)
class ShareReading(Reading):
    """A reading with verdict and `p` on `share`, kappa by the ceiling's, against `share_line`.

    `share_low` and `share_high` enclose the share in `confidence` of all cases; all three are NaN
    where the ceiling's interval does not lie above 0, and so may be nothing to have a share of.
    `share_sure_low` is `share_low`, or less: with kappa 0 of each picture without a similarity.
    """

    share: float
    share_low: float
    share_high: float
    share_sure_low: float
    share_line: float

    def __str__(self) -> str:
        return f"{super().__str__()}; share of Canny's kappa {share_text(self.row())}"


def read_share(
    similarity: ArrayLike,
    detector: ArrayLike,
    *,
    margin: float = 0.1,
    confidence: float = 0.95,
    line: float = LINE,
) -> ShareReading:
    """Read similarities to edges, [R,N,P] or [N,N], beside those of another ``detector``'s edges.

    Both are of the same pictures and shaped as for ``read``; the detector's may be of one draw. The
    verdict is "above" or "below" if the interval of the share lies on one side of the line, else
    "inconclusive"; "cannot tell" unless the detector's own interval lies above the margin, and open
    as in ``read``. The interval holds each share c for which that of kappa less c times the
    detector's kappa, picture by picture, holds 0 [fieller1954problems]. Raises ValueError for other
    shapes, or a line that is not positive.
    """
    if not line > 0:
        raise ValueError(f"line is {line}; expected a positive share, such as 0.5")
    values, top = squares(similarity, "similarity"), squares(detector, "detector")
    if top.shape[1:] != values.shape[1:] or len(top) not in (1, len(values)):
        raise ValueError(
            f"detector has shape {top.shape}, similarity {values.shape}; both need the same images"
        )
    reading = read(
        values, ceiling={CeilingKind.DETECTOR: top}, margin=margin, confidence=confidence
    )
    found, whole = corrected(values), corrected(np.broadcast_to(top, values.shape)).kappa
    own, lower = found.kappa, with_changed(values, found)
    share = low = high = sure_low = p = math.nan
    verdict, obstacle = reading.verdict, reading.obstacle
    held = obstacle in _HELD
    if held and reading.ceiling_low > 0:
        share = own.value / whole.value
        low, high = _limits(own, whole, confidence)
        sure_low = low if lower is own else min(low, _limits(lower, whole, confidence)[0])
    if held and not reading.ceiling_low > margin:
        verdict, obstacle = CANNOT_TELL, Obstacle.UNCLEAR_CEILING
    elif held:
        p = own.less(whole, line).p(0.0)
        if lower is not own and low > line:
            p = max(p, lower.less(whole, line).p(0.0))
        verdict, obstacle = side((low, high), sure_low, line, Obstacle.SHARE_INSIDE)
    judged = replace(reading, p=p, verdict=verdict, obstacle=obstacle)
    return ShareReading(
        **vars(judged),
        share=share,
        share_low=low,
        share_high=high,
        share_sure_low=sure_low,
        share_line=line,
    )


def _limits(own: Estimate, whole: Estimate, confidence: float) -> tuple[float, float]:
    """The shares between which kappa less so much of the whole may be 0."""

    def end(side: int) -> Callable[[float], float]:
        return lambda share: own.less(whole, share).interval(confidence)[side]

    share = own.value / whole.value
    return _zero(end(0), share, -1.0), _zero(end(1), share, 1.0)


def _zero(end: Callable[[float], float], share: float, step: float) -> float:
    """Where one end of the difference, which falls as the share grows, is 0; on its way out."""
    if end(share) == 0:
        return share
    while end(share + step) * step > 0:
        step *= 2
        if abs(step) > _MOST:
            return math.copysign(math.inf, step)
    return float(brentq(end, share, share + step, xtol=1e-9))
