"""Captum as an independent oracle, where it is right, and as a warning where it is not."""

import copy

import captum.attr
import pytest
import torch
from made.networks import SCALING, ModularNet, draw, relative, seeded, small
from saliency_sanity import resolve
from saliency_sanity.attribution import deeplift
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.attribution.compose import Product
from saliency_sanity.attribution.gradcam import GradCAM
from saliency_sanity.attribution.named import guided_backprop
from torch import nn

from benchmarks._inception import with_relu_modules

pytestmark = [
    pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU:UserWarning"),
    pytest.mark.filterwarnings("ignore:Setting forward, backward hooks:UserWarning"),
    pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require:UserWarning"),
]
TARGET = torch.tensor([3, 71])


@pytest.fixture(params=["resnet", "vgg"])
def network(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def x():
    return draw(2, 3, 64, 64)


def theirs(method, x, /, **options):
    return method.attribute(x.clone(), target=TARGET, **options).detach()


def layer(network):
    return network.network.get_submodule(network.cam_layer)


def test_gradient(network, x):
    expected = theirs(captum.attr.Saliency(network), x, abs=False)
    assert relative(resolve("gradient")(network, x, TARGET), expected) < 1e-5


def test_gradient_x_input(network, x):
    expected = theirs(captum.attr.InputXGradient(network), x)
    assert relative(resolve("gradient_x_input")(network, x, TARGET), expected) < 1e-5


@pytest.mark.parametrize(
    ("rule", "name"), [("midpoint", "riemann_middle"), ("gauss-legendre", "gausslegendre")]
)
@pytest.mark.parametrize("baseline", [None, (0.2, 0.5, 0.9)])
def test_integrated_gradients(rule, name, baseline, network, x):
    start = 0.0 if baseline is None else torch.tensor(baseline).view(1, 3, 1, 1)
    if baseline is not None:
        start = network.scaling.to_network(start).expand_as(x)
    expected = theirs(
        captum.attr.IntegratedGradients(network), x, baselines=start, n_steps=4, method=name
    )
    ours = resolve("integrated_gradients", steps=4, rule=rule, baseline=baseline)
    assert relative(ours(network, x, TARGET), expected) < 1e-5


def test_guided_backprop(network, x):
    expected = theirs(captum.attr.GuidedBackprop(network), x)
    assert relative(resolve("guided_backprop")(network, x, TARGET), expected) < 1e-5


def test_deconvnet(network, x):
    expected = theirs(captum.attr.Deconvolution(network), x)
    assert relative(resolve("deconvnet")(network, x, TARGET), expected) < 1e-5


def grad_cam(network, x):
    coarse = theirs(captum.attr.LayerGradCam(network, layer(network)), x, relu_attributions=True)
    return captum.attr.LayerAttribution.interpolate(coarse, x.shape[2:], "bilinear")


def test_grad_cam(network, x):
    ours = GradCAM(unit=False)(network, x, TARGET)
    assert relative(ours, grad_cam(network, x)) < 1e-5


def test_guided_grad_cam_differs_by_the_scale_of_its_window(network, x):
    # Captum multiplies by Grad-CAM as it comes; the reference code first divides it by its
    # maximum, before it is resized. One positive factor an image: signs and ranks are the same.
    method = captum.attr.GuidedGradCam(network, layer(network))
    expected = theirs(method, x, interpolate_mode="bilinear")
    unscaled = Product(guided_backprop(), GradCAM(unit=False))
    assert relative(unscaled(network, x, TARGET), expected) < 1e-5

    coarse = theirs(captum.attr.LayerGradCam(network, layer(network)), x, relu_attributions=True)
    scaled = expected / coarse.amax((1, 2, 3), keepdim=True)
    assert relative(resolve("guided_grad_cam")(network, x, TARGET), scaled) < 1e-5


def test_guided_backprop_on_functional_rectifiers(inception):
    """Torchvision's Inception v3 rectifies by function, where hooks on modules see nothing."""
    x = draw(2, 3, 96, 96)
    ours = resolve("guided_backprop")(inception, x, TARGET)
    gradient = Gradient()(inception, x, TARGET)
    twin = with_relu_modules(inception)
    assert relative(theirs(captum.attr.Saliency(twin), x, abs=False), gradient) < 1e-5
    assert relative(ours, theirs(captum.attr.GuidedBackprop(twin), x)) < 1e-5
    assert relative(ours, gradient) > 0.1

    deconvnet = resolve("deconvnet")(inception, x, TARGET)
    assert relative(deconvnet, theirs(captum.attr.Deconvolution(twin), x)) < 1e-5
    # Why interception is needed: on the network as it is, these are the gradient by other names.
    assert torch.equal(theirs(captum.attr.GuidedBackprop(inception), x), gradient)
    assert torch.equal(theirs(captum.attr.Deconvolution(inception), x), gradient)


def test_deeplift_of_a_pool(monkeypatch):
    # Towards a picture in whose windows no values tie. A rectifier before or after the pool, and
    # what Captum gives does not sum to the change of the logit.
    layers = nn.Conv2d(3, 6, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 49, 5)
    network = seeded(nn.Sequential(*layers)).eval()
    x, start = draw(2, 3, 16, 16), draw(2, 3, 16, 16, seed=1)
    method = captum.attr.DeepLift(network)
    expected = method.attribute(x.clone(), baselines=start, target=TARGET % 5).detach()
    monkeypatch.setattr(deeplift, "baseline_of", lambda *_: start)
    ours = deeplift.Multipliers()(network, x, TARGET % 5) * (x - start)
    assert relative(ours, expected) < 1e-5


@pytest.mark.parametrize("colour", [None, (0.2, 0.5, 0.9)])
def test_deeplift(colour):
    model, x, target = small(kind=ModularNet), draw(2, 3, 16, 16), TARGET % 5
    twin, start = copy.deepcopy(model), torch.zeros_like(x)
    twin.network.relu.inplace = False
    if colour is not None:
        start = SCALING.to_network(torch.tensor(colour).view(3, 1, 1)).expand_as(x)
    method = captum.attr.DeepLift(twin)
    expected = method.attribute(x.clone(), baselines=start, target=target).detach()
    assert relative(resolve("deeplift", baseline=colour)(model, x, target), expected) < 1e-5


def test_occlusion(resnet, x):
    options = {"sliding_window_shapes": (3, 16, 16), "strides": (3, 8, 8)}
    expected = theirs(captum.attr.Occlusion(resnet), x, **options)
    ours = resolve("occlusion", window=16 / 64, stride=8 / 64)(resnet, x, TARGET)
    assert relative(ours.expand_as(x), expected) < 1e-5


@pytest.mark.parametrize(("name", "power"), [("smoothgrad", 1), ("smoothgrad_squared", 2)])
def test_smoothgrad_with_the_same_noise(name, power, resnet, x):
    ours = resolve(name, samples=3)
    perturb, _ = ours.copies(resnet, x)
    terms = [
        theirs(captum.attr.Saliency(resnet), perturb(x, slice(None), number), abs=False) ** power
        for number in range(3)
    ]
    assert relative(ours(resnet, x, TARGET), sum(terms) / 3) < 1e-5
