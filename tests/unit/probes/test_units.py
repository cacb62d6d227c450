"""Other units, same function: logits, gradients, what is multiplied by the input, and relevance."""

import copy
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from made.networks import SCALING, ModularNet, SmallNet, calibrate, draw, relative, seeded, small
from saliency_sanity import Classifier, Scaling, load_model, resolve
from saliency_sanity._errors import NotApplicable
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.attribution.compose import Rectified, TimesInput
from saliency_sanity.attribution.lrp import INPUT_RULES, RULES, Lrp
from saliency_sanity.attribution.rectgrad import Threshold
from saliency_sanity.attribution.rectifiers import Guided
from saliency_sanity.networks.framed import FramedConv2d
from saliency_sanity.probes.units import inverted, rescaled, zero_at
from saliency_sanity.randomization.blocks import find_blocks
from saliency_sanity.randomization.schemes import Randomization, randomized
from timm.layers import Conv2dSame
from torch import Tensor, nn

DOUBLE = torch.float64
UNITS = Scaling((0.1, 0.9, 0.6), (1.0, 0.05, 0.3))


def classifier(network: nn.Module, size: int = 12, scaling: Scaling = SCALING) -> Classifier:
    network = seeded(network).eval().double()
    return Classifier(network, name="net", weights="random", scaling=scaling, size=size)


def headed(*layers: nn.Module, size: int = 12) -> Classifier:
    """``layers``, then a rectifier and places enough for all of them to count."""
    end = (nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.LazyLinear(4))
    network = nn.Sequential(*layers, *end)
    network(torch.zeros(1, 3, size, size))
    return classifier(network, size)


def pictures(model: Classifier, size: int = 0) -> Tensor:
    """Raw, in [0, 1]."""
    size = size or model.size
    dtype = next(model.parameters()).dtype
    return draw(2, len(model.scaling.mean), size, size, dtype=dtype).sigmoid()


def fed(model: Classifier, raw: Tensor) -> Tensor:
    return model.logits(model.scaling.to_network(raw))


def units(scaling: Scaling) -> Tensor:
    return torch.tensor(scaling.std, dtype=DOUBLE).view(-1, 1, 1)


# The same logits for the same picture


@cache
def _built(name: str, size: int) -> Classifier:
    model = load_model(name, "none", device="cpu")
    model.size = size
    if name == "vgg11":  # the larger layers take long and see no pixels
        model.network.classifier = nn.Linear(512 * 7 * 7, 10)
    return model if name in ("cnn", "mlp", "vgg11") else calibrate(model, size)


def sized(name: str, size: int) -> Classifier:
    """A copy, which a test may change."""
    return copy.deepcopy(_built(name, size))


@pytest.mark.parametrize(
    ("name", "size", "layer", "kind"),
    [
        ("small", 16, "first", FramedConv2d),
        ("cnn", 28, "hidden1.layer", FramedConv2d),
        ("mlp", 28, "hidden1.layer", nn.Linear),
        ("resnet18", 64, "conv1", FramedConv2d),
        ("vgg11", 33, "features.0", FramedConv2d),
        ("efficientnet_lite0", 64, "conv_stem", FramedConv2d),
        ("efficientnet_lite0", 65, "conv_stem", FramedConv2d),
        ("inception_v3", 96, "Conv2d_1a_3x3.conv", nn.Conv2d),
    ],
)
def test_same_logits_for_the_same_picture(name, size, layer, kind):
    model = small() if name == "small" else sized(name, size)
    raw = pictures(model)
    channels = len(model.scaling.mean)
    colour = (0.2, 0.5, 0.9)[:channels]
    other = Scaling(UNITS.mean[:channels], UNITS.std[:channels])
    zeros = [zero_at(model.scaling, zero) for zero in (0, 1, colour)]
    for dtype, tolerance, scalings in (
        (torch.float32, 1e-5, [other]),
        (DOUBLE, 1e-10, [*zeros, other]),
    ):
        model, raw = model.to(dtype), raw.to(dtype)
        logits = fed(model, raw)
        for scaling in scalings:
            twin = rescaled(model, scaling)
            assert twin.scaling == scaling
            assert type(twin.network.get_submodule(layer)) is kind
            assert relative(fed(twin, raw), logits) < tolerance
        negative = fed(model, 1 - raw)
        assert relative(negative, logits) > 1e-3
        assert relative(fed(inverted(model), raw), negative) < tolerance


