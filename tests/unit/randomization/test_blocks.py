import io

import pytest
import torch
import torch.nn.functional as F
from made.networks import SmallNet, draw, small
from saliency_sanity import load_model
from saliency_sanity.networks.classifier import network_of
from saliency_sanity.randomization.blocks import Stage, find_blocks, find_stages
from saliency_sanity.subjects.timm_models import timm, torchvision
from torch import nn

INCEPTION = [
    *("conv2d_1a_3x3", "conv2d_2a_3x3", "conv2d_2b_3x3", "conv2d_3b_1x1", "conv2d_4a_3x3"),
    *("mixed_5b", "mixed_5c", "mixed_5d", "mixed_6a", "mixed_6b", "mixed_6c", "mixed_6d"),
    *("mixed_6e", "mixed_7a", "mixed_7b", "mixed_7c", "logits"),
]
SIZES = {
    "resnet18": 32,
    "vgg16_bn": 32,
    "mobilenet_v3_small": 32,
    "densenet121": 32,
    "convnext_tiny": 32,
    "efficientnet_lite0": 32,
    "vit_b_16": 224,
}


@pytest.fixture(scope="module", params=SIZES)
def traced(request):
    name = request.param
    model = load_model(name, "none", device="cpu")
    return model, find_blocks(model, draw(1, 3, SIZES[name], SIZES[name]))


def names(blocks):
    return [block.name for block in blocks]


def everything(blocks):
    return [key for block in blocks for key in (*block.parameters, *block.buffers)]


def floating(network):
    buffers = {name for name, value in network.named_buffers() if value.is_floating_point()}
    return {name for name, _ in network.named_parameters()} | buffers


def test_inception_has_the_stages_of_the_paper(inception):
    blocks = find_blocks(inception, draw(1, 3, 75, 75))
    assert names(blocks) == INCEPTION
    assert set(everything(blocks)) == floating(inception.network)
    assert [stage.name for stage in find_stages(blocks, "top_down")] == INCEPTION[::-1]


def test_timms_inception_has_them_under_the_same_names():
    network = timm.create_model("inception_v3", pretrained=False).eval()
    assert names(find_blocks(network, draw(1, 3, 75, 75))) == INCEPTION


def test_heads_that_do_not_run_are_no_blocks():
    network = torchvision.models.inception_v3(weights=None, init_weights=False, aux_logits=True)
    assert network.training
    blocks = find_blocks(network, draw(1, 3, 75, 75))
    assert names(blocks) == INCEPTION
    left = floating(network) - set(everything(blocks))
    assert left == {key for key in floating(network) if key.startswith("AuxLogits.")}
    assert left
    assert all(module.training for module in network.modules())


def test_every_tensor_belongs_to_exactly_one_block(traced):
    model, blocks = traced
    assert len(set(names(blocks))) == len(blocks) > 5
    assert len(everything(blocks)) == len(set(everything(blocks)))
    assert set(everything(blocks)) == floating(model.network)
    assert all(block.parameters for block in blocks)


def test_no_block_holds_most_of_a_network_that_has_more(traced):
    model, blocks = traced
    sizes = {name: value.numel() for name, value in model.network.named_parameters()}
    largest = max(blocks, key=lambda block: sum(sizes[key] for key in block.parameters))
    if len([key for key in largest.parameters if model.network.get_parameter(key).ndim > 1]) > 1:
        assert sum(sizes[key] for key in largest.parameters) <= sum(sizes.values()) / 2


def test_stray_parameters_belong_to_a_block(traced):
    owners = {key: block.name for block in traced[1] for key in block.parameters}
    if "class_token" in owners:
        assert owners["class_token"] == "conv_proj"
        assert owners["encoder.pos_embedding"] == "encoder.layers.encoder_layer_0"
    for key in [key for key in owners if key.endswith("layer_scale")]:
        assert key.startswith(owners[key])


