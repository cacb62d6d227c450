"""Rectifiers are found however they are spelled, and only rectifiers."""

import pytest
import timm
import torch
import torch.nn.functional as F
from made.networks import draw, relative, small
from saliency_sanity import load_model, resolve
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.attribution.compose import Rectified
from saliency_sanity.attribution.rectifiers import Deconv, Guided, Interception
from torch import nn

inf = float("inf")


def assigned(x, key, value):
    x[key] = value
    return x


RECTIFIERS = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU inplace": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu inplace": lambda x: F.relu(x, inplace=True),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "x.relu": lambda x: x.relu(),
    "x.relu_": lambda x: x.relu_(),
    "x.clamp(min)": lambda x: x.clamp(min=0),
    "x.clamp positional": lambda x: x.clamp(0),
    "x.clamp_": lambda x: x.clamp_(min=0),
    "x.clamp_min": lambda x: x.clamp_min(0),
    "x.clamp_min_": lambda x: x.clamp_min_(0),
    "x.clip": lambda x: x.clip(0.0),
    "x.clip_": lambda x: x.clip_(0.0),
    "torch.clamp": lambda x: torch.clamp(x, min=0),
    "torch.clamp keyword": lambda x: torch.clamp(input=x, min=0),
    "torch.clamp_": lambda x: torch.clamp_(x, 0),
    "torch.clamp_min": lambda x: torch.clamp_min(x, 0),
    "torch.clamp_min_": lambda x: torch.clamp_min_(x, 0),
    "torch.clip": lambda x: torch.clip(x, 0),
    "nn.Threshold": nn.Threshold(0, 0),
    "nn.Threshold inplace": nn.Threshold(0, 0, inplace=True),
    "torch.threshold": lambda x: torch.threshold(x, 0, 0),
    "clamp_min by tensor": lambda x: x.clamp_min(torch.zeros(())),
    "clamp by tensor": lambda x: torch.clamp(x, min=torch.zeros(5)),
    "leaky without slope": lambda x: F.leaky_relu(x, 0.0),
    "nn.LeakyReLU without slope": nn.LeakyReLU(0),
    "leaky inplace": lambda x: F.leaky_relu_(x, 0),
    "maximum": lambda x: torch.maximum(x, torch.zeros(())),
    "maximum, zero first": lambda x: torch.maximum(torch.zeros_like(x), x),
    "torch.max": lambda x: torch.max(x, torch.zeros(5)),
    "x.max": lambda x: x.max(torch.zeros(1)),
    "fmax": lambda x: torch.fmax(x, torch.zeros(())),
    "where": lambda x: torch.where(x > 0, x, 0),
    "where, turned round": lambda x: torch.where(x <= 0, torch.zeros(()), x),
    "x.where": lambda x: x.where(x.gt(0), torch.zeros_like(x)),
    "product": lambda x: x * (x > 0),
    "product, mask first": lambda x: (x > 0) * x,
    "product, floating": lambda x: torch.mul(x, (x.detach() >= 0).float()),
    "product, turned round": lambda x: x * ~(x <= 0).to(torch.bool),
    "product inplace": lambda x: x.mul_(x > 0),
    "masked_fill": lambda x: x.masked_fill(x < 0, 0),
    "masked_fill_": lambda x: x.masked_fill_(torch.lt(x, 0), 0.0),
    "assignment": lambda x: assigned(x, x < 0, 0),
}
CEILINGS = {
    "nn.ReLU6": nn.ReLU6(),
    "nn.ReLU6 inplace": nn.ReLU6(inplace=True),
    "F.relu6": F.relu6,
    "F.hardtanh": lambda x: F.hardtanh(x, 0, 6),
    "F.hardtanh inplace": lambda x: F.hardtanh(x, 0.0, 6.0, inplace=True),
    "F.hardtanh_": lambda x: F.hardtanh_(x, 0.0, 6.0),
    "nn.Hardtanh": nn.Hardtanh(0, 6),
    "x.clamp(0, 6)": lambda x: x.clamp(0, 6),
    "x.clamp_(0, 6)": lambda x: x.clamp_(0, 6),
    "torch.clip(0, 6)": lambda x: torch.clip(x, min=0, max=6),
    "clamp by tensors": lambda x: torch.clamp(x, torch.zeros(()), torch.full((5,), 6.0)),
}
OTHERS = {
    "GELU": nn.GELU(),
    "SiLU": nn.SiLU(),
    "leaky": nn.LeakyReLU(0.1),
    "ELU": nn.ELU(),
    "hardtanh(-1, 1)": F.hardtanh,
    "clamp floor": lambda x: x.clamp(min=0.5),
    "clamp ceiling only": lambda x: x.clamp(max=0.5),
    "clamp by another tensor": lambda x: x.clamp_min(torch.ones(5)),
    "maximum with ones": lambda x: torch.maximum(x, torch.ones(())),
    "maximum of two": lambda x: torch.maximum(x, 2 * x),
    "maximum along a dimension": lambda x: x.view(1, 5).max(0).values,
    "a mask of something else": lambda x: x * (SIGNAL > 0),
    "a mask of what was": lambda x: torch.add(x, 1) * (x > 0),
    "a mask at one half": lambda x: torch.where(x > 0.5, x, 0),
    "a filling with something else": lambda x: x.masked_fill(x < 0, -1.0),
    "an assignment elsewhere": lambda x: assigned(x, SIGNAL < 0, 0),
    "leaky by where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "threshold elsewhere": lambda x: F.threshold(x, 0.2, 0.0),
    "threshold to elsewhere": lambda x: F.threshold(x, 0.0, -1.0),
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
}
#                       off   off  active active saturated
BEFORE = torch.tensor([-2.0, -0.5, 0.5, 3.0, 8.0])
SIGNAL = torch.tensor([5.0, -5.0, -7.0, 4.0, 2.0])


