"""Claims on randomization: what is lower, and what wider intervals and other margins leave."""

import numpy as np
import pandas as pd
import pytest
from saliency_sanity.book.chapters.cascade.claims import cascade_claims, independent_claims
from saliency_sanity.book.chapters.claims import LEVELS, ClaimTable, tried
from saliency_sanity.experiments.label_permutation import ACROSS, PERMUTED, TRUE, Agreed
from saliency_sanity.experiments.outcome import Outcome, stage_table
from saliency_sanity.verdict.reading import read
from saliency_sanity.verdict.robustness import at_margin


def row(method: str, stage: str, position: int, low: float, high: float) -> dict:
    return {
        "method": method, "metric": "spearman_abs", "stage": stage, "position": position,
        "low": low, "sure_low": low, "high": high, "kappa": (low + high) / 2,
        "similarity": high, "chance": 0.0,
        "verdict": "above" if low > 0.1 else "inconclusive", "obstacle": "", "margin": 0.1,
        "random": (position + 1) / 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("end", "verdict"),
    [
        ((0.1, 0.4), "reproduced"),  # below the first
        ((0.3, 0.6), "inconclusive"),  # it may be 0.4 lower, or not at all
        ((0.65, 0.8), "not reproduced"),  # less than the margin at most
        ((0.8, 0.9), "not reproduced"),
    ],
)
def test_lower_is_said_and_denied_by_intervals_only(end, verdict):
    rows = [row("guided_backprop", "fc", 0, 0.5, 0.7), row("guided_backprop", "all", 1, *end)]
    claims = ClaimTable("x")
    cascade_claims(claims, pd.DataFrame(rows), None, 0.1)
    found = {claim.of: claim.verdict for claim in claims}
    assert found["lower-layers-change"] == verdict


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        (((0.1, 0.2), (0.2, 0.3)), "reproduced"),
        (((0.1, 0.2), (0.2, 0.6)), "inconclusive"),
        (((0.1, 0.2), (0.48, 0.6)), "not reproduced"),
    ],
)
def test_a_block_where_guided_backpropagation_is_no_higher_denies_it_for_all(ends, verdict):
    rows = []
    for position, (stage, gradient) in enumerate(zip(("fc", "conv"), ends, strict=True)):
        rows += [row("gradient", stage, position, *gradient)]
        rows += [row("guided_backprop", stage, position, 0.4, 0.55)]
    claims = ClaimTable("x")
    independent_claims(claims, pd.DataFrame(rows), None, 0.1)
    assert [claim.verdict for claim in claims if claim.of == "blocks-guided-less"] == [verdict]


def squares(level: float, seed: int, stages: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 0.1, (stages, 3, 8, 8))
    values[..., np.arange(8), np.arange(8)] += level
    return values


def outcome(level: float) -> Outcome:
    key = ("gradient", "spearman_abs")
    matrices = np.concatenate([squares(0.5, 1), squares(level, 0)])
    return Outcome(
        stages=("fc", "all"),
        random={"fc": 0.5, "all": 1.0},
        matrices={key: matrices},
        priors={key: squares(0, 2)[0][:0]},
        classes=np.zeros(0),
        pictures={},
        refused={},
        statistics={},
        ceilings={},
        no_ceiling={},
    )


@pytest.mark.parametrize("level", [0.0, 0.05, 0.1, 0.3])
def test_claims_of_an_outcome_are_decided_again_with_wider_intervals(level):
    found = outcome(level)

    def make(margin: float, at: float) -> ClaimTable:
        claims = ClaimTable("x")
        rows = stage_table(found.readings(confidence=1 - at), found.random)
        cascade_claims(claims, at_margin(rows, margin), None, margin)
        return claims

    (claim,) = tried(make, 0.1)
    last = found.matrices["gradient", "spearman_abs"][-1]
    verdicts = {at: read(last, confidence=1 - at).verdict for at in LEVELS}
    words = {"below": "reproduced", "above": "not reproduced", "inconclusive": "inconclusive"}
    assert claim.verdict == words[verdicts[0.05]]
    if claim.verdict == "inconclusive":
        assert claim.level == 1
    else:
        same = [at for at in LEVELS if verdicts[at] == verdicts[0.05]]
        assert claim.level == min(same)
    margins = {f"{m:g}": words[read(last, margin=m).verdict] for m in (0.05, 0.2)}
    assert claim.margins == margins


def test_readings_of_labels_are_as_wide_as_asked():
    pairs = {kind: squares(0.2, seed)[0] for seed, kind in enumerate((ACROSS, TRUE, PERMUTED))}
    matrices = {("gradient", "ssim", kind): values for kind, values in pairs.items()}
    agreed = Agreed(matrices, np.zeros(0), {}, {})
    for confidence in (0.95, 0.99):
        (found,) = agreed.readings(confidence=confidence).to_dict("records")
        wanted = read(pairs[ACROSS], pairs[TRUE], confidence=confidence)
        assert [found[key] for key in ("low", "high", "true_excess_low", "true_excess_high")] == [
            wanted.low, wanted.high, wanted.excess_low, wanted.excess_high
        ]  # fmt: skip
