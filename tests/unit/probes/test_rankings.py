"""Rankings: noise wins, and two rankings agree or not, against plain loops and SciPy."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from made.experiments import images, made
from saliency_sanity import resolve
from saliency_sanity.probes.rankings import ahead_of, concord, places
from saliency_sanity.similarity.metrics import metric
from saliency_sanity.verdict.interval import own_similarities
from scipy.stats import kendalltau, rankdata, spearmanr

RNG = np.random.default_rng(0)


def scores(means, networks=3, pictures=6, noise=0.01):
    return {
        name: value + noise * RNG.normal(size=(networks, pictures)) for name, value in means.items()
    }


def test_the_lowest_is_first_and_differences_are_paired():
    base = RNG.normal(size=(3, 6)) / 10
    given = {"noise": base, "same": base + 0.2, "low": base - 0.3, "none": base * np.nan}
    table = ahead_of(given, "noise").set_index("method")
    assert table.index.tolist() == ["low", "noise", "same", "none"]
    assert table["rank"].tolist()[:3] == [1, 2, 3]
    assert np.isnan(table.loc["none", "rank"])
    # The same difference everywhere has no width, however pictures differ.
    row = table.loc["same"]
    assert row["behind_low"] == pytest.approx(0.2) == pytest.approx(row["behind_high"])
    assert row["high"] - row["low"] > 0.01
    assert table.loc["noise", ["behind", "behind_low", "behind_high"]].tolist() == [0, 0, 0]
    for name in ("noise", "same", "low"):
        assert table.loc[name, "value"] == pytest.approx(given[name].mean())


def test_equal_scores_share_a_rank():
    one = RNG.normal(size=(2, 5)) / 10
    table = ahead_of({"noise": one + 1e-15, "twin": one, "other": one + 0.5}, "noise")
    assert table.set_index("method")["rank"].to_dict() == {"noise": 1.5, "twin": 1.5, "other": 3}


def test_an_unknown_control_is_named():
    with pytest.raises(ValueError, match="Nearest: noise"):
        ahead_of(scores({"noise": 0.0}), "nosie")


@pytest.fixture(scope="module")
def ranked():
    """Methods and controls of which it is known how much their maps can change."""
    names = "gradient", "gradient_x_input", "guided_backprop", "grad_cam", "sobel", "input", "noise"
    x = images(6)
    outcome = made(
        x=x,
        methods={name: resolve(name) for name in names},
        metrics={key: metric(key) for key in ("spearman_abs", "ssim")},
        shown=0,
        seeds=3,
        explained="fixed",
    )()
    return {
        key: {
            name: np.mean([own_similarities(s) for s in outcome.matrices[name, key]], axis=0)
            for name in names
        }
        for key in ("spearman_abs", "ssim")
    }


# Noise is drawn from the weights, whose last bits are the machine's. By SSIM it may be last of the
# three whose maps do not follow the picture; what does follow it stays behind all of them.
@pytest.mark.parametrize(("key", "last"), [("spearman_abs", 2), ("ssim", 3)])
def test_known_answer_noise_wins(ranked, key, last):
    """Maps without covariance: nobody is ahead, and whatever follows the picture is behind."""
    table = ahead_of(ranked[key], "noise").set_index("method")
    others = table.drop("noise")
    assert (others["behind_high"] > -0.1).all(), "nobody is ahead of noise by more than the margin"
    assert (others.loc[["guided_backprop", "sobel", "input"], "behind_low"] > 0).all()
    assert (table.loc[["sobel", "input"], "value"] > 1 - 1e-6).all()
    assert table.loc["noise", "rank"] <= last
    ahead = others["rank"] < table.loc["noise", "rank"]
    assert (others.loc[ahead, "behind_high"] > 0).all(), "who is ahead may as well be behind"


def test_concord_is_scipys_on_means():
    first, second = (scores(dict(zip("abcdefg", RNG.normal(size=7), strict=True))) for _ in "12")
    found = concord(first, second)
    means = [[values.mean() for values in table.values()] for table in (first, second)]
    assert found.value == pytest.approx(spearmanr(*means).statistic)
    assert np.sign(found.value) == np.sign(kendalltau(*means).statistic)
    assert found.methods == 7


def test_what_is_added_is_known_from_leaving_out():
    """A plain loop over pictures, and over the networks of each score."""
    first = scores(dict.fromkeys("abcdef", 0.0), networks=3, noise=1)
    second = scores(dict.fromkeys("abcdef", 0.0), networks=1, noise=1)
    found = concord(first, second)

    def without(picture=None, network=None):
        means = []
        for table in (first, second):
            kept = [
                [
                    values[r, i]
                    for r in range(len(values))
                    for i in range(6)
                    if i != picture and (r != network or len(values) == 1)
                ]
                for values in table.values()
            ]
            means.append([sum(part) / len(part) for part in kept])
        return spearmanr(*means).statistic

    left = np.array([without(picture=i) for i in range(6)])
    np.testing.assert_allclose(found.pictures, (left.mean() - left) * 5 / 6, atol=1e-12)
    left = np.array([without(network=r) for r in range(3)])
    np.testing.assert_allclose(found.networks[0], (left.mean() - left) * 2 / 3, atol=1e-12)
    assert found.networks[1].tolist() == [0]
    # By the usual formulas of the jackknife.
    own = found.interval()
    assert own[0] < found.value < own[1]
    alone = concord({k: v[:1] for k, v in first.items()}, second)
    error = np.sqrt(6 / 5 * (alone.pictures**2).sum())
    low, high = alone.interval()
    reached = max(alone.value - low, min(high, 1) - alone.value)
    assert reached >= min(2.5 * error, 1 - abs(alone.value)) - 1e-9


@pytest.mark.parametrize(("sign", "value"), [(1, 1), (-1, -1)])
def test_known_answers_the_same_and_the_opposite(sign, value):
    first = scores(dict(zip("abcdef", range(6), strict=True)))
    second = {name: sign * values[:1] for name, values in first.items()}
    found = concord(first, second)
    assert found.value == pytest.approx(value)
    assert found.interval() == pytest.approx((value, value))


def test_the_interval_holds_what_many_pictures_would_give():
    """Of 100 draws of 12 pictures and 3 networks at least nine in ten."""
    rng = np.random.default_rng(5)
    names = [str(i) for i in range(15)]
    true = rng.multivariate_normal((0, 0), ((1, 0.4), (0.4, 1)), size=15)
    expected, hits = spearmanr(*true.T).statistic, 0
    for _ in range(100):
        one, other = (
            {name: true[i, k] + rng.normal(size=(runs, 12)) for i, name in enumerate(names)}
            for k, runs in ((0, 3), (1, 1))
        )
        low, high = concord(one, other).interval()
        hits += low <= expected <= high
    assert hits >= 90


def test_both_rankings_leave_out_the_same_picture():
    """Scores that pictures alone decide, all the same way, agree without any of them."""
    pictures = RNG.normal(size=(5, 1, 8))
    first = {str(i): part for i, part in enumerate(pictures)}
    second = {str(i): 2 * part + 1 for i, part in enumerate(pictures)}
    assert concord(first, second).pictures == pytest.approx(0)


def test_the_ceiling_is_what_pictures_leave_of_a_ranking():
    sure, unsure = (
        scores(dict(zip("abcdefghij", range(10), strict=True)), 1, 8, noise) for noise in (0.01, 8)
    )
    high, mixed, low = (
        concord(*pair).ceiling for pair in ((sure, sure), (sure, unsure), (unsure, unsure))
    )
    assert high == pytest.approx(1)
    assert low < mixed < 0.99
    # The geometric mean of both.
    assert mixed**2 == pytest.approx(low, rel=0.15)
    blank = scores(dict.fromkeys("abcdef", 0.0), 1, 8, noise=1)
    assert concord(blank, blank).ceiling < 0.5
    one = {name: values[:, :1] for name, values in sure.items()}
    assert np.isnan(concord(one, one).ceiling)


def test_halves_hang_on_the_seed_alone():
    first = scores(dict.fromkeys("abcde", 0.0), noise=1)
    first = {name: values + i / 2 for i, (name, values) in enumerate(first.items())}
    before = torch.random.get_rng_state()
    one, same, other = (concord(first, first, seed=s).ceiling for s in (1, 1, 2))
    assert one == same != other
    assert torch.equal(torch.random.get_rng_state(), before)


def test_undefined_scores_are_left_out():
    first = scores(dict(zip("abcd", range(4), strict=True)))
    first["d"][:] = np.nan
    first["a"][0, 0] = np.nan
    found = concord(first, scores(dict(zip("abcd", range(4), strict=True))))
    assert found.methods == 3
    with pytest.raises(ValueError, match="2 methods have both scores"):
        concord({k: first[k] for k in "abd"}, first)
    with pytest.raises(ValueError, match="scores of 6 and 5 pictures"):
        concord(first, {k: v[:, :5] for k, v in first.items()})


def test_places_are_ranks():
    given = {"a": 0.3, "b": -1.0, "c": 0.3, "d": np.nan}
    found = places(given)
    assert [found[k] for k in "abc"] == rankdata([0.3, -1, 0.3]).tolist()
    assert np.isnan(found["d"])
    assert all(a >= b for a, b in pairwise([found["a"], found["b"]]))
