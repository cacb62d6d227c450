"""Verdicts given at once or with another margin: against loops, and how often they err."""

import math

import numpy as np
import pandas as pd
import pytest
from saliency_sanity.verdict.interval import Estimate, averaged, corrected
from saliency_sanity.verdict.reading import read, table
from saliency_sanity.verdict.robustness import (
    MARGINS,
    at_level,
    at_margin,
    held_against,
    holm,
    robustness,
)
from scipy import stats

LEVEL = 0.05


def estimates(seed: int, count: int, networks: int = 3, pictures: int = 8) -> list[Estimate]:
    rng = np.random.default_rng(seed)
    return [averaged(rng.gamma(2, size=(networks, pictures))) for _ in range(count)]


@pytest.mark.parametrize("line", [1.0, 1.9, 2.4, 6.0])
@pytest.mark.parametrize("seed", range(4))
def test_p_is_where_the_interval_begins_to_hold_the_line(seed, line):
    (found,) = estimates(seed, 1)
    p = found.p(line)
    assert 1e-9 <= p <= 1
    low, high = found.interval(1 - min(p * 1.01, 1))
    assert not low < line < high or p > 0.99, "a narrower one does not hold it"
    low, high = found.interval(1 - p * 0.99)
    assert low < line < high or p == 1e-9, "a wider one does"


@pytest.mark.parametrize("seed", range(5))
def test_intervals_grow_with_their_confidence(seed):
    for networks in (1, 2, 5):
        (found,) = estimates(seed, 1, networks, pictures=6)
        ends = np.array([found.interval(1 - 10**power) for power in np.arange(0, -9, -0.25)])
        assert (np.diff(ends[:, 0]) <= 1e-12).all()
        assert (np.diff(ends[:, 1]) >= -1e-12).all()


def test_p_of_one_network_without_skewness_is_students():
    values = np.array([[0.1, 0.3, 0.5, 0.7, 0.9]])
    for line in (-0.2, 0.3, 0.49, 0.8):
        assert averaged(values).p(line) == pytest.approx(
            stats.ttest_1samp(values[0], line).pvalue, rel=2e-3
        )


def test_p_on_the_line_is_one_and_of_one_picture_none():
    assert averaged(np.full((2, 5), 0.1)).p(0.1) == 1
    assert averaged(np.full((2, 5), 0.2)).p(0.1) == pytest.approx(1e-9)
    assert math.isnan(averaged(np.ones((2, 1))).p(0.1))


def plain_holm(p: list[float]) -> list[bool]:
    """One hypothesis after the other, each direction its own; the least p first."""
    both = {(i, s): p[i] / 2 if s else 1.0 for i in range(len(p)) for s in (0, 1) if p[i] == p[i]}
    rejected = set()
    while both:
        key = min(both, key=lambda k: (both[k], k))
        if both[key] > LEVEL / len(both):
            break
        rejected.add(key[0])
        del both[key]
    return [i in rejected for i in range(len(p))]


@pytest.mark.parametrize("seed", range(20))
def test_holm_is_as_step_by_step_and_never_less_than_bonferroni(seed):
    rng = np.random.default_rng(seed)
    p = 10 ** rng.uniform(-4, 0, size=int(rng.integers(1, 12)))
    p[rng.uniform(size=len(p)) < 0.1] = math.nan
    stays = holm(p, LEVEL)
    assert stays.tolist() == plain_holm(list(p))
    tested = int(np.isfinite(p).sum())
    assert stays[p <= LEVEL / max(tested, 1)].all()
    assert not stays[~(p <= LEVEL)].any()


def test_nothing_tested_leaves_nothing():
    assert not holm([math.nan, math.nan]).any()
    assert len(holm([])) == 0


def test_of_many_verdicts_at_the_margin_one_in_twenty_families_has_a_wrong_one():
    rng, families, size, wrong, plain = np.random.default_rng(0), 400, 8, 0, 0
    for _ in range(families):
        # Half on the line, half far above; the same pictures for all, as on a page.
        shared = rng.normal(size=12)
        p = []
        for place in range(size):
            values = 0.1 + 0.05 * (shared + rng.normal(size=12)) + (place % 2)
            p.append(averaged(values[None]).p(0.1))
        on_line = np.arange(size) % 2 == 0
        wrong += holm(p)[on_line].any()
        plain += (np.array(p)[on_line] <= LEVEL).any()
    assert wrong / families <= LEVEL + 2 * math.sqrt(LEVEL * (1 - LEVEL) / families)
    assert plain / families > 1.5 * LEVEL, "without correction there are more"


def made(seed: int, level: float, margin: float = 0.1, confidence: float = 0.95):
    rng = np.random.default_rng(seed)
    values = rng.normal(0.2, 0.15, (3, 8, 8))
    values[:, np.arange(8), np.arange(8)] += level
    return read(values, margin=margin, confidence=confidence)


