"""Every method by kappa, MPRT, sMPRT and eMPRT, and where their ranks contradict a verdict."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from saliency_sanity.probes.complexity import Rise, RiseKind
from saliency_sanity.verdict.interval import interval, mean

# The score, whether the better is the lower, and what a page calls it.
SCORES = {
    "kappa": (True, "kappa"),
    "smprt": (True, "sMPRT"),
    "emprt": (False, "eMPRT"),
}
_DECIDED = ("below", "above")
# What a reading has to say of where it is from, the same in every row.
_PLACE = ["metric", "stage", "position", "words"]


def score_table(
    readings: pd.DataFrame,
    plain: Mapping[str, np.ndarray],
    denoised: Mapping[str, np.ndarray],
    rise: Mapping[str, Rise],
    absolute: Mapping[str, Rise],
) -> pd.DataFrame:
    """A row a method: kappa's reading, and what the other three say of the same networks.

    ``readings`` has a row a method, by the similarity of kappa; ``plain`` and ``denoised`` are
    similarities ``[R, N]`` of plain and of denoised maps, so MPRT and sMPRT, ``rise`` and
    ``absolute`` eMPRT of maps with signs and of their absolute values. ``low`` and ``high`` with
    or without a score before them are its interval; ``flat`` counts pictures whose map has no
    entropy, in all networks. Ranks and flips as in ``ranked``. Methods without sMPRT have NaN.
    """
    rows = []
    for row in readings.drop(columns=_PLACE).to_dict("records"):
        method = row["method"]
        for score, values in (("mprt", plain[method]), ("smprt", denoised.get(method))):
            found = _named(score, values)  # no similarity is above 1
            row |= {key: np.clip(value, -1, 1) for key, value in found.items()}
        found = _named("emprt", rise[method].values)  # no entropy falls below 0
        row |= {key: np.maximum(value, -1) for key, value in found.items()}
        row["emprt_absolute"] = absolute[method].mean()[0]
        row["flat"] = rise[method].count(RiseKind.FLAT)
        row["not_finite"] = rise[method].count(RiseKind.NOT_FINITE)
        rows.append(row)
    return ranked(pd.DataFrame(rows))


def _named(score: str, values: np.ndarray | None) -> dict[str, float]:
    found = (np.nan,) * 3 if values is None else interval(values)
    return dict(zip((score, f"{score}_low", f"{score}_high"), found, strict=True))


def ranked(scores: pd.DataFrame) -> pd.DataFrame:
    """The table with the rank of each method by each score, 1 the best, and what they contradict.

    Best is least like before, or most complex. Ties share the mean of their ranks. Of the methods
    on which kappa has a verdict, m are *below* the margin: as many pass by a rank. ``flip_smprt``
    and ``flip_emprt`` say whether a method passes by that rank and not by kappa's verdict, or the
    other way round; None where kappa has no verdict, or the score is not defined.
    """
    scores = scores.copy()
    for score, (lower, _) in SCORES.items():
        scores[f"rank_{score}"] = _rounded(scores[score]).rank(ascending=lower)
    for score in ("smprt", "emprt"):
        known = scores["verdict"].isin(_DECIDED) & scores[score].notna()
        below = scores["verdict"] == "below"
        places = _rounded(scores.loc[known, score]).rank(ascending=SCORES[score][0])
        passes = places <= int((known & below).sum())
        flips = pd.Series([None] * len(scores), index=scores.index, dtype=object)
        flips[known] = (passes != below[known]).astype(object)
        scores[f"flip_{score}"] = flips
    return scores


def _rounded(scores: pd.Series) -> pd.Series:
    """Scores without the rounding of sums, by which maps that do not change would differ."""
    return scores.astype(float).round(9)


def flips(scores: pd.DataFrame, score: str) -> tuple[list[str], int, float]:
    """Methods whose verdict a rank contradicts, of how many, and how many a random order would.

    With m of n below the margin a random order puts m (n - m) / n of either kind on the wrong side.
    """
    known = scores[scores[f"flip_{score}"].notna()]
    below = int((known["verdict"] == "below").sum())
    chance = 2 * below * (len(known) - below) / len(known) if len(known) else np.nan
    return known.loc[known[f"flip_{score}"].astype(bool), "method"].tolist(), len(known), chance


def kept_apart(
    scores: pd.DataFrame, values: Mapping[str, np.ndarray], score: str
) -> tuple[np.ndarray, int]:
    """Share ``[R, N]`` of pairs in which what is below the margin has the better score.

    Pairs of a method below the margin with one above, of which there are so many; ``values``
    ``[R, N]`` is the score by method. Ties are half a pair, undefined scores none; 1/2 is what a
    random order gives. NaN all over without a pair.
    """
    below, above = (
        [values[key] for key in scores.loc[scores["verdict"] == side, "method"] if key in values]
        for side in _DECIDED
    )
    sign = 1 if SCORES[score][0] else -1
    gaps = [sign * (one - other) for one in above for other in below]
    if not gaps:
        return np.full((1, 1), np.nan), 0
    shares = [np.where(np.isnan(gap), np.nan, (np.sign(gap) + 1) / 2) for gap in gaps]
    return mean(np.array(shares), axis=0), len(gaps)


def agreement(scores: pd.DataFrame, score: str) -> float:
    """Rank correlation of a score with kappa over methods, 1 the same order; NaN where undefined.

    Undefined of fewer than three methods, or where all have one score.
    """
    known = scores[scores[score].notna() & scores["kappa"].notna()]
    ranks = [known[f"rank_{key}"] for key in ("kappa", score)]
    if len(known) < 3 or any(one.nunique() < 2 for one in ranks):
        return np.nan
    return float(stats.spearmanr(*ranks).statistic)
