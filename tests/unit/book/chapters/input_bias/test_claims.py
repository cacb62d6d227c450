"""Claims on input bias: verdicts follow from what was measured, in both directions."""

import numpy as np
import pandas as pd
import pytest
from saliency_sanity.book.chapters.claims import VERDICTS, ClaimTable
from saliency_sanity.book.chapters.input_bias import claims as brightness

RECT, MODIFIED = brightness.RECT, brightness.MODIFIED
BASE = np.linspace(0, 1, brightness.LEAST_OBJECTS)


def densities(product, other, without):
    """At two percentiles, a little more at the second."""
    level = {(RECT, "black"): product, (RECT, "mid-grey"): other, (MODIFIED, "black"): without}
    return {
        q: {key: BASE + value + more for key, value in level.items()}
        for q, more in ((80.0, 0.0), (98.0, 0.1))
    }


def fewer(found, count):
    return {q: {key: values[:count] for key, values in maps.items()} for q, maps in found.items()}


def premise(stays=200, shown=200):
    return brightness.premise_claim(ClaimTable("premise"), stays, shown, "both")


def reading(kappa, half=0.02, margin=0.1, **named):
    low, high = kappa - half, kappa + half
    verdict = "below" if high < margin else "above" if low > margin else "inconclusive"
    return {"kappa": kappa, "low": low, "high": high, "verdict": verdict, **named} | {
        "similarity": kappa,
        "chance": 0.0,
    }


@pytest.fixture
def claims():
    return ClaimTable("page")


@pytest.mark.parametrize(
    ("found", "verdicts"),
    [
        (densities(0, 1, 2), ["reproduced", "reproduced", "reproduced"]),
        (densities(2, 1, 0), ["not reproduced", "not reproduced", "not reproduced"]),
        (densities(2, 3, 4), ["not reproduced", "reproduced", "reproduced"]),
        (densities(0, 1, -1), ["reproduced", "not reproduced", "reproduced"]),
        (fewer(densities(0, 1, 2), brightness.LEAST_OBJECTS - 1), ["inconclusive"] * 3),
        # One way at one percentile, another way at the other.
        (
            {80.0: densities(0, 1, 2)[80.0], 98.0: densities(2, 1, 0)[80.0]},
            ["inconclusive"] * 3,
        ),
        ({}, ["not tested"] * 3),
    ],
)
def test_dark_objects(claims, found, verdicts):
    assert [claim.verdict for claim in brightness.dark_claims(claims, found)] == verdicts
    assert (
        "as zero, then for an average pixel; q = 80: 0.50, 1.00, difference 0.50"
        in claims.claims[0].measured
        if verdicts[0] == ("reproduced")
        else True
    )


@pytest.mark.parametrize(
    ("off", "verdict"),
    [
        ({"logits": 1e-7, "without": 1e-6, "with": 0.3}, "reproduced"),
        ({"logits": 1e-3, "without": 1e-6, "with": 0.3}, "not reproduced"),
        ({"logits": 1e-7, "without": 1e-3, "with": 0.3}, "not reproduced"),
        ({"logits": 1e-7, "without": 1e-6, "with": 1e-7}, "not reproduced"),
    ],
)
def test_shift_invariance(claims, off, verdict):
    assert brightness.exact_claim(claims, off).verdict == verdict


@pytest.mark.parametrize(
    ("at_zero", "verdict"),
    [
        ({"0.00": (0.0, 0.9), "0.50": (0.0, 1.1)}, "reproduced"),
        ({"0.00": (0.0, 0.9), "0.50": (1e-9, 1.1)}, "not reproduced"),
        ({"0.00": (0.0, 0.0), "0.50": (0.0, 1.1)}, "not reproduced"),
    ],
)
def test_blind_spot(claims, at_zero, verdict):
    assert brightness.colour_claim(claims, at_zero).verdict == verdict


@pytest.mark.parametrize(
    ("product", "without", "verdict"),
    [(0.0, 0.5, "reproduced"), (0.5, 0.0, "not reproduced"), (0.5, 0.5, "inconclusive")],
)
def test_negatives(claims, product, without, verdict):
    rows = pd.DataFrame([reading(product, method=RECT), reading(without, method=MODIFIED)])
    claim = brightness.negative_claim(claims, premise(), rows, 7)
    assert claim.verdict == verdict
    assert "7 pictures" in claim.measured
    few = brightness.negative_claim(ClaimTable("few"), premise(), None, 3)
    assert few.verdict == "not tested"
    # Maps of what the network takes for two things say nothing, whatever they are.
    for stays in (22, 160):
        told = brightness.negative_claim(ClaimTable("other"), premise(stays), rows, 7)
        assert told.verdict == "not tested"
        assert told.reason.startswith("it cannot tell")


@pytest.mark.parametrize(
    ("stays", "shown", "verdict"),
    [
        (185, 200, "reproduced"),
        (22, 200, "not reproduced"),
        (160, 200, "inconclusive"),
        (20, 20, "reproduced"),
        (17, 20, "inconclusive"),
    ],
)
def test_whether_negatives_show_the_same_thing(stays, shown, verdict):
    found = premise(stays, shown)
    assert found.verdict == verdict
    assert f"{stays} of {shown} negatives: {100 * stays / shown:.0f}%" in found.measured
    # Wilson's interval, by hand.
    share, z = stays / shown, 1.959964
    middle = (share + z**2 / (2 * shown)) / (1 + z**2 / shown)
    half = z / (1 + z**2 / shown) * (share * (1 - share) / shown + z**2 / (4 * shown**2)) ** 0.5
    assert f"({middle - half:.0%} to {middle + half:.0%})" in found.measured


