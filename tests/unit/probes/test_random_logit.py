"""Maps of another label: preparation and similarity against scikit-image, labels, the flip."""

import numpy as np
import pytest
import torch
from made.networks import draw, small
from saliency_sanity import resolve
from saliency_sanity.probes.random_logit import (
    FLIPS,
    Tails,
    label_maps,
    logit_similarities,
    other_labels,
    prepared,
)
from skimage.metrics import structural_similarity


def by_hand(maps, channels, tails, sign):
    summed = sign * (maps.sum(0) if channels == "sum" else np.abs(maps).max(0))
    low, high = np.percentile(summed, [tails, 100 - tails])
    return np.clip((summed - low) / (high - low), 0, 1)


@pytest.mark.parametrize(
    ("name", "channels", "tails"),
    [
        ("gradient", "largest", 0.5),
        ("guided_backprop", "largest", 0.5),
        ("modified_rectgrad", "largest", 0.0),
        ("lrp_zplus", "sum", 0.5),
        ("deeplift", "sum", 0.5),
    ],
)
def test_similarities_are_those_of_the_authors_code(name, channels, tails):
    method = resolve(name)
    maps = draw(3, 2, 3, 20, 24, dtype=torch.float64) ** 3
    found = logit_similarities(method, maps)
    for draw_, theirs in enumerate(maps[1:].numpy()):
        for i in range(2):
            for j in range(2):
                own = by_hand(maps[0, i].numpy(), channels, tails, 1)
                both = [
                    # Only where the window fits, as here: elsewhere there is no such pixel.
                    structural_similarity(
                        *(own, by_hand(theirs[j], channels, tails, sign)),
                        **{"win_size": 5, "data_range": 2.0},
                    )
                    for sign in (1, -1)
                ]
                values = [found[flip][draw_, i, j] for flip in FLIPS]
                assert values == pytest.approx([both[0], max(both)], rel=1e-6)


def test_a_map_of_the_other_sign_is_the_same_with_the_flip_only():
    maps = draw(1, 4, 3, 20, 20)
    found = logit_similarities(resolve("lrp_zplus"), torch.cat([maps, -2 * maps]))
    assert found[FLIPS[1]][0].diagonal() == pytest.approx(np.ones(4))
    assert (found[FLIPS[0]][0].diagonal() < 0.5).all()
    assert (found[FLIPS[1]] >= found[FLIPS[0]]).all()


def test_constant_maps_are_undefined():
    maps = torch.cat([torch.zeros(1, 1, 1, 9, 9), torch.ones(1, 1, 1, 9, 9)])
    assert np.isnan(logit_similarities(resolve("gradient"), maps)[FLIPS[0]]).all()
    # Nearly all of it zero, so that the cut leaves nothing.
    sparse = torch.zeros(2, 1, 1, 40, 40)
    sparse[..., 0, 0] = 1
    assert np.isnan(logit_similarities(resolve("lrp_zplus"), sparse)[FLIPS[0]]).all()
    assert logit_similarities(resolve("modified_rectgrad"), sparse)[FLIPS[0]] == pytest.approx(1)


def test_other_labels_are_others_each_as_likely():
    target = torch.arange(4000) % 4
    found = other_labels(target, 4, 3)
    assert found.shape == (3, 4000)
    assert (found != target).all()
    steps = torch.bincount(((found - target) % 4).flatten(), minlength=4)
    assert steps[0] == 0
    assert steps[1:].numpy() == pytest.approx(4000, rel=0.05)
    # A picture's labels depend on its place alone.
    assert torch.equal(other_labels(target[:10], 4, 3), found[:, :10])
    assert not torch.equal(other_labels(target, 4, 3, seed=1), found)
    with pytest.raises(ValueError, match="valid are 1 of 2 or more"):
        other_labels(target, 1, 3)


def test_maps_are_the_methods_own():
    model, x = small(), draw(2, 3, 16, 16)
    method = resolve("lrp_epsilon")
    labels = torch.tensor([[0, 1], [3, 2]])
    found = label_maps(method, model, x, labels)
    for row, maps in zip(labels, found, strict=True):
        assert torch.allclose(maps, method(model, x, row), rtol=1e-5, atol=1e-6)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="unknown channels 'mean'"):
        Tails("mean")
    with pytest.raises(ValueError, match="tails 50"):
        Tails("sum", 50)
    assert prepared(resolve("rectgrad")) == Tails("sum", 0.0)
    assert prepared(resolve("integrated_gradients"), flipped=True) == Tails("sum", 0.5, True)
