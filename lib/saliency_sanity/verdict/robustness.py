"""What becomes of verdicts when many are given at once, or with another margin."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from saliency_sanity.verdict.obstacle import CANNOT_TELL, INCONCLUSIVE, Obstacle

MARGINS = (0.05, 0.1, 0.2)
LINES = (0.25, 0.5, 0.75)  # shares of Canny's kappa
_DECIDED = ("below", "above")
_INSIDE = (Obstacle.MARGIN_INSIDE, Obstacle.SHARE_INSIDE, Obstacle.VANISHED)


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


def at_margin(readings: pd.DataFrame, margin: float) -> pd.DataFrame:
    """A table of readings with the verdicts that another margin would have given.

    Intervals and ceilings do not depend on it, and what other reasons kept open stays open. Where
    verdicts are on shares, the margin is what Canny's kappa is held against.
    """
    readings = readings.assign(margin=margin)
    if "share" in readings:
        return at_line(readings, readings["share_line"])
    below, above = readings["high"] < margin, readings["sure_low"] > margin
    inside = np.where(readings["low"] > margin, Obstacle.VANISHED, Obstacle.MARGIN_INSIDE)
    untold = ~above & (readings["ceiling"] < margin)
    return _held(readings, below, above, inside, untold, Obstacle.LOW_CEILING)


def at_line(readings: pd.DataFrame, line: float | pd.Series) -> pd.DataFrame:
    """A table of shares with the verdicts that another line would have given, as ``at_margin``."""
    below, above = readings["share_high"] < line, readings["share_sure_low"] > line
    inside = np.where(readings["share_low"] > line, Obstacle.VANISHED, Obstacle.SHARE_INSIDE)
    untold = ~(readings["ceiling_low"] > readings["margin"])
    readings = readings.assign(share_line=line)
    return _held(readings, below, above, inside, untold, Obstacle.UNCLEAR_CEILING)


def _held(
    readings: pd.DataFrame,
    below: pd.Series,
    above: pd.Series,
    inside: np.ndarray,
    untold: pd.Series,
    low: Obstacle,
) -> pd.DataFrame:
    """New verdicts, but for what reasons other than a line or this ceiling keep open."""
    held = readings["verdict"].isin(_DECIDED) | readings["obstacle"].isin((*_INSIDE, low))
    cases = [~held, untold, below, above]
    words = np.select(cases, [readings["verdict"], CANNOT_TELL, *_DECIDED], INCONCLUSIVE)
    obstacles = np.select(cases, [readings["obstacle"], low.value, "", ""], inside)
    return readings.assign(verdict=words, obstacle=obstacles)


def at_level(readings: pd.DataFrame, level: float) -> pd.DataFrame:
    """A table of readings with the verdicts that intervals of confidence 1 - ``level`` leave."""
    opened = readings["verdict"].isin(_DECIDED) & ~(readings["p"] <= level)
    inside = Obstacle.SHARE_INSIDE if "share" in readings else Obstacle.MARGIN_INSIDE
    return readings.assign(
        verdict=readings["verdict"].mask(opened, INCONCLUSIVE),
        obstacle=readings["obstacle"].mask(opened, inside.value),
    )


def held_against(readings: pd.DataFrame, margin: float, level: float) -> pd.DataFrame:
    """A table of readings held against its own margin at a level, or else against another margin.

    Raises ValueError for another margin at another level than the table's: ``p`` is of one margin.
    """
    if np.isclose(readings["margin"], margin).all():
        return at_level(readings, level)
    if not np.isclose(1 - readings["confidence"], level).all():
        raise ValueError(f"p is for the margin of the readings, so not at level {level} of another")
    return at_margin(readings, margin)


def robustness(readings: pd.DataFrame) -> str:
    """How many verdicts stay when all of a table count, and with other margins, or lines."""
    decided = readings["verdict"].isin(_DECIDED)
    count = int(decided.sum())
    stay = int((holm(readings["p"].where(~_silenced(readings))) & decided).sum())
    text = (
        f"{stay} of {count} verdicts stay when all verdicts of this table are tested together"
        if count
        else "No verdict of this table is decided"
    )
    shares = "share" in readings
    what, own, again, values = (
        ("line", "share_line", at_line, LINES)
        if shares
        else ("margin", "margin", at_margin, MARGINS)
    )
    changes = {
        value: int((again(readings, value)["verdict"] != readings["verdict"]).sum())
        for value in values
        if not np.isclose(value, readings[own]).all()
    }
    others = " and ".join(f"{count} with {value:g}" for value, count in changes.items())
    return f"{text}. Verdicts that another {what} would change: {others}."


def _silenced(readings: pd.DataFrame) -> pd.Series:
    """Where the verdict is open for a reason that the interval does not know."""
    return ~readings["obstacle"].isin(("", *_INSIDE))
