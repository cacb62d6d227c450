"""Claims on rank one: planted cosines and similarities, on either side of each line."""

import numpy as np
import pandas as pd
import pytest
from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.book.chapters.rank_one.claims import (
    CONVERGES,
    IGNORES,
    STAYS,
    Levels,
    Mean,
    convergence_claims,
    factor_claim,
    from_starts,
    least_start,
    logit_alike,
    logit_claims,
    state,
)
from saliency_sanity.probes.random_logit import FLIPS

LEVELS = Levels(0.99, 0.9, 0.9)
TITLES = {key: key.upper() for key in (*CONVERGES, *IGNORES, *STAYS)}
SPREAD = np.array([-2, -1, 0, 1, 2, 0]) * 1e-4


def pictures(cosine, method="lrp_zplus", other=1.0, images=6):
    """Cosines of one method: at the lowest layer from one start and from another."""
    values = {("top", "low"): cosine, ("middle", "low"): other, ("top", "middle"): 0.1}
    rows = [
        {
            "method": method,
            "start": start,
            "layer": layer,
            "position": int(layer == "middle"),
            "image": image,
            "cosine": value + SPREAD[image],
        }
        for (start, layer), value in values.items()
        for image in range(images)
    ]
    return pd.DataFrame(rows)


def converged(table, **settings):
    claims = ClaimTable("page")
    convergence_claims(claims, table, {"low": 0.1}, TITLES, "1 network (n)", LEVELS, **settings)
    return {claim.about: claim for claim in claims}


@pytest.mark.parametrize("method", [*CONVERGES, *IGNORES, *STAYS])
@pytest.mark.parametrize(
    ("cosine", "other", "expected"),
    [
        (0.995, 1.0, "reproduced"),
        (1.0, 0.995, "reproduced"),
        (0.5, 1.0, "not reproduced"),
        (1.0, 0.5, "not reproduced"),  # one start is enough
        (0.95, 1.0, "inconclusive"),
        (0.99, 1.0, "inconclusive"),  # the interval holds the line
        (0.9, 1.0, "inconclusive"),
    ],
)
def test_all_starts_have_to_converge_and_one_that_stays_apart_is_enough(
    method, cosine, other, expected
):
    claim = converged(pictures(cosine, method, other))[TITLES[method]]
    swapped = {"reproduced": "not reproduced", "not reproduced": "reproduced"}
    assert claim.verdict == (swapped.get(expected, expected) if method in STAYS else expected)
    assert f"cosine at low {cosine:.3f}" in claim.measured
    assert f"{other:.3f}" in claim.measured.split("from top")[1]
    assert claim.measured.endswith("from middle; 6 pictures, 1 network (n)")
    assert claim.chance == "cosine 0.10"


def test_few_pictures_decide_nothing_and_missing_methods_are_left_out():
    found = converged(pictures(0.5, images=4))
    assert [*found] == [TITLES["lrp_zplus"]]
    assert found[TITLES["lrp_zplus"]].verdict == "inconclusive"
    assert "4 pictures are too few" in found[TITLES["lrp_zplus"]].reason


def test_a_wider_interval_opens_a_verdict():
    table = pictures(0.9902)
    verdicts = [
        converged(table, confidence=confidence)[TITLES["lrp_zplus"]].verdict
        for confidence in (0.95, 0.999)
    ]
    assert verdicts == ["reproduced", "inconclusive"]


def test_the_least_cosine_is_a_mean_over_pictures_with_its_interval():
    found = from_starts(pictures(0.7), "lrp_zplus")
    assert least_start(found) == "top"
    assert [*found] == ["top", "middle"]
    top = found["top"]
    assert top.value == pytest.approx(0.7)
    assert top.low < 0.7 < top.high
    assert top.images == 6
    assert str(top) == "0.700 (0.700 to 0.700)"