GEOMETRIES = {
    "stride": {"kernel_size": 5, "padding": 2, "stride": 2},
    "oblong": {"kernel_size": (3, 5), "padding": (0, 4), "stride": (2, 1)},
    "dilation": {"kernel_size": 3, "padding": 3, "dilation": 2},
    "groups": {"kernel_size": 3, "padding": 1, "groups": 3},
    "same": {"kernel_size": (4, 3), "padding": "same", "dilation": (1, 2)},
    "valid": {"kernel_size": 3, "padding": "valid"},
    "no bias": {"kernel_size": 3, "padding": 1, "bias": False},
    "reflect": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    "replicate": {"kernel_size": 3, "padding": 2, "padding_mode": "replicate"},
    "circular": {"kernel_size": 3, "padding": "same", "padding_mode": "circular"},
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_convolutions_of_any_geometry(geometry):
    options = GEOMETRIES[geometry]
    model = headed(nn.Conv2d(3, 6, **options))
    framed = geometry not in ("valid", "reflect", "replicate", "circular")
    for size in (12, 13, 16):
        raw = pictures(model, size)
        twin = rescaled(model, UNITS)
        assert type(twin.network[0]) is (FramedConv2d if framed else nn.Conv2d)
        assert relative(fed(twin, raw), fed(model, raw)) < 1e-10
        assert relative(fed(inverted(twin), raw), fed(model, 1 - raw)) < 1e-10


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, (5, 2)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_padding_of_tensorflow(kernel_size, stride, dilation):
    """It depends on the size of the input, and may be of another width on each side."""
    model = headed(Conv2dSame(3, 6, kernel_size, stride, dilation=dilation, bias=False))
    twin = rescaled(model, UNITS)
    for size in (12, 13, 15):
        raw = pictures(model, size)
        assert relative(fed(twin, raw), fed(model, raw)) < 1e-10


@pytest.mark.parametrize("flat", [nn.Flatten(), nn.Sequential(nn.Dropout(), nn.Flatten())])
def test_what_hands_the_pixels_on_is_not_the_layer_that_sees_them(flat):
    model = classifier(nn.Sequential(nn.Identity(), flat, nn.Linear(108, 4)), 6)
    raw = pictures(model)
    assert relative(fed(rescaled(model, UNITS), raw), fed(model, raw)) < 1e-10


def test_zero_padding_would_be_wrong_at_the_borders():
    """What the frame is for, and what these tests could see."""
    model = headed(nn.Conv2d(3, 6, 3, padding=1))
    twin = rescaled(model, zero_at(SCALING, 1.0))
    raw = pictures(model)
    assert relative(fed(twin, raw), fed(model, raw)) < 1e-10
    twin.network[0].frame.zero_()
    assert relative(fed(twin, raw), fed(model, raw)) > 1e-3
    here, there = (m.network[0](m.scaling.to_network(raw)).detach() for m in (twin, model))
    assert relative(here[..., 1:-1, 1:-1], there[..., 1:-1, 1:-1]) < 1e-10
    assert relative(here, there) > 0.1


def test_frame_is_the_colour_that_was_zero():
    """In the units of the copy, around the picture and nowhere in it."""
    model = small(DOUBLE)
    twin = rescaled(model, UNITS)
    layer, x = twin.network.first, UNITS.to_network(pictures(model))
    was_zero = torch.tensor(SCALING.mean, dtype=DOUBLE).view(-1, 1, 1)
    assert relative(UNITS.to_raw(layer.frame), was_zero) < 1e-12
    inside = F.pad(torch.ones_like(x), (1, 1, 1, 1))
    framed = F.pad(x, (1, 1, 1, 1)) * inside + UNITS.to_network(was_zero) * (1 - inside)
    plain = F.conv2d(framed, layer.weight, layer.bias)
    assert relative(layer(x).detach(), plain.detach()) < 1e-12


# Copies of copies


def test_there_and_back():
    for model in (small(DOUBLE), headed(nn.Conv2d(3, 6, 3)), sized("mlp", 28).double()):
        raw, own = pictures(model), model.scaling
        channels = len(own.mean)
        far = Scaling(UNITS.mean[:channels], UNITS.std[:channels])
        for again in (inverted(inverted(model)), rescaled(rescaled(model, far), own)):
            assert again.scaling == own
            assert relative(fed(again, raw), fed(model, raw)) < 1e-10
        swapped = (rescaled(inverted(model), far), inverted(rescaled(model, far)))
        assert relative(fed(swapped[0], raw), fed(swapped[1], raw)) < 1e-10


def test_copy_keeps_what_belongs_to_the_network(resnet):
    model = small()
    model.class_names, model.untrained = ("cat", "dog"), SmallNet
    model.provenance = {"test_accuracy": 0.5}
    for twin in (rescaled(model, UNITS), inverted(model)):
        kept = ("name", "weights", "size", "class_names", "cam_layer", "provenance")
        assert all(getattr(twin, key) == getattr(model, key) for key in kept)
        assert twin.untrained is None
        assert [path for path, _ in twin.named_modules()] == [p for p, _ in model.named_modules()]
        assert not twin.training
    frozen = copy.deepcopy(resnet).requires_grad_(False)
    assert not any(parameter.requires_grad for parameter in inverted(frozen).parameters())
    # A layer that had no bias has one now, and else there are no tensors but the frame.
    new = rescaled(resnet, UNITS).state_dict().keys() - resnet.state_dict().keys()
    assert new == {"network.conv1.bias", "network.conv1.frame"}


@pytest.mark.parametrize("act", [lambda model: rescaled(model, UNITS), inverted])
def test_original_and_generators_stay_as_they_were(act):
    model = small()
    model.network.norm.train()
    model.network.head.weight.requires_grad_(False)
    tensors = {key: (id(v), v.clone()) for key, v in model.state_dict(keep_vars=True).items()}
    flags = [module.training for module in model.modules()]
    modules = list(model.named_modules())
    random = torch.get_rng_state()
    twin = act(model)
    assert torch.equal(torch.get_rng_state(), random)
    for key, value in model.state_dict(keep_vars=True).items():
        assert (id(value), True) == (tensors[key][0], torch.equal(value, tensors[key][1]))
    assert list(model.named_modules()) == modules
    assert [module.training for module in model.modules()] == flags
    assert not any(module._forward_hooks for module in (*model.modules(), *twin.modules()))
    learned = {key: p.requires_grad for key, p in model.named_parameters()}
    assert {key: p.requires_grad for key, p in twin.named_parameters()} == learned
    own = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    others = {p.untyped_storage().data_ptr() for p in (*twin.parameters(), *twin.buffers())}
    assert not own & others


def test_copy_can_be_copied_and_moved_and_saved():
    model = small(DOUBLE)
    twin = rescaled(model, UNITS)
    raw = pictures(model)
    again = copy.deepcopy(rescaled(small(DOUBLE, seed=1), zero_at(SCALING, 0.3)))
    again.load_state_dict(twin.state_dict())
    again.scaling = twin.scaling
    assert torch.equal(fed(again, raw), fed(twin, raw))
    assert twin.float().network.first.frame.dtype == torch.float32


# Maps


def both(model: Classifier, scaling: Scaling) -> tuple[Classifier, Tensor, Tensor]:
    raw = pictures(model)
    return rescaled(model, scaling), scaling.to_network(raw), model.scaling.to_network(raw)


TARGET = torch.tensor([1, 2])
INDEPENDENT = {
    "gradient": Gradient(),
    "guided": Rectified(Gradient(), Guided()),
    "rectgrad": Rectified(Gradient(), Threshold(q=80)),
}


@pytest.mark.parametrize("name", INDEPENDENT)
@pytest.mark.parametrize("network", ["small", "resnet18", "efficientnet_lite0", "mlp"])
def test_maps_that_do_not_depend_on_the_units(name, network):
    model = small(DOUBLE) if network == "small" else sized(network, 28 if network == "mlp" else 49)
    method, model = INDEPENDENT[name], model.double()
    for scaling in (
        zero_at(model.scaling, 1.0),
        Scaling(UNITS.mean[: len(model.scaling.mean)], UNITS.std[: len(model.scaling.mean)]),
    ):
        twin, there, here = both(model, scaling)
        expected = method(model, here, TARGET)
        a = units(scaling) / units(model.scaling)
        assert relative(method(twin, there, TARGET), a * expected) < 1e-10
        border = torch.ones_like(expected)
        border[..., 1:-1, 1:-1] = 0
        assert (expected * border).any()
        product = TimesInput(method)
        assert relative(product(twin, there, TARGET), product(model, here, TARGET)) > 0.1


def test_trick_of_rectgrad_finds_the_padding_of_the_copy():
    model = headed(nn.Conv2d(3, 6, 3, padding=1))
    twin, there, here = both(model, zero_at(SCALING, 1.0))
    plain, trick = (
        Rectified(Gradient(), Threshold(q=80, padding_trick=on)) for on in (False, True)
    )
    expected = trick(model, here, TARGET)
    assert relative(plain(model, here, TARGET), expected) > 0.01
    assert relative(trick(twin, there, TARGET), expected) < 1e-10


def test_product_with_a_difference_to_a_raw_colour_does_not_depend_on_the_units():
    model = small(DOUBLE)
    twin, there, here = both(model, UNITS)
    product = TimesInput(Gradient(), baseline=0.25)
    assert relative(product(twin, there, TARGET), product(model, here, TARGET)) < 1e-10


def test_grad_cam_sees_the_same(resnet_double):
    twin, there, here = both(resnet_double, UNITS)
    cam = resolve("grad_cam")
    assert relative(cam(twin, there, TARGET), cam(resnet_double, here, TARGET)) < 1e-9


@pytest.mark.parametrize("scheme", ["initializer", "moments"])
def test_copy_can_be_randomized(scheme):
    twin, x, _ = both(small(DOUBLE), UNITS)
    kept = copy.deepcopy(twin.state_dict())
    blocks = find_blocks(twin, x)
    with randomized(twin, blocks, Randomization(scheme)):
        assert not torch.equal(twin.network.first.weight, kept["network.first.weight"])
        assert torch.equal(twin.network.first.frame, kept["network.first.frame"])
    assert all(torch.equal(kept[key], value) for key, value in twin.state_dict().items())


# Relevance


def conv_net(padding: int = 1) -> Classifier:
    head = (nn.ReLU(), nn.Flatten(), nn.Linear(5 * (4 + 2 * padding) ** 2, 4))
    return classifier(nn.Sequential(nn.Conv2d(3, 5, 3, padding=padding), *head), 6)


def as_matrix(twin: Classifier) -> Classifier:
    """``conv_net`` with its first layer as a matrix, and a bias for each unit."""
    layer = twin.network[0]
    zeros = torch.zeros(1, 3, twin.size, twin.size, dtype=DOUBLE)
    eye = torch.eye(zeros.numel(), dtype=DOUBLE).view(-1, *zeros.shape[1:])
    with torch.no_grad():
        bias = layer(zeros).flatten()
        dense = nn.Linear(zeros.numel(), len(bias)).double()
        dense.weight.copy_((layer(eye).flatten(1) - bias).T)
        dense.bias.copy_(bias)
    network = nn.Sequential(nn.Flatten(), dense, nn.ReLU(), *list(twin.network)[3:])
    return Classifier(network, name="m", weights="w", scaling=twin.scaling, size=twin.size)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("input_rule", [rule for rule in INPUT_RULES if rule != "flat"])
def test_relevance_of_a_framed_layer_is_that_of_its_matrix(rule, input_rule):
    """All but ``flat``, which would share to the pixels that a unit does not see, too."""
    twin, x, _ = both(conv_net(), UNITS)
    method = Lrp(rule, input_rule)
    plain = as_matrix(twin)
    assert relative(plain.logits(x), twin.logits(x)) < 1e-12
    assert relative(method(twin, x, TARGET), method(plain, x, TARGET)) < 1e-6


@pytest.mark.parametrize("input_rule", INPUT_RULES)
def test_which_input_rules_depend_on_the_units(input_rule):
    """On where zero is, three do not; shares by squared weights depend on the ratio of units."""
    model, method = conv_net(), Lrp("zplus", input_rule)
    twice = tuple(2 * std for std in SCALING.std)
    shifts = (zero_at(SCALING, 0.0), Scaling((0.1, 0.9, 0.6), twice))
    for scaling, immune in (
        *((shift, {"wsquare", "flat", "zbox"}) for shift in shifts),
        (UNITS, {"flat", "zbox"}),
    ):
        twin, there, here = both(model, scaling)
        found = relative(method(twin, there, TARGET), method(model, here, TARGET))
        assert found < 1e-6 if input_rule in immune else found > 0.1


@pytest.mark.parametrize("name", ["resnet", "modular"])
def test_batch_norm_behind_a_framed_layer_is_folded(name):
    model = sized("resnet18", 49).double() if name == "resnet" else small(DOUBLE, kind=ModularNet)
    twin, x, here = both(model, UNITS)
    kept, logits = copy.deepcopy(twin.state_dict()), twin(x).detach()
    Lrp("zplus")(twin, x, TARGET)
    assert kept.keys() == twin.state_dict().keys()
    assert all(torch.equal(kept[key], value) for key, value in twin.state_dict().items())
    assert not any("forward" in vars(m) or m._forward_pre_hooks for m in twin.modules())
    assert torch.equal(twin(x), logits)
    product = TimesInput(Gradient())(twin, x, TARGET)
    assert relative(Lrp(epsilon=1e-12)(twin, x, TARGET), product) < 1e-6
    same = Lrp("zplus", "wsquare")(model, here, TARGET)
    shifted, there, _ = both(model, zero_at(model.scaling, 0.9))
    assert relative(Lrp("zplus", "wsquare")(shifted, there, TARGET), same) < 1e-6


def test_relevance_of_pictures_of_another_size_and_after_an_exception():
    twin = rescaled(headed(nn.Conv2d(3, 6, 3, padding=1)), UNITS)
    bias = twin.network[0].bias
    for size in (12, 15):
        x = UNITS.to_network(pictures(twin, size))
        product = TimesInput(Gradient())(twin, x, TARGET)
        assert relative(Lrp(epsilon=1e-12)(twin, x, TARGET), product) < 1e-6
        with pytest.raises(ValueError, match="out of range"):
            Lrp()(twin, x, torch.tensor([0, 9]))
        assert twin.network[0].bias is bias
        assert "forward" not in vars(twin.network[0])


# Colours and refusals


def test_zero_at_a_colour():
    assert zero_at(SCALING, 0.25) == Scaling((0.25,) * 3, SCALING.std)
    assert zero_at(SCALING, (0.0, 0.5, 1.0)) == Scaling((0.0, 0.5, 1.0), SCALING.std)
    grey = torch.full((1, 3, 2, 2), 0.25)
    assert not zero_at(SCALING, 0.25).to_network(grey).any()


@pytest.mark.parametrize("colour", [-0.1, 1.1, float("nan"), (0.1, 2.0, 0.3)])
def test_colour_outside_of_the_range(colour):
    with pytest.raises(ValueError, match=r"valid are 0 \(black\) to 1 \(white\)"):
        zero_at(SCALING, colour)


@pytest.mark.parametrize("colour", [(0.5,), (0.5,) * 4, ()])
def test_colour_of_other_channels(colour):
    with pytest.raises(ValueError, match="one for each of 3 channels"):
        zero_at(SCALING, colour)


def test_scaling_of_other_channels(small_net):
    with pytest.raises(ValueError, match=r"for 1 channels, but small takes 3"):
        rescaled(small_net, Scaling((0.0,), (1.0,)))


def test_network_without_a_scaling(small_net):
    for act in (inverted, lambda network: rescaled(network, UNITS)):
        with pytest.raises(TypeError, match=r"SmallNet .* wrap it in saliency_sanity.Classifier"):
            act(small_net.network)


class Before(nn.Module):
    """A function between the pixels and the first layer."""

    def __init__(self, function):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 4)
        self.function = function

    def forward(self, x):
        return self.head(self.conv(self.function(x)).relu().mean((2, 3)))


