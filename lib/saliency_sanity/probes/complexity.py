"""How much more complex maps become when the network is random, and maps without their noise.

The two repairs of the randomization test by [hedstrom2024fresh], as their code has them. *eMPRT*
compares no maps: it asks by how much the entropy of a map's histogram rises. *sMPRT* compares maps
as the test did, but means over noisy copies of a picture.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

import numpy as np
import pandas as pd
import torch
from scipy.special import xlogy
from torch import Tensor, nn

from saliency_sanity._random import generator, normal
from saliency_sanity.attribution.base import Attribution, attributing, passes
from saliency_sanity.attribution.compose import at_least, checked, explained, weighted
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.experiments.outcome import Outcome
from saliency_sanity.probes.unrelated import MARGINALS, noise
from saliency_sanity.similarity.metrics import Metric
from saliency_sanity.similarity.prepare import Array, Prepare, signed_sum
from saliency_sanity.similarity.rank import Pearson, Ranks
from saliency_sanity.verdict.interval import interval, own_similarities

BINS = 100


class RiseKind(StrEnum):
    """What became of a relative rise of entropy.

    ``FLAT``: the first map is constant or has all its values in one bin, so its entropy is 0, and
    nothing can be related to it. ``NOT_FINITE``: one of the maps has a value that is not finite.
    """

    DEFINED = "defined"
    FLAT = "flat map"
    NOT_FINITE = "not finite"


def entropy(maps: Tensor | np.ndarray, bins: int = BINS) -> Tensor:
    """Entropy ``[N]`` of the values of each map ``[N, ...]``, in nats, 0 to ln ``bins``.

    Of a histogram of so many equal bins from the map's smallest to its largest value. A constant
    map has 0, one with a value that is not finite NaN. Moving or scaling a map changes nothing but
    by rounding. Raises ValueError for no bin, or maps without values. ``discrete_entropy`` of
    Quantus [hedstrom2023quantus] with ``n_bins``.
    """
    bins = at_least("bins", bins, 1)
    maps = maps.detach().double().cpu().numpy() if isinstance(maps, Tensor) else np.asarray(maps)
    if maps.ndim < 2 or maps.size == 0:
        raise ValueError(f"maps have shape {maps.shape}; expected [N, ...] with values in each")
    return torch.tensor([_entropy(one, bins) for one in maps], dtype=torch.float64, device="cpu")


def _entropy(values: np.ndarray, bins: int) -> float:
    if not np.isfinite(values).all():
        return np.nan
    try:
        counts, _ = np.histogram(values, bins=bins)
    except ValueError:  # the range is a few roundings wide, too narrow for edges where it lies
        counts, _ = np.histogram((values - values.min()) / np.ptp(values), bins=bins)
    shares = counts / counts.sum()
    return float(-xlogy(shares, shares).sum()) + 0.0


def signed_entropy(maps: Tensor) -> Tensor:
    """Entropy ``[N]`` of maps ``[N, C, H, W]`` summed over channels, signs kept."""
    return entropy(signed_sum(maps.double()))


def absolute_entropy(maps: Tensor) -> Tensor:
    """Entropy ``[N]`` of the absolute values of maps ``[N, C, H, W]`` summed over channels."""
    return entropy(signed_sum(maps.double()).abs())


# What an Experiment is given as ``statistics``, for ``rises``.
STATISTICS = {"entropy": signed_entropy, "entropy_absolute": absolute_entropy}


def relative_rise(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(after - before) / before of entropies; NaN where that is not defined, see ``rise_kinds``."""
    before, after = np.broadcast_arrays(before, after)
    defined = rise_kinds(before, after) == RiseKind.DEFINED
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(defined, (after - before) / before, np.nan)


