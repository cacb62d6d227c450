"""Grad-CAM against numbers computed by hand, and the layers it cannot use."""

import pytest
import torch
import torch.nn.functional as F
from made.networks import draw, relative
from saliency_sanity._errors import NotApplicable
from saliency_sanity.attribution.gradcam import GradCAM, GradCAMPlusPlus, LayerCAM
from torch import nn

TARGET = torch.tensor([0])


class Tiny(nn.Module):
    """Features are the two input channels; logits weigh their means."""

    def __init__(self, *weights: float):
        super().__init__()
        self.features = nn.Identity()
        self.unused = nn.Identity()
        self.squeeze = nn.Flatten()
        self.weights = nn.Parameter(torch.tensor(weights))

    def forward(self, x):
        self.unused(x)
        self.squeeze(x)
        return (self.features(x).mean((2, 3)) @ self.weights)[:, None]


PICTURE = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[4.0, 0.0], [0.0, 2.0]]]])


def test_map_computed_by_hand():
    # Mean gradients: 3/4 / 4... each place's gradient is w / 4, and so is its mean.
    found = GradCAM("features", unit=False)(Tiny(4.0, -4.0), PICTURE, TARGET)
    assert found.flatten().tolist() == [0, 2, 3, 2]
    assert GradCAM("features")(Tiny(4.0, -4.0), PICTURE, TARGET).flatten().tolist() == (
        pytest.approx([0, 2 / 3, 1, 2 / 3])
    )


def plus_plus(g, a):
    """The weighted channels of [chattopadhay2018gradcam], eq. 19 and 11, place by place."""
    found = torch.zeros_like(a)
    for n in range(len(a)):
        for k in range(a.shape[1]):
            weight, total = 0.0, a[n, k].sum()
            for slope in g[n, k].flatten():
                below = 2 * slope**2 + total * slope**3
                alpha = slope**2 / below if below != 0 else 0.0
                weight += alpha * slope.clamp_min(0)
            found[n, k] = weight * a[n, k]
    return found


KIN = {GradCAMPlusPlus: plus_plus, LayerCAM: lambda g, a: g.clamp_min(0) * a}


@pytest.mark.parametrize("layer", ["first", "relu", "second"])
@pytest.mark.parametrize("kind", KIN)
def test_kin_are_as_published(kind, layer, small_net_double):
    x, target = draw(2, 3, 16, 16, dtype=torch.float64), torch.tensor([0, 3])
    network, seen = small_net_double.network, []

    def start(_module, _inputs, output):
        seen.append(output.detach().clone().requires_grad_())
        return seen[0].clone()

    handle = network.get_submodule(layer).register_forward_hook(start)
    score = network(x).gather(1, target[:, None]).sum()
    handle.remove()
    (slope,) = torch.autograd.grad(score, seen[0])
    coarse = KIN[kind](slope, seen[0].detach()).sum(1, keepdim=True).clamp_min(0)
    expected = F.interpolate(coarse, size=(16, 16), mode="bilinear")
    assert relative(kind(layer, unit=False)(small_net_double, x, target), expected) < 1e-12
    scaled = F.interpolate(
        coarse / coarse.amax((2, 3), keepdim=True), size=(16, 16), mode="bilinear"
    )
    assert relative(kind(layer)(small_net_double, x, target), scaled) < 1e-12


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_layer_cam_has_no_unit(scale):
    found = LayerCAM("features")(Tiny(4.0 * scale, -4.0 * scale), PICTURE, TARGET)
    assert found.flatten().tolist() == pytest.approx([0.25, 0.5, 0.75, 1])


def test_no_positive_evidence_stays_zero():
    found = GradCAM("features")(Tiny(-1.0, -1.0), PICTURE, TARGET)
    assert found.shape == (1, 1, 2, 2)
    assert found.tolist() == [[[[0, 0], [0, 0]]]]


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_map_has_no_unit(scale):
    found = GradCAM("features")(Tiny(4.0 * scale, -4.0 * scale), PICTURE, TARGET)
    assert found.flatten().tolist() == pytest.approx([0, 2 / 3, 1, 2 / 3])


