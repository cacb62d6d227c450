"""Scores: ranks, what they contradict, and what a random order would."""

import numpy as np
import pandas as pd
import pytest
from saliency_sanity.book.chapters.mprt.scores import (
    agreement,
    flips,
    kept_apart,
    ranked,
    score_table,
)
from saliency_sanity.probes.complexity import Rise
from saliency_sanity.verdict.reading import read, table


def scores(verdicts, emprt, smprt=None):
    count = len(verdicts)
    return ranked(
        pd.DataFrame(
            {
                "method": list("abcdefgh"[:count]),
                "kappa": np.linspace(0, 1, count),
                "verdict": verdicts,
                "smprt": np.linspace(0, 1, count) if smprt is None else smprt,
                "emprt": emprt,
            }
        )
    )


def test_the_same_order_contradicts_nothing():
    found = scores(["below", "below", "above"], [0.3, 0.2, 0.1])
    assert flips(found, "emprt") == ([], 3, pytest.approx(4 / 3))
    assert agreement(found, "emprt") == pytest.approx(1)
    assert found["rank_emprt"].tolist() == [1, 2, 3]


def test_a_reversed_order_contradicts_all_but_a_majority():
    found = scores(["below", "above", "above"], [0.1, 0.2, 0.3])
    # One passes by kappa, so one does by the score: the last instead of the first.
    assert flips(found, "emprt")[0] == ["a", "c"]
    assert flips(found, "smprt")[0] == []
    assert agreement(found, "emprt") == pytest.approx(-1)


def test_what_has_no_verdict_or_no_score_is_not_asked():
    verdicts = ["below", "inconclusive", "above", "cannot tell", "above"]
    found = scores(verdicts, [0.1, 0.9, 0.2, 0.8, np.nan])
    assert flips(found, "emprt") == (["a", "c"], 2, 1)
    assert found["flip_emprt"].tolist() == [True, None, True, None, None]


def test_ties_pass_together_or_not_at_all():
    found = scores(["below", "below", "above", "above"], [0.0, 0.5, 0.0, 0.0])
    assert flips(found, "emprt")[0] == ["a"]


def test_a_rounding_is_no_order():
    found = scores(["below", "above", "above"], [0.1, 0, 0], smprt=[0.1, 1, 1 - 1e-15])
    assert found["rank_smprt"].tolist() == [1, 2.5, 2.5]


def test_chance_is_what_shuffled_orders_give():
    rng, verdicts = np.random.default_rng(0), ["below"] * 3 + ["above"] * 5
    counts = [len(flips(scores(verdicts, rng.permutation(8)), "emprt")[0]) for _ in range(80)]
    chance = flips(scores(verdicts, range(8)), "emprt")[2]
    assert np.mean(counts) == pytest.approx(chance, rel=0.15)


def test_pairs_are_counted_one_by_one():
    rng, verdicts = np.random.default_rng(1), ["below", "above", "below", "above", "inconclusive"]
    values = dict(zip("abcde", rng.normal(size=(5, 2, 6)).round(1), strict=True))
    values["c"][0, 0] = np.nan
    for score, better in (("smprt", np.less), ("emprt", np.greater)):
        shares, pairs = kept_apart(scores(verdicts, range(5)), values, score)
        assert pairs == 4
        for at in np.ndindex(2, 6):
            known = [(values[i][at], values[j][at]) for i in "ac" for j in "bd"]
            known = [pair for pair in known if not np.isnan(pair).any()]
            expected = np.mean([0.5 if a == b else better(a, b) for a, b in known])
            assert shares[at] == pytest.approx(expected)
    nothing, none = kept_apart(scores(["below"] * 3, range(3)), values, "emprt")
    assert np.isnan(nothing).all()
    assert none == 0


@pytest.mark.parametrize("emprt", [[0.0] * 4, [0.1, np.nan, np.nan, 0.2]])
def test_no_order_has_no_agreement(emprt):
    assert np.isnan(agreement(scores(["below"] * 4, emprt), "emprt"))


def test_a_row_has_what_was_measured():
    rng = np.random.default_rng(0)
    square = rng.uniform(0, 0.1, size=(2, 6, 6))
    readings = table({"a": read(square), "b": read(square + 0.9 * np.eye(6))}, "method")
    readings = readings.assign(metric="spearman_abs", stage="all", position=0)
    before = np.ones((2, 6))
    rise = {key: Rise(before, before + add) for key, add in (("a", 0.5), ("b", -0.5))}
    rise["b"].before[0, 0] = 0
    plain = {key: np.full((2, 6), value) for key, value in (("a", 0.1), ("b", 0.9))}
    found = score_table(readings, plain, {"a": plain["a"]}, rise, rise).set_index("method")
    assert found.loc["a", ["mprt", "smprt", "emprt"]].tolist() == pytest.approx([0.1, 0.1, 0.5])
    assert np.isnan(found.loc["b", "smprt"])
    assert found.loc["b", "flat"] == 1
    assert found["verdict"].tolist() == ["below", "above"]
    assert found["flip_emprt"].tolist() == [False, False]
