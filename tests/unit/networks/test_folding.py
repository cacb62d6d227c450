"""Batch norms folded into convolutions: the same maps, an untouched network, and nothing unseen."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from made.networks import Doubled, draw, relative, small
from saliency_sanity._hashing import weights_hash
from saliency_sanity.attribution.base import Gradient, attributing, differentiable, recording
from saliency_sanity.attribution.compose import NoiseAverage, Rectified
from saliency_sanity.attribution.rectgrad import Threshold
from saliency_sanity.attribution.rectifiers import Guided
from saliency_sanity.networks import folding as module
from saliency_sanity.networks.convolution import Packed, convolution
from torch import nn
from torch.overrides import TorchFunctionMode
from torchvision.models.convnext import CNBlockConfig

models = torchvision.models
ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-3}


@pytest.fixture(autouse=True)
def every_size_pays(monkeypatch):
    monkeypatch.setattr(module, "_PLACES", 1)
    monkeypatch.setattr(module, "_NUMBERS", 1)


def with_statistics(network, dtype=torch.float64):
    """A network in evaluation mode whose norms do something."""
    with torch.no_grad():
        for number, norm in enumerate(network.modules()):
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                size, seed = norm.num_features, number
                if norm.running_mean is not None:
                    norm.running_mean.copy_(draw(size, seed=seed) / 4)
                    norm.running_var.copy_(draw(size, seed=seed + 1).abs() + 0.5)
                if norm.affine:
                    norm.weight.copy_(1 + draw(size, seed=seed + 2) / 4)
                    norm.bias.copy_(draw(size, seed=seed + 3) / 4)
    return network.to(dtype).eval()


def bare(network, x, target):
    """The gradient, by autograd alone."""
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(network(leaf).gather(1, target[:, None]).sum(), leaf)[0]


def pairs(network):
    """How many norms were folded in the last pass."""
    return sum(len(plan.kernels) for plan in module._known.get(network, {}).values())


def unfolded(method, network, x, target):
    token = module.allowed.set(False)
    try:
        return method(network, x, target)
    finally:
        module.allowed.reset(token)


NETWORKS = {
    "resnet18": (lambda: models.resnet18(num_classes=5), 20),
    "densenet121": (lambda: models.densenet121(num_classes=5), 59),
    "mobilenet_v2": (lambda: models.mobilenet_v2(num_classes=5), 52),
    "efficientnet_b0": (lambda: models.efficientnet_b0(num_classes=5), 49),
    "inception_v3": (lambda: models.inception_v3(init_weights=False, num_classes=5), 94),
    "googlenet": (lambda: models.googlenet(init_weights=False, num_classes=5), 57),
    "regnet_y_400mf": (lambda: models.regnet_y_400mf(num_classes=5), 53),
    "shufflenet_v2_x0_5": (lambda: models.shufflenet_v2_x0_5(num_classes=5), 56),
    "mnasnet0_5": (lambda: models.mnasnet0_5(num_classes=5), 52),
    "convnext": (lambda: models.ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)]), 0),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_known_networks_have_the_same_gradient(name):
    build, count = NETWORKS[name]
    torch.manual_seed(0)
    network = with_statistics(build())
    size = 80 if name == "inception_v3" else 40
    x, target = draw(2, 3, size, size, dtype=torch.float64), torch.tensor([0, 3])
    before = weights_hash(network)
    found = Gradient()(network, x, target)
    assert pairs(network) == count
    assert weights_hash(network) == before
    assert relative(found, bare(network, x, target)) < ROUNDING[torch.float64]


class Net(nn.Module):
    """A convolution and a norm, and what is between them."""

    def __init__(self, convolution=None, norm=None):
        super().__init__()
        self.first = convolution or nn.Conv2d(3, 4, 3, padding=1)
        self.norm = norm or nn.BatchNorm2d(4)
        self.head = nn.Linear(self.norm.num_features, 3)

    def features(self, x):
        return self.norm(self.first(x))

    def forward(self, x):
        return self.head(F.relu(self.features(x)).mean((2, 3)))


class Twice(Net):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))
        self.head = nn.Linear(3, 3)

    def features(self, x):
        return self.norm(self.first(torch.tanh(self.norm(self.first(x)))))


class ReadAgain(Net):
    def features(self, x):
        before = self.first(x)
        return self.norm(before) + before


class ReadFirst(Net):
    def features(self, x):
        before = self.first(x)
        before.mul_(1.5)
        return self.norm(before)


class Kept(Net):
    def features(self, x):
        self.seen = self.first(x)
        return self.norm(self.seen)


class InNumPy(Net):
    def features(self, x):
        before = self.first(x)
        scale = float(before.detach().numpy().max())
        return self.norm(before) * scale


class WrittenBetween(Net):
    def features(self, x):
        x = torch.tanh(x)
        with torch.no_grad():
            given = x.detach().clone().requires_grad_(x.requires_grad)
            before = self.first(x)
        return self.norm(self.first(x)) + 0 * before.sum() + 0 * given.sum()


@torch.jit.script
def scripted(x: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(x) * 2


class Scripted(Net):
    def features(self, x):
        return self.norm(scripted(self.first(x)))


class ScriptedToo(Net):
    def features(self, x):
        before = self.first(x)
        return self.norm(before) + scripted(before)


class Custom(Net):
    def features(self, x):
        before = self.first(x)
        return self.norm(before) + Doubled.apply(before)


class Checkpointed(Net):
    def forward(self, x):
        from torch.utils.checkpoint import checkpoint

        return self.head(F.relu(checkpoint(self.features, x, use_reentrant=False)).mean((2, 3)))


class OwnStatistics(Net):
    def features(self, x):
        return F.batch_norm(self.first(x), self.norm.running_mean + 1, self.norm.running_var)


class TiedWeights(Net):
    def features(self, x):
        return self.norm(self.first(x)) + F.conv2d(x, self.first.weight, padding=1)


class Shapes(Net):
    """What it asks of the convolution's output is its size and nothing else."""

    def features(self, x):
        before = self.first(x)
        batch, channels = before.shape[:2]
        assert before.size(2) == x.shape[2]
        assert before.dim() == 4
        return self.norm(before).view(batch, channels, *x.shape[2:])


