"""Where maps lie under networks of several tasks: known shares, random networks, loops."""

import numpy as np
import pytest
import torch
from saliency_sanity._errors import NotApplicable
from saliency_sanity._hashing import weights_hash
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.probes.tasks import (
    likeness,
    maps_under,
    share_gap,
    share_table,
    shares,
    wholly_random,
)
from saliency_sanity.similarity.metrics import metric
from saliency_sanity.subjects.datasets import load_scenes, to_pixels
from saliency_sanity.subjects.models import load_model
from saliency_sanity.verdict.reading import read
from scipy.stats import spearmanr

SCENES = load_scenes("pairs", count=8)
X = to_pixels(SCENES.images, 28, 1)
NETWORKS = [load_model("cnn", "none", "cpu", seed) for seed in (1, 2)]


def object_seeker(name):
    """A method that knows the answer: the mask itself, with a sign by chance."""
    signs = torch.where(
        torch.rand(X.shape, generator=torch.Generator().manual_seed(0)) < 0.5, -1, 1
    )
    return lambda model, x, target: SCENES.regions[name][:, None] * signs * 3.0


@pytest.mark.parametrize("name", ["garment", "shape"])
def test_a_mask_has_all_of_it_and_a_uniform_map_its_area(name):
    methods = {
        "mask": object_seeker(name),
        "uniform": lambda model, x, target: torch.full_like(x, -0.2),
        "other": object_seeker({"garment": "shape", "shape": "garment"}[name]),
    }
    maps, refused = maps_under(methods, NETWORKS, X)
    assert refused == {}
    table = share_table({"trained": maps}, SCENES.regions[name]).set_index("method")
    assert table["area"].tolist() == pytest.approx([0.25] * 3)
    for method, expected in (("mask", 1.0), ("uniform", 0.25), ("other", 0.0)):
        row = table.loc[method]
        assert [row["value"], row["low"], row["high"]] == pytest.approx([expected] * 3, abs=1e-12)
        assert (row["networks"], row["images"]) == (2, 8)


def test_shares_are_those_of_a_loop_and_zero_maps_have_none():
    random = torch.Generator().manual_seed(4)
    maps = [torch.randn(8, 2, 28, 28, generator=random) for _ in range(3)]
    maps[1][5] = 0
    mask = SCENES.regions["shape"]
    found = shares(maps, mask)
    assert found.shape == (3, 8)
    assert np.isnan(found[1, 5])
    for r, batch in enumerate(maps):
        for n in range(8):
            if (r, n) != (1, 5):
                size = batch[n].double().abs().sum(0).numpy()
                inside = size[mask[n].numpy()].sum() / size.sum()
                assert found[r, n] == pytest.approx(inside, rel=1e-12)
    table = share_table({"trained": {"m": maps}}, mask)
    assert table["value"].item() == pytest.approx(np.nanmean(found), rel=1e-12)


def test_a_gap_is_over_pictures_and_networks():
    random = np.random.default_rng(1)
    first = random.normal(0.5, 0.1, (5, 30))
    found = share_gap(first, first - 0.2)
    assert (found.value, found.low, found.high) == pytest.approx((0.2,) * 3)
    assert (found.images, found.verdict) == (30, "reproduced")
    # Networks that differ widen it, though every picture agrees.
    uneven = first + np.array([-0.3, -0.1, 0, 0.1, 0.3])[:, None]
    assert share_gap(uneven, first - 0.1).verdict == "inconclusive"
    assert share_gap(uneven, first - 0.1).high - share_gap(uneven, first - 0.1).low > 0.4
    assert share_gap(first, 0.25).value == pytest.approx(first.mean() - 0.25)
    with_hole = first.copy()
    with_hole[:, 3] = np.nan
    assert share_gap(with_hole, first).images == 29


def test_random_networks_are_drawn_by_seed_and_come_back():
    before = [weights_hash(network) for network in NETWORKS]
    seen = []

    def spy(model, x, target):
        assert torch.equal(target, model(x).argmax(1)), "the class that this network finds"
        seen.append(weights_hash(model))
        return x

    def drawn(seed, networks=NETWORKS):
        seen.clear()
        maps_under({"spy": spy}, networks, X, random_from=seed)
        return list(seen)

    first = drawn(5)
    assert first == drawn(5)
    assert len({*before, *first, *drawn(6)}) == 5, "the second of 5 is the first of 6"
    # Neither depends on what was trained nor on how many there are.
    assert drawn(5, NETWORKS[1:]) == first[:1]
    with pytest.raises(RuntimeError, match="broken"), wholly_random(NETWORKS[0], X, 0):
        raise RuntimeError("broken")
    assert [weights_hash(network) for network in NETWORKS] == before


def test_maps_are_those_of_each_network_and_what_refuses_one_is_left_out():
    def picky(model, x, target):
        if weights_hash(model) == weights_hash(NETWORKS[1]):
            raise NotApplicable("not this one")
        return x

    maps, refused = maps_under({"gradient": Gradient(), "picky": picky}, NETWORKS, X)
    assert list(maps) == ["gradient"]
    assert refused == {"picky": "not this one"}
    for network, found in zip(NETWORKS, maps["gradient"], strict=True):
        x = X.clone().requires_grad_()
        network(x).max(1).values.sum().backward()
        torch.testing.assert_close(found, x.grad, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="no networks to explain"):
        maps_under({"gradient": Gradient()}, [], X)


def test_likeness_is_that_of_a_loop_with_another_training_as_ceiling():
    random = torch.Generator().manual_seed(2)
    ours = [torch.randn(8, 1, 6, 6, generator=random) for _ in range(3)]
    theirs = [torch.randn(8, 1, 6, 6, generator=random) for _ in range(3)]
    table = likeness(
        {"m": ours, "n": ours}, {"m": theirs}, {"spearman_abs": metric("spearman_abs")}
    )
    assert table["method"].tolist() == ["m"]

    def square(a, b):
        return [
            [spearmanr(abs(one).flatten(), abs(two).flatten()).statistic for two in b.numpy()]
            for one in a.numpy()
        ]

    expected = read(
        [square(a, b) for a, b in zip(ours, theirs, strict=True)],
        ceiling={"seeds": [square(ours[0], ours[1]), square(ours[1], ours[2])]},
    )
    for field in ("similarity", "chance", "kappa", "low", "high", "ceiling", "ceiling_low"):
        assert table[field].item() == pytest.approx(getattr(expected, field), abs=1e-5)
    with pytest.raises(ValueError, match="under 3 networks and 2 others"):
        likeness({"m": ours}, {"m": theirs[:2]}, {"spearman_abs": metric("spearman_abs")})