def test_coarse_map_is_divided_by_its_maximum_before_it_is_resized():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = nn.AvgPool2d(4)

        def forward(self, x):
            return self.pool(x).sum((2, 3))[:, :1]

    x = draw(2, 1, 16, 16).abs()
    found = GradCAM("pool")(Pooled(), x, torch.tensor([0, 0]))
    coarse = F.avg_pool2d(x, 4)
    coarse = coarse / coarse.amax((1, 2, 3), keepdim=True)
    assert relative(found, F.interpolate(coarse, size=(16, 16), mode="bilinear")) < 1e-6


def test_layer_before_an_in_place_function_is_seen_as_it_was():
    class InPlace(nn.Module):
        def __init__(self, inplace):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, bias=False)
            self.conv.weight.data = draw(4, 3, 3, 3)
            self.relu = nn.ReLU(inplace)

        def forward(self, x):
            return self.relu(self.conv(x)).mean((2, 3))

    x, target = draw(2, 3, 8, 8), torch.tensor([1, 2])
    maps = [GradCAM("conv", unit=False)(InPlace(inplace), x, target) for inplace in (0, 1)]
    assert maps[0].abs().max() > 0
    assert torch.equal(*maps)


def test_default_layer_is_the_classifiers(small_net):
    x, target = draw(2, 3, 16, 16), torch.tensor([0, 1])
    assert torch.equal(GradCAM()(small_net, x, target), GradCAM("second")(small_net, x, target))
    assert relative(GradCAM("first")(small_net, x, target), GradCAM()(small_net, x, target)) > 0.1


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("featurse", "unknown layer 'featurse'. Nearest: features"),
        (None, r"Tiny has no default one; name a module path, e.g. GradCAM\('layer4'\)"),
        ("unused", "logits do not depend on layer 'unused'"),
        ("squeeze", "'squeeze' gave 0 feature maps .* exactly one"),
    ],
)
def test_layer_that_cannot_be_used_is_named(layer, message):
    with pytest.raises(ValueError, match=message):
        GradCAM(layer)(Tiny(1.0, 1.0), PICTURE, TARGET)


def test_layer_that_never_runs_or_runs_twice_is_refused(resnet):
    x, target = draw(1, 3, 64, 64), torch.tensor([0])
    with pytest.raises(ValueError, match=r"'layer1.0.relu' gave 2 feature maps"):
        GradCAM("layer1.0.relu")(resnet, x, target)
    model = Tiny(1.0, 1.0)
    model.idle = nn.Identity()
    with pytest.raises(ValueError, match="'idle' gave 0 feature maps"):
        GradCAM("idle")(model, PICTURE, TARGET)


class Laid(nn.Module):
    """Eight features of 8 x 8 places, which ``order`` lays out as a layer's output."""

    def __init__(self, order: str, back: str, channels: int = 8, size: int = 8):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        draw = torch.randn(channels, 3, 3, 3, generator=generator)
        self.weight = nn.Parameter(draw.double())
        self.top = nn.Parameter(torch.randn(channels, 4, generator=generator).double())
        self.layer = nn.Identity()
        self.order, self.back, self.size = order, back, size

    def forward(self, x):
        found = F.adaptive_avg_pool2d(F.conv2d(x, self.weight, padding=1), self.size).relu()
        found = self.layer(torch.einsum(self.order, found).contiguous())
        return torch.einsum(self.back, found).mean((2, 3)) @ self.top


ORDERS = {
    "[N, K, h, w]": ("nkhw->nkhw", "nkhw->nkhw"),
    "[N, h, w, K]": ("nkhw->nhwk", "nhwk->nkhw"),
    "transposed": ("nkhw->nkwh", "nkwh->nkhw"),
    "rows last": ("nkhw->nwkh", "nwkh->nkhw"),
}