def plain(**options):
    return lambda: Net(nn.Conv2d(**({"in_channels": 3, "out_channels": 4} | options)))


FOLDED = {
    "plain": (Net, 1),
    "without a bias": (plain(kernel_size=3, bias=False), 1),
    "grouped": (lambda: Net(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6)), 1),
    "strided, dilated": (plain(kernel_size=3, stride=2, dilation=2, padding=(2, 1)), 1),
    "reflecting": (plain(kernel_size=3, padding=1, padding_mode="reflect"), 1),
    "much padding": (plain(kernel_size=1, padding=2), 1),
    "no affine": (lambda: Net(norm=nn.BatchNorm2d(4, affine=False, eps=0.3)), 1),
    "synchronised": (lambda: Net(norm=nn.SyncBatchNorm(4)), 1),
    "shapes": (Shapes, 1),
    "padding by name": (plain(kernel_size=3, padding="same"), 0),
    "transposed": (lambda: Net(nn.ConvTranspose2d(3, 4, 3)), 0),
    "no statistics": (lambda: Net(norm=nn.BatchNorm2d(4, track_running_stats=False)), 0),
    "parametrized": (lambda: Net(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))), 0),
    "instance norm": (lambda: Net(norm=nn.InstanceNorm2d(4, affine=True)), 0),
    "called twice": (Twice, 0),
    "weights tied": (TiedWeights, 0),
    "read again": (ReadAgain, 0),
    "written to": (ReadFirst, 0),
    "kept": (Kept, 0),
    "read by NumPy": (InNumPy, 0),
    "written between": (WrittenBetween, 0),
    "scripted between": (Scripted, 0),
    "scripted beside": (ScriptedToo, 0),
    "a function beside": (Custom, 0),
    "checkpointed": (Checkpointed, 0),
    "own statistics": (OwnStatistics, 0),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", FOLDED)