class Mode(Interception):
    """An interception with a rule that lets one see what it was given."""

    def __init__(self):
        super().__init__(lambda gradient, output, ceiling: gradient * 100)


def gradient(function, mode) -> torch.Tensor:
    leaf = BEFORE.clone().requires_grad_()
    with mode:
        # A product first: leaves cannot be changed in place.
        (result,) = torch.autograd.grad((function(leaf * 1) * SIGNAL).sum(), leaf)
    return result


@pytest.mark.parametrize("name", [*RECTIFIERS, *CEILINGS])
def test_every_spelling_is_one_rectifier_with_the_hand_computed_rule(name):
    function = {**RECTIFIERS, **CEILINGS}[name]
    saturates = name in CEILINGS
    guided, deconv = Interception(Guided()), Interception(Deconv())
    with torch.no_grad():
        expected = function(BEFORE.clone())
    with guided:
        assert torch.equal(function(BEFORE.clone().requires_grad_() * 1), expected)
    assert guided.hits == 1
    top = 0.0 if saturates else 2.0
    assert gradient(function, guided).tolist() == [0, 0, 0, 4, top]
    assert gradient(function, deconv).tolist() == [5, 0, 0, 4, 2]
    assert (guided.hits, deconv.hits) == (2, 1)


@pytest.mark.parametrize("name", OTHERS)
def test_other_functions_are_left_alone(name):
    mode = Mode()
    leaf = BEFORE.clone().requires_grad_()
    (expected,) = torch.autograd.grad((OTHERS[name](leaf * 1) * SIGNAL).sum(), leaf)
    assert torch.equal(gradient(OTHERS[name], mode), expected)
    assert mode.hits == 0


def test_a_call_outside_the_gradient_is_no_hit():
    mode = Mode()
    with mode:
        torch.relu(BEFORE)
        with torch.no_grad():
            torch.relu(BEFORE.clone().requires_grad_())
    assert mode.hits == 0


@pytest.mark.parametrize("function", [torch.relu_, lambda x: x.clamp_(min=0), lambda x: x.relu_()])
@pytest.mark.parametrize("view", [lambda x: x[1:4], lambda x: x.view(1, -1)[:, 1:4]])
def test_in_place_on_a_view_changes_its_base(function, view):
    leaf = BEFORE.clone().requires_grad_()
    guided = Interception(Guided())
    with guided:
        base = leaf * 1
        function(view(base))
        assert base.tolist() == [-2, 0, 0.5, 3, 8]
        (found,) = torch.autograd.grad((base * SIGNAL).sum(), leaf)
    assert guided.hits == 1
    assert found.tolist() == [5, 0, 0, 4, 2]