def test_norms_join_the_layer_before_them():
    blocks = find_blocks(SmallNet(), draw(2, 3, 16, 16))
    assert names(blocks) == ["first", "second", "head"]
    assert blocks[0].modules == ("first", "norm")
    assert blocks[0].parameters == ("first.weight", "first.bias", "norm.weight", "norm.bias")
    assert blocks[0].buffers == ("norm.running_mean", "norm.running_var")


def test_a_norm_in_front_joins_the_first_layer():
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    blocks = find_blocks(network, draw(1, 3, 4, 4))
    assert [block.modules for block in blocks] == [("0", "1"), ("3",)]


def test_the_order_is_that_of_execution_not_of_definition():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 2)
            self.body = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.head(self.body(x).mean((2, 3)))

    assert names(find_blocks(Backwards(), draw(1, 3, 8, 8))) == ["body", "head"]


def test_single_layers():
    class Weight(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(2, 12))
            self.relu = nn.ReLU()

        def forward(self, x):
            return self.relu(F.linear(x.flatten(1), self.weight))

    class Layer(nn.Conv2d):
        def forward(self, x):
            return super().forward(x).mean((2, 3))

    for network, name in ((Weight(), "weight"), (Layer(3, 2, 1), "layer")):
        (block,) = find_blocks(network, draw(1, 3, 2, 2))
        assert block.name == name
        assert set(block.parameters) == floating(network)
        assert find_stages([block], "top_down") == (Stage(name, (name,)),)


def test_a_root_that_owns_parameters_gives_them_to_the_first_block():
    class Scaled(SmallNet):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(3, 1, 1))

        def forward(self, x):
            return super().forward(x * self.gain)

    blocks = find_blocks(Scaled(), draw(1, 3, 16, 16))
    assert names(blocks) == ["first", "second", "head"]
    assert blocks[0].parameters[-1] == "gain"