def test_what_can_be_folded_is_and_nothing_else(name, dtype):
    build, count = FOLDED[name]
    torch.manual_seed(0)
    network = with_statistics(build(), dtype)
    x, target = draw(2, 3, 11, 12, dtype=dtype), torch.tensor([0, 2])
    found = Gradient()(network, x, target)
    assert pairs(network) == count
    expected = bare(network, x, target)
    alone = [bare(network, *one) for one in zip(x.split(1), target.split(1), strict=True)]
    if name in ("no statistics", "read by NumPy"):  # pictures hang on each other: one by one
        expected = torch.cat(alone)
    assert relative(found, expected) < ROUNDING[dtype] / 10
    assert torch.equal(Gradient()(network, x, target), found)


RULES = {
    "guided": (Guided(), 1),
    "RectGrad": (Threshold(90), 1),
    "padding trick": (Threshold(90, padding_trick=True), 0),
}


@pytest.mark.parametrize("name", RULES)
def test_backward_rules_give_the_same_maps(name):
    rule, count = RULES[name]
    network, x, target = with_statistics(Net()), draw(3, 3, 8, 9).double(), torch.tensor([0, 2, 1])
    for method in (Rectified(Gradient(), rule), NoiseAverage(Rectified(Gradient(), rule), 3)):
        found = method(network, x, target)
        assert pairs(network) == count
        assert relative(found, unfolded(method, network, x, target)) < ROUNDING[torch.float64]


def hooked(network):
    network.norm.register_forward_hook(lambda *_: None)


def hooked_outside(network):
    network.register_forward_pre_hook(lambda *_: None)


@pytest.mark.parametrize("look", [hooked, hooked_outside])
def test_whoever_looks_on_sees_the_network_as_it_is(look):
    network, x, target = with_statistics(Net()), draw(2, 3, 8, 8).double(), torch.tensor([0, 1])
    Gradient()(network, x, target)
    look(network)
    seen = []
    network.first.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    Gradient()(network, x, target)
    assert not seen[-1].is_meta


