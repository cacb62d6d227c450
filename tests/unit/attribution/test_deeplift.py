"""DeepLIFT's rescale rule: sums that are exact, and what it cannot explain."""

import pytest
import torch
import torch.nn.functional as F
from made.networks import SCALING, SmallNet, draw, relative, seeded
from saliency_sanity import Classifier, resolve
from saliency_sanity._errors import NotApplicable
from saliency_sanity.attribution.base import Gradient, logits
from saliency_sanity.attribution.compose import Rectified, TimesInput
from saliency_sanity.attribution.deeplift import Multipliers
from saliency_sanity.attribution.rectifiers import Guided
from torch import nn

X = draw(3, 3, 16, 16, dtype=torch.float64)
TARGET = torch.tensor([0, 3, 1])


def made(kind, *args):
    network = seeded(kind(*args)).eval().double()
    return Classifier(network, name="made", weights="w", scaling=SCALING, size=16)


def assert_sums(model, x=X, colour=None, digits=1e-11):
    """The map sums to the logit less the baseline's."""
    flat = torch.zeros_like(x)
    if colour is not None:
        raw = torch.tensor(colour, dtype=x.dtype).view(-1, 1, 1).expand_as(x)
        flat = (
            SCALING.to_network(raw) if model.scaling is SCALING else model.scaling.to_network(raw)
        )
    rows, target = torch.arange(len(x)), TARGET[: len(x)]
    change = (logits(model, x) - logits(model, flat))[rows, target]
    found = resolve("deeplift", baseline=colour)(model, x, target)
    assert (found.sum((1, 2, 3)) - change).abs().max() < digits * found.abs().sum()
    return found


