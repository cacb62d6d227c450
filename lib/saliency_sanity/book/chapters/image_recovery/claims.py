"""What [nie2018theoretical] says of random networks and adversarial pictures, and what we add."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from saliency_sanity.attribution.catalogue import title
from saliency_sanity.book.chapters.claims import ClaimTable, judge
from saliency_sanity.experiments.outcome import MOST
from saliency_sanity.probes.recovery import Recovered
from saliency_sanity.verdict.interval import corrected, interval
from saliency_sanity.verdict.obstacle import CANNOT_TELL, Obstacle
from saliency_sanity.verdict.reading import Reading, read, squares
from saliency_sanity.verdict.wording import METRIC_TITLES, kappa_text, rounded

_PAPER = "Nie et al. 2018"
_OURS = "this book"
_SHOWN = "shown in pictures"
# Networks of this page, as its tables call them.
PLAIN, POOLED, DENSE = "convolution", "convolution, pooled", "dense"
# What a picture's map is compared with: that of a network shown the same picture another way.
NOISE, CLASS, ATTACK = "noise", "class", "adversarial"
# How far a correlation may lie from the one that was expected.
_NEAR = 0.05
_GUIDED = "guided_backprop"

Runs = Mapping[tuple[str, int], Mapping[str, Recovered]]


@dataclass(frozen=True)
class Held:
    """Random networks' maps held against a margin, with intervals of confidence 1 - ``level``.

    ``runs`` are what was recovered by network and number of units; ``expected`` the correlations
    ``[N]`` that were to be expected, where something was.
    """

    runs: Runs
    expected: Mapping[tuple[str, int], np.ndarray]
    margin: float = 0.1
    level: float = 0.05

    @property
    def scale(self) -> str:
        """Of how many pictures and networks of each kind a claim is, as its row says."""
        networks, pictures = next(iter(self.runs.values()))[_GUIDED].limit.shape
        return f"{pictures} pictures, {networks} networks"

    def units(self, network: str) -> list[int]:
        """How many units its networks have, the fewest first."""
        return sorted(units for name, units in self.runs if name == network)

    def reading(self, network: str, units: int, method: str) -> Reading:
        """How a method's maps correlate with their pictures, read against other pictures."""
        return self._read(self.runs[network, units][method].similarity)

    def across(self, network: str, units: int, method: str) -> Reading:
        """How a method's maps for one class correlate with those for another."""
        return self._read(self.runs[network, units][method].classes)

    def _read(self, values: np.ndarray) -> Reading:
        return read(values, margin=self.margin, confidence=1 - self.level)

    def gain(self, network: str, fewer: int, more: int, method: str) -> tuple[float, float, float]:
        """How much more of the picture the maps have with more units, and its interval."""
        own = [_diagonal(self.runs[network, units][method].similarity) for units in (more, fewer)]
        return interval(own[0] - own[1], confidence=1 - self.level)


def _diagonal(values: np.ndarray) -> np.ndarray:
    return np.diagonal(values, axis1=1, axis2=2)


def recovery_claims(claims: ClaimTable, held: Held) -> None:
    """Add what [nie2018theoretical] says of networks with random weights, and our reading of it."""
    counts = held.units(PLAIN)
    _grows(claims, held, counts)
    for method in ("gradient", "deconvnet"):
        _stays(claims, held, method, counts)
    _any_class(claims, held, counts[-1])
    for units in (count for count in held.units(POOLED) if count in counts):
        _pooled(claims, held, units)
    for units in held.units(DENSE):
        _dense(claims, held, units)
    _closed(claims, held, counts)
    _foreseen(claims, held)
    if held.units(DENSE):
        _less_than_local(claims, held, counts[0], held.units(DENSE)[-1])


def _text(reading: Reading) -> str:
    return kappa_text(reading.row())


def _beside(found: Reading, line: float) -> str:
    """On which side of a line kappa lies: ``below``, ``above``, or why that is open."""
    if found.obstacle is Obstacle.NO_ROOM:
        return CANNOT_TELL
    if found.obstacle not in (None, Obstacle.MARGIN_INSIDE):
        return "inconclusive"
    return _side(found.low - line, found.high - line)


def _as(side: str, wanted: str) -> str:
    """``above`` for the wanted side and ``below`` for the other; what is open stays so."""
    if side not in ("below", "above"):
        return side
    return "above" if side == wanted else "below"