def test_in_place_on_a_split_is_what_autograd_refuses_too():
    with Interception(Guided()), pytest.raises(RuntimeError, match="multiple views"):
        (BEFORE.clone().requires_grad_() * 1).split(2)[0].relu_()


class Hand(nn.Module):
    """Two linear layers with a rectifier between them."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.tensor([[1.0, 2.0], [-1.0, 1.0], [3.0, -1.0]]))
        self.last = nn.Parameter(torch.tensor([[2.0, 3.0, -4.0]]))

    def forward(self, x):
        return F.relu(x.flatten(1) @ self.first.T) @ self.last.T


def test_rules_on_a_network_computed_by_hand():
    # x = (1, -1): units -1, -2, 4 -> only the third is on; signals 2, 3, -4.
    x, target = torch.tensor([1.0, -1.0]).view(1, 1, 1, 2), torch.tensor([0])
    assert Gradient()(Hand(), x, target).flatten().tolist() == [-12, 4]
    assert Rectified(Gradient(), Guided())(Hand(), x, target).flatten().tolist() == [0, 0]
    assert Rectified(Gradient(), Deconv())(Hand(), x, target).flatten().tolist() == [-1, 7]
    # x = (1, 2): units 5, 1, 1, all on.
    x = torch.tensor([1.0, 2.0]).view(1, 1, 1, 2)
    assert Gradient()(Hand(), x, target).flatten().tolist() == [-13, 11]
    assert Rectified(Gradient(), Guided())(Hand(), x, target).flatten().tolist() == [-1, 7]


@pytest.mark.parametrize("network", ["vit_b_32", "mlp"])
@pytest.mark.parametrize("name", ["guided_backprop", "deconvnet", "guided_grad_cam"])
def test_network_without_rectifiers_is_refused(name, network, gelu_nets):
    model, size = gelu_nets[network]
    parameters = {"layer": "0"} if name == "guided_grad_cam" else {}
    with pytest.raises(ValueError, match=r"called none.*plain method"):
        resolve(name, **parameters)(model, draw(1, 3, size, size), torch.tensor([0]))


@pytest.fixture(scope="module")
def gelu_nets():
    mlp = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(144, 2))
    return {"vit_b_32": (load_model("vit_b_32", "none", device="cpu"), 224), "mlp": (mlp, 8)}


@pytest.mark.parametrize(
    ("name", "size", "hits"),
    [("mobilenet_v2", 32, 35), ("googlenet", 32, 57), ("densenet121", 32, 121)],
)
def test_functional_rectifiers_of_torchvision_are_all_met(name, size, hits):
    model = load_model(name, "none", device="cpu")
    x, target = draw(1, 3, size, size), torch.tensor([0])
    plain = model.logits(x)
    mode = Interception(Guided())
    with mode:
        assert torch.equal(model(x.clone().requires_grad_()).detach(), plain)
    assert mode.hits == hits
    gradient = Gradient()(model, x, target)
    assert relative(resolve("guided_backprop")(model, x, target), gradient) > 0.1


def test_outputs_and_counts_on_inception_and_lite(inception, efficientnet):
    for model, size, hits in ((inception, 96, 94), (efficientnet, 64, 33)):
        x = draw(1, 3, size, size)
        mode = Interception(Guided())
        with mode:
            logits = model(x.clone().requires_grad_())
        assert torch.equal(logits.detach(), model.logits(x))
        assert mode.hits == hits


def test_timm_networks_are_met_too():
    model = timm.create_model("resnet10t", pretrained=False).eval()
    x, target = draw(1, 3, 64, 64), torch.tensor([1])
    rectified = resolve("guided_backprop")(model, x, target)
    assert relative(rectified, Gradient()(model, x, target)) > 0.1


def test_rule_of_the_rectifier_itself_gives_the_gradient():
    def true_derivative(gradient, output, ceiling):
        return gradient * ((output > 0) & (output < ceiling))

    x, target = draw(2, 3, 16, 16), torch.tensor([0, 1])
    model = small()
    assert torch.equal(
        Rectified(Gradient(), true_derivative)(model, x, target), Gradient()(model, x, target)
    )