@pytest.mark.parametrize(
    ("product", "without", "verdict"),
    [
        (0.6, 0.0, "reproduced"),
        (0.6, 0.6, "inconclusive"),
        (0.0, 0.0, "not reproduced"),
        (0.1, 0.0, "inconclusive"),
    ],
)
def test_following_the_input(claims, product, without, verdict):
    likeness = pd.DataFrame(
        [
            reading(value, method=method, metric=metric)
            for metric in ("all", "kept")
            for method, value in ((RECT, product), (MODIFIED, without))
        ]
    )
    moved = pd.DataFrame([reading(0.2, method=RECT), reading(1.0, method=MODIFIED)])
    *follows, hangs = brightness.following_claims(claims, likeness, moved, [RECT])
    assert [claim.verdict for claim in follows] == [verdict] * 2
    assert hangs.verdict == "reproduced"


def test_a_method_that_moves_against_expectation_is_named(claims):
    likeness = pd.DataFrame(
        [reading(0.5, method=method, metric="all") for method in (RECT, MODIFIED)]
    )
    moved = pd.DataFrame(
        [
            reading(0.2, method=RECT),
            reading(0.7, method="gradient"),
            reading(np.nan, method="canny"),
        ]
    )
    hangs = brightness.following_claims(claims, likeness, moved, [RECT])[-1]
    assert hangs.verdict == "not reproduced"
    assert hangs.measured == "2 of 2 methods and controls change; otherwise than expected: gradient"


@pytest.mark.parametrize(
    ("levels", "verdict"),
    [
        ({"z": 0.8, "w²": 0.2, "flat": 0.1}, "reproduced"),
        ({"z": 0.8, "w²": 0.2, "flat": 0.9}, "inconclusive"),
        ({"z": 0.8, "w²": 0.9, "flat": 0.9}, "inconclusive"),
        ({"z": 0.0, "w²": 0.9, "flat": 0.9}, "not reproduced"),
        # Of the margin nothing is known: no contradiction.
        ({"z": 0.1, "w²": 0.1, "flat": 0.1}, "inconclusive"),
    ],
)
def test_rules_of_lrp(claims, levels, verdict):
    rows = [reading(value, method=name, metric="all") for name, value in levels.items()]
    rows += [reading(0.0, method=name, metric="kept") for name in levels]
    assert brightness.rule_claim(claims, pd.DataFrame(rows)).verdict == verdict
    refused = brightness.rule_claim(ClaimTable("other"), None, "no rule for this")
    assert (refused.verdict, refused.reason) == ("not tested", "no rule for this")


def test_threshold_zero_and_the_padding_trick(claims):
    assert brightness.tau_claim(claims, 1e-7).verdict == "reproduced"
    assert brightness.tau_claim(ClaimTable("other"), 1e-3).verdict == "not reproduced"
    assert brightness.trick_claim(claims, BASE + 1, BASE).verdict == "reproduced"
    assert brightness.trick_claim(ClaimTable("other"), BASE, BASE + 1).verdict == "not reproduced"


def test_the_last_stage_decides_on_sanity(claims):
    rows = [
        reading(kappa, method=method, metric="spearman_abs", position=position)
        for method, levels in {RECT: (0.0, 0.8), MODIFIED: (0.8, 0.0)}.items()
        for position, kappa in enumerate(levels)
    ]
    found = brightness.sanity_claims(claims, pd.DataFrame(rows), "spearman_abs")
    assert [claim.verdict for claim in found] == ["reproduced", "not reproduced"]


def test_a_sentence_is_said_only_where_it_is_true(claims):
    good = brightness.tau_claim(claims, 0.0)
    assert brightness.remember(good, "So it is.").data == "**To remember.** So it is."
    bad = brightness.tau_claim(ClaimTable("other"), 1.0)
    said = brightness.remember(bad, "So it is.").data
    assert said.startswith("**Not reproduced:** With a threshold of 0")
    assert "So it is" not in said
    assert {good.verdict, bad.verdict} <= set(VERDICTS)


@pytest.mark.parametrize("confidence", [0.95, 0.998])
def test_wider_intervals_leave_open_what_narrow_ones_decide(confidence):
    """Twelve differences of 0.9 with a spread of 1: p is about 0.01 of Student's t."""
    spread = np.tile([-1.0, 1.0], 6)
    decided = confidence == 0.95
    trick = brightness.trick_claim(
        ClaimTable("one"), BASE + 0.9 + spread, BASE, confidence=confidence
    )
    assert trick.verdict == ("reproduced" if decided else "inconclusive")
    first = ClaimTable("two")
    told = brightness.premise_claim(first, 173, 200, "both", confidence=confidence)
    assert told.verdict == ("reproduced" if decided else "inconclusive")


def test_claims_are_tried_as_a_table_of_their_own(claims):
    (claim,) = claims.try_claims(
        lambda table, _, level: brightness.premise_claim(
            table, 173, 200, "both", confidence=1 - level
        ),
        0.1,
    )
    assert claims.claims == [claim]
    assert claim.verdict == "reproduced"
    assert 0.002 < claim.level < 0.05, "it stays at some lower levels, and not at all of them"
    with pytest.raises(ValueError, match="there is a claim 'a negative shows the same thing'"):
        claims.try_claims(lambda table, *_: brightness.premise_claim(table, 173, 200, "both"), 0.1)
