"""Rankings of methods: who is ahead of a control, and whether two rankings agree."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from saliency_sanity._errors import known
from saliency_sanity._random import generator
from saliency_sanity.probes.scales import rank_correlation
from saliency_sanity.verdict.interval import Part, around, interval, mean


def ahead_of(
    scores: Mapping[str, np.ndarray], control: str, *, confidence: float = 0.95
) -> pd.DataFrame:
    """Methods by mean score, the lowest first, each beside a control; a row a method.

    ``scores`` ``[R, N]`` in [-1, 1] of the same random networks and pictures. Columns are method,
    value with its interval ``low`` to ``high``, ``rank`` from 1 on, equal means sharing theirs, and
    ``behind``, the mean of what a method's score is above the control's, picture by picture and
    network by network, with its interval ``behind_low`` to ``behind_high``. Methods without a
    defined score come last, without a rank. Raises ValueError where the control is not among them.
    """
    known("control", control, scores)
    rows = []
    for method, values in scores.items():
        value, low, high = interval(values, confidence=confidence)
        low, high = np.clip((low, high), -1, 1)
        gap = interval(values - scores[control], confidence=confidence)
        names = ("value", "low", "high", "behind", "behind_low", "behind_high")
        rows.append({"method": method} | dict(zip(names, (value, low, high, *gap), strict=True)))
    table = pd.DataFrame(rows)
    # Sums of the same numbers in another order are the same score.
    table["rank"] = table["value"].round(12).rank(method="average")
    return table.sort_values("value", kind="stable", ignore_index=True)


_SPLITS = 100  # of the pictures into halves


@dataclass(frozen=True)
class Concordance:
    """Rank correlation of two rankings of ``methods`` methods, 1 for the same; see ``concord``.

    ``pictures`` ``[N]`` and ``networks``, an array for each set of them, are what each adds to it.
    ``ceiling`` is what two rankings would reach that differ by nothing but their pictures, NaN
    where those are too few to say.
    """

    value: float
    methods: int
    pictures: np.ndarray
    networks: tuple[np.ndarray, ...]
    ceiling: float

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The interval over pictures and networks, NaN of one picture."""
        parts = [
            Part(float((adds**2).sum()) * len(adds) / (len(adds) - 1), len(adds) - 1)
            for adds in self.networks
            if len(adds) > 1
        ]
        low, high = around(self.value, self.pictures, len(self.pictures), parts, confidence)
        return float(np.clip(low, -1, 1)), float(np.clip(high, -1, 1))


def concord(
    first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray], *, seed: int = 0
) -> Concordance:
    """Whether two scores put the same methods in the same order.

    ``first`` and ``second`` give scores ``[R, N]`` of each method in random networks, one where
    there are none, and of the same pictures; the mean of the defined ones is a method's. What a
    picture or a network adds is known from leaving it out, in both scores [tukey1958bias];
    networks are the same in both if there are as many. Methods stay: the interval says how other
    pictures and networks would order the same methods.

    The ceiling is the geometric mean of both rankings' reliabilities [spearman1904proof]: of how
    well each agrees with itself on other pictures, by the mean rank correlation of halves of the
    pictures, which ``seed`` draws, carried over from halves to all [spearman1910correlation]; 0
    where halves disagree.

    Methods that one of both has not, or that have no defined score, are left out; raises ValueError
    for fewer than three, and for other numbers of pictures.
    """
    names = [
        name
        for name in first
        if name in second and all(np.isfinite(s[name]).any() for s in (first, second))
    ]
    if len(names) < 3:
        raise ValueError(f"{len(names)} methods have both scores; a ranking needs three")
    one, other = (np.stack([scores[name] for name in names]) for scores in (first, second))
    if one.shape[2] != other.shape[2]:
        raise ValueError(f"scores of {one.shape[2]} and {other.shape[2]} pictures; take the same")

    pictures = _adds(
        [_correlated(_less(one, i, 2), _less(other, i, 2)) for i in range(one.shape[2])]
    )
    ran, others = one.shape[1], other.shape[1]
    if ran == others:
        both = [_correlated(_less(one, i, 1), _less(other, i, 1)) for i in range(ran)]
        networks = (_adds(both),)
    else:
        networks = (
            _adds([_correlated(_less(one, i, 1), other) for i in range(ran)]),
            _adds([_correlated(one, _less(other, i, 1)) for i in range(others)]),
        )
    random = np.random.default_rng(generator(seed, "rankings").initial_seed() % 2**63)
    ceiling = float(np.sqrt(_reliability(one, random) * _reliability(other, random)))
    return Concordance(_correlated(one, other), len(names), pictures, networks, ceiling)


def _less(scores: np.ndarray, place: int, axis: int) -> np.ndarray:
    """Scores without one picture or network; all where there is but one."""
    return scores if scores.shape[axis] == 1 else np.delete(scores, place, axis)


def _adds(without: list[float]) -> np.ndarray:
    """What each adds, from the values without it: of a mean, its deviation by their number."""
    values = np.array(without)
    return (values.mean() - values) * (len(values) - 1) / len(values)


def _reliability(scores: np.ndarray, random: np.random.Generator) -> float:
    """How well scores ``[M, R, N]`` of all pictures would agree with those of as many others."""
    count = scores.shape[2]
    if count < 2:
        return np.nan
    orders = [random.permutation(count) for _ in range(_SPLITS)]
    halves = [(scores[..., o[: count // 2]], scores[..., o[count // 2 :]]) for o in orders]
    half = max(0.0, float(np.nanmean([_correlated(*pair) for pair in halves])))
    return 2 * half / (1 + half)


def _correlated(one: np.ndarray, other: np.ndarray) -> float:
    means = mean(one, axis=(1, 2)), mean(other, axis=(1, 2))
    return float(rank_correlation(*means))


def places(scores: Mapping[str, float]) -> dict[str, float]:
    """The rank of each score from 1 on, the lowest first; ties share, NaN for an undefined one."""
    ranks = rankdata(np.array([*scores.values()], dtype=np.float64), nan_policy="omit")
    return dict(zip(scores, map(float, ranks), strict=True))
