import numpy as np
import pytest
import torch
from made.networks import draw
from saliency_sanity.probes.survival import (
    mass,
    overlap_null,
    survival_null,
    survivors,
)
from saliency_sanity.similarity.rank import Overlap, UnionSpearman
from scipy.spatial.distance import jaccard
from scipy.stats import spearmanr


def sparse(count, share, seed=0, channels=2):
    values = draw(count, channels, 12, 10, seed=seed)
    return values * (draw(count, channels, 12, 10, seed=seed + 100).abs() < share)


def test_survivors_and_mass():
    maps = torch.zeros(2, 1, 4, 5)
    maps[0, 0, :2] = -2.0
    assert survivors(maps).tolist() == [0.5, 0]
    assert mass(maps).tolist() == [20, 0]


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
    assert Overlap().matrix(a, b).item() == pytest.approx(overlap_null(share), rel=0.05)


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