@pytest.mark.parametrize(("channels", "size"), [(8, 8), (5, 8), (16, 4), (6, 1)])
@pytest.mark.parametrize("order", ORDERS)
def test_which_dimension_has_the_channels_is_told_or_the_layer_refused(order, channels, size):
    x, target = draw(2, 3, 16, 16, dtype=torch.float64), torch.tensor([0, 3])
    model = Laid(*ORDERS[order], channels=channels, size=size)
    if "[" not in order:
        if size > 1:
            with pytest.raises(NotApplicable, match="no two dimensions follow rows and columns"):
                GradCAM("layer")(model, x, target)
        return
    with torch.no_grad():
        features = F.adaptive_avg_pool2d(F.conv2d(x, model.weight, padding=1), size).relu()
        weights = model.top[:, target].T[:, :, None, None] / size**2
        expected = (weights * features).sum(1, keepdim=True).clamp_min(0)
        expected = F.interpolate(expected, size=(16, 16), mode="bilinear")
    found = GradCAM("layer", unit=False)(model, x, target)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-14)


class Tokens(nn.Module):
    """Attention of 16 tokens by two heads; tokens, windows and weights are layers."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.tokens, self.heads, self.windows = nn.Identity(), nn.Identity(), nn.Identity()
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        tokens = self.tokens(self.patches(x).flatten(2).transpose(1, 2))
        heads = tokens.unflatten(2, (2, 4)).transpose(1, 2)
        weights = self.heads((heads @ heads.transpose(2, 3)).softmax(3))
        tokens = (weights @ heads).transpose(1, 2).flatten(2)
        windows = self.windows(tokens.reshape(len(x) * 4, 2, 2, 8))
        return self.head(windows.reshape(len(x), 16, 8).mean(1))


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("heads", r"gave \[1, 2, 16, 16\], of which no two dimensions"),
        ("windows", r"gave \[8, 2, 2, 8\] for 2 pictures"),
    ],
)
def test_layers_that_are_no_patches_are_refused(layer, said):
    torch.manual_seed(0)
    x, target = draw(2, 3, 16, 16), torch.tensor([0, 3])
    with pytest.raises(NotApplicable, match=said):
        GradCAM(layer)(Tokens(), x, target)


def test_tokens_are_laid_out_as_the_patches_that_they_are():
    torch.manual_seed(0)
    model, x, target = Tokens(), draw(2, 3, 16, 16), torch.tensor([0, 3])
    expected = GradCAM("patches")(model, x, target)
    assert expected.amax() > 0
    assert relative(GradCAM("tokens")(model, x, target), expected) < 1e-6


class Rectified(nn.BatchNorm2d):
    """A batch norm with a rectifier among its children, as timm has them."""

    def __init__(self, channels):
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.ReLU()

    def forward(self, x):
        return self.act(self.drop(super().forward(x)))


def test_a_norm_with_a_rectifier_inside_gives_channels_first():
    torch.manual_seed(0)
    # Every place sees all of the picture, so that nothing else tells.
    layers = [nn.Conv2d(3, 9, 8), nn.Flatten(), nn.Linear(9, 6 * 2 * 2), nn.Unflatten(1, (6, 2, 2))]
    network = nn.Sequential(*layers, Rectified(6), nn.Flatten(), nn.Linear(24, 4)).eval()
    x, target = draw(2, 3, 8, 8), torch.tensor([0, 3])
    found = GradCAM("4", unit=False)(network, x, target)
    body, tail = network[:5], network[5:]
    features = body(x).detach().requires_grad_()
    score = tail(features).gather(1, target[:, None]).sum()
    (slope,) = torch.autograd.grad(score, features)
    coarse = (slope.mean((2, 3), keepdim=True) * features).sum(1, keepdim=True).clamp_min(0)
    expected = F.interpolate(coarse.detach(), size=(8, 8), mode="bilinear")
    assert relative(found, expected) < 1e-6
