"""How well a mean over pictures and random networks is known: intervals without resampling.

Pictures and networks are drawn independently, and every network sees every picture. So an
estimate errs by what the drawn pictures add, by what the drawn networks add, and by a rest that is
in both sums. All three come from a table of what each network makes of each picture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtrit

_LEAST_P = -9.0  # as a power of ten: below it, nothing is asked
_SYMMETRIC = 1e-6  # of skewness: below it, what undoes Johnson's correction is 0 / 0


@dataclass(frozen=True)
class Estimate:
    """A mean, and what it owes to each picture, [N], and to each network, [R].

    Both sum to 0: a picture counted once more moves the mean by what it adds, to first order. What
    belongs to a picture and a network together is ``left``, [R,N]. ``seen`` and ``ran`` count the
    pictures and the networks with a defined similarity.
    """

    value: float
    pictures: np.ndarray
    networks: np.ndarray
    left: np.ndarray
    seen: int
    ran: int

    @classmethod
    def of(cls, value: float, adds: np.ndarray, known: np.ndarray) -> "Estimate":
        """From what each network adds with each picture, [R,N]; ``known`` where it is defined."""
        ran, seen = known.any(axis=1), known.any(axis=0)
        r, n = int(ran.sum()), int(seen.sum())
        pictures, networks = adds.sum(axis=0), adds.sum(axis=1)
        left = adds - pictures / max(r, 1) - networks[:, None] / max(n, 1)
        left = np.where(ran[:, None] & seen, left, 0.0)
        return cls(float(value), pictures, networks, left, n, r)

    def less(self, other: "Estimate", times: float = 1.0) -> "Estimate":
        """The difference to so many times another estimate of the same pictures and networks."""
        return Estimate(
            self.value - times * other.value,
            self.pictures - times * other.pictures,
            self.networks - times * other.networks,
            self.left - times * other.left,
            min(self.seen, other.seen),
            min(self.ran, other.ran),
        )

    @property
    def rest(self) -> float:
        """The mean's variance from what belongs to a picture and a network together."""
        square = float((self.left**2).sum())
        return square * self.seen / max(self.seen - 1, 1) * self.ran / max(self.ran - 1, 1)

    def among_networks(self, *, chain: bool = False) -> list["Part"]:
        """The mean's variance from networks, none of one; NaN where but one of them is defined.

        ``chain``: they are pairs of networks, each of which shares one with the next, so that
        neighbours correlate by 1/2 at most.
        """
        if len(self.networks) == 1:
            return []
        if self.ran < 2:
            return [Part(math.nan, 1)]
        degrees = self.ran - 1
        variance = float((self.networks**2).sum()) * self.ran / degrees
        if chain:
            variance *= (2 * self.ran - 1) / degrees
        # The rest is in the variance from pictures, too. Half of it is taken out: with all of it
        # two networks cover too little, with none the interval is wider than it needs to be.
        return [Part(max(0.0, variance - self.rest / 2), degrees)]

    def interval(self, confidence: float, *, chain: bool = False) -> tuple[float, float]:
        """The mean's interval, NaN of one picture; ``chain`` as in ``among_networks``."""
        parts = self.among_networks(chain=chain)
        return around(self.value, self.pictures, self.seen, parts, confidence, chain=chain)

    def p(self, line: float) -> float:
        """The largest 1 - confidence at which the interval holds a line, 1e-9 at least.

        So a test of the line with both directions, turned round from the interval. NaN where there
        is no interval.
        """
        if self.value == line:
            return 1.0
        side = 0 if self.value > line else 1

        def off(power: float) -> float:
            return self.interval(1 - 10**power)[side] - line

        least, most = off(_LEAST_P), off(0)
        if not math.isfinite(least) or not math.isfinite(most):
            return math.nan
        if (most > 0) == (side == 1):  # skewed, so that the mean itself is no limit
            return 1.0
        if (least > 0) == (side == 0):
            return 10**_LEAST_P
        return 10 ** brentq(off, _LEAST_P, 0, xtol=1e-4)


class Part(NamedTuple):
    """A part of a mean's variance, and from how many degrees of freedom it is known."""

    variance: float
    degrees: int

    def square(self, confidence: float) -> float:
        """Half the width of its own interval, squared."""
        return _t(self.degrees, confidence) ** 2 * self.variance


def around(
    value: float,
    pictures: np.ndarray,
    seen: int,
    networks: Sequence[Part],
    confidence: float,
    *,
    chain: bool = False,
) -> tuple[float, float]:
    """An interval from what ``seen`` pictures add, [N], and parts that are due to networks.

    For pictures a t interval, whose side of the longer tail is widened for skewness
    [johnson1978modified]. Networks widen both sides: squares are added [zou2008construction], less
    what they are too wide; all of them where networks are a ``chain``, which says less than its
    degrees. NaN of one picture.
    """
    if seen < 2:
        return math.nan, math.nan
    moment = float((pictures**2).sum()) / seen
    own = Part(moment * seen * seen / (seen - 1), seen - 1)
    skewness = float((pictures**3).sum()) / seen / moment**1.5 if moment > 0 else 0.0
    # That of the pictures at hand is too small.
    skewness *= math.sqrt(seen * (seen - 1)) / max(seen - 2, 1)
    below, above = _quantiles(skewness / math.sqrt(seen), _t(seen - 1, confidence))
    added = sum(part.square(confidence) for part in networks)
    kept = 1 - _too_wide([own, *networks], confidence) if added and not chain else 1.0
    return (
        value - math.sqrt((below**2 * own.variance + added) * kept),
        value + math.sqrt((above**2 * own.variance + added) * kept),
    )