def _all(*sides: str) -> str:
    """The verdict on a claim whose parts all have to lie ``above``; one below is enough."""
    return "not reproduced" if "below" in sides else judge(sides)


def _enough(held: Held, key: tuple[str, int], side: str) -> str:
    """The side of an interval, open where there are too few pictures for a verdict."""
    few = held.reading(*key, _GUIDED).obstacle is Obstacle.FEW_IMAGES
    return "inconclusive" if few else side


def _side(low: float, high: float) -> str:
    """On which side of 0 an interval lies."""
    return "above" if low > 0 else "below" if high < 0 else "inconclusive"


def _grows(claims: ClaimTable, held: Held, counts: Sequence[int]) -> None:
    steps = [held.gain(PLAIN, fewer, more, _GUIDED) for fewer, more in pairwise(counts)]
    last = held.reading(PLAIN, counts[-1], _GUIDED)
    values = ", ".join(
        f"{rounded(held.reading(PLAIN, n, _GUIDED).similarity)} with {n}" for n in counts
    )
    key = PLAIN, counts[-1]
    sides = [_enough(held, key, _side(low, high)) for _, low, high in steps]
    verdict = _all(last.verdict, *sides) if steps else "not tested"
    claims.add(
        "image recovery",
        "In random networks of one convolution the map of guided backpropagation comes to look "
        "like the picture as filters are added.",
        source=f"{_PAPER}, random networks",
        paper_said="approximately the input",
        measured=f"correlation {values}; kappa {_text(last)} with the most; {held.scale}",
        chance=f"correlation {rounded(last.chance)}, kappa 0",
        verdict=verdict,
        reason="reproduced if each increase in filters raises the correlation, by its interval "
        f"over pictures and networks, and the last kappa lies above {held.margin:g}; not "
        "reproduced if an increase lowers the correlation, or if the last kappa lies below",
        of="recovery-grows",
    )


def _stays(claims: ClaimTable, held: Held, method: str, counts: Sequence[int]) -> None:
    readings = [held.reading(PLAIN, units, method) for units in counts]
    name = title(method)
    claims.add(
        f"{name}, no recovery",
        "In the same networks its map shows nothing of the picture, however many filters there "
        "are.",
        source=f"{_PAPER}, random networks",
        paper_said="noise",
        measured="kappa "
        + ", ".join(f"{_text(found)} with {n}" for n, found in zip(counts, readings, strict=True))
        + f"; {held.scale}",
        chance="kappa 0",
        verdict=_all(*(_as(found.verdict, "below") for found in readings)),
        reason=f"reproduced if every kappa's interval lies below {held.margin:g}, not reproduced "
        "if one lies above",
        of="recovery-not-by",
        about=name,
    )


def _any_class(claims: ClaimTable, held: Held, units: int) -> None:
    guided, plain = (held.across(PLAIN, units, name) for name in (_GUIDED, "gradient"))
    claims.add(
        "any class",
        "Whichever class of the random network is explained, guided backpropagation gives about "
        "the same map.",
        source=f"{_PAPER}, random networks",
        paper_said="for any class",
        measured=f"maps of two classes, {units} filters: kappa {_text(guided)}; of the gradient "
        f"{_text(plain)}; {held.scale}",
        chance="kappa 0",
        verdict=judge([_beside(guided, MOST)]),
        reason=f"reproduced if the interval lies above kappa {MOST:g}, not reproduced if below",
        of="recovery-any-class",
    )


