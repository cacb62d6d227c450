"""What was claimed of tasks, held against our measurements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from saliency_sanity.book.chapters.claims import ClaimTable, judge, resting
from saliency_sanity.probes.tasks import OTHER, RANDOM, TRAINED, share_gap
from saliency_sanity.probes.units import Gap
from saliency_sanity.verdict.obstacle import CANNOT_TELL
from saliency_sanity.verdict.wording import METRIC_TITLES, kappa_text, rounded

_PAPER = "Yona and Greenfeld 2021, as reported"
_OURS = "this book"
# What the paper looked at.
_SAID = ("gradient", "guided_backprop")
# What the test of 2018 rejected.
_REJECTED = "guided_backprop"
# Maps that see the picture only.
_BLIND = ("sobel", "canny", "input")
# A share that differs by no more is the same up to rounding.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Shares:
    """Shares ``[R, N]`` by method, place and kind of network, and the area of places."""

    values: Mapping[tuple[str, str, str], np.ndarray]
    areas: Mapping[str, float]

    def of(self, method: str, place: str, kind: str) -> np.ndarray:
        """Those of one kind of network."""
        return self.values[method, place, kind]

    def both(self, method: str, kind: str) -> np.ndarray:
        """The mean over the places of all tasks."""
        return np.mean([self.of(method, place, kind) for place in self.areas], axis=0)

    @property
    def methods(self) -> list[str]:
        """Names of methods, in their order."""
        return list(dict.fromkeys(method for method, _, _ in self.values))

    @property
    def counted(self) -> str:
        """How many networks and pictures there are, in words."""
        networks, pictures = next(iter(self.values.values())).shape
        return f"{pictures} pictures, {networks} networks"


def task_claims(
    claims: ClaimTable,
    shares: Shares,
    readings: pd.DataFrame,
    titles: Mapping[str, str],
    *,
    metrics: Sequence[str],
    one: str,
    two: Sequence[str],
    products: Sequence[str],
    margin: float,
    confidence: float = 0.95,
) -> None:
    """Add what [yona2021revisiting] says of the gradient and guided backpropagation, and ours.

    ``shares`` on the object of each task, and at the ``cut`` or below and in the ``deleted`` part
    of a garment without lower half; ``readings`` by ``comparison``, of which ``one`` is that on a
    single object and ``two`` those on two, each by all ``metrics``. ``products`` are methods that
    are multiplied by the input.
    """
    for key in (key for key in _SAID if key in shares.methods):
        for place in shares.areas:
            _on_object(claims, shares, key, place, titles[key], confidence)
        for place in shares.areas:
            _more_than_random(claims, shares, key, place, titles[key], confidence)
        _at_the_cut(claims, shares, key, titles[key], confidence)
        _moves(claims, shares, key, titles[key], confidence)
    for key in (key for key in _SAID if key in shares.methods):
        for metric in metrics:
            _alike_on_one(claims, readings, key, titles[key], metric, one, margin, shares.counted)
    if _REJECTED in shares.methods:
        for metric in metrics:
            _turns(
                *(claims, readings, _REJECTED, titles[_REJECTED], metric, one, two, margin),
                shares.counted,
            )
            _sees_and_fails(
                *(claims, shares, readings, _REJECTED, titles[_REJECTED], metric, two),
                *(margin, confidence),
            )
    _blind(claims, shares, titles)
    _empty(claims, shares, products)


def _percent(values: np.ndarray) -> str:
    return f"{np.nanmean(values):.0%}"


def _on_object(
    claims: ClaimTable, shares: Shares, key: str, place: str, title: str, confidence: float
) -> None:
    own, area = shares.of(key, place, TRAINED), shares.areas[place]
    (elsewhere,) = (other for other in shares.areas if other != place)
    # Networks of this task are those of the other task where the other object decides.
    beside = shares.of(key, elsewhere, OTHER)
    gaps = [share_gap(own, than, confidence=confidence) for than in (area, beside)]
    verdicts = [found.verdict for found in gaps]
    claims.add(
        f"{title} highlights the {place} where it decides",
        f"Where the label depends on the {place}, this object has a larger share of the map than "
        f"the {elsewhere} beside it, and a larger one than of the picture.",
        source=_PAPER,
        paper_said="highlights the right object",
        measured=f"share {_percent(own)}, {elsewhere} {_percent(beside)}, difference {gaps[1]}; to "
        f"the area's share {gaps[0]}; {shares.counted}",
        chance=f"share {area:.0%}, the area's",
        verdict="not reproduced" if "not reproduced" in verdicts else judge(verdicts, "reproduced"),
        reason="reproduced if the intervals of both differences lie above 0; not reproduced if one "
        "lies below",
        of="task-right-object",
        about=title,
    )


def _more_than_random(
    claims: ClaimTable, shares: Shares, key: str, place: str, title: str, confidence: float
) -> None:
    _larger(
        claims,
        f"{title} differs from a random network's where the {place} decides",
        f"Where the label depends on the {place}, this object has a larger share of the trained "
        "network's map than of a random one's.",
        *(shares.of(key, place, kind) for kind in (TRAINED, RANDOM)),
        beside="random",
        counted=shares.counted,
        confidence=confidence,
        source=_PAPER,
        paper_said="differs from a random network's map",
        of="task-random-differs",
        about=title,
    )


def _at_the_cut(
    claims: ClaimTable, shares: Shares, key: str, title: str, confidence: float
) -> None:
    _larger(
        claims,
        f"{title} differs from a random network's where half of the garment is gone",
        "When asked whether the lower half is gone, the trained network has more of its map at "
        "the cut or below it than a random network has.",
        *(shares.of(key, "cut", kind) for kind in (TRAINED, RANDOM)),
        beside="random",
        counted=shares.counted,
        confidence=confidence,
        note="; which part of the picture counts is our choice",
        source=_PAPER,
        paper_said="differs from a random network's map",
        of="task-half-differs",
        about=title,
    )


def _move(shares: Shares, key: str, confidence: float) -> Gap:
    """How much more lies on the object that decides than under the other task, of both tasks."""
    own, other = (shares.both(key, kind) for kind in (TRAINED, OTHER))
    return share_gap(own, other, confidence=confidence)


def _moves(claims: ClaimTable, shares: Shares, key: str, title: str, confidence: float) -> None:
    _larger(
        claims,
        f"{title} moves with the task",
        "On the same pictures, the object that the label depends on has a larger share of the map "
        "under networks of this task than under networks of the other.",
        *(shares.both(key, kind) for kind in (TRAINED, OTHER)),
        beside="other task",
        counted=f"{shares.counted}, mean of both tasks",
        confidence=confidence,
        source=_OURS,
        paper_said="–",
        of="task-moves",
        about=title,
    )


def _larger(
    claims: ClaimTable,
    name: str,
    text: str,
    own: np.ndarray,
    other: np.ndarray,
    *,
    beside: str,
    counted: str,
    confidence: float,
    note: str = "",
    **about: str,
) -> None:
    """A claim that one share is larger than another, which is named ``beside`` it."""
    found = share_gap(own, other, confidence=confidence)
    claims.add(
        name,
        text,
        measured=f"share {_percent(own)}, {beside} {_percent(other)}, difference {found}; "
        f"{counted}",
        chance="difference 0",
        verdict=found.verdict,
        reason="reproduced if the interval of the difference lies above 0; not reproduced if below"
        + note,
        **about,
    )


def _row(readings: pd.DataFrame, comparison: str, key: str, metric: str) -> pd.Series:
    chosen = readings[(readings["comparison"] == comparison) & (readings["metric"] == metric)]
    return chosen.set_index("method").loc[key]


def _alike_on_one(
    claims: ClaimTable,
    readings: pd.DataFrame,
    key: str,
    title: str,
    metric: str,
    one: str,
    margin: float,
    counted: str,
) -> None:
    row = _row(readings, one, key, metric)
    claims.add(
        f"{title} of one object is alike under a random network, by {METRIC_TITLES[metric]}",
        "For a single centred object, a random network's map is like the trained one's, beyond "
        "what any two garments' maps have in common.",
        source=_PAPER,
        paper_said="a random network's map can be the right one",
        measured=f"kappa {kappa_text(row)}, similarity {rounded(row['similarity'])}; {counted}",
        chance=f"similarity {rounded(row['chance'])}, kappa 0",
        verdict=judge([row["verdict"]]),
        reason=f"reproduced if the interval lies above kappa {margin:g}; not reproduced if below",
        of="task-one-object",
        about=title,
        by=metric,
    )


def _turns(
    claims: ClaimTable,
    readings: pd.DataFrame,
    key: str,
    title: str,
    metric: str,
    one: str,
    two: Sequence[str],
    margin: float,
    counted: str,
) -> None:
    single = _row(readings, one, key, metric)
    double = [_row(readings, text, key, metric) for text in two]
    verdicts = [row["verdict"] for row in (single, *double)]
    verdict = "inconclusive"
    if single["verdict"] == "below":
        verdict = "not tested"
    elif single["verdict"] == "above" and set(verdicts[1:]) == {"below"}:
        verdict = "reproduced"
    elif single["verdict"] == "above" and "above" in verdicts[1:]:
        verdict = "not reproduced"
    elif CANNOT_TELL in verdicts:
        verdict = CANNOT_TELL
    claims.add(
        f"{title} fails for its task only, by {METRIC_TITLES[metric]}",
        "The test of random weights calls it picture-driven on pictures with one object, and says "
        "that it responds on pictures with two.",
        source=_PAPER,
        paper_said="rejected for the task, not for the method",
        measured=f"kappa on one object {kappa_text(single)}; on two "
        + " and ".join(kappa_text(row) for row in double)
        + f"; {counted}",
        chance="kappa 0",
        verdict=resting(verdict, [single["verdict"]]),
        reason=f"reproduced if the interval lies above kappa {margin:g} on one object and below on "
        "two, for both tasks; not reproduced if above on two for either; not tested if below on "
        "one",
        of="task-verdict-turns",
        about=title,
        by=metric,
    )


def _sees_and_fails(
    claims: ClaimTable,
    shares: Shares,
    readings: pd.DataFrame,
    key: str,
    title: str,
    metric: str,
    two: Sequence[str],
    margin: float,
    confidence: float,
) -> None:
    found = _move(shares, key, confidence)
    double = [_row(readings, text, key, metric) for text in two]
    judged = judge([row["verdict"] for row in double])
    verdict = judged if found.verdict == "reproduced" else found.verdict
    claims.add(
        f"{title} sees the task and fails, by {METRIC_TITLES[metric]}",
        "On the same networks and pictures it moves with the task, and the test of random weights "
        "calls it picture-driven.",
        source=_OURS,
        paper_said="–",
        measured=f"moves by {found}; kappa "
        + " and ".join(kappa_text(row) for row in double)
        + f"; {shares.counted}",
        chance="0, kappa 0",
        verdict=verdict,
        reason="reproduced if the interval of its move lies above 0 and those of kappa, for both "
        f"tasks, above {margin:g}; not reproduced if the first or both others lie below",
        of="task-sees-and-fails",
        about=title,
        by=metric,
    )


def _blind(claims: ClaimTable, shares: Shares, titles: Mapping[str, str]) -> None:
    there = [key for key in _BLIND if key in shares.methods]
    if not there:
        return
    most = max(
        float(np.nanmax(np.abs(shares.of(key, place, TRAINED) - shares.of(key, place, kind))))
        for key in there
        for place in shares.areas
        for kind in (OTHER, RANDOM)
    )
    claims.add(
        "what sees the picture only is the same under every network",
        f"{', '.join(titles[key] for key in there)}: their share on an object is the same under "
        "trained networks, those of the other task and random ones.",
        source=_OURS,
        paper_said="–",
        measured=f"largest difference {most:.1g}",
        chance=None,
        verdict="reproduced" if most < _ROUNDING else "not reproduced",
        reason=f"reproduced if no difference is {_ROUNDING:g} or more",
        of="task-controls-stay",
    )


def _empty(claims: ClaimTable, shares: Shares, products: Sequence[str]) -> None:
    most = {
        key: max(float(np.nanmax(shares.of(key, "deleted", kind))) for kind in (TRAINED, RANDOM))
        for key in products
    }
    if not most:
        return
    worst = max(most.values())
    claims.add(
        "a product has nothing where the garment is gone",
        "A map that is multiplied by the input cannot show that something is missing: where the "
        "picture is 0, the map is 0, too.",
        source=_OURS,
        paper_said="–",
        measured=f"largest share in the deleted part {worst:.1g}, of {len(most)} methods and "
        "controls",
        chance=None,
        verdict="reproduced" if worst < _ROUNDING else "not reproduced",
        reason=f"reproduced if no share is {_ROUNDING:g} or more",
        of="task-product-empty",
    )
