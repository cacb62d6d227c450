from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made.networks import draw
from saliency_sanity.probes.survival import (
    mass,
    overlap_chance,
    overlap_null,
    survival_null,
    survival_table,
    survivors,
)
from saliency_sanity.similarity.rank import Overlap, UnionSpearman
from scipy.spatial.distance import jaccard
from scipy.stats import hypergeom, spearmanr


def sparse(count, share, seed=0, channels=2):
    values = draw(count, channels, 12, 10, seed=seed)
    return values * (draw(count, channels, 12, 10, seed=seed + 100).abs() < share)


def test_survivors_and_mass():
    maps = torch.zeros(2, 1, 4, 5)
    maps[0, 0, :2] = -2.0
    assert survivors(maps).tolist() == [0.5, 0]
    assert mass(maps).tolist() == [20, 0]


def test_shares_have_intervals_between_0_and_1():
    left = np.array([[[9.0, 1, 10]], [[10, 9, 2]]])  # stages, networks, pictures
    outcome = SimpleNamespace(
        stages=("all",),
        statistics={("a", "survivors"): left, ("a", "mass"): left}
        | {("b", kind): np.full_like(left, 10) for kind in ("survivors", "mass")},
    )
    table = survival_table(outcome, {"a": "b"})
    np.testing.assert_allclose(table["value"], [2 / 3, 0.7, 2 / 3, 0.7])
    assert (table["high"] == 1).all()
    assert table["low"].between(0, table["value"]).all()


@pytest.mark.parametrize(("classes", "share"), [(2, 0.75), (10, 0.1998), (1000, 0.002)])
def test_null_of_survival(classes, share):
    assert survival_null(classes) == pytest.approx(share, abs=5e-5)


def test_nulls_are_what_independent_noise_gives():
    values = draw(20_000, 7, 1, 1, seed=3)[:, :, 0, 0]
    own, others = values[:, 0], values[:, 1:]
    kept = ((own > 0) & (own >= others.amax(1))) | ((own < 0) & (own <= others.amin(1)))
    share = survival_null(7)
    error = (share * (1 - share) / len(values)) ** 0.5
    assert abs(kept.double().mean().item() - share) < 4 * error
    a, b = (
        (torch.rand(1, 1, 300, 300, generator=torch.Generator().manual_seed(k)) < share).float()
        for k in (1, 2)
    )
    assert Overlap().matrix(a, b).item() == pytest.approx(overlap_null(share, share), rel=0.05)


@pytest.mark.parametrize(("first", "second"), [(0.26, 0.2), (0.05, 0.7), (1.0, 0.3)])
def test_chance_of_the_overlap_is_the_mean_of_the_hypergeometric(first, second):
    places = 2000
    a, b = round(first * places), round(second * places)
    shared = np.arange(max(0, a + b - places), min(a, b) + 1)
    expected = (hypergeom(places, a, b).pmf(shared) * shared / (a + b - shared)).sum()
    assert overlap_null(first, second) == pytest.approx(expected, rel=5e-3)


def test_chance_of_the_overlap_takes_the_shares_of_each_picture():
    own = np.array([[[0.2, 0.1]], [[0.1, 0.3]]])
    outcome = SimpleNamespace(
        statistics={("twin", "survivors"): own, ("base", "survivors"): np.full((2, 1, 2), 0.5)}
    )
    (row,) = overlap_chance(outcome, {"twin": "base"}).to_dict("records")
    expected = (0.4 * 0.2 / (0.4 + 0.2 - 0.08) + 0.2 * 0.6 / (0.2 + 0.6 - 0.12)) / 2
    assert (row["position"], row["chance"]) == (1, pytest.approx(expected))


def test_one_class_cannot_compete():
    with pytest.raises(ValueError, match="1 classes cannot compete"):
        survival_null(1)


def test_overlap_is_the_jaccard_index():
    a, b = sparse(3, 0.5), sparse(4, 0.8, seed=7)
    found = Overlap().matrix(a, b)
    for i in range(3):
        for j in range(4):
            kept = ((one != 0).flatten().numpy() for one in (a[i], b[j]))
            theirs = 1 - jaccard(*kept)
            assert found[i, j].item() == pytest.approx(theirs, rel=1e-12)


def test_ranks_over_the_union_are_scipys():
    a, b = sparse(3, 0.5), sparse(4, 0.8, seed=7)
    found = UnionSpearman().matrix(a, b)
    for i in range(3):
        for j in range(4):
            union = ((a[i] != 0) | (b[j] != 0)).numpy()
            theirs = spearmanr(a[i].numpy()[union], b[j].numpy()[union]).statistic
            assert found[i, j].item() == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("similarity", [Overlap(), UnionSpearman()])
def test_what_is_undefined_and_what_is_the_same(similarity):
    maps = sparse(4, 0.7)
    maps[1] = 0
    maps[2, 0, 0, 0] = torch.nan
    found = similarity.matrix(maps, maps)
    assert found[0, 0] == pytest.approx(1)
    assert found[3, 3] == pytest.approx(1)
    undefined = np.isnan(found.numpy())
    assert undefined[1:3].all()
    assert undefined[:, 1:3].all()
    assert not undefined[[[0], [3]], [[0, 3]]].any()


@pytest.mark.parametrize("similarity", [Overlap(), UnionSpearman()])
def test_one_channel_stands_for_all(similarity):
    a, b = sparse(2, 0.5, channels=1), sparse(3, 0.8, seed=7, channels=3)
    wide = similarity.matrix(a.expand(-1, 3, -1, -1), b)
    assert torch.equal(similarity.matrix(a, b), wide)
