"""Intervals over pictures and networks: against loops, against scipy, and how often they hold."""

import math
import tracemalloc

import numpy as np
import pytest
from saliency_sanity.verdict.interval import averaged, corrected, excess, interval
from scipy import stats

from simulations.coverage import Cell, drawn


def weighted(values, pictures, networks):
    """Mean similarity and kappa [2] of a square [R,N,N] under weights, one entry at a time."""
    sums = np.zeros((2, 2))
    for r, square in enumerate(values):
        for i, row in enumerate(square):
            for j, value in enumerate(row):
                if math.isfinite(value):
                    weight = networks[r] * pictures[i] * (pictures[j] if i != j else 1)
                    sums[int(i != j)] += weight * value, weight
    similarity, chance = sums[:, 0] / sums[:, 1]
    return np.array([similarity, (similarity - chance) / (1 - chance)])


def table(seed=0, networks=3, pictures=7, missing=0):
    rng = np.random.default_rng(seed)
    values = rng.uniform(-0.2, 0.9, (networks, pictures, pictures))
    values.flat[rng.choice(values.size, missing, replace=False)] = np.nan
    return values


@pytest.mark.parametrize("missing", [0, 25])
def test_what_pictures_and_networks_add_is_what_a_little_more_weight_moves(missing):
    values, step = table(missing=missing), 1e-5
    found = corrected(values)
    networks, pictures = values.shape[:2]
    ones = np.ones(networks), np.ones(pictures)
    for axis, size in ((0, networks), (1, pictures)):
        moved = []
        for place in range(size):
            ends = []
            for sign in (1, -1):
                weights = [part.copy() for part in ones]
                weights[axis][place] += sign * step
                ends.append(weighted(values, weights[1], weights[0]))
            moved.append((ends[0] - ends[1]) / (2 * step))
        for number, estimate in enumerate((found.similarity, found.kappa)):
            adds = estimate.pictures if axis else estimate.networks
            np.testing.assert_allclose(adds, np.array(moved)[:, number], atol=1e-9)
            assert adds.sum() == pytest.approx(0, abs=1e-12)


def test_a_mean_without_one_is_what_it_adds_taken_away():
    values = np.random.default_rng(1).normal(size=(4, 9))
    found = averaged(values)
    for axis, adds in ((0, found.networks), (1, found.pictures)):
        size = values.shape[axis]
        without = [np.delete(values, k, axis).mean() for k in range(size)]
        np.testing.assert_allclose(found.value - np.array(without), adds * size / (size - 1))


def test_the_variances_are_those_of_leaving_out_and_kappa_is_nearly_linear():
    values = table(2, networks=6, pictures=30)
    found = corrected(values).kappa
    for axis, adds in ((0, found.networks), (1, found.pictures)):
        size, rest = values.shape[axis], []
        for k in range(size):
            left = np.delete(values, k, axis)
            rest.append(corrected(np.delete(left, k, 2) if axis else left).kappa.value)
        jackknife = (size - 1) / size * ((rest - np.mean(rest)) ** 2).sum()
        assert (adds**2).sum() * size / (size - 1) == pytest.approx(jackknife, rel=0.1)


def test_the_rest_is_that_of_an_analysis_of_variance():
    values = np.random.default_rng(3).normal(size=(3, 8))
    left = values - values.mean(0) - values.mean(1)[:, None] + values.mean()
    expected = (left**2).sum() / (2 * 7) / values.size
    assert averaged(values).rest == pytest.approx(expected)


def test_where_only_pictures_or_only_networks_differ_it_is_a_t_interval():
    spread = np.arange(9.0) ** 3
    symmetric = np.concatenate([spread, -spread])
    ends = stats.t.interval(0.95, 17, symmetric.mean(), stats.sem(symmetric))
    for copies in (1, 4):
        found = interval(np.tile(symmetric, (copies, 1)))
        np.testing.assert_allclose(found, [symmetric.mean(), *ends], atol=1e-9)
    for networks in (2, 3, 7):
        means = np.random.default_rng(networks).normal(size=networks)
        ends = stats.t.interval(0.9, networks - 1, means.mean(), stats.sem(means))
        found = interval(np.tile(means[:, None], (1, 12)), confidence=0.9)
        np.testing.assert_allclose(found, [means.mean(), *ends])


def test_the_side_of_the_longer_tail_is_the_longer_one():
    values = np.random.default_rng(0).exponential(size=(1, 12))
    value, low, high = interval(values)
    t = stats.t.ppf(0.975, 11) * stats.sem(values[0])
    assert value - low == pytest.approx(t)
    assert high - value > 1.1 * t
    np.testing.assert_allclose(interval(-values), [-value, -high, -low])


def test_two_networks_widen_as_squares_do_and_more_networks_less():
    for networks, most in ((2, 1.0), (5, 0.98)):
        pictures = np.linspace(-1, 1, 15)
        shifts = np.linspace(-0.3, 0.3, networks)
        found = interval(pictures + shifts[:, None])
        alone = [interval(part)[2] for part in (pictures[None], np.tile(shifts[:, None], 15))]
        share = found[2] ** 2 / sum(end**2 for end in alone)
        assert share == pytest.approx(1) if most == 1 else 0.6 < share < most