def test_modes_of_others_see_the_calls():
    class Mode(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            calls.append(func)
            return func(*args, **(kwargs or {}))

    calls = []
    network, x, target = with_statistics(Net()), draw(2, 3, 8, 8).double(), torch.tensor([0, 1])
    Gradient()(network, x, target)
    with Mode():
        Gradient()(network, x, target)
    assert F.batch_norm in calls


def test_an_exception_leaves_everything_as_it_was():
    class Fails(Net):
        broken = False

        def features(self, x):
            found = super().features(x)
            if self.broken:
                raise KeyError("broken")
            return found

    network, x, target = with_statistics(Fails()), draw(2, 3, 8, 8).double(), torch.tensor([0, 1])
    found = Gradient()(network, x, target)
    state = {key: (id(t), t._version) for key, t in network.state_dict(keep_vars=True).items()}
    own = {m: dict(vars(m)) for m in network.modules()}
    Fails.broken = True
    with pytest.raises(KeyError, match="broken"):
        Gradient()(network, x, target)
    Fails.broken = False
    after = {key: (id(t), t._version) for key, t in network.state_dict(keep_vars=True).items()}
    assert after == state
    assert all(vars(m).keys() == old.keys() for m, old in own.items())
    assert torch.equal(Gradient()(network, x, target), found)
    assert pairs(network) == 1


def write(network):
    with torch.no_grad():
        network.first.weight.mul_(1.5)


def write_unseen(network):
    network.first.weight.data[0, 0, 0, 0] += 1e-3


def train_on(network):
    network.train()
    with torch.no_grad():
        network(3 + draw(4, 3, 8, 8))
    network.eval()


def replace(network):
    network.first.weight = nn.Parameter(network.first.weight.detach() + 1)


def freeze(network):
    network.norm.eps = 0.5


@pytest.mark.parametrize("change", [write, write_unseen, train_on, replace, freeze])
def test_weights_that_changed_are_folded_anew(change):
    network, x, target = (
        with_statistics(Net(), torch.float32),
        draw(2, 3, 8, 8),
        torch.tensor([0, 1]),
    )
    before = Gradient()(network, x, target)
    change(network)
    found = Gradient()(network, x, target)
    assert not torch.equal(before, found)
    assert relative(found, bare(network, x, target)) < 1e-5


def test_only_what_changed_is_folded_anew(monkeypatch):
    made = []
    monkeypatch.setattr(module, "convolution", lambda *a: made.append(a) or convolution(*a))
    network, x, target = with_statistics(models.resnet18(num_classes=5)), None, torch.tensor([0])
    x = draw(1, 3, 32, 32, dtype=torch.float64)
    for method in (Gradient(), NoiseAverage(Gradient(), samples=2)):
        method(network, x, target)
    assert len(made) == 20
    network.layer2[0].bn1.running_mean.data.add_(1)
    Gradient()(network, x, target)
    assert len(made) == 21


def test_another_way_through_the_network_is_run_as_it_is_written():
    class Ways(Net):
        other = False

        def features(self, x):
            before = self.first(x)
            return self.norm(before) + (before if self.other else 0)

    network, x, target = with_statistics(Ways()), draw(2, 3, 8, 8).double(), torch.tensor([0, 1])
    Gradient()(network, x, target)
    assert pairs(network) == 1
    Ways.other = True
    found = Gradient()(network, x, target)
    assert relative(found, bare(network, x, target)) < ROUNDING[torch.float64]
    assert pairs(network) == 0


def test_parameters_with_gradients_are_left_alone():
    network, x = with_statistics(Net()), draw(2, 3, 8, 8).double()
    logits = module.folding(network, x, lambda: network(x))
    assert network.first.weight in {n for n in network.parameters() if n.requires_grad}
    (slope,) = torch.autograd.grad(logits.sum(), network.first.weight)
    assert slope.any()


def test_little_is_not_folded(monkeypatch):
    monkeypatch.setattr(module, "_NUMBERS", 2**20)
    network, x, target = with_statistics(Net()), draw(1, 3, 8, 8).double(), torch.tensor([0])
    Gradient()(network, x, target)
    assert pairs(network) == 0


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("size", "padding"), [((3, 3), (1, 1)), ((1, 1), (0, 0)), ((1, 5), (0, 3))]
)
def test_packed_weights_convolve_as_others(size, padding, channels_last):
    weight, bias, x = draw(6, 5, *size), draw(6, seed=1), draw(3, 5, 9, 10, seed=2)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    options = ((1, 1), padding, (1, 1), 1)
    made = convolution(weight, bias, options, x.shape[1:])
    assert isinstance(made, Packed) == torch.backends.mkldnn.is_available()
    leaf, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, expected = made(leaf), torch.conv2d(other, weight, bias, *options)
    assert found.stride() == expected.stride()
    assert relative(found, expected) < 1e-5
    slope = draw(*found.shape, seed=3)
    for gradient in (slope, slope[:1].expand_as(slope)):
        (ours,) = torch.autograd.grad(found, leaf, gradient, retain_graph=True)
        (theirs,) = torch.autograd.grad(expected, other, gradient, retain_graph=True)
        assert relative(ours, theirs) < 1e-5
    # Nor do the last bits hang on what the weights were packed for.
    assert torch.equal(convolution(weight, bias, options, (5, 9, 10))(x), found)


def test_a_pass_that_is_kept_outlives_new_weights():
    network, x, target = small(dtype=torch.float32), draw(2, 3, 12, 12), torch.tensor([0, 1])
    with attributing(network, x, target), recording():
        leaf, logits, _ = differentiable(network, x)
        before = torch.autograd.grad(logits.sum(), leaf, retain_graph=True)[0]
    write(network.network)
    Gradient()(network, x, target)
    assert torch.equal(torch.autograd.grad(logits.sum(), leaf)[0], before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0"])
def test_a_gpu_gives_the_same_maps(name):
    build, count = NETWORKS[name]
    network = with_statistics(build()).cuda()
    x, target = draw(2, 3, 40, 40, dtype=torch.float64).cuda(), torch.tensor([0, 3]).cuda()
    found = Gradient()(network, x, target)
    assert pairs(network) == count
    assert relative(found, bare(network, x, target)) < ROUNDING[torch.float64]
    network.conv1.weight.data.mul_(2) if name == "resnet18" else None
    again = Gradient()(network, x, target)
    assert relative(again, bare(network, x, target)) < ROUNDING[torch.float64]