def test_another_margin_gives_what_reading_with_it_would():
    levels = (-0.05, 0.02, 0.08, 0.12, 0.2, 0.6)
    rows = table({str(level): made(3, level) for level in levels})
    rows.loc[len(rows)] = read(np.ones((2, 3, 3))).row() | {"what": "few", "words": ""}
    for margin in MARGINS:
        again = [made(3, level, margin).verdict for level in levels] + ["inconclusive"]
        found = at_margin(rows, margin)
        assert found["verdict"].tolist() == again
        assert (found["margin"] == margin).all()
        opened = [row["verdict"] == "inconclusive" for row in found.to_dict("records")]
        assert [bool(why) for why in found["obstacle"]] == opened
    pd.testing.assert_frame_equal(at_margin(rows, 0.1), rows)
    assert len({tuple(at_margin(rows, margin)["verdict"]) for margin in MARGINS}) > 1


def test_a_ceiling_is_held_against_another_margin_too():
    ceilings = (0.03, 0.08, 0.15, 0.5)

    def reading(level, top, margin):
        square = np.random.default_rng(3).normal(0, 0.05, (3, 8, 8))
        return read(square + level * np.eye(8), ceiling={"seeds": top * np.eye(8)}, margin=margin)

    pairs = [(level, top) for level in (0.0, 0.1, 0.4) for top in ceilings]
    rows = table({str(pair): reading(*pair, 0.1) for pair in pairs})
    for margin in MARGINS:
        found = at_margin(rows, margin)
        again = [reading(*pair, margin) for pair in pairs]
        assert found["verdict"].tolist() == [one.verdict for one in again]
        assert found["obstacle"].tolist() == [one.row()["obstacle"] for one in again]


def test_a_lower_level_leaves_what_wider_intervals_leave():
    levels = (-0.05, 0.02, 0.08, 0.12, 0.2, 0.6)
    rows = table({str(level): made(3, level) for level in levels})
    for level in (0.05, 0.01, 1e-4):
        wide = [made(3, one, confidence=1 - level).verdict for one in levels]
        assert at_level(rows, level)["verdict"].tolist() == wide


def test_readings_are_held_against_their_margin_at_a_level_or_against_another():
    rows = table({str(level): made(3, level) for level in (-0.05, 0.08, 0.12, 0.6)})
    for level in (0.05, 0.01):
        pd.testing.assert_frame_equal(held_against(rows, 0.1, level), at_level(rows, level))
    pd.testing.assert_frame_equal(held_against(rows, 0.2, 0.05), at_margin(rows, 0.2))
    with pytest.raises(ValueError, match="not at level"):
        held_against(rows, 0.2, 0.01)


def test_a_table_says_how_many_verdicts_stay_and_change():
    rows = table({str(level): made(3, level) for level in (-0.05, 0.02, 0.08, 0.12, 0.2, 0.6)})
    rows.loc[len(rows)] = read(np.ones((2, 3, 3))).row() | {"what": "few", "words": ""}
    decided = rows["verdict"] != "inconclusive"
    stays = sum(s and d for s, d in zip(plain_holm(list(rows["p"])), decided, strict=True))
    assert robustness(rows).startswith(f"{stays} of {decided.sum()} verdicts stay when all")
    for margin in (0.05, 0.2):
        count = sum(
            (row.high < margin, row.low > margin) != (row.high < 0.1, row.low > 0.1)
            for row in rows.itertuples()
            if math.isfinite(row.p)
        )
        assert f"{count} with {margin:g}" in robustness(rows)
    silenced = rows.assign(verdict="inconclusive", obstacle="not_memorized")
    assert robustness(silenced) == (
        "No verdict of this table is decided. Verdicts that another margin would change: 0 with "
        "0.05 and 0 with 0.2."
    )


def test_p_says_what_the_verdict_says():
    for seed in range(5):
        for level in (0, 0.05, 0.1, 0.3):
            found = made(seed, level)
            assert (found.p < 0.05) == (found.verdict != "inconclusive")
    assert math.isnan(read(np.ones((2, 3, 3))).p)


def test_any_other_verdict_is_left_alone():
    rows = pd.DataFrame({"verdict": ["inconclusive"], "obstacle": ["no_room"]})
    found = at_margin(rows.assign(low=0.5, sure_low=0.5, high=0.6, ceiling=0.0), 0.1)
    assert found[["verdict", "obstacle"]].to_numpy().tolist() == [["inconclusive", "no_room"]]


def test_kappa_of_a_square_has_a_p_too():
    values = np.random.default_rng(1).uniform(0, 0.4, (2, 6, 6))
    found = corrected(values).kappa
    assert found.p(found.interval(0.9)[1]) == pytest.approx(0.1, rel=2e-3)