def test_order_does_not_matter():
    values, prior = table(4, pictures=10, missing=12), table(5, networks=4, pictures=10)
    i, r = np.random.default_rng(0).permutation(10), [2, 0, 1]
    turned, below = values[r][:, i][:, :, i], prior[:, i][:, :, i]
    ends = [
        (*first.kappa.interval(0.95), *excess(first.kappa, second.kappa, 0.95))
        for first, second in (
            (corrected(values), corrected(prior)),
            (corrected(turned), corrected(below)),
        )
    ]
    np.testing.assert_allclose(*ends, rtol=1e-10)


def test_pictures_and_networks_without_any_map_are_as_if_not_there():
    values = table(6, networks=4, pictures=12)
    held = np.full((5, 14, 14), np.nan)
    networks, pictures = np.delete(np.arange(5), 1), np.delete(np.arange(14), [0, 9])
    held[np.ix_(networks, pictures, pictures)] = values
    for name in ("similarity", "kappa"):
        ours, expected = (getattr(corrected(some), name) for some in (held, values))
        assert ours.rest == pytest.approx(expected.rest)
        np.testing.assert_allclose(ours.interval(0.95), expected.interval(0.95))


def test_nothing_is_known_of_one_picture_or_of_one_network_of_several():
    assert np.isnan(interval(np.array([[0.3], [0.5]]))[1:]).all()
    lone = np.full((3, 8), np.nan)
    lone[1] = np.arange(8)
    assert np.isnan(interval(lone)[1:]).all()
    assert np.isfinite(interval(lone[1:2])).all()
    assert np.isnan(interval(np.full((2, 6), np.nan))).all()


def test_what_is_the_same_throughout_has_no_width():
    np.testing.assert_allclose(interval(np.full((3, 7), 0.4)), 0.4)


def test_of_few_networks_an_excess_covers_pictures_only():
    own, prior = corrected(table(7, networks=2)).kappa, corrected(table(8, networks=1)).kappa
    ends = excess(own, prior, 0.95)
    lone = averaged((own.pictures - prior.pictures)[None] * 7)
    middle = own.value - prior.value
    np.testing.assert_allclose(ends, middle + np.array(lone.interval(0.95)))


def test_where_networks_are_the_same_the_excess_is_read_as_one_mean():
    values, prior = table(9, networks=3, pictures=8), table(10, networks=3, pictures=8)
    # What all pictures of a network have in common is in both, and so it is gone.
    shared = 5 * np.arange(3.0)
    own, other = (
        averaged(np.diagonal(some, axis1=1, axis2=2) + shared[:, None]) for some in (values, prior)
    )
    difference = np.diagonal(values - prior, axis1=1, axis2=2)
    np.testing.assert_allclose(own.less(other).interval(0.95), interval(difference)[1:])


def test_the_variance_of_a_chain_is_that_of_its_pairs():
    """Independent networks, each beside the next: neighbouring pairs correlate by 1/2."""
    networks = np.random.default_rng(0).normal(size=(20_000, 6))
    pairs = networks[:, :-1] + networks[:, 1:]
    found = [
        averaged(np.tile(some[:, None], (1, 2))).among_networks(chain=True)[0].variance
        for some in pairs[:4000]
    ]
    assert np.mean(found) == pytest.approx(pairs.mean(1).var(), rel=0.05)


def test_cost_grows_with_pictures_and_not_with_their_square():
    peaks = []
    for pictures in (256, 1024):
        values = np.random.default_rng(0).uniform(size=(2, pictures, 32))
        tracemalloc.start()
        corrected(values)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 4.2 * peaks[0]


@pytest.mark.parametrize(
    ("cell", "least"),
    [
        (Cell("normal", 20, 1, 0.06), 0.93),
        (Cell("normal", 50, 2, 0.06), 0.92),
        (Cell("lognormal", 10, 3, 0.025), 0.93),
        (Cell("gamma", 20, 5, 0.0), 0.92),
        (Cell("gamma", 6, 5, 0.06), 0.93),
    ],
    ids=str,
)
def test_the_truth_is_in_it_as_often_as_said(cell, least):
    rng, runs, held, width = np.random.default_rng(0), 600, 0, []
    for _ in range(runs):
        values, _, truth, _ = drawn(cell, rng)
        low, high = corrected(values).kappa.interval(0.95)
        held += low <= truth <= high
        width.append(high - low)
    # Two standard errors of so few runs.
    assert held / runs > least - 0.018
    assert held < runs
    if cell == Cell("gamma", 20, 5, 0.0):
        assert np.median(width) < 0.13


def test_the_excess_is_in_its_interval_as_often_as_said():
    rng, runs = np.random.default_rng(1), 500
    for cell in (Cell("normal", 20, 3, 0.06), Cell("gamma", 10, 5, 0.025)):
        held = 0
        for _ in range(runs):
            values, prior, truth, before = drawn(cell, rng)
            found = [corrected(some).kappa for some in (values, prior)]
            low, high = excess(*found, 0.95)
            held += low <= truth - before <= high
        assert held / runs > 0.93 - 0.02