class Around(Before):
    """A way around the first layer."""

    def __init__(self):
        super().__init__(lambda x: x)

    def forward(self, x):
        return super().forward(x) + x.mean((1, 2, 3))[:, None]


class Twice(Before):
    """The layer that sees the pixels is also called on something else."""

    def __init__(self):
        super().__init__(lambda x: x)

    def forward(self, x):
        return super().forward(x) + self.conv(x**2).mean((1, 2, 3))[:, None]


class Special(nn.Conv2d):
    pass


def weight_normed() -> nn.Module:
    network = Before(lambda x: x)
    nn.utils.parametrizations.weight_norm(network.conv)
    return network


class Branches(Before):
    def __init__(self):
        super().__init__(lambda x: x)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        return super().forward(x) + self.pool(x).mean((1, 2, 3))[:, None]


@pytest.mark.parametrize("act", [lambda model: rescaled(model, UNITS), inverted])
@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: Before(lambda x: 2 * x - 1), "no layer sees its pixels as they are"),
        # Nothing is cut off of any picture in its own units.
        (lambda: Before(lambda x: x.clamp(-2.5, 4.5)), "no layer sees its pixels as they are"),
        (lambda: Before(nn.ReLU(inplace=True)), "no layer sees its pixels as they are"),
        (lambda: Before(nn.BatchNorm2d(3)), r"function \(BatchNorm2d\), and"),
        (lambda: Before(nn.AvgPool2d(2)), r"function \(AvgPool2d\), and"),
        (Branches, r"conv \(Conv2d\), pool \(MaxPool2d\), and"),
        (Twice, r"first seen by conv \(Conv2d\), and only a single call"),
        (Around, "a logit is off by .* It sees the pixels in another way as well"),
        (lambda: nn.Sequential(Special(3, 4, 12), nn.Flatten()), r"0 \(Special\)"),
        (weight_normed, r"conv \(ParametrizedConv2d\)"),
        (lambda: nn.Sequential(nn.Linear(12, 2), nn.Flatten(), nn.Linear(72, 4)), r"0 \(Linear\)"),
    ],
)
def test_networks_that_cannot_be_given_other_units(build, reason, act):
    network = build().eval().double()
    model = Classifier(network, name="odd", weights="none", scaling=SCALING, size=12)
    kept = copy.deepcopy(model.state_dict())
    with pytest.raises(NotApplicable, match=f"odd cannot be given other units: .*{reason}"):
        act(model)
    assert all(torch.equal(kept[key], value) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_inception_that_scales_its_own_input_is_refused():
    model = sized("inception_v3", 96)
    model.network.transform_input = True
    with pytest.raises(NotApplicable, match="leave that out and wrap the rest in a Classifier"):
        rescaled(model, UNITS)