def _too_wide(parts: Sequence[Part], confidence: float) -> float:
    """What a sum of squares is too wide by, as a share of it; the first part is the pictures'.

    A sum is known from more degrees of freedom than its least known part: by Welch's approximation
    [satterthwaite1946approximate], which is good for many networks and covers too little for two.
    So its share grows with them, (R - 2) / (R - 1); for two the sum of squares is kept.
    """
    total = sum(part.variance for part in parts)
    degrees = total**2 / sum(part.variance**2 / part.degrees for part in parts)
    welch = Part(total, degrees).square(confidence)
    fewest = min(part.degrees for part in parts[1:])
    return (1 - 1 / fewest) * (1 - welch / sum(part.square(confidence) for part in parts))


def _quantiles(skewness: float, t: float) -> tuple[float, float]:
    """How many standard errors to go below and above a mean of this skewness."""
    if abs(skewness) < _SYMMETRIC:
        return t, t
    return max(t, _straight(t, skewness)), max(t, -_straight(-t, skewness))


def _straight(y: float, skewness: float) -> float:
    """What a studentized mean was before Johnson's correction y + a y² / 3 + a / 6 for skewness a.

    With a² y³ / 27 added, the correction only ever grows and can be undone. [johnson1978modified]
    """
    return 3 / skewness * (math.cbrt(1 + skewness * (y - skewness / 6)) - 1)


def _t(degrees: float, confidence: float) -> float:
    return float(stdtrit(degrees, (1 + confidence) / 2))


def excess(own: Estimate, prior: Estimate, confidence: float) -> tuple[float, float]:
    """The interval of an estimate less its prior's, of the same pictures; its pairs are a chain.

    It covers pictures only with fewer than three networks or two pairs.
    """
    covered = len(own.networks) > 2 and len(prior.networks) > 1
    parts = own.among_networks() + prior.among_networks(chain=True) if covered else []
    pictures, seen = own.pictures - prior.pictures, min(own.seen, prior.seen)
    return around(own.value - prior.value, pictures, seen, parts, confidence, chain=True)


@dataclass(frozen=True)
class Corrected:
    """Mean similarity, mean chance level, and kappa."""

    similarity: Estimate
    chance: float
    kappa: Estimate


def averaged(values: np.ndarray) -> Estimate:
    """The mean of the defined values [R,N] of pictures in networks."""
    known = np.isfinite(values)
    middle = float(mean(values, axis=(0, 1)))
    adds = np.where(known, values - middle, 0.0) / max(known.sum(), 1)
    return Estimate.of(middle, adds, known)


def corrected(values: np.ndarray) -> Corrected:
    """Means and kappa of values [R,N,P], each picture beside those of its group of P.

    Of a row the picture's own entry is a similarity, all others are chance.
    """
    own, other = own_similarities(values), others(values)
    similarity, paired = averaged(own), np.isfinite(other)
    chance = float(mean(other, axis=(0, 1, 2)))
    room = 1 - chance
    kappa = (similarity.value - chance) / room if room else math.nan
    # A pair belongs to two pictures, each of which moves chance by all of it.
    off = np.where(paired, other - chance, 0.0) / max(paired.sum(), 1)
    both = off.sum(axis=2) + _columns(off)
    met = paired.any(axis=(0, 2)) | _columns(paired).any(axis=0)
    # A network has it once, so half of it is taken out again, from all pictures alike.
    both -= np.where(met, off.sum(axis=(1, 2))[:, None] / max(met.sum(), 1), 0.0)
    known = np.isfinite(own)
    adds = np.where(known, own - similarity.value, 0.0) / max(known.sum(), 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        adds = (adds - (1 - kappa) * both) / room
    return Corrected(similarity, chance, Estimate.of(kappa, adds, known))


def with_changed(values: np.ndarray, found: Corrected) -> Estimate:
    """Kappa of values [R,N,P] if each picture without a similarity had 0, as a changed map has.

    ``found`` is what ``corrected`` makes of them; where nothing is missing, this is its kappa.
    """
    own = own_similarities(values)
    if np.isfinite(own).all():
        return found.kappa
    values, at = values.copy(), np.arange(values.shape[1])
    values[:, at, at % values.shape[2]] = np.where(np.isfinite(own), own, found.chance)
    return corrected(values).kappa


def _columns(rows: np.ndarray) -> np.ndarray:
    """Sums [R,N] over what other pictures' rows [R,N,P] say of each picture."""
    networks, images, partners = rows.shape
    whole = np.pad(rows, ((0, 0), (0, -images % partners), (0, 0)))
    sums = whole.reshape(networks, -1, partners, partners).sum(axis=2)
    return sums.reshape(networks, -1)[:, :images]


def own_similarities(values: np.ndarray) -> np.ndarray:
    """What values [R,N,P] say of each image beside itself, [R,N]."""
    images, partners = values.shape[1:]
    return values[:, np.arange(images), np.arange(images) % partners]


def others(values: np.ndarray) -> np.ndarray:
    """Values [R,N,P] without what they say of each image beside itself, which is NaN."""
    images, partners = values.shape[1:]
    own = np.arange(partners) == np.arange(images)[:, None] % partners
    return np.where(own, np.nan, values)


def mean(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """Mean of the defined values; NaN, without a warning, where there is none."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def interval(values: np.ndarray, *, confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean of values [R,N] over networks and images, and its interval over both.

    Undefined values are left out; NaN where all are, the limits also of a single image.
    """
    found = averaged(values)
    return (found.value, *found.interval(confidence))
