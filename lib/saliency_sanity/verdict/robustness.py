"""What becomes of verdicts when many are given at once, or with another margin."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from saliency_sanity.verdict.wording import settled

MARGINS = (0.05, 0.1, 0.2)


def holm(p: Sequence[float], level: float = 0.05) -> np.ndarray:
    """Which of some verdicts stay when all are given at once, [m].

    ``p`` as ``Reading.p``, NaN where nothing was tested. The probability that one of the verdicts
    that stay is wrong, on either side, is ``level`` at most, however readings depend on each other:
    Holm's steps [holm1979simple] over two hypotheses a reading, not below and not above.
    """
    p = np.asarray(p, dtype=np.float64)
    stays = np.zeros(len(p), dtype=bool)
    hypotheses = 2 * int(np.isfinite(p).sum())
    for step, place in enumerate(np.argsort(p, kind="stable")[: hypotheses // 2]):
        if p[place] / 2 > level / (hypotheses - step):
            break
        stays[place] = True
    return stays


def at_margin(readings: pd.DataFrame, margin: float) -> pd.Series:
    """The verdicts of a table of readings, had the margin been another; the intervals stay.

    What other reasons than the margin kept open stays open.
    """
    held = [settled(row) for row in readings.to_dict("records")]
    words = np.select(
        [readings["high"] < margin, readings["low"] > margin], ["below", "above"], "inconclusive"
    )
    return readings["verdict"].where(~np.array(held, dtype=bool), pd.Series(words, readings.index))