class Shared(nn.Module):
    """The last layer, defined first, is the first one's transpose partner: one tensor, two uses."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(12, 12)
        self.middle = nn.Linear(12, 12)
        self.first = nn.Linear(12, 12, bias=False)
        self.first.weight = self.last.weight

    def forward(self, x):
        return self.last(self.middle(self.first(x.flatten(1)).relu()).relu())


def test_shared_weights_belong_once_to_the_block_that_runs_first():
    blocks = find_blocks(Shared(), draw(1, 3, 2, 2))
    assert names(blocks) == ["first", "middle", "last"]
    assert [block.parameters for block in blocks] == [
        ("last.weight",),
        ("middle.weight", "middle.bias"),
        ("last.bias",),
    ]


def test_a_block_with_nothing_of_its_own_joins_the_one_before():
    network = Shared()
    network.last.bias = None
    blocks = find_blocks(network, draw(1, 3, 2, 2))
    assert [block.modules for block in blocks] == [("first",), ("middle", "last")]


def scripted(network):
    return torch.jit.script(network)


def recorded(network):
    return torch.jit.trace(network, draw(1, 3, 8, 8))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def loaded(network):
    file = io.BytesIO()
    torch.jit.save(recorded(network), file)
    return torch.jit.load(io.BytesIO(file.getvalue()))


@pytest.mark.parametrize("form", [scripted, recorded, loaded])
def test_a_scripted_network_or_part_is_one_block_and_said_to_be(form):
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten())
    x = draw(2, 3, 8, 8)
    with pytest.warns(UserWarning, match="is scripted: it is randomized as one block"):
        (block,) = find_blocks(form(body), x)
    assert set(block.parameters) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    network = nn.Sequential()
    network.add_module("body", form(body))
    network.add_module("head", nn.Linear(64, 3))
    with pytest.warns(UserWarning, match="body is scripted"):
        assert names(find_blocks(network, x)) == ["body", "head"]


@pytest.mark.parametrize("nested", [False, True])
def test_parameters_of_a_module_that_is_never_called_are_refused_by_name(nested):
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.more = nn.Linear(12, 12), nn.Linear(12, 12)
            self.extra = nn.Linear(12, 2)

        def forward(self, x):
            return F.linear(self.more(self.body(x.flatten(1))), self.extra.weight)

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside, self.head = Hidden(), nn.Linear(2, 2)

        def forward(self, x):
            return self.head(self.inside(x))

    name = "inside.extra.weight" if nested else "extra.weight"
    with pytest.raises(ValueError, match=rf"parameters {name} of .*act on the logits"):
        find_blocks(Outer() if nested else Hidden(), draw(1, 3, 2, 2))


class Buffered(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.ones(5, 3))

    def forward(self, x):
        return x.mean((2, 3)) @ self.weight.T


@pytest.mark.filterwarnings("ignore:RecursiveScriptModule is scripted:UserWarning")
@pytest.mark.parametrize("wrap", [lambda m: m, nn.Sequential, lambda m: torch.jit.script(m)])
def test_buffers_alone_are_nothing_to_randomize(wrap):
    with pytest.raises(ValueError, match="no parameters in modules that run"):
        find_blocks(wrap(Buffered()), draw(1, 3, 8, 8))


@pytest.mark.filterwarnings("ignore:.*quantiz.*:DeprecationWarning")
@pytest.mark.parametrize("dtype", [torch.qint8, torch.float16])
@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: nn.Sequential(m)])
def test_quantized_layers_are_said_to_keep_their_weights(wrap, dtype):
    layers = nn.Sequential(nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    quantize = torch.ao.quantization.quantize_dynamic
    network = wrap(nn.Sequential(layers, quantize(nn.Sequential(nn.Linear(6, 4)), dtype=dtype)))
    with pytest.warns(UserWarning, match=r"1\.0 of Sequential is quantized, and keeps"):
        find_blocks(network.eval(), draw(1, 3, 8, 8))


def test_a_network_without_parameters_is_refused():
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match="no parameters in modules that run"):
        find_blocks(network, draw(1, 3, 4, 4))


class Failing(SmallNet):
    def forward(self, x):
        super().forward(x)
        raise RuntimeError("on purpose")


@pytest.mark.parametrize("kind", [SmallNet, Failing])
def test_the_network_stays_as_it_was(kind):
    network = kind().train()
    network.norm.eval()
    network.head.weight.requires_grad_(False)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    flags = [module.training for module in network.modules()]
    x, rng = draw(2, 3, 16, 16), torch.get_rng_state()
    copy = x.clone()
    if kind is Failing:
        with pytest.raises(RuntimeError, match="on purpose"):
            find_blocks(network, x)
    else:
        find_blocks(network, x)
    assert [module.training for module in network.modules()] == flags
    assert [p.requires_grad for p in network.parameters()] == [
        name != "head.weight" for name, _ in network.named_parameters()
    ]
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert "forward" not in vars(module)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert torch.equal(x, copy)
    assert torch.equal(rng, torch.get_rng_state())


def test_it_works_within_no_grad_and_inference_mode(small_net):
    expected = find_blocks(small_net, draw(1, 3, 16, 16))
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            assert find_blocks(small_net, draw(1, 3, 16, 16)) == expected


def test_a_bare_network_has_the_blocks_of_its_classifier(small_net):
    x = draw(1, 3, 16, 16)
    assert network_of(small_net) is small_net.network
    assert network_of(small_net.network) is small_net.network
    assert find_blocks(small_net.network, x) == find_blocks(small_net, x)


def test_stages_of_every_order():
    blocks = find_blocks(small(), draw(1, 3, 16, 16))
    every = ("first", "second", "head")
    assert find_stages(blocks, "top_down") == (
        Stage("head", ("head",)),
        Stage("second", ("second", "head")),
        Stage("first", every),
    )
    assert find_stages(blocks, "bottom_up") == (
        Stage("first", ("first",)),
        Stage("second", ("first", "second")),
        Stage("head", every),
    )
    assert find_stages(blocks, "independent") == (
        Stage("head", ("head",)),
        Stage("second", ("second",)),
        Stage("first", ("first",)),
        Stage("all", every),
    )
    assert find_stages(blocks, "full") == (Stage("all", every),)


def test_another_order_is_refused_with_the_valid_ones():
    with pytest.raises(ValueError, match="top_down"):
        find_stages((), "topdown")