def rise_kinds(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """What each relative rise of entropies is, values of ``RiseKind`` as text."""
    before, after = np.broadcast_arrays(before, after)
    cases = [~(np.isfinite(before) & np.isfinite(after)), before == 0]
    words = [kind.value for kind in (RiseKind.NOT_FINITE, RiseKind.FLAT)]
    return np.select(cases, words, RiseKind.DEFINED.value)


@dataclass(frozen=True)
class Rise:
    """The eMPRT of one method: entropies ``[R, N]`` ``before`` and ``after``.

    Before and after all of the network is random: R random networks, N pictures. Positive means
    that maps become more complex, which [hedstrom2024fresh] takes for maps that saw the network.
    """

    before: np.ndarray
    after: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """The relative rise of each picture in each network, NaN where it is not defined."""
        return relative_rise(self.before, self.after)

    def mean(self, confidence: float = 0.95) -> tuple[float, float, float]:
        """Mean rise of the pictures and networks where it is defined, and its interval."""
        return interval(self.values, confidence=confidence)

    def count(self, kind: RiseKind) -> int:
        """How many rises are of a kind, of R N."""
        return int((rise_kinds(self.before, self.after) == kind).sum())


def rises(outcome: Outcome, statistic: str = "entropy") -> dict[str, Rise]:
    """The eMPRT by method, of the last stage of an experiment with ``STATISTICS``."""
    return {
        method: Rise(values[0], values[-1])
        for (method, name), values in outcome.statistics.items()
        if name == statistic
    }


@dataclass(frozen=True)
class Denoised:
    """The signed mean of a map over noisy copies of the picture, as sMPRT compares it.

    Gaussian noise of ``noise`` times each picture's own range, max - min. With ``plain_last`` the
    last of ``samples`` has none, so that one sample is the plain map: the code of
    [hedstrom2024fresh] in Quantus; without it all have, as their formula says. All pictures, and
    all networks, see the same draws.
    """

    method: Attribution
    samples: int = 50
    noise: float = 0.1
    seed: int = 0
    plain_last: bool = True

    def __post_init__(self):
        checked(
            self,
            samples=at_least("samples", self.samples, 1),
            noise=at_least("noise", self.noise, 0, float),
            seed=at_least("seed", self.seed, -np.inf),
        )

    @property
    def passes(self) -> int:
        """Passes an image costs."""
        return self.samples * passes(self.method)

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain ``target`` for ``x``."""
        with attributing(model, x, target):
            x = x.detach()
            sigma = self.noise * (x.amax((1, 2, 3)) - x.amin((1, 2, 3))).view(-1, 1, 1, 1)

            def perturb(part: Tensor, rows: slice, sample: int) -> Tensor:
                if self.plain_last and sample == self.samples - 1:
                    return part
                # Not the draws of a SmoothGrad inside.
                draw = normal(x.shape[1:], generator(self.seed, "denoising", sample))
                return part + sigma[rows] * draw.to(part)

            maps = explained(self.method, model, x, target, self.samples, perturb)
            return weighted(maps, [1 / self.samples] * self.samples, len(x))


def magnitude(maps: Array) -> Array:
    """Absolute values."""
    return abs(maps)


# How the code of [hedstrom2024fresh] compares maps: channels are summed up first, and signs go
# then; nothing is cut. What it scales maps by does not change ranks.
SUMMED_RANKS = Metric(Prepare("signed"), (magnitude, Ranks()), Pearson())
_SUMMED = {"summed_ranks": SUMMED_RANKS}


def efficient_mprt(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    method: Attribution,
    *,
    seeds: int = 5,
    seed: int = 0,
) -> Rise:
    """The eMPRT of a method: how the entropy of its maps rises when the whole network is random.

    ``x`` ``[N, C, H, W]``, two pictures or more, ``target`` ``[N]`` the classes explained before
    and after. ``seeds`` random networks are drawn, from ``seed`` on. Raises what ``Experiment``
    does, NotApplicable where the method does not apply to the network. [hedstrom2024fresh]
    """
    found = _whole(model, x, target, method, seeds, seed, STATISTICS)
    return rises(found)["method"]


def smooth_mprt(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    method: Attribution,
    *,
    samples: int = 50,
    noise: float = 0.1,
    seeds: int = 5,
    seed: int = 0,
) -> np.ndarray:
    """The sMPRT of a method: rank correlations ``[R, N]`` of denoised maps.

    Of the trained network and of wholly random ones; 1 is the same map. Arguments as in
    ``efficient_mprt``, ``samples`` and ``noise`` as in ``Denoised``. [hedstrom2024fresh]
    """
    denoised = Denoised(method, samples, noise, seed)
    found = _whole(model, x, target, denoised, seeds, seed, {})
    return alike(found, "summed_ranks")["method"]


def _whole(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    method: Attribution,
    seeds: int,
    seed: int,
    statistics: Mapping[str, Callable[[Tensor], Tensor]],
) -> Outcome:
    experiment = Experiment(
        model,
        x,
        target,
        {"method": method},
        _SUMMED,
        order="full",
        explained="fixed",
        seeds=seeds,
        seed=seed,
        statistics=statistics,
        ceiling=0,
    )
    return experiment()


def alike(outcome: Outcome, metric: str, stage: int = -1) -> dict[str, np.ndarray]:
    """Similarity ``[R, N]`` of each picture's two maps at a stage, the last by default, by method.

    Of an experiment on plain maps this is MPRT, of one on ``Denoised`` maps sMPRT.
    """
    return {
        method: own_similarities(squares[stage])
        for (method, name), squares in outcome.matrices.items()
        if name == metric
    }


def noise_rises(
    shape: Sequence[int],
    marginals: Sequence[str] = tuple(MARGINALS),
    *,
    draws: int = 20,
    seed: int = 0,
) -> pd.DataFrame:
    """The eMPRT of a change from one noise to another: what tails alone do to it.

    ``shape`` of a map without channels, ``marginals`` as in ``unrelated.noise``. A row a pair, in
    which ``before`` and ``after`` are independent draws: mean ``value`` of as many draws, and its
    interval ``low`` to ``high``. Raises ValueError for fewer than two draws or another marginal.
    """
    draws = at_least("draws", draws, 2)
    sides = {
        (marginal, side): entropy(
            torch.stack([noise(marginal, shape, seed, side, draw) for draw in range(draws)])
        ).numpy()
        for marginal, side in product(marginals, ("before", "after"))
    }
    rows = []
    for before, after in product(marginals, repeat=2):
        values = relative_rise(sides[before, "before"], sides[after, "after"])
        rows.append((before, after, *interval(values[None])))
    return pd.DataFrame(rows, columns=["before", "after", "value", "low", "high"])
