"""Grad-CAM against numbers computed by hand, and the layers it cannot use."""

import pytest
import torch
import torch.nn.functional as F
from made.networks import draw, relative
from saliency_sanity.attribution.gradcam import GradCAM
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
