"""The networks that are trained here: shapes, names, and the initialisers of the papers' code."""

import math

import pytest
import torch
from made.networks import draw
from saliency_sanity.subjects.small_networks import (
    CNN,
    MLP,
    TRAINABLE,
    build_untrained,
    initialize,
    slim_std,
)
from torch import nn

CHILDREN = {
    "cnn": ["hidden1", "hidden2", "fc1", "softmax_linear"],
    "mlp": ["hidden1", "hidden2", "hidden3", "logits"],
}

# Weights and biases of each layer, counted by hand from the papers' description.
COUNTS = {
    "cnn": [5 * 5 * 32 + 32, 5 * 5 * 32 * 64 + 64, 7 * 7 * 64 * 1024 + 1024, 1024 * 10 + 10],
    "mlp": [784 * 2500 + 2500, 2500 * 1500 + 1500, 1500 * 500 + 500, 500 * 10 + 10],
}


@pytest.fixture(scope="module", params=list(TRAINABLE))
def built(request):
    return request.param, build_untrained(request.param, 0)


@pytest.mark.parametrize("name", CHILDREN)
def test_children_run_in_their_order(name):
    network = build_untrained(name, 0)
    assert [child for child, _ in network.named_children()] == CHILDREN[name]
    ran = []
    for child, module in network.named_children():
        module.register_forward_hook(lambda m, i, o, child=child: ran.append(child))
    assert network(draw(2, 1, 28, 28)).shape == (2, 10)
    assert ran == CHILDREN[name]
    counts = [sum(p.numel() for p in child.parameters()) for child in network.children()]
    assert counts == COUNTS[name]


def test_the_transformer_is_the_written_down_function():
    network = build_untrained("vit", 3).double()
    x = draw(2, 1, 28, 28, dtype=torch.float64)
    assert sum(p.numel() for p in network.parameters()) == 139018
    assert network.cls_token.std().item() == pytest.approx(CUT * 0.02, rel=0.5)
    patches = x.unfold(2, 4, 4).unfold(3, 4, 4).reshape(2, 49, 16)
    weight, bias = network.patch_embed.proj.weight, network.patch_embed.proj.bias
    tokens = patches @ weight.flatten(1).T + bias
    tokens = torch.cat([network.cls_token.expand(2, 1, 64), tokens], 1) + network.pos_embed

    def normed(module, values):
        centred = values - values.mean(-1, keepdim=True)
        spread = (centred.square().mean(-1, keepdim=True) + module.eps).sqrt()
        return centred / spread * module.weight + module.bias

    for block in network.blocks:
        parts = block.attn.qkv(normed(block.norm1, tokens)).view(2, 50, 3, 4, 16)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(2, 3) / 4).softmax(-1)
        tokens = tokens + block.attn.proj((weights @ value).transpose(1, 2).reshape(2, 50, 64))
        hidden = block.mlp.fc1(normed(block.norm2, tokens))
        tokens = tokens + block.mlp.fc2(nn.functional.gelu(hidden))
    expected = network.head(normed(network.norm, tokens[:, 0]))
    assert torch.allclose(network(x), expected, rtol=1e-9, atol=1e-12)


def test_cam_layer_of_the_cnn_is_rectified_and_not_pooled():
    network = build_untrained("cnn", 0)
    seen = []
    network.get_submodule(TRAINABLE["cnn"].cam_layer).register_forward_hook(
        lambda m, i, o: seen.append(o)
    )
    network(draw(1, 1, 28, 28))
    assert seen[0].shape == (1, 64, 14, 14)
    assert seen[0].min() == 0