def _pooled(claims: ClaimTable, held: Held, units: int) -> None:
    def both(method: str) -> tuple[Reading, Reading]:
        return held.reading(PLAIN, units, method), held.reading(POOLED, units, method)

    def words(method: str) -> str:
        without, pooled = both(method)
        return f"{title(method)} {_text(without)} without, {_text(pooled)} with"

    without, pooled = (found.verdict for found in both("deconvnet"))
    claims.add(
        f"max pooling, DeconvNet, {units} filters",
        "Max pooling turns DeconvNet's map of a random network from noise into the picture.",
        source=f"{_PAPER}, max pooling",
        paper_said=_SHOWN,
        measured=f"kappa: {words('deconvnet')}; {held.scale}",
        chance="kappa 0",
        verdict=_all(_as(without, "below"), pooled),
        reason=f"reproduced if the interval lies below {held.margin:g} without pooling and above "
        "it with pooling; not reproduced if one of them lies on the other side",
        of="pool-deconvnet",
    )
    held_so = [
        _as(found.verdict, wanted)
        for method, wanted in ((_GUIDED, "above"), ("gradient", "below"))
        for found in both(method)
    ]
    claims.add(
        f"max pooling, the others, {units} filters",
        "With max pooling, guided backpropagation still gives a picture, and the gradient still "
        "gives noise.",
        source=f"{_PAPER}, max pooling",
        paper_said=_SHOWN,
        measured=f"kappa: {words(_GUIDED)}; {words('gradient')}; {held.scale}",
        chance="kappa 0",
        verdict=_all(*held_so),
        reason=f"reproduced if guided backpropagation lies above {held.margin:g} with and without "
        "pooling, and the gradient below it; not reproduced if one of them is on the other side",
        of="pool-others",
    )


def _dense(claims: ClaimTable, held: Held, units: int) -> None:
    found = held.reading(DENSE, units, _GUIDED)
    claims.add(
        f"no local connections, {units} units",
        "Where every hidden unit sees all of the picture, guided backpropagation gives noise.",
        source=f"{_PAPER}, fully connected network",
        paper_said="noise",
        measured=f"kappa {_text(found)}; {held.scale}",
        chance=f"correlation {rounded(found.chance)}, kappa 0",
        verdict=judge([found.verdict], "below"),
        reason=f"reproduced if the interval lies below {held.margin:g}, not reproduced if above",
        of="dense-noise",
    )


def _less_than_local(claims: ClaimTable, held: Held, filters: int, units: int) -> None:
    few, many = (
        _diagonal(held.runs[key][_GUIDED].similarity) for key in ((PLAIN, filters), (DENSE, units))
    )
    value, low, high = interval(few - many, confidence=1 - held.level)
    claims.add(
        "a matter of degree",
        f"{units} units that see all of the picture show less of it than {filters} filters do.",
        source=_OURS,
        paper_said="–",
        measured=f"correlation {rounded(float(few.mean()))} with the filters, "
        f"{rounded(float(many.mean()))} with the units: {rounded(value)} ({rounded(low)} to "
        f"{rounded(high)}) less; {held.scale}",
        verdict=judge([_enough(held, (PLAIN, filters), _side(low, high))]),
        reason="reproduced if the interval of the difference lies above 0",
        of="dense-less",
    )


def _closed(claims: ClaimTable, held: Held, counts: Sequence[int]) -> None:
    found = held.runs[PLAIN, counts[-1]][_GUIDED]
    value, low, high = interval(
        found.limit - _diagonal(found.similarity), confidence=1 - held.level
    )
    by_count = ", ".join(
        f"{held.runs[PLAIN, n][_GUIDED].limit.mean():.3f} with {n}" for n in counts
    )
    claims.add(
        "the limit",
        "Guided backpropagation tends to the picture with its contrast evened out: the map is "
        "nearer to this than to the picture itself.",
        source=f"{_OURS}, derived above",
        paper_said="–",
        measured=f"correlation with the closed form {by_count}; with the most, more than with the "
        f"picture by {value:.3f} ({low:.3f} to {high:.3f}); {held.scale}",
        verdict=judge([_enough(held, (PLAIN, counts[-1]), _side(low, high))]),
        reason="reproduced if the interval of the difference lies above 0",
        of="recovery-limit",
    )


def _foreseen(claims: ClaimTable, held: Held) -> None:
    pairs = {
        key: (float(values.mean()), held.reading(*key, _GUIDED).similarity)
        for key, values in held.expected.items()
    }
    off = max(abs(wanted - got) for wanted, got in pairs.values())
    claims.add(
        "foreseen without a fit",
        "The numbers of units and of inputs alone determine how much of the picture guided "
        "backpropagation shows.",
        source=f"{_OURS}, derived above",
        paper_said="–",
        measured="; ".join(
            f"{units} ({network}): expected {wanted:.2f}, found {got:.2f}"
            for (network, units), (wanted, got) in pairs.items()
        )
        + f"; {held.scale}",
        verdict="reproduced" if off < _NEAR else "not reproduced",
        reason=f"reproduced if all correlations lie within {_NEAR:g} of what is expected",
        of="recovery-foreseen",
    )


