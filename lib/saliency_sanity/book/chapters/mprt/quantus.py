"""What Quantus 0.6.0 computes where one would expect sMPRT and eMPRT, by formulas on arrays.

Quantus itself is not needed: its rules are written down here, and tests hold them against it.
[hedstrom2023quantus]
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from torch import Tensor

from saliency_sanity.attribution.base import Attribution, Gradient
from saliency_sanity.networks.classifier import Classifier
from saliency_sanity.probes.complexity import BINS, SUMMED_RANKS, Denoised, entropy, relative_rise
from saliency_sanity.randomization.blocks import find_blocks
from saliency_sanity.randomization.schemes import Randomization, Randomizer
from saliency_sanity.similarity.prepare import signed_sum
from saliency_sanity.verdict.interval import mean

LEAST, MOST = 10, 200  # bins that a rule may give there


def _spread_rule(width: Callable[[np.ndarray], float]) -> Callable[[np.ndarray, int], int]:
    """A rule that gives the width of a bin times the cube root of the count."""

    def bins(values: np.ndarray, count: int) -> int:
        wide = width(values) / count ** (1 / 3)
        # A width of 0 is raised there by one of the two rules; the other would divide by 0.
        return int(np.ptp(values) / max(wide, 1e-6))

    return bins


# Names are those of Quantus. Each takes all values of a batch of maps, and how many values count.
RULES: dict[str, Callable[[np.ndarray, int], int]] = {
    "Freedman Diaconis": _spread_rule(lambda v: 2 * np.subtract(*np.percentile(v, [75, 25]))),
    "Scotts": _spread_rule(lambda v: 3.5 * np.std(v)),
    "Square Root": lambda _, count: int(np.sqrt(count)),
    "Sturges Formula": lambda _, count: int(np.log2(count) + 1),
    "Rice": lambda _, count: int(2 * count ** (1 / 3)),
}


def bins_by(rule: str, maps: np.ndarray, *, as_quantus: bool) -> int:
    """Bins that a rule gives for maps ``[N, H, W]``, within what Quantus allows, 10 to 200.

    Rules take the number of values of a map. ``as_quantus`` takes the number of axes of a map
    instead, 3 with the axis of channels that Quantus puts in.
    """
    count = 3 if as_quantus else maps[0].size
    return max(min(RULES[rule](maps, count), MOST), LEAST)


def bin_table(before: Tensor, after: Tensor) -> pd.DataFrame:
    """The eMPRT of the same maps ``[N, C, H, W]`` by rule: bins it means, bins Quantus gives.

    ``emprt_meant`` and ``emprt_quantus`` are means over pictures; the first row is that of the
    fixed 100 bins. Maps are divided by the root of their mean square, as the published code does,
    over the whole batch.
    """
    sides = [signed_sum(maps.double().cpu()).numpy() for maps in (before, after)]
    scaled = sides[0] / np.sqrt(np.mean(sides[0] ** 2)) if sides[0].any() else sides[0]

    def score(bins: int) -> float:
        risen = relative_rise(*(entropy(side, bins).numpy() for side in sides))
        return float(mean(risen, axis=0))

    rows = [("none: 100 bins", BINS, BINS, score(BINS), score(BINS))]
    for rule in RULES:
        meant, given = (bins_by(rule, scaled, as_quantus=own) for own in (False, True))
        rows.append((rule, meant, given, score(meant), score(given)))
    return pd.DataFrame(rows, columns=["rule", "meant", "quantus", "emprt_meant", "emprt_quantus"])


def average_counting_untouched(by_stage: np.ndarray) -> np.ndarray:
    """``return_average_correlation``: the mean of similarities ``[S, ...]`` and of one more, 1.

    That is the similarity of the network that nothing was done to with itself.
    """
    return (1 + by_stage.sum(axis=0)) / (1 + len(by_stage))


_AS = {
    "smprt": "as published: the last copy without noise, one set of draws",
    "all_noisy": "all copies with noise, as the formula says",
    "new_draws": "other draws for the random network, as without a seed",
    "a_batch": "the trained network's plain map, as with `a_batch`",
    "gradient": "the gradient instead, as with one's own `explain_func`",
    "itself": "the trained network with itself, by other draws",
}


def smooth_table(
    classifier: Classifier,
    x: Tensor,
    target: Tensor,
    methods: Mapping[str, Attribution],
    *,
    samples: int,
    noise: float,
    seeds: int = 2,
    seed: int = 0,
) -> tuple[pd.DataFrame, dict[str, tuple[Tensor, Tensor]]]:
    """The sMPRT of some methods by what ``SmoothMPRT`` does in one case or another, a row a case.

    Means over pictures and ``seeds`` random networks; a column a method after ``what``. With the
    table come the plain maps of each method before and after, of the first random network. The
    classifier ends as it was.
    """
    blocks = find_blocks(classifier, x)
    names = [block.name for block in blocks]
    found: dict[str, dict[str, list[float]]] = {key: {case: [] for case in _AS} for key in methods}
    plain: dict[str, tuple[Tensor, Tensor]] = {}
    with Randomizer(classifier, blocks, Randomization(), x) as randomizer:
        wanted = {key: _variants(method, samples, noise, seed) for key, method in methods.items()}
        slope = Denoised(Gradient(), samples, noise, seed)

        def explain(method: Attribution) -> Tensor:
            return method(classifier, x, target)

        trained = {
            key: {name: explain(one) for name, one in variants.items()}
            for key, variants in wanted.items()
        }
        gradient = explain(slope)
        for number in range(seeds):
            randomizer.set(names, seed + number)
            other_gradient = explain(slope)
            for key, variants in wanted.items():
                before = trained[key]
                after = {name: explain(one) for name, one in variants.items()}
                if not number:
                    plain[key] = before["plain"], after["plain"]
                pairs = {
                    "smprt": (before["denoised"], after["denoised"]),
                    "all_noisy": (before["all_noisy"], after["all_noisy"]),
                    "new_draws": (before["denoised"], after["other"]),
                    "a_batch": (before["plain"], after["denoised"]),
                    "gradient": (gradient, other_gradient),
                    "itself": (before["denoised"], before["other"]),
                }
                for case, pair in pairs.items():
                    found[key][case].append(float(mean(SUMMED_RANKS(*pair).numpy(), axis=0)))
    columns = {key: [np.mean(found[key][case]) for case in _AS] for key in methods}
    return pd.DataFrame({"case": [*_AS], "what": [*_AS.values()]} | columns), plain


def _variants(method: Attribution, samples: int, noise: float, seed: int) -> dict[str, Attribution]:
    denoised = Denoised(method, samples, noise, seed)
    return {
        "plain": method,
        "denoised": denoised,
        "all_noisy": replace(denoised, plain_last=False),
        "other": replace(denoised, seed=seed + 1),
    }