def test_limits_are_printed_on_their_side_of_a_line():
    found = Mean(0.9, 0.98999, 0.90004, 6, lines=(0.9, 0.99))
    assert str(found) == "0.900 (0.98999 to 0.90004)"
    assert str(Mean(0.9, 0.98999, 0.90004, 6)) == "0.900 (0.990 to 0.900)"
    assert str(Mean(0.5, -3.0, 2.0, 6)) == "0.500 (0.000 to 1.000)"


def test_intervals_hold_for_all_starts_together():
    table = pictures(0.7)
    alone = from_starts(table[table["start"] == "top"], "lrp_zplus", 0.975)["top"]
    both = from_starts(table, "lrp_zplus", 0.95)["top"]
    assert (both.low, both.high) == pytest.approx((alone.low, alone.high))
    assert both.low < from_starts(table[table["start"] == "top"], "lrp_zplus", 0.95)["top"].low


def test_states():
    assert state(from_starts(pictures(0.999), "lrp_zplus"), LEVELS) == "converges"
    assert state(from_starts(pictures(0.95), "lrp_zplus"), LEVELS) == "open"
    assert state(from_starts(pictures(0.5), "lrp_zplus"), LEVELS) == "stays apart"
    assert state(from_starts(pictures(0.5, images=4), "lrp_zplus"), LEVELS) == "open"


def matrices(value, images=6, draws=2):
    made = np.full((draws, images, images), 0.3)
    for i in range(images):
        made[:, i, i] = value + SPREAD[i] + np.array([-0.01, 0.01])[:draws]
    return made


def logits(value, method, images=6):
    claims = ClaimTable("page")
    found = {(method, FLIPS[0]): matrices(0.2, images), (method, FLIPS[1]): matrices(value, images)}
    logit_claims(claims, found, {method: 0.3}, TITLES, "1 network (n)", LEVELS)
    return next(iter(claims))


@pytest.mark.parametrize(
    ("either", "plain", "expected"),
    [
        (0.95, 0.2, "reproduced"),
        (0.95, 0.95, "not reproduced"),
        (0.5, 0.2, "not reproduced"),
        (0.95, 0.9, "inconclusive"),
        (0.9, 0.2, "inconclusive"),
    ],
)
def test_the_sign_is_what_is_left_of_the_label(either, plain, expected):
    claims = ClaimTable("page")
    found = {("lrp_zplus", FLIPS[0]): matrices(plain), ("lrp_zplus", FLIPS[1]): matrices(either)}
    logit_claims(claims, found, {"lrp_zplus": 0.3}, TITLES, "1 network (n)", LEVELS)
    assert [claim.verdict for claim in claims if claim.of == "sign-is-left"] == [expected]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.95, "reproduced"), (0.5, "not reproduced"), (0.9, "inconclusive")],
)
def test_another_label(value, expected):
    claim = logits(value, "guided_backprop")
    assert claim.verdict == expected
    assert f"SSIM {value:.3f}" in claim.measured
    assert "0.200 (0.200 to 0.200) as it is; 6 pictures, 2 other labels each" in claim.measured
    swapped = {"reproduced": "not reproduced", "not reproduced": "reproduced"}
    assert logits(value, "deeplift").verdict == swapped.get(expected, expected)
    assert logits(value, "deeplift", images=3).verdict == "inconclusive"


def test_draws_of_labels_are_averaged_within_a_picture():
    found = logit_alike(matrices(0.5))
    assert found.value == pytest.approx(0.5)
    assert found.high - found.low < 0.01  # not the spread between draws
    assert found.images == 6


@pytest.mark.parametrize(
    ("plain", "signed", "expected"),
    [
        (0.9995, 0.5, "reproduced"),
        (0.99, 0.5, "not reproduced"),
        (0.9999, 0.9999, "not reproduced"),
    ],
)
def test_the_theorem(plain, signed, expected):
    claims = ClaimTable("page")
    cosines = {"non-negative": np.full((31, 5), plain), "signed": np.full((31, 5), signed)}
    factor_claim(claims, cosines, 0.08)
    (claim,) = claims
    assert claim.verdict == expected
    assert "30 factors, 5 pairs" in claim.measured
