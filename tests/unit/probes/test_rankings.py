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


@pytest.mark.parametrize("key", ["spearman_abs", "ssim"])
def test_known_answer_noise_wins(ranked, key):
    """Maps without covariance: nobody is ahead, and whatever follows the picture is behind."""
    table = ahead_of(ranked[key], "noise").set_index("method")
    others = table.drop("noise")
    assert (others["behind_high"] > -0.1).all(), "nobody is ahead of noise by more than the margin"
    assert (others.loc[["guided_backprop", "sobel", "input"], "behind_low"] > 0).all()
    assert (table.loc[["sobel", "input"], "value"] > 1 - 1e-6).all()
    assert table.loc["noise", "rank"] <= 2


def test_concord_is_scipys_on_means():
    first, second = (scores(dict(zip("abcdefg", RNG.normal(size=7), strict=True))) for _ in "12")
    found = concord(first, second, draws=20)
    means = [[values.mean() for values in table.values()] for table in (first, second)]
    assert found.value == pytest.approx(spearmanr(*means).statistic)
    assert np.sign(found.value) == np.sign(kendalltau(*means).statistic)
    assert found.methods == 7
    assert len(found.draws) == 20


@pytest.mark.parametrize(("sign", "value"), [(1, 1), (-1, -1)])
def test_known_answers_the_same_and_the_opposite(sign, value):
    first = scores(dict(zip("abcdef", range(6), strict=True)))
    second = {name: sign * values[:1] for name, values in first.items()}
    found = concord(first, second, draws=50)
    assert found.value == pytest.approx(value)
    assert found.interval() == pytest.approx((value, value))


def test_what_is_not_known_well_has_a_wide_interval():
    means = dict.fromkeys("abcdef", 0.0)
    found = concord(scores(means, noise=1), scores(means, networks=1, noise=1), draws=400)
    low, high = found.interval()
    assert high - low > 0.8
    wider = found.interval(0.99)
    assert wider[0] <= low
    assert wider[1] >= high


def test_both_rankings_are_of_the_same_drawn_pictures():
    """Scores that pictures alone decide, all the same way, agree in every draw."""
    pictures = RNG.normal(size=(5, 1, 8))
    first = {str(i): part for i, part in enumerate(pictures)}
    second = {str(i): 2 * part + 1 for i, part in enumerate(pictures)}
    assert concord(first, second, draws=60).draws == pytest.approx(1)


def test_the_ceiling_is_what_pictures_leave_of_a_ranking():
    sure, unsure = (
        scores(dict(zip("abcdefghij", range(10), strict=True)), 1, 8, noise) for noise in (0.01, 8)
    )
    high, mixed, low = (
        concord(*pair, draws=5).ceiling for pair in ((sure, sure), (sure, unsure), (unsure, unsure))
    )
    assert high == pytest.approx(1)
    assert low < mixed < 0.99
    # The geometric mean of both.
    assert mixed**2 == pytest.approx(low, rel=0.15)
    blank = scores(dict.fromkeys("abcdef", 0.0), 1, 8, noise=1)
    assert concord(blank, blank, draws=5).ceiling < 0.5
    one = {name: values[:, :1] for name, values in sure.items()}
    assert np.isnan(concord(one, one, draws=5).ceiling)


def test_draws_hang_on_the_seed_alone():
    first, second = (scores(dict.fromkeys("abcde", 0.0), noise=1) for _ in "12")
    before = torch.random.get_rng_state()
    one, same, other = (concord(first, second, draws=30, seed=s).draws for s in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_undefined_scores_are_left_out():
    first = scores(dict(zip("abcd", range(4), strict=True)))
    first["d"][:] = np.nan
    first["a"][0, 0] = np.nan
    found = concord(first, scores(dict(zip("abcd", range(4), strict=True))), draws=10)
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