def test_cnn_is_the_written_down_function():
    network = build_untrained("cnn", 3).double()
    x = draw(2, 1, 28, 28, dtype=torch.float64)
    layers = [network.hidden1.layer, network.hidden2.layer]
    y = x
    for layer in layers:
        y = nn.functional.conv2d(nn.functional.pad(y, (2, 2, 2, 2)), layer.weight, layer.bias)
        n, c, h, w = y.shape
        y = y.clamp(min=0).reshape(n, c, h // 2, 2, w // 2, 2).amax((3, 5))
    y = (y.reshape(2, -1) @ network.fc1.layer.weight.T + network.fc1.layer.bias).clamp(min=0)
    y = y @ network.softmax_linear.weight.T + network.softmax_linear.bias
    assert torch.allclose(network(x), y, rtol=1e-10, atol=0)


def test_other_sizes_channels_and_classes():
    assert CNN(size=32, channels=3, classes=7)(draw(2, 3, 32, 32)).shape == (2, 7)
    assert MLP(size=32, channels=3, classes=7)(draw(2, 3, 32, 32)).shape == (2, 7)
    inception = build_untrained("inception_v3", 0, size=80, classes=7)
    assert inception(draw(2, 3, 80, 80)).shape == (2, 7)
    with pytest.raises(ValueError, match=r"size 30 of the CNN's pictures must be a multiple of 4"):
        CNN(size=30)
    assert build_untrained("vit", 0, size=16, channels=3, classes=7)(draw(2, 3, 16, 16)).shape == (
        *(2, 7),
    )
    with pytest.raises(
        ValueError, match=r"size 30 of the transformer's .* multiple of its patch, 4"
    ):
        build_untrained("vit", 0, size=30)
    with pytest.raises(ValueError, match=r"size 32: inception_v3 takes pictures of 75 pixels"):
        build_untrained("inception_v3", 0, size=32)
    with pytest.raises(ValueError, match=r"inception_v3 takes 3 channels, not 1"):
        build_untrained("inception_v3", 0, channels=1)
    with pytest.raises(ValueError, match=r"unknown network to train 'cnnn'. Nearest: cnn"):
        build_untrained("cnnn", 0)


SPREADS = {
    "cnn": lambda fan_in: 0.1,
    "mlp": lambda fan_in: 2 / math.sqrt(fan_in),
    "inception_v3": lambda fan_in: math.sqrt(2.6 / fan_in),
    "vit": lambda fan_in: 1 / math.sqrt(fan_in),
}
# Standard deviation of a normal that is cut at two of its own, from its closed form.
CUT = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))


def test_weights_are_truncated_normals_of_the_papers_spread(built):
    name, network = built
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == {"cnn": 4, "mlp": 4, "inception_v3": 95, "vit": 18}[name]
    for layer in layers:
        weight = layer.weight.detach().double()
        spread = SPREADS[name](weight[0].numel())
        count = weight.numel()
        assert weight.abs().max() <= 2 * spread * (1 + 1e-6)
        assert weight.abs().max() > 1.7 * spread
        # Five standard errors of the mean and of the spread (a cut normal has less kurtosis).
        assert weight.mean().abs() < 5 * CUT * spread / count**0.5
        assert abs(weight.std().item() / (CUT * spread) - 1) < 5 / (2 * count) ** 0.5
        if layer.bias is not None:
            assert (layer.bias == (0.1 if name == "cnn" else 0)).all()
    for norm in (m for m in network.modules() if isinstance(m, nn.LayerNorm)):
        assert (norm.weight == 1).all()
        assert (norm.bias == 0).all()
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        assert (norm.weight == 1).all()
        assert (norm.bias == 0).all()
        assert (norm.running_mean == 0).all()
        assert (norm.running_var == 1).all()
        assert norm.num_batches_tracked == 0


def test_slim_spread_gives_a_variance_of_two_over_fan_in():
    assert CUT * slim_std(1000) == pytest.approx(math.sqrt(2 / 1000), rel=0.01)


def test_every_tensor_is_drawn_from_the_seed_and_from_nothing_else(built):
    name, network = built
    torch.manual_seed(11)
    before = torch.get_rng_state()
    again, other = build_untrained(name, 0), build_untrained(name, 1)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(state(network), state(again), strict=True))
    seen = {}
    for (key, mine), theirs in zip(network.named_parameters(), other.parameters(), strict=True):
        if mine.ndim > 1:
            assert (mine != theirs).double().mean() > 0.99, key
            first = tuple(mine.flatten()[:4].tolist())
            assert first not in seen, f"{key} and {seen.get(first)} share their numbers"
            seen[first] = key


def state(network: nn.Module):
    return network.state_dict().values()


def test_untrained_networks_answer_without_overflow(built):
    name, network = built
    kind = TRAINABLE[name]
    logits = network(draw(4, kind.channels, kind.size, kind.size).clamp(-1, 1))
    assert torch.isfinite(logits).all()
    assert 1e-3 < logits.std() < 100
    assert not any(module.training for module in network.modules())


def test_layer_without_initialiser_is_refused():
    network = nn.Sequential(nn.Linear(3, 4), nn.GroupNorm(2, 4))
    with pytest.raises(TypeError, match=r"1 is a GroupNorm, for which there is no initialiser"):
        initialize(network, 0)