def adversarial_claims(
    claims: ClaimTable,
    similarities: Mapping[tuple[str, str, str], np.ndarray],
    margin: float,
    level: float,
) -> None:
    """Add what [nie2018theoretical] says of adversarial pictures, by method and metric.

    ``similarities`` ``[N, N]`` by method, metric and cause are of the map before and after: of the
    picture with ``NOISE``, of its other ``CLASS``, and of the picture after the ``ATTACK``.
    """
    for method, metric in dict.fromkeys(key[:2] for key in similarities):
        values = {cause: similarities[method, metric, cause] for cause in (NOISE, CLASS, ATTACK)}
        if method == "gradient":
            _moved(claims, values, metric, margin, level)
        elif method in (_GUIDED, "deconvnet"):
            _kept_by(claims, values, method, metric, margin, level)
        if method == _GUIDED:
            _blind(claims, values, metric, margin, level)


def _readings(values: Mapping[str, np.ndarray], margin: float, level: float) -> dict[str, Reading]:
    return {
        cause: read(square, margin=margin, confidence=1 - level) for cause, square in values.items()
    }


def _moved(
    claims: ClaimTable, values: Mapping[str, np.ndarray], metric: str, margin: float, level: float
) -> None:
    found = _readings(values, margin, level)
    kappas = {cause: corrected(squares(square, cause)).kappa for cause, square in values.items()}
    less = kappas[NOISE].less(kappas[ATTACK])
    low, high = less.interval(1 - level)
    attacked = found[ATTACK]
    verdict = _all(_as(_beside(attacked, MOST), "below"), _side(low, high))
    claims.add(
        f"adversarial pictures, gradient, by {METRIC_TITLES[metric]}",
        "When a change of a few grey levels gives a picture another class, the gradient's map "
        "changes a lot.",
        source=f"{_PAPER}, adversarial pictures",
        paper_said=_SHOWN,
        measured=f"kappa {_text(attacked)}; with noise of the same size {_text(found[NOISE])}, "
        f"{rounded(less.value)} ({rounded(low)} to {rounded(high)}) more; "
        f"{attacked.images} pictures",
        chance=f"similarity {rounded(attacked.chance)}, kappa 0",
        verdict=verdict,
        reason=f"reproduced if the interval lies below kappa {MOST:g} and noise of the same size "
        "leaves more, by the interval of the difference; not reproduced if either is the other way",
        of="adversarial-changes",
        by=metric,
    )


def _kept_by(
    claims: ClaimTable, values: Mapping[str, np.ndarray], method: str, metric: str,
    margin: float, level: float,
) -> None:  # fmt: skip
    found = _readings(values, margin, level)
    attacked = found[ATTACK]
    name = title(method)
    claims.add(
        f"adversarial pictures, {name}, by {METRIC_TITLES[metric]}",
        "Its map of such a picture hardly changes, although it explains another class.",
        source=f"{_PAPER}, adversarial pictures",
        paper_said=_SHOWN,
        measured=f"kappa {_text(attacked)}; with noise of the same size {_text(found[NOISE])}; "
        f"{attacked.images} pictures",
        chance=f"similarity {attacked.chance:.3f}, kappa 0",
        verdict=judge([_beside(attacked, MOST)]),
        reason=f"reproduced if the interval lies above kappa {MOST:g}, not reproduced if below; "
        "cannot tell where all pictures have nearly the same map",
        of="adversarial-keeps",
        about=name,
        by=metric,
    )


def _blind(
    claims: ClaimTable, values: Mapping[str, np.ndarray], metric: str, margin: float, level: float
) -> None:
    found = _readings(values, margin, level)[CLASS]
    line = 1 - margin
    claims.add(
        f"another class, the same picture, by {METRIC_TITLES[metric]}",
        "On the untouched picture, guided backpropagation gives the same map for its own class "
        "and for the adversarial picture's class. So what changes in its map is due to the "
        "changed pixels.",
        source=_OURS,
        paper_said="–",
        measured=f"kappa {_text(found)}; {found.images} pictures",
        chance=f"similarity {rounded(found.chance)}, kappa 0",
        verdict=judge([_beside(found, line)]),
        reason=f"reproduced if the interval lies above kappa {line:g}, not reproduced if below",
        of="guided-blind-to-class",
        by=metric,
    )
