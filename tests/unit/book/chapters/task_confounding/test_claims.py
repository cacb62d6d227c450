"""Claims on tasks: each verdict by what it rests on."""

import numpy as np
import pandas as pd
import pytest
from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.book.chapters.task_confounding.claims import Shares, task_claims
from saliency_sanity.verdict.reading import read

ONE, TWO = "one object: against random", ["two objects, a: against random", "two objects, b"]
TITLES = {"gradient": "Gradient", "guided_backprop": "Guided", "sobel": "Sobel", "input": "Input"}
BY = "by rank correlation, absolute"
PLACES = {"garment": 0.25, "shape": 0.25}


def around(centre, seed, spread=0.01):
    return centre + np.random.default_rng(seed).normal(0, spread, (3, 12))


def values(trained=0.6, other=0.2, random=0.4, cut=(0.7, 0.5), deleted=0.0):
    kinds = {"trained": trained, "other task": other, "random": random}
    found = {}
    for key in ("gradient", "guided_backprop"):
        for place in PLACES:
            for kind, centre in kinds.items():
                found[key, place, kind] = around(centre, len(found))
        for kind, centre in zip(("trained", "random"), cut, strict=True):
            found[key, "cut", kind] = around(centre, 7)
            found[key, "deleted", kind] = around(0.3, 8)
    for kind in kinds:
        for place in PLACES:
            found["input", place, kind] = around(0.5, 3)
        found["input", "cut", kind] = found["input", "deleted", kind] = np.full((3, 12), deleted)
    return found


def reading(comparison, kappa):
    """Readings whose kappa is about that."""
    random = np.random.default_rng(5)
    square = random.normal(0, 0.01, (3, 12, 12)) + kappa * np.eye(12)
    rows = []
    for key in ("gradient", "guided_backprop"):
        row = {"method": key, "metric": "spearman_abs", "comparison": comparison}
        rows.append(row | read(square, margin=0.1).row())
    return rows


def made(shares, one=0.5, two=(0.02, 0.02), **given):
    rows = reading(ONE, one)
    for text, kappa in zip(TWO, two, strict=True):
        rows += reading(text, kappa)
    claims = ClaimTable("13_task_confounding")
    task_claims(
        claims,
        Shares(shares, PLACES),
        pd.DataFrame(rows),
        TITLES,
        metrics=["spearman_abs"],
        one=ONE,
        two=TWO,
        products=["input"],
        margin=0.1,
        **given,
    )
    return {claim.id: claim for claim in claims}


@pytest.mark.parametrize(
    ("given", "object_", "random", "moves", "cut"),
    [
        ({}, "reproduced", "reproduced", "reproduced", "reproduced"),
        ({"trained": 0.1}, *["not reproduced"] * 3, "reproduced"),
        ({"trained": 0.25, "random": 0.25, "other": 0.25}, *["inconclusive"] * 3, "reproduced"),
        ({"cut": (0.5, 0.7)}, *["reproduced"] * 3, "not reproduced"),
        ({"trained": 0.3}, "reproduced", "not reproduced", "reproduced", "reproduced"),
        # Above the area, but the other object has more.
        ({"trained": 0.3, "other": 0.35}, *["not reproduced"] * 3, "reproduced"),
    ],
)
def test_shares_decide(given, object_, random, moves, cut):
    found = made(values(**given))
    for title in ("Gradient", "Guided"):
        for place in PLACES:
            assert found[f"{title} highlights the {place} where it decides"].verdict == object_
            claim = found[f"{title} differs from a random network's where the {place} decides"]
            assert claim.verdict == random
            assert "12 pictures, 3 networks" in claim.measured
        assert found[f"{title} moves with the task"].verdict == moves
        name = f"{title} differs from a random network's where half of the garment is gone"
        assert found[name].verdict == cut


@pytest.mark.parametrize(
    ("one", "two", "alike", "turns"),
    [
        (0.5, (0.02, 0.02), "reproduced", "reproduced"),
        (0.5, (0.3, 0.02), "reproduced", "not reproduced"),
        (0.5, (0.3, 0.3), "reproduced", "not reproduced"),
        (0.02, (0.02, 0.02), "not reproduced", "not tested"),
        (0.5, (0.1, 0.02), "reproduced", "inconclusive"),
        (0.1, (0.02, 0.02), "inconclusive", "inconclusive"),
    ],
)
def test_kappa_decides_whether_the_verdict_turns(one, two, alike, turns):
    found = made(values(), one, two)
    assert found[f"Guided of one object is alike under a random network, {BY}"].verdict == alike
    assert found[f"Guided fails for its task only, {BY}"].verdict == turns


@pytest.mark.parametrize(
    ("given", "two", "verdict"),
    [
        ({}, (0.3, 0.3), "reproduced"),
        ({}, (0.02, 0.02), "not reproduced"),
        ({}, (0.3, 0.02), "inconclusive"),
        ({"trained": 0.1}, (0.3, 0.3), "not reproduced"),
        ({"trained": 0.25, "other": 0.25}, (0.3, 0.3), "inconclusive"),
    ],
)
def test_to_see_the_task_and_fail_takes_both(given, two, verdict):
    found = made(values(**given), two=two)
    assert found[f"Guided sees the task and fails, {BY}"].verdict == verdict


def test_a_reading_that_cannot_tell_leaves_it_open():
    found = made(values(), 0.5, (np.nan, 0.02))
    assert found[f"Guided fails for its task only, {BY}"].verdict == "inconclusive"


def test_identities_are_measured():
    found = made(values())
    stays = found["what sees the picture only is the same under every network"]
    assert (stays.verdict, stays.measured) == ("reproduced", "largest difference 0")
    assert stays.statement.startswith("Input:")
    empty = found["a product has nothing where the garment is gone"]
    assert (empty.verdict, empty.measured.split(",")[0][-1]) == ("reproduced", "0")
    moved = values(deleted=0.01)
    moved["input", "shape", "random"] = moved["input", "shape", "random"] + 1e-3
    found = made(moved)
    assert found[stays.id].verdict == "not reproduced"
    assert found[empty.id].verdict == "not reproduced"


def test_a_wider_interval_leaves_more_open():
    loose = values(trained=0.27)
    name = "Gradient highlights the garment where it decides"
    assert made(loose)[name].verdict == "reproduced"
    assert made(loose, confidence=1 - 1e-9)[name].verdict == "inconclusive"
