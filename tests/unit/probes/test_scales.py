"""Scales of channels: closed forms, plain loops, and networks whose answer is known."""

import numpy as np
import pytest
import torch
from made.networks import SCALING, SmallTransformer, draw, seeded, small
from saliency_sanity import Classifier
from saliency_sanity._errors import NotApplicable
from saliency_sanity._hashing import weights_hash
from saliency_sanity.attribution.base import chunk_limit
from saliency_sanity.probes.scales import (
    QUANTITIES,
    channel_scales,
    kept_scales,
    rank_correlation,
    shared_top,
)
from scipy.stats import spearmanr
from torch import nn

DOUBLE = torch.float64
X = draw(4, 3, 16, 16, seed=3)
TARGET = torch.tensor([0, 3, 1, 1])
LAYERS = {"one": "first", "two": "second"}


def hooks(model):
    return [len(m._forward_hooks) for m in model.modules()]


def test_norms_and_influence_have_a_closed_form_below_the_head():
    model = small(DOUBLE)
    found = channel_scales(model, LAYERS, X.double(), TARGET)
    net = model.network
    with torch.no_grad():
        one = net.first(X.double())
        two = net.second(torch.relu(net.norm(one)))
    for name, activations in (("one", one), ("two", two)):
        expected = activations.square().mean((2, 3)).sqrt().numpy()
        np.testing.assert_allclose(found.norms[name], expected, rtol=1e-9)
    # The logit is the head's weight times the mean of what is positive.
    weights = net.head.weight.detach()[TARGET].numpy()
    gain = torch.relu(two).mean((2, 3)).numpy()
    np.testing.assert_allclose(found.influence["two"], abs(weights * gain), rtol=1e-9, atol=1e-12)


def test_influence_is_the_first_order_loss_without_the_channel():
    model = small(DOUBLE)
    influence = channel_scales(model, LAYERS, X.double(), TARGET).influence["one"]
    network, step = model.network, 1e-5
    for channel in range(6):
        change = []
        for sign in (-1, 1):

            def scaled(_m, _i, output, factor=1 + sign * step, channel=channel):
                return torch.cat(
                    [
                        output[:, :channel],
                        factor * output[:, channel : channel + 1],
                        output[:, channel + 1 :],
                    ],
                    1,
                )

            handle = network.first.register_forward_hook(scaled)
            with torch.no_grad():
                change.append(model(X.double())[range(4), TARGET])
            handle.remove()
        expected = ((change[1] - change[0]) / (2 * step)).abs().numpy()
        np.testing.assert_allclose(influence[:, channel], expected, rtol=1e-4, atol=1e-8)


def test_neither_batch_nor_grad_mode_matters_and_hooks_are_gone():
    model = small(DOUBLE)
    whole = channel_scales(model, LAYERS, X.double(), TARGET)
    before = hooks(model)
    with chunk_limit(1), torch.inference_mode():
        single = channel_scales(model, LAYERS, X.double(), TARGET)
    for name in LAYERS:
        np.testing.assert_allclose(single.norms[name], whole.norms[name], rtol=1e-12)
        np.testing.assert_allclose(single.influence[name], whole.influence[name], rtol=1e-9)
    with pytest.raises(ValueError, match="out of range"):
        channel_scales(model, LAYERS, X.double(), TARGET + 7)
    assert hooks(model) == before
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_of_tokens_the_last_dimension_are_channels():
    model = small(kind=SmallTransformer)
    found = channel_scales(model, {"qkv": "second"}, X, TARGET)
    assert found.norms["qkv"].shape == found.influence["qkv"].shape == (4, 24)


def test_layers_that_cannot_be_measured_are_refused():
    model = small(kind=SmallTransformer)
    with pytest.raises(NotApplicable, match="'norm' gave 3 tensors"):
        channel_scales(model, {"norm": "norm"}, X, TARGET)


def test_correlation_is_scipys():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(5, 40)).round(1), rng.normal(size=(5, 40)).round(1)
    expected = [spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(rank_correlation(first, second), expected, rtol=1e-12)
    assert np.isnan(rank_correlation(np.ones((1, 5)), second[:1, :5])).all()


def test_shared_top_is_that_of_plain_sets():
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(6, 20)), rng.normal(size=(6, 20))
    for a, b, found in zip(first, second, shared_top(first, second), strict=True):
        tops = [{*sorted(range(20), key=lambda i, v=v: -v[i])[:5]} for v in (a, b)]
        assert found == len(tops[0] & tops[1]) / 5
    assert (shared_top(first, 2 * first) == 1).all()
    assert (shared_top(first, -first) == 0).all()
    assert np.isnan(shared_top(np.ones((1, 8)), second[:1, :8])).all()


