import numpy as np
import pytest
import torch
from made.networks import SCALING, SmallNet, draw, seeded
from saliency_sanity import Classifier
from saliency_sanity.probes.deletion import removal_curve, removal_order, removal_score


@pytest.fixture
def model():
    network = seeded(SmallNet(), 1).eval()
    return Classifier(network, name="small", weights="one", scaling=SCALING, size=8)


X = draw(3, 3, 8, 8, seed=2)
TARGET = torch.tensor([0, 3, 1])


def probability(model, x, target):
    with torch.no_grad():
        return model(x).softmax(1)[range(len(x)), target].double().numpy()


def test_the_most_positive_pixel_comes_first():
    maps = draw(2, 3, 8, 8)
    order = removal_order(maps)
    sums = maps.double().sum(1).flatten(1)
    assert torch.equal(sums.gather(1, order), sums.sort(1, descending=True).values)
    assert torch.equal(order.sort(1).values, torch.arange(64).expand(2, -1))


def test_ties_are_broken_at_random_and_by_the_seed():
    maps = torch.zeros(2, 1, 8, 8)
    maps[:, 0, 3, 4] = 1
    order = removal_order(maps)
    assert order[:, 0].tolist() == [28, 28]
    assert not torch.equal(order[0], order[1])
    assert not torch.equal(order[0, 1:], order[0, 1:].sort().values)
    assert torch.equal(order, removal_order(maps))
    assert not torch.equal(order, removal_order(maps, seed=1))


def test_ends_are_the_picture_and_nothing(model):
    order = removal_order(X)
    gone = removal_curve(model, X, TARGET, order, [0, 1])
    put = removal_curve(model, X, TARGET, order, [0, 1], insertion=True)
    whole, nothing = probability(model, X, TARGET), probability(model, X * 0, TARGET)
    np.testing.assert_allclose(gone, np.stack([whole, nothing], 1), rtol=1e-5)
    np.testing.assert_allclose(put, np.stack([nothing, whole], 1), rtol=1e-5)


def test_the_middle_is_what_a_loop_over_pixels_gives(model):
    order = removal_order(X)
    found = removal_curve(model, X, TARGET, order, [0.25], baseline=0.5)
    empty = model.scaling.to_network(torch.full((3, 1, 1), 0.5))[:, 0, 0]
    given = X.clone()
    for i in range(len(X)):
        for pixel in order[i, :16].tolist():
            given[i, :, pixel // 8, pixel % 8] = empty
    np.testing.assert_allclose(found[:, 0], probability(model, given, TARGET), rtol=1e-5)


def test_deleting_all_but_some_is_inserting_them(model):
    order = removal_order(X)
    gone = removal_curve(model, X, TARGET, order.flip(1), [0.75])
    put = removal_curve(model, X, TARGET, order, [0.25], insertion=True)
    np.testing.assert_allclose(gone, put, rtol=1e-6)


def test_input_and_model_stay_as_they_were(model):
    x, state = X.clone(), {k: v.clone() for k, v in model.state_dict().items()}
    model.train()
    removal_curve(model, x, TARGET, removal_order(x), [0.5])
    assert model.training
    assert torch.equal(x, X)
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("shares", [[], [-0.1], [0.5, 1.1]])
def test_shares_lie_between_nothing_and_all(model, shares):
    with pytest.raises(ValueError, match="of the pixels; valid are"):
        removal_curve(model, X, TARGET, removal_order(X), shares)


def test_an_undefined_map_has_no_order():
    maps = draw(2, 1, 8, 8)
    maps[1, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"image\(s\) \[1\] are not finite"):
        removal_order(maps)


def test_the_score_is_the_area_between_both_curves(model):
    maps, shares = draw(3, 1, 8, 8, seed=4), [0.1, 0.2, 0.5, 0.9]
    order = removal_order(maps)
    put, gone = (
        removal_curve(model, X, TARGET, order, shares, insertion=way) for way in (True, False)
    )
    expected = np.zeros(3)
    for i in range(3):
        for k in range(3):
            ends = [put[i, j] - gone[i, j] for j in (k, k + 1)]
            expected[i] += (shares[k + 1] - shares[k]) * sum(ends) / 2 / 0.8
    found = removal_score(model, X, TARGET, maps, shares)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(removal_score(model, X, TARGET, 3 * maps, shares), found, rtol=1e-12)


def test_turning_the_order_round_turns_the_score_round(model):
    maps, shares = draw(3, 1, 8, 8, seed=4), [0.0, 0.25, 0.5, 0.75, 1.0]
    found = removal_score(model, X, TARGET, maps, shares)
    # What was inserted first is deleted last.
    np.testing.assert_allclose(removal_score(model, X, TARGET, -maps, shares), -found, rtol=1e-5)


@pytest.mark.parametrize("shares", [[0.5], [0.0, 0.0, 1.0], [1.0, 0.0]])
def test_shares_without_an_area_are_refused(model, shares):
    with pytest.raises(ValueError, match="have no area; give two or more that rise"):
        removal_score(model, X, TARGET, draw(3, 1, 8, 8), shares)
