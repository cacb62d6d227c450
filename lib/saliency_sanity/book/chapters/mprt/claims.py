"""What the critics' two repairs were said to do, held against our scores."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.book.chapters.mprt.scores import SCORES, flips, kept_apart
from saliency_sanity.probes.complexity import Rise
from saliency_sanity.verdict.interval import interval
from saliency_sanity.verdict.wording import rounded

_CODE = "Hedström et al. 2024, code"
_OURS = "this book"
_SIDES = {"smprt": "smprt-orders-as-kappa", "emprt": "emprt-orders-as-kappa"}
_EVEN = 0.5
# An eMPRT as near to 0 as this counts as 0.
_NEAR = 0.05


def order_claim(
    claims: ClaimTable, top_down: Mapping[str, np.ndarray], bottom_up: Mapping[str, np.ndarray],
    titles: Mapping[str, str], *, level: float,
) -> None:  # fmt: skip
    """Add what the paper says of the order: top-down leaves every method more alike.

    Each order has by method similarities ``[R, N]``, means over the stages before the last.
    """
    differences = {
        key: _difference(top_down[key], bottom_up[key], level)
        for key in top_down
        if key in bottom_up
    }
    if not differences:
        return
    more = [titles[key] for key, (_, low, _) in differences.items() if low > 0]
    less = [titles[key] for key, (_, _, high) in differences.items() if high < 0]
    verdict = "inconclusive"
    if less:
        verdict = "not reproduced"
    elif len(more) == len(differences):
        verdict = "reproduced"
    claims.add(
        "top-down stays more alike",
        "With randomization from the logits down, every method's maps stay more alike than from "
        "the input up.",
        source=f"{_CODE}, README, c, and its curves",
        paper_said="for every method",
        measured=f"more alike: {len(more)} of {len(differences)} methods; less: "
        f"{', '.join(less) or 'none'}",
        verdict=verdict,
        reason="means over the stages before the last; reproduced if the interval of the "
        "difference lies above 0 for every method; not reproduced if below for one",
        of="mprt-top-down-keeps",
    )


def denoising_claim(
    claims: ClaimTable, plain: np.ndarray, denoised: np.ndarray, title: str, *, copies: int,
    level: float,
) -> None:  # fmt: skip
    """Add what the paper says of noise: that of the gradient makes MPRT find it less alike.

    ``plain`` and ``denoised`` are similarities ``[R, N]`` of the same pictures and networks.
    """
    value, low, high = _difference(denoised, plain, level)
    claims.add(
        f"noise hides what {title} keeps",
        "When its maps are averaged over noisy copies of the picture, they are more alike than "
        "MPRT finds them.",
        source=f"{_CODE}, README, d and e",
        paper_said="similarities are sensitive to noise, as from shattered gradients",
        measured=f"sMPRT {rounded(_mean(denoised))}, MPRT {rounded(_mean(plain))}; difference "
        f"{_text(value, low, high)}, {copies} copies",
        chance="difference 0",
        verdict=_sign(low, high),
        reason="reproduced if the interval of the difference lies above 0; not reproduced if below",
        of="smprt-less-noise",
        about=title,
    )


def complexity_claims(
    claims: ClaimTable,
    rise: Mapping[str, Rise],
    titles: Mapping[str, str],
    *,
    published: bool,
    photographs: bool,
    level: float,
) -> None:
    """Add what the stored table of the paper's code shows of eMPRT, and one statement of our own.

    ``published`` where it has a network like this one, ``photographs`` where the network is for
    such.
    """
    if "noise" in rise:
        value, low, high = rise["noise"].mean(1 - level)
        claims.add(
            "noise scores 0",
            "Noise that is drawn anew for the random network becomes no more complex.",
            source=f"{_CODE}, stored table",
            paper_said="0.000 ± 0.000 for its random control, in all four settings",
            measured=f"eMPRT {_text(value, low, high)}",
            chance="eMPRT 0",
            verdict=_near(low, high),
            reason=f"reproduced if the interval lies within {_NEAR:g} of 0; not reproduced if "
            "outside",
            of="emprt-noise-zero",
        )
    if published:
        _pair(
            claims, rise, ("gradient", "lrp_zplus"), titles, "emprt-gradient-zplus",
            "0.033 ± 0.050 and −0.067 ± 0.058", level,
        )  # fmt: skip
    if photographs:
        _pair(
            claims, rise, ("guided_backprop", "gradient"), titles, "emprt-guided-gradient",
            "0.788 ± 0.873 and 0.012 ± 0.166 on ResNet-18; 1.560 ± 1.225 and 0.526 ± 0.374 on "
            "VGG-16", level,
        )  # fmt: skip
    _edges(claims, rise, titles, level)


def _pair(
    claims: ClaimTable, rise: Mapping[str, Rise], pair: tuple[str, str],
    titles: Mapping[str, str], of: str, said: str, level: float,
) -> None:  # fmt: skip
    if not set(pair) <= set(rise):
        return
    first, second = (rise[key] for key in pair)
    value, low, high = _difference(first.values, second.values, level)
    names = " before ".join(titles[key] for key in pair)
    claims.add(
        f"eMPRT puts {names}",
        "Relative to what it was, the complexity of the first rises more than that of the second.",
        source=f"{_CODE}, stored table",
        paper_said=said,
        measured=f"eMPRT {rounded(first.mean()[0])} and {rounded(second.mean()[0])}; difference "
        f"{_text(value, low, high)}",
        chance="difference 0",
        verdict=_sign(low, high),
        reason="reproduced if the interval of the difference lies above 0; not reproduced if below",
        of=of,
    )


def _edges(
    claims: ClaimTable, rise: Mapping[str, Rise], titles: Mapping[str, str], level: float
) -> None:
    blind = [key for key in ("sobel", "canny", "input") if key in rise]
    if "noise" not in rise or not blind:
        return
    gaps = {key: _difference(rise["noise"].values, rise[key].values, level) for key in blind}
    verdicts = {_near(low, high) for _, low, high in gaps.values()}
    verdict = verdicts.pop() if len(verdicts) == 1 else "inconclusive"
    text = "; ".join(f"{titles[key]} {_text(*gap)}" for key, gap in gaps.items())
    claims.add(
        "eMPRT has one score for noise and for edges",
        "Noise that sees only the model scores like maps that see only the picture.",
        source=_OURS,
        paper_said="–",
        measured=f"eMPRT of noise minus that of {text}",
        chance="difference 0",
        verdict=verdict,
        reason=f"reproduced if every interval lies within {_NEAR:g} of 0; not reproduced if all "
        "lie outside",
        of="emprt-noise-and-edges",
    )


def tail_claim(claims: ClaimTable, null: pd.DataFrame, shape: tuple[int, ...]) -> None:
    """Add that lighter tails alone raise eMPRT, from a table as ``noise_rises`` gives it."""
    row = null[(null["before"] == "student-t3") & (null["after"] == "gaussian")].iloc[0]
    same = null[(null["before"] == "gaussian") & (null["after"] == "gaussian")].iloc[0]
    claims.add(
        "lighter tails pass eMPRT",
        "Noise of Student's t with three degrees of freedom becomes more complex when Gaussian "
        "noise replaces it. There is nothing to explain, yet the score says that a model was seen.",
        source=_OURS,
        paper_said="–",
        measured=f"eMPRT {_text(row['value'], row['low'], row['high'])}, maps of "
        f"{' × '.join(map(str, shape))} pixels",
        chance=f"Gaussian to Gaussian {_text(same['value'], same['low'], same['high'])}",
        verdict=_sign(row["low"], row["high"]),
        reason="reproduced if the interval over draws lies above 0; not reproduced if below",
        of="emprt-tails",
    )


def side_claim(
    claims: ClaimTable, scores: pd.DataFrame, values: Mapping[str, np.ndarray], score: str,
    titles: Mapping[str, str], *, level: float,
) -> None:  # fmt: skip
    """Add whether the order by ``smprt`` or ``emprt`` keeps apart what kappa's verdicts do.

    ``scores`` as ``ranked`` gives them, ``values`` ``[R, N]`` the score itself by method.
    """
    name = SCORES[score][1]
    found, count, _ = flips(scores, score)
    shares, pairs = kept_apart(scores, values, score)
    value, low, high = interval(shares, confidence=1 - level)
    low, high = max(low, 0.0), min(high, 1.0)
    claims.add(
        f"{name} orders as kappa",
        f"By {name}, what responds by kappa ranks before what is picture-driven, more often than "
        "in a random order.",
        source=_OURS,
        paper_said="–",
        measured=f"in {_text(value, low, high)} of {pairs} pairs; on the other side by rank: "
        f"{len(found)} of {count}: {' · '.join(titles[key] for key in found) or 'none'}",
        chance=f"in {_EVEN:g} of the pairs",
        verdict=_sign(low - _EVEN, high - _EVEN) if pairs else "not tested",
        reason="share of the pairs of a method below and one above the margin, by picture and "
        "network; reproduced if its interval lies above a half; not reproduced if below; not "
        "tested unless there are verdicts on both sides",
        of=_SIDES[score],
    )


def _difference(first: np.ndarray, second: np.ndarray, level: float) -> tuple[float, float, float]:
    """Mean of the first less the second, of the same pictures and networks, and its interval."""
    return interval(first - second, confidence=1 - level)


def _mean(values: np.ndarray) -> float:
    return interval(values)[0]


def _text(value: float, low: float, high: float) -> str:
    return f"{rounded(value)} ({rounded(low)} to {rounded(high)})"


def _sign(low: float, high: float) -> str:
    return "reproduced" if low > 0 else "not reproduced" if high < 0 else "inconclusive"


def _near(low: float, high: float) -> str:
    if low >= -_NEAR and high <= _NEAR:
        return "reproduced"
    return "not reproduced" if low > _NEAR or high < -_NEAR else "inconclusive"
