"""Claims on sMPRT and eMPRT: each verdict follows from scores that are known."""

import numpy as np
import pandas as pd
import pytest
from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.book.chapters.mprt.claims import (
    complexity_claims,
    denoising_claim,
    order_claim,
    side_claim,
    tail_claim,
)
from saliency_sanity.book.chapters.mprt.scores import ranked
from saliency_sanity.probes.complexity import Rise, noise_rises

TITLES = dict.fromkeys(
    ("gradient", "lrp_zplus", "guided_backprop", "noise", "sobel", "canny", "input", "a", "b"), ""
)
TITLES = {key: key.title() for key in TITLES}


def around(value, spread=0.02, seed=0):
    """Values [4, 8] that differ a little by picture."""
    return value + np.random.default_rng(seed).normal(0, spread, size=(4, 8))


def only(claims):
    (claim,) = claims
    return claim


@pytest.mark.parametrize(
    ("top", "verdict"),
    [(0.6, "reproduced"), (0.4, "not reproduced"), (0.5, "inconclusive")],
)
def test_the_order_is_that_of_every_method(top, verdict):
    claims = ClaimTable("x")
    bottom = {"a": around(0.5), "b": around(0.2)}
    above = {"a": around(top, seed=1), "b": around(0.4)}
    order_claim(claims, above, bottom, TITLES, level=0.05)
    assert only(claims).verdict == verdict


@pytest.mark.parametrize(
    ("denoised", "verdict"),
    [(0.6, "reproduced"), (0.2, "not reproduced"), (0.4, "inconclusive")],
)
def test_noise_hides_what_denoising_shows(denoised, verdict):
    claims = ClaimTable("x")
    plain, other = around(0.4), around(denoised, seed=1)
    denoising_claim(claims, plain, other, "Gradient", copies=5, level=0.05)
    assert only(claims).verdict == verdict
    assert "5 copies" in only(claims).measured


def rise(value, seed=0):
    before = np.ones((4, 8))
    return Rise(before, before + around(value, 0.005, seed=seed))


def test_what_the_stored_table_shows_is_asked_where_it_can_be():
    given = {
        "noise": rise(0.0),
        "gradient": rise(0.3, 1),
        "lrp_zplus": rise(-0.1, 2),
        "guided_backprop": rise(0.1, 3),
        "sobel": Rise(np.ones((4, 8)), np.ones((4, 8))),
    }
    claims = ClaimTable("x")
    complexity_claims(claims, given, TITLES, published=True, photographs=True, level=0.05)
    found = {claim.of: claim.verdict for claim in claims}
    assert found == {
        "emprt-noise-zero": "reproduced",
        "emprt-gradient-zplus": "reproduced",
        "emprt-guided-gradient": "not reproduced",
        "emprt-noise-and-edges": "reproduced",
    }
    fewer = ClaimTable("x")
    complexity_claims(fewer, given, TITLES, published=False, photographs=False, level=0.05)
    assert [claim.of for claim in fewer] == ["emprt-noise-zero", "emprt-noise-and-edges"]


def test_noise_that_rises_is_neither_0_nor_like_edges():
    given = {"noise": rise(0.3), "sobel": Rise(np.ones((4, 8)), np.ones((4, 8)))}
    claims = ClaimTable("x")
    complexity_claims(claims, given, TITLES, published=False, photographs=False, level=0.05)
    assert [claim.verdict for claim in claims] == ["not reproduced"] * 2


def test_lighter_tails_pass():
    claims = ClaimTable("x")
    null = noise_rises((28, 28), draws=20)
    tail_claim(claims, null, (28, 28))
    assert only(claims).verdict == "reproduced"
    assert "28 × 28" in only(claims).measured
    turned = null.rename(columns={"before": "after", "after": "before"})
    again = ClaimTable("x")
    tail_claim(again, turned, (28, 28))
    assert only(again).verdict == "not reproduced"


@pytest.mark.parametrize(
    ("values", "verdicts", "smooth", "complexity"),
    [
        ((0.1, 0.3), ("below", "above"), "reproduced", "not reproduced"),
        ((0.3, 0.1), ("below", "above"), "not reproduced", "reproduced"),
        ((0.2, 0.2), ("below", "above"), "inconclusive", "inconclusive"),
        ((0.1, 0.3), ("below", "inconclusive"), "not tested", "not tested"),
    ],
)
def test_an_order_is_held_against_a_random_one(values, verdicts, smooth, complexity):
    values = {"a": around(values[0]), "b": around(values[1], seed=1)}
    means = [one.mean() for one in values.values()]
    scores = ranked(
        pd.DataFrame(
            {
                "method": ["a", "b"],
                "kappa": [0.0, 1.0],
                "verdict": verdicts,
                "smprt": means,
                "emprt": means,
            }
        )
    )
    claims = ClaimTable("x")
    for score in ("smprt", "emprt"):
        side_claim(claims, scores, values, score, TITLES, level=0.05)
    assert [claim.verdict for claim in claims] == [smooth, complexity]