class Activated(SmallNet):
    """The small network with another function of single units."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        features = self.function(self.second(self.function(self.norm(self.first(x)))))
        return self.head(features.mean((2, 3)))


UNITS = {
    "relu": torch.relu,
    "relu_": lambda x: F.relu(x, inplace=True),
    "relu6": F.relu6,
    "clamp": lambda x: x.clamp(-0.5, 1),
    "gate": lambda x: x * (x > 0),
    "where": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "leaky": lambda x: F.leaky_relu(x, 0.2),
    "elu_": lambda x: F.elu_(x),
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "overlapping pool": lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    "pool module": nn.MaxPool2d(2),
    "adaptive pool": lambda x: F.adaptive_max_pool2d(x, 3),
    "skip": lambda x: x + x.relu(),
    "branches": lambda x: torch.cat([F.relu(x)[:, :3], F.avg_pool2d(x, 3, 1, 1)[:, 3:]], 1),
    "in place": lambda x: x.mul(2).add_(0.5).relu_().sub_(1).tanh_(),
}


@pytest.mark.parametrize("colour", [None, (0.1, 0.5, 0.9)])
@pytest.mark.parametrize("unit", UNITS)
def test_map_sums_to_the_change_of_the_logit(unit, colour):
    found = assert_sums(made(Activated, UNITS[unit]), colour=colour)
    assert found.abs().max() > 0


@pytest.mark.parametrize("name", ["small_net_double", "resnet_double", "inception_double"])
def test_map_sums_on_networks_of_the_book(name, request):
    model = request.getfixturevalue(name)
    size = 75 if "inception" in name else 32
    assert_sums(model, draw(2, 3, size, size, dtype=torch.float64), digits=1e-8)


def test_efficientnet_in_single_precision(efficientnet):
    assert_sums(efficientnet, draw(2, 3, 64, 64), digits=1e-4)


def test_multipliers_of_one_unit_are_known():
    class One(nn.Module):
        def forward(self, x):
            return torch.stack([x.relu().sum((1, 2, 3)), x.tanh().sum((1, 2, 3))], 1)

    x = torch.tensor([[[[-2.0, 3.0]], [[0.0, 0.5]]]]).repeat(2, 1, 1, 1)
    found = Multipliers()(One(), x, torch.tensor([0, 1]))
    # An input that stays hands down its slope: of torch's ReLU 0, of tanh 1.
    assert found[0].flatten().tolist() == [0, 1, 0, 1]
    assert found[1].flatten().tolist() == pytest.approx([0.48201, 0.33168, 1, 0.92423], rel=1e-4)


def test_a_maximum_hands_gain_and_loss_to_their_places():
    class Pooled(nn.Module):
        def __init__(self, start):
            super().__init__()
            self.start = start

        def forward(self, x):
            return F.max_pool2d(x + self.start, 2).flatten(1)

    # From 1, 3, 0, 2 up to 1, 3.5, 5, 2; and down to 1, 0, 0.5, 2.
    start = torch.tensor([[[[1.0, 3.0], [0.0, 2.0]]]])
    x = torch.tensor([[[[0.0, 0.5], [5.0, 0.0]]], [[[0.0, -3.0], [0.5, 0.0]]]])
    found = TimesInput(Multipliers())(Pooled(start), x, torch.tensor([0, 0]))
    assert found.flatten(1).tolist() == [[0, 0, 2, 0], [0, -1, 0, 0]]


def test_rounding_decides_nothing_in_windows_of_one_colour():
    class Pooled(nn.Module):
        def __init__(self, off):
            super().__init__()
            self.off = off

        def forward(self, x):
            return F.max_pool2d(x + 1 + self.off, 2).flatten(1)

    x = draw(2, 3, 8, 8) - 2  # below the baseline: all of it is lost
    target = torch.tensor([3, 30])
    found = [
        resolve("deeplift")(Pooled(off * torch.finfo(x.dtype).eps), x, target)
        for off in (torch.zeros(8, 8), draw(8, 8, seed=1).sign(), draw(8, 8, seed=2).sign())
    ]
    assert (found[0] != 0).flatten(1).sum(1).tolist() == [1, 1]
    assert all(relative(one, found[0]) < 1e-5 for one in found[1:])


def test_without_units_it_is_the_gradient():
    model = made(Activated, lambda x: x)
    expected = Gradient()(model, X, TARGET)
    assert relative(Multipliers()(model, X, TARGET), expected) < 1e-12


REFUSED = {
    "softmax": (lambda x: x.softmax(1), "calls 'softmax'"),
    "layer norm": (lambda x: F.layer_norm(x, x.shape[1:]), "calls 'layer_norm'"),
    "product": (lambda x: x * x.sigmoid(), "calls 'mul' with two inputs"),
    "quotient": (lambda x: 1 / (3 + x.abs()), "with a divisor|calls '.*'"),
    "statistics": (
        lambda x: F.batch_norm(x, None, None, training=True),
        "calls 'batch_norm' with the statistics",
    ),
    "largest": (lambda x: x.amax((2, 3), keepdim=True), "calls 'amax'"),
    "values": (lambda x: x * (x > 1), "calls 'mul' with values of the picture"),
    "detached": (lambda x: x * x.detach(), "calls 'mul' with values of the picture"),
}


@pytest.mark.parametrize("part", REFUSED)
def test_what_has_no_rule_is_refused_by_name(part):
    unit, said = REFUSED[part]
    with pytest.raises(NotApplicable, match=said):
        resolve("deeplift")(made(Activated, unit), X, TARGET)


def test_what_runs_out_of_sight_is_refused():
    scripted = torch.jit.script(nn.Sequential(nn.Tanh()))
    with pytest.raises(NotApplicable, match=r"out of sight|with values"):
        resolve("deeplift")(made(Activated, scripted), X, TARGET)


def test_half_precision_and_other_rules_are_refused():
    model = made(Activated, torch.relu)
    with pytest.raises(NotApplicable, match="half precision"):
        resolve("deeplift")(made(Activated, torch.relu).bfloat16(), X.bfloat16(), TARGET)
    with pytest.raises(NotApplicable, match="has its own rule and cannot take Guided"):
        Rectified(Multipliers(), Guided())(model, X, TARGET)
