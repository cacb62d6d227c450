"""What no call shows is found in the graph: there, a rule for rectifiers is refused."""

import threading

import pytest
import torch
import torch.nn.functional as F
from made.networks import draw, relative, seeded
from saliency_sanity import resolve
from saliency_sanity._errors import NotApplicable
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.attribution.compose import Rectified
from saliency_sanity.attribution.rectgrad import Threshold
from saliency_sanity.attribution.rectifiers import Deconv, Guided
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

DOUBLE = torch.float64
TARGET = torch.tensor([1, 2])
aten = torch.ops.aten


class Around(nn.Module):
    """A part between two rectifiers that are modules; it is given ``[N, 6, 6, 6]``.

    Layers before and after it mix units, so that another rule in it shows.
    """

    def __init__(self, part):
        super().__init__()
        self.conv, self.relu, self.last = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.ReLU()
        self.mix = nn.Conv2d(6, 6, 1)
        self.second, self.head = nn.Conv2d(6, 4, 3), nn.Linear(64, 4)
        self.part = part if isinstance(part, nn.Module) else Part(part)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.second(self.part(self.mix(self.relu(self.conv(x))))))
        return self.head(x.flatten(1))


class Part(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def around(part) -> nn.Module:
    return seeded(Around(part)).double().eval()


class OwnReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp_min(0)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (ctx.saved_tensors[0] > 0)


class OwnLeaky(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, slope):
        ctx.save_for_backward(x)
        ctx.slope = slope
        return torch.where(x > 0, x, slope * x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return torch.where(x > 0, gradient, ctx.slope * gradient), None


class Fused(torch.autograd.Function):
    """A sum and a rectifier in one."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x + y)
        return (x + y).clamp_min(0)

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient * (ctx.saved_tensors[0] > 0)
        return gradient, gradient


class OwnSwish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * x.sigmoid() * (1 + x * (1 - x.sigmoid()))


def scripted(function):
    return torch.jit.script(function)


def script_relu(x: Tensor) -> Tensor:
    return torch.relu(2 * x) + 0.1


def script_gelu(x: Tensor) -> Tensor:
    return torch.nn.functional.gelu(2 * x) + 0.1


def script_convolution(x: Tensor, weight: Tensor) -> Tensor:
    return torch.conv2d(x, weight, padding=1)


def script_pool(x: Tensor, weight: Tensor) -> Tensor:
    return torch.max_pool2d(x, [3, 3], [1, 1], [1, 1])


def elsewhere(x: Tensor) -> Tensor:
    """A rectifier that another thread calls, as DataParallel does."""
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.relu(x)))
    thread.start()
    thread.join()
    return found[0]


class Recurrent(nn.Module):
    def __init__(self, nonlinearity: str):
        super().__init__()
        self.rnn = nn.RNN(36, 36, nonlinearity=nonlinearity, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x.flatten(2))[0].view_as(x)


class Long(Recurrent):
    """Its first state is all zeros."""

    def __init__(self):
        super().__init__("tanh")
        self.rnn = nn.LSTM(36, 36, 2, batch_first=True)


class Scriptable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(2 * x) + torch.relu(x)


UNSEEN = {
    "scripted module": (lambda: scripted(Scriptable()), "before layer 'second'"),
    "scripted function": (lambda: scripted(script_relu), "in layer 'part', Part"),
    "scripted, perhaps without any": (lambda: scripted(script_gelu), "DifferentiableGraphBackward"),
    "traced": (lambda: torch.jit.trace(nn.ReLU(), torch.ones(2, 6, 6, 6).double()), "before layer"),
    "aten.relu": (lambda: aten.relu, "ReluBackward0.*'part', Part"),
    "aten.relu.default": (lambda: aten.relu.default, "ReluBackward0"),
    "aten.clamp": (lambda: lambda x: aten.clamp(x, 0, 6), "ClampBackward1"),
    "aten.hardtanh": (lambda: lambda x: aten.hardtanh(x, 0, 6), "HardtanhBackward0"),
    "aten.where": (lambda: lambda x: aten.where(x > 0, x, 0 * x.detach()), "WhereBackward0"),
    "aten.mul": (lambda: lambda x: aten.mul(x, x > 0), "MulBackward0"),
    "aten.threshold": (lambda: lambda x: aten.threshold(x, 0, 0), "ThresholdBackward0"),
    "a ceiling for each channel": (
        lambda: lambda x: torch.clamp(x, torch.zeros(()), 1 + torch.arange(6.0)[:, None, None]),
        "ClampBackward0",
    ),
    "recurrent": (lambda: Recurrent("relu"), "ReluBackward0.*'part.rnn', RNN"),
    "PReLU without slope": (
        lambda: lambda x: F.prelu(x, torch.zeros(1).to(x)),
        "PreluKernelBackward0",
    ),
    "RReLU without slope": (lambda: nn.RReLU(0, 0), "RreluWithNoiseBackward0"),
    "ELU without slope": (lambda: nn.ELU(0.0), "EluBackward0"),
    "minimum": (lambda: lambda x: -torch.minimum(-x, torch.zeros(()).to(x)), "MinimumBackward0"),
    "clamp from above": (lambda: lambda x: -(-x).clamp(max=0), "ClampBackward1"),
    "the other half": (lambda: lambda x: x - x * (x < 0), "MulBackward0"),
    "addcmul": (lambda: lambda x: torch.addcmul(0 * x, x, (x > 0).to(x)), "AddcmulBackward0"),
    "lerp": (lambda: lambda x: torch.lerp(0 * x, x, (x > 0).to(x)), "LerpBackward1"),
    "masked_scatter": (
        lambda: lambda x: torch.zeros_like(x).masked_scatter(x > 0, x[x > 0]),
        "MaskedScatterBackward0",
    ),
    "own function": (lambda: OwnReLU.apply, "OwnReLUBackward"),
    "own function with a number": (lambda: lambda x: OwnLeaky.apply(x, 0.0), "OwnLeakyBackward"),
    "own function of two": (lambda: lambda x: Fused.apply(x, 2 * x), "FusedBackward"),
    "another thread": (lambda: elsewhere, "ReluBackward0"),
}
RULES = {"guided": Guided(), "deconv": Deconv(), "rectgrad": Threshold(80)}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", UNSEEN)
def test_a_rectifier_that_no_call_shows_is_refused_by_name(name):
    build, message = UNSEEN[name]
    network, x = around(build()), draw(2, 3, 8, 8, dtype=DOUBLE)
    expected, state = Gradient()(network, x, TARGET), torch.get_rng_state()
    for rule in RULES.values():
        for _ in range(2):
            with pytest.raises(NotApplicable, match=f"rectifiers of Around: .*{message}.*nn.ReLU"):
                Rectified(Gradient(), rule)(network, x, TARGET)
    assert torch.equal(torch.get_rng_state(), state)
    # What has no rule for rectifiers goes on.
    assert relative(Gradient()(network, x, TARGET), expected) < 1e-12


class Hooked(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 1)
        self.conv.register_full_backward_hook(lambda *_: None)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Gated(nn.Module):
    """Squeeze and excitation, whose gates are not of 0 and 1; and a mask that is."""

    def __init__(self):
        super().__init__()
        self.squeeze = nn.Linear(6, 6)
        self.register_buffer("mask", (torch.arange(6) % 2 == 0).view(6, 1, 1).expand(6, 6, 6))

    def forward(self, x: Tensor) -> Tensor:
        gates = self.squeeze(x.mean((2, 3))).sigmoid()
        return x * gates[:, :, None, None] * self.mask[None]


class Attending(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2)
        scores = tokens @ tokens.transpose(1, 2)
        hidden = torch.ones(6, 6).triu(1).bool()
        one = torch.where(hidden, torch.tensor(-1e9).to(x), scores).softmax(-1)
        other = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        return ((one + other) @ tokens).view_as(x)


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(lambda x: F.relu(self.conv(x)), x, use_reentrant=False)


HARMLESS = {
    "own swish": lambda: OwnSwish.apply,
    "own leaky": lambda: lambda x: OwnLeaky.apply(x, 0.2),
    "leaky by a choice": lambda: lambda x: torch.where(x > 0, x, 0.2 * x),
    "backward hook": Hooked,
    "gates": Gated,
    "attention": Attending,
    "tanh": lambda: Recurrent("tanh"),
    "LSTM": Long,
    "lerp": lambda: lambda x: torch.lerp(x, 2 * x, 0.3 * torch.ones_like(x)),
    "addcmul": lambda: lambda x: torch.addcmul(x, x, 0.3 * torch.ones_like(x)),
    "leaky": lambda: nn.LeakyReLU(0.1),
    "PReLU": nn.PReLU,
    "clamp elsewhere": lambda: lambda x: x.clamp(-0.5, 2),
    "threshold elsewhere": lambda: lambda x: F.threshold(x, 0.0, -1.0),
    "a mask of something else": lambda: lambda x: x * (torch.arange(6) > 2).view(6, 1),
}


def by_hand(network: Around, x: Tensor, part=lambda gradient, part, x: vjp(part, x, gradient)):
    """Guided backpropagation layer by layer, without an interception."""
    first = network.conv(x).detach()
    before = network.mix(first.relu()).detach()
    second = network.second(network.part(before)).detach()
    gradient = vjp(network.head, second.relu().flatten(1), F.one_hot(TARGET, 4).to(x))
    gradient = gradient.view_as(second) * (second > 0)
    gradient = vjp(network.second, network.part(before).detach(), gradient.clamp_min(0))
    gradient = vjp(network.mix, first.relu(), part(gradient, network.part, before))
    return vjp(network.conv, x, gradient.clamp_min(0) * (first > 0))


def vjp(layer, x: Tensor, gradient: Tensor) -> Tensor:
    leaf = x.detach().clone().requires_grad_()
    return torch.autograd.grad(layer(leaf), leaf, gradient)[0]


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_no_rectifier_is_no_reason_to_refuse(name):
    network, x = around(HARMLESS[name]()), draw(2, 3, 8, 8, dtype=DOUBLE)
    found = Rectified(Gradient(), Guided())(network, x, TARGET)
    assert relative(found, by_hand(network, x)) < 1e-12
    resolve("rectgrad", q=80)(network, x, TARGET)


# Rectifiers of 2 x that are seen, though not where they are written down.
WRAPPED = {
    "checkpoint": lambda x: checkpoint(lambda x: F.relu(2 * x), x, use_reentrant=False),
    "compiled": torch.compile(lambda x: F.relu(2 * x), backend="eager"),
    "compiled ahead of time": torch.compile(lambda x: F.relu(2 * x), backend="aot_eager"),
}


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("called", [False, True])
def test_what_is_wrapped_is_met_too(name, called):
    network, x = around(WRAPPED[name]), draw(2, 3, 8, 8, dtype=DOUBLE)
    if called:
        Gradient()(network, x, TARGET)
    found = Rectified(Gradient(), Guided())(network, x, TARGET)

    def guided(gradient: Tensor, _part, before: Tensor) -> Tensor:
        return 2 * gradient.clamp_min(0) * (before > 0)

    assert relative(found, by_hand(network, x, guided)) < 1e-12
    assert relative(found, by_hand(network, x)) > 0.1


class Router(nn.Module):
    """Pictures above the mean of 0 take one way, those below another."""

    def forward(self, x: Tensor) -> Tensor:
        above = (x.mean((1, 2, 3)) > 0).view(-1, 1, 1, 1)
        if above.all():
            return F.relu(x)
        ways = [F.relu if one else aten.relu for one in above]
        return torch.cat([way(one) for way, one in zip(ways, x[:, None], strict=True)])


def test_a_way_that_only_a_later_picture_takes():
    network, x = around(Router()), draw(8, 3, 8, 8, dtype=DOUBLE)
    hidden = network.mix(network.conv(x).relu()).mean((1, 2, 3)).detach()
    x = x[hidden.argsort(descending=True)]
    network.mix.register_forward_hook(lambda *given: given[2] - hidden.median())
    assert Rectified(Gradient(), Guided())(network, x[:2], TARGET).any()
    with pytest.raises(NotApplicable, match=r"ReluBackward0.*nn.ReLU"):
        Rectified(Gradient(), Guided())(network, x[[0, -1]], TARGET)


class TwoStages(nn.Module):
    """Two convolutions that pad and a pool; the second half is given as it is."""

    def __init__(self, second):
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 16, 4)
        self.relu, self.pool = nn.ReLU(), nn.MaxPool2d(2)
        self.weight, self.second = nn.Parameter(torch.zeros(4, 4, 3, 3)), second

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.pool(self.relu(self.first(x))), self.weight).flatten(1))


SECOND = {
    "convolution": lambda x, weight: F.conv2d(x, weight, padding=1),
    "scripted convolution": script_convolution,
    "aten.conv2d": lambda x, weight: aten.conv2d(x, weight, None, [1, 1], [1, 1]),
    "pool": lambda x, weight: F.max_pool2d(x, 3, 1, 1),
    "aten.max_pool2d": lambda x, weight: aten.max_pool2d(x, [3, 3], [1, 1], [1, 1]),
    "scripted pool": script_pool,
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("switch", ["padding_trick", "proportional"])
@pytest.mark.parametrize("name", SECOND)
def test_calls_that_rectgrads_switches_are_about_are_not_overlooked(name, switch):
    second = scripted(SECOND[name]) if name.startswith("scripted") else SECOND[name]
    network, x = seeded(TwoStages(second)).double(), draw(2, 3, 8, 8, dtype=DOUBLE)
    resolve("rectgrad", q=50)(network, x, TARGET)
    method = resolve("rectgrad", q=50, **{switch: True})
    about = "conv" if switch == "padding_trick" else "pool"
    if about in name and name not in ("convolution", "pool"):
        with pytest.raises(NotApplicable, match=r"Conv|MaxPool|max_pool"):
            method(network, x, TARGET)
    else:
        assert method(network, x, TARGET).any()