@pytest.fixture(scope="module")
def kept():
    model = small()
    before = weights_hash(model), hooks(model)
    found = kept_scales(model, X, TARGET, seeds=2)
    assert (weights_hash(model), hooks(model)) == before
    return found


def test_what_lies_below_the_random_layers_is_as_it_was(kept):
    assert kept.layers == ("first", "second")
    assert kept.stages["top_down"] == ("head", "second", "first")
    assert kept.random["top_down"].tolist() == [[False, False], [False, True], [True, True]]
    assert kept.random["bottom_up"].tolist() == [[True, False], [True, True], [True, True]]
    values = kept.values["top_down", "norms"]
    below = ~kept.random["top_down"]
    assert values.shape == (3, 2, 2, 4)
    np.testing.assert_allclose(values.transpose(0, 2, 1, 3)[below], 1)
    assert kept.edges("top_down") == {0: 1, 1: 0}
    assert kept.edges("bottom_up") == {}
    with pytest.raises(ValueError, match="no stage of 'bottom_up'"):
        kept.edge("bottom_up", "top")


def test_both_orders_end_with_the_same_network(kept):
    for quantity in QUANTITIES:
        down, up = (kept.values[order, quantity][-1] for order in ("top_down", "bottom_up"))
        np.testing.assert_array_equal(down, up)


def test_the_same_twice_and_the_table_says_it_all(kept):
    again = kept_scales(small(), X, TARGET, seeds=2)
    table = kept.table()
    for key, values in kept.values.items():
        np.testing.assert_array_equal(values, again.values[key])
        np.testing.assert_array_equal(kept.chances[key], again.chances[key])
    assert len(table) == 2 * 4 * 3 * 2
    row = table.set_index(["order", "quantity", "stage", "layer"]).loc[
        ("top_down", "carried", "head", "second")
    ]
    assert row["value"] == pytest.approx(kept.values["top_down", "carried"][0, :, 1].mean())
    assert row["low"] <= row["value"] <= row["high"] <= 1


class Wide(nn.Module):
    """Two convolutions; a channel of the first is as large as its factor."""

    def __init__(self, factors):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 64, 3), nn.Conv2d(64, 32, 3)
        self.head = nn.Linear(32, 5)
        seeded(self)
        with torch.no_grad():
            self.first.bias.zero_()
            self.first.weight.mul_(factors[:, None, None, None])

    def forward(self, x):
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))).mean((2, 3)))


@pytest.mark.parametrize(("spread", "carries"), [(0.0, False), (3.0, True)])
def test_known_answer_large_channels_carry(spread, carries):
    """Factors between 1 and 1000 leave their order; equal ones have none to leave."""
    factors = 10 ** (spread * torch.linspace(0, 1, 64))
    network = Wide(factors).eval()
    model = Classifier(network, name="wide", weights="w", scaling=SCALING, size=16)
    found = kept_scales(model, X, TARGET, orders=["top_down"], seeds=3)
    edge = [found.values["top_down", key][1, :, 0].mean() for key in ("carried", "top")]
    chance = found.chances["top_down", "carried"][1, :, 0].mean()
    assert abs(chance) < 0.15
    if carries:
        assert edge[0] > 0.8
        assert edge[1] > 0.7
    else:
        assert edge[0] < 0.5
        assert edge[1] < 0.5


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"orders": ["top_dwon"]}, "Nearest: top_down"),
        ({"orders": ["independent"]}, "Valid: top_down, bottom_up"),
        ({"seeds": 0}, "0 random networks"),
    ],
)
def test_what_cannot_be_is_named(given, says):
    with pytest.raises(ValueError, match=says):
        kept_scales(small(), X, TARGET, **given)


def test_a_network_of_one_block_has_no_layer():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 5)).eval()
    model = Classifier(network, name="one", weights="w", scaling=SCALING, size=16)
    with pytest.raises(ValueError, match="has one block; scales need two"):
        kept_scales(model, X, TARGET)
