"""Relevance, against rules written out, gradient ⊙ input, Captum, and what must be refused."""

import copy
import threading

import captum.attr
import pytest
import torch
import torch.nn.functional as F
from captum.attr._utils.lrp_rules import EpsilonRule
from made.networks import (
    SCALING,
    Doubled,
    ModularNet,
    calibrate,
    draw,
    random_classifier,
    relative,
    seeded,
    small,
)
from saliency_sanity import Classifier, chunk_limit
from saliency_sanity._errors import NotApplicable
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.attribution.compose import (
    NoiseAverage,
    PathAverage,
    Rectified,
    TimesInput,
)
from saliency_sanity.attribution.lrp import INPUT_RULES, RULES, Lrp
from saliency_sanity.attribution.per_label import explaining
from saliency_sanity.attribution.rectifiers import Guided
from saliency_sanity.networks.framed import FramedConv2d
from saliency_sanity.subjects.small_networks import build_untrained
from torch import Tensor, nn

DOUBLE = torch.float64
TARGET = torch.tensor([1, 2])


def logits_of(model: nn.Module, x: Tensor, target: Tensor = TARGET) -> Tensor:
    with torch.no_grad():
        return model(x).gather(1, target[:, None])[:, 0]


def classifier(network: nn.Module, size: int) -> Classifier:
    return Classifier(network, name="net", weights="random", scaling=SCALING, size=size)


def pictures() -> Tensor:
    return SCALING.to_network(draw(2, 3, 2, 2, dtype=DOUBLE).sigmoid())


def layered(bias: bool = True) -> nn.Module:
    """3 x 2 x 2 pixels, 9 hidden units, 5 more, 4 logits."""
    layers = (nn.Linear(12, 9, bias), nn.ReLU(), nn.Linear(9, 5, bias), nn.ReLU(inplace=True))
    return seeded(nn.Sequential(nn.Flatten(), *layers, nn.Linear(5, 4, bias))).eval().double()


def convolutional(bias: bool = True) -> nn.Module:
    first, second = nn.Conv2d(3, 6, 3, bias=bias), nn.Conv2d(6, 8, 3, padding=1, bias=bias)
    layers = (first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), nn.AvgPool2d(2))
    return seeded(nn.Sequential(*layers, nn.Flatten(), nn.Linear(72, 4, bias))).eval().double()


# The rules written out: contributions [N, inputs, outputs], shares of each, relevance handed down.


def shares(rule: str, weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """Of inputs ``x`` ``[N, i]`` in outputs, ``[N, i, o]``, by weights ``[i, o]``."""
    z = x[:, :, None] * weight
    total = z.sum(1, keepdim=True) + bias
    if rule in ("epsilon", "z"):
        return z / (total + 1e-6 * torch.where(total >= 0, 1, -1))
    high, low = z.clamp_min(0), z.clamp_max(0)
    sums = [high.sum(1, keepdim=True) + bias.clamp_min(0) + 1e-9]
    sums += [low.sum(1, keepdim=True) + bias.clamp_max(0)]
    # A unit to which nothing contributed with a sign has no shares of that sign to give.
    sums[1] = torch.where(sums[1] < 0, sums[1] - 1e-9, 1e-9)
    if rule == "zplus":
        return high / sums[0]
    if rule == "alpha_beta":
        return 2 * high / sums[0] - low / sums[1]
    if rule == "gamma":
        up = (z + 0.25 * high) / (total + 0.25 * (sums[0] - 1e-9) + 1e-9)
        down = (z + 0.25 * low) / (total + 0.25 * (sums[1] + 1e-9) - 1e-9)
        return torch.where(total > 0, up, down)
    if rule == "wsquare":
        z = (weight**2).expand_as(z)
    elif rule == "flat":
        z = torch.ones_like(z)
    else:
        pixels = torch.zeros(3, 2, 2, dtype=x.dtype)
        low, high = (SCALING.to_network(pixels + raw).flatten()[:, None] for raw in (0, 1))
        z = z - low * weight.clamp_min(0) - high * weight.clamp_max(0)
    return z / z.sum(1, keepdim=True)


def written_out(network: nn.Sequential, x: Tensor, rule: str, input_rule: str) -> Tensor:
    inputs, layers, found = [], [], x
    for module in network:
        if isinstance(module, nn.Linear):
            layers.append(module)
            inputs.append(found)
        found = module(found).detach()
    relevance = torch.zeros_like(found).scatter(1, TARGET[:, None], 1) * found
    for depth in reversed(range(len(layers))):
        here = input_rule if depth == 0 and input_rule != "same" else rule
        weight, bias = layers[depth].weight.T.detach(), layers[depth].bias.detach()
        relevance = (shares(here, weight, bias, inputs[depth]) * relevance[:, None]).sum(2)
    return relevance.view_as(x)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("input_rule", INPUT_RULES)
def test_rules_against_their_formulae(rule, input_rule):
    network, x = layered(), pictures()
    found = Lrp(rule, input_rule)(classifier(network, 2), x, TARGET)
    assert relative(found, written_out(network, x, rule, input_rule)) < 1e-6


def test_input_rules_differ_from_each_other():
    x = pictures()
    model = classifier(layered(), 2)
    maps = [Lrp("zplus", rule)(model, x, TARGET) for rule in INPUT_RULES]
    for i, one in enumerate(maps):
        assert all(relative(one, other) > 0.01 for other in maps[:i])


@pytest.mark.parametrize("convolution", [False, True])
def test_first_layer_of_any_kind_gets_the_input_rule(convolution):
    """A convolution over the whole picture is a linear layer."""
    x = pictures()
    network = layered()
    first = network[1]
    if convolution:
        whole = nn.Conv2d(3, 9, 2).double()
        whole.weight.data, whole.bias.data = first.weight.data.view(9, 3, 2, 2), first.bias.data
        network = nn.Sequential(whole, nn.Flatten(), *network[2:])
    for rule in INPUT_RULES:
        found = Lrp("epsilon", rule)(classifier(network, 2), x, TARGET)
        assert relative(found, written_out(layered(), x, "epsilon", rule)) < 1e-6


# Gradient ⊙ input


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("build", [layered, convolutional])
def test_epsilon_towards_zero_is_gradient_times_input(build, bias):
    """With biases too: what they take of the relevance is what is lost of the sum."""
    network, size = build(bias), 2 if build is layered else 14
    x = draw(2, 3, size, size, dtype=DOUBLE)
    expected = TimesInput(Gradient())(network, x, TARGET)
    differences = [
        relative(Lrp(epsilon=eps)(network, x, TARGET), expected) for eps in (1e-2, 1e-5, 1e-10)
    ]
    assert differences[2] < 1e-7
    assert differences[0] > 100 * differences[1] > 100 * differences[2]
    total = expected.sum((1, 2, 3))
    assert (relative(total, logits_of(network, x)) < 1e-9) == (not bias)


@pytest.mark.parametrize("name", ["cnn", "mlp", "resnet_double", "vgg"])
def test_epsilon_is_gradient_times_input_on_the_networks_of_the_book(name, request):
    if name in ("cnn", "mlp"):
        model, x = build_untrained(name, 0).double(), draw(2, 1, 28, 28, dtype=DOUBLE)
    else:
        model = request.getfixturevalue(name)
        x = draw(2, 3, 64, 64, dtype=next(model.parameters()).dtype)
    single = x.dtype == torch.float32
    expected = TimesInput(Gradient())(model, x, TARGET)
    found = Lrp(epsilon=1e-9 if single else 1e-12)(model, x, TARGET)
    assert relative(found, expected) < (1e-4 if single else 1e-6)
    assert relative(Lrp("zplus")(model, x, TARGET), expected) > 0.01


# Sums


@pytest.mark.parametrize("rule", ["epsilon", "zplus"])
@pytest.mark.parametrize("input_rule", INPUT_RULES)
def test_relevance_is_conserved_without_biases(rule, input_rule):
    network, x = convolutional(bias=False), draw(2, 3, 14, 14, dtype=DOUBLE)
    found = Lrp(rule, input_rule, epsilon=1e-10)(classifier(network, 14), x, TARGET)
    assert relative(found.sum((1, 2, 3)), logits_of(network, x)) < 1e-6


@pytest.mark.parametrize("input_rule", ["wsquare", "flat", "zbox"])
def test_these_input_rules_leave_nothing_to_the_bias(input_rule):
    network, x = layered(bias=False), draw(2, 3, 2, 2, dtype=DOUBLE)
    network[1] = seeded(nn.Linear(12, 9), seed=3).double()
    found = Lrp("zplus", input_rule)(classifier(network, 2), x, TARGET)
    assert relative(found.sum((1, 2, 3)), logits_of(network, x)) < 1e-6
    same = Lrp("zplus")(classifier(network, 2), x, TARGET)
    assert relative(same.sum((1, 2, 3)), logits_of(network, x)) > 0.01


def test_alpha_one_is_zplus():
    network, x = convolutional(), draw(2, 3, 14, 14, dtype=DOUBLE)
    zplus = Lrp("zplus")(network, x, TARGET)
    assert relative(Lrp("alpha_beta", alpha=1.0)(network, x, TARGET), zplus) < 1e-12
    assert relative(Lrp("alpha_beta", alpha=3.0)(network, x, TARGET), zplus) > 0.1


def test_zplus_has_the_sign_of_the_logit():
    network, x = convolutional(), draw(8, 3, 14, 14, dtype=DOUBLE)
    target = torch.arange(8) % 4
    logits = logits_of(network, x, target)
    assert logits.min() < 0 < logits.max()
    found = Lrp("zplus")(network, x, target)
    assert (found * logits.sign().view(-1, 1, 1, 1)).min() >= 0


def test_relevance_where_the_input_is_zero():
    """Rules that share by contribution are blind there; those that share by weights are not."""
    model, x = classifier(convolutional(), 14), draw(2, 3, 14, 14, dtype=DOUBLE)
    x[:, :, 4:9, 4:9] = 0
    for rule in RULES:
        for input_rule in ("same", "z"):
            assert not Lrp(rule, input_rule)(model, x, TARGET)[:, :, 4:9, 4:9].any()
        for input_rule in ("zbox", "wsquare", "flat"):
            found = Lrp(rule, input_rule)(model, x, TARGET)
            assert found[:, :, 4:9, 4:9].abs().mean() > 0.05 * found.abs().mean()


def test_flat_shares_equally_among_the_pixels_a_unit_sees():
    model, x = classifier(layered(), 2), draw(2, 3, 2, 2, dtype=DOUBLE)
    found = Lrp("epsilon", "flat")(model, x, TARGET)
    assert relative(found, found.mean((1, 2, 3), keepdim=True).expand_as(found)) < 1e-12


def test_an_average_shares_by_contribution():
    """Two pixels, averaged: relevance 3 to 1, where the gradient would say 1 to 1."""
    network = nn.Sequential(
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 1, False)
    )
    network[3].weight.data.fill_(10)
    found = Lrp()(network, torch.tensor([3.0, 1.0]).view(1, 1, 1, 2), torch.tensor([0]))
    assert found.flatten().tolist() == pytest.approx([15, 5], rel=1e-4)


class Flattening(nn.Module):
    """``convolutional`` with a reshape by function: Captum has no rule for flattening modules."""

    def __init__(self):
        super().__init__()
        self.features, self.head = convolutional()[:-2], convolutional()[-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1))


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require:UserWarning")
@pytest.mark.parametrize("epsilon", [1e-6, 0.5])
def test_epsilon_against_captum(epsilon):
    oracle, x = Flattening(), draw(2, 3, 14, 14, dtype=DOUBLE)
    for module in (*oracle.features, oracle.head):
        if not isinstance(module, nn.ReLU):
            # Captum has the rule for maxima too; here all goes to the largest, which is no epsilon.
            module.rule = EpsilonRule(1e-13 if isinstance(module, nn.MaxPool2d) else epsilon)
    expected = captum.attr.LRP(oracle).attribute(x, target=TARGET).detach()
    assert relative(Lrp(epsilon=epsilon)(Flattening(), x, TARGET), expected) < 1e-9


# What is left of it


def traces(model: nn.Module) -> dict:
    return {
        name: (
            type(module),
            "forward" in vars(module),
            {key: id(p) for key, p in module._parameters.items()},
            {key: len(value) for key, value in vars(module).items() if key.endswith("_hooks")},
        )
        for name, module in model.named_modules()
    }


class FaultError(Exception):
    pass


@pytest.mark.parametrize("where", ["layer1.0.conv2", "fc"])
@pytest.mark.parametrize("forwards", [0, 1])
def test_network_comes_back_after_an_exception(where, forwards, resnet):
    model = copy.deepcopy(resnet)
    calls = iter(range(forwards))

    def fail(module, inputs):
        if next(calls, None) is None:
            raise FaultError

    model.network.get_submodule(where).register_forward_pre_hook(fail)
    kept, before = copy.deepcopy(model.state_dict()), traces(model)
    with pytest.raises(FaultError):
        Lrp()(model, draw(2, 3, 64, 64), TARGET)
    assert traces(model) == before
    assert all(torch.equal(kept[key], value) for key, value in model.state_dict().items())


def test_network_comes_back_after_an_exception_in_the_block(resnet):
    kept, before = copy.deepcopy(resnet.state_dict()), traces(resnet)

    def explain_what_is_not_there() -> None:
        with Lrp().explaining(resnet, draw(2, 3, 64, 64)) as maps:
            assert traces(resnet) == before
            maps(torch.tensor([0, 1000]))

    with pytest.raises(ValueError, match="target 1000 is out of range"):
        explain_what_is_not_there()
    assert traces(resnet) == before
    assert all(torch.equal(kept[key], value) for key, value in resnet.state_dict().items())
    assert all(parameter.requires_grad for parameter in resnet.parameters())


# Many labels from one pass


@pytest.mark.parametrize("rule", RULES)
def test_each_label_of_one_pass_is_what_a_pass_of_its_own_gives(rule):
    model, x = small(kind=ModularNet), draw(2, 3, 16, 16)
    rounds = [torch.tensor([a, b]) for a in range(5) for b in (3, 0)]
    with Lrp(rule).explaining(model, x) as maps:
        found = [maps(labels) for labels in rounds]
        again = [maps(labels) for labels in reversed(rounds)]
    for labels, one, other in zip(rounds, found, reversed(again), strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, Lrp(rule)(model, x, labels))
        assert not one.requires_grad
    assert relative(found[0], found[2]) > 0.01


def passes(model: nn.Module) -> list[int]:
    seen = []
    model.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    return seen


def test_labels_share_the_forward_pass():
    x = draw(3, 3, 14, 14, dtype=DOUBLE)
    model = convolutional()
    seen = passes(model)
    with explaining(Lrp(), model, x) as maps:
        for label in range(4):
            maps(torch.full((3,), label))
    assert seen == [3]
    seen.clear()
    with chunk_limit(2), explaining(Lrp(), model, x) as maps:
        chunked = maps(torch.tensor([0, 1, 2]))
    assert max(seen) == 2
    assert relative(chunked, Lrp()(model, x, torch.tensor([0, 1, 2]))) < 1e-12


@pytest.mark.parametrize("kind", [PathAverage, NoiseAverage])
def test_passes_that_are_open_at_once_do_not_meet(kind, resnet_double):
    method = kind(Lrp(), 3)
    x, labels = draw(2, 3, 48, 48, dtype=DOUBLE), torch.tensor([5, 7])
    before = traces(resnet_double)
    with chunk_limit(2):
        expected = method(resnet_double, x, labels)
        with explaining(method, resnet_double, x) as maps:
            maps(TARGET)
            assert relative(maps(labels), expected) < 1e-9
    assert traces(resnet_double) == before


class Twice(nn.Module):
    """One layer and one rectifier that are called twice."""

    def __init__(self, tied: bool):
        super().__init__()
        self.layer, self.relu, self.head = nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 4)
        self.other = self.layer if tied else nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.other(self.relu(self.layer(x.flatten(1))))))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("input_rule", ["same", "flat"])
def test_a_layer_that_is_called_twice(rule, input_rule):
    tied, untied, x = seeded(Twice(True)), seeded(Twice(False)), draw(2, 3, 2, 2)
    untied.other.load_state_dict(tied.layer.state_dict())
    method = Lrp(rule, input_rule)
    assert relative(method(tied, x, TARGET), method(untied, x, TARGET)) < 1e-6
    assert relative(method(tied, x, TARGET), method(seeded(Twice(False)), x, TARGET)) > 0.01


# Networks that call functions


class Joined(nn.Module):
    """Concatenation, addition, a gate, averages and a batch norm, all but layers by functions."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second, self.third = nn.Conv2d(4, 4, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.gate, self.head = nn.Linear(8, 8), nn.Linear(8, 4)

    def steps(self, x: Tensor) -> dict[str, Tensor]:
        h = F.relu(self.norm(self.first(x)))
        parts = self.second(h), F.avg_pool2d(h, 3, 1, 1)
        both = F.relu6(torch.cat(parts, 1))
        gate = torch.sigmoid(self.gate(both.mean((2, 3))))[:, :, None, None]
        gated = both * gate
        side = self.third(gated)
        last = F.relu(side + gated)
        mean = last.mean((2, 3))
        return {
            **{"h": h, "second": parts[0], "both": both, "gate": gate, "gated": gated},
            **{"side": side, "last": last, "mean": mean, "logits": self.head(mean)},
        }

    def forward(self, x: Tensor) -> Tensor:
        return self.steps(x)["logits"]


def handed(rule: str, call, x: Tensor, relevance: Tensor) -> Tensor:
    """Relevance of the inputs ``x`` of an affine map, by its matrix."""
    zeros = torch.zeros_like(x[:1])
    bias = call(zeros).flatten().detach()
    eye = torch.eye(zeros.numel(), dtype=x.dtype).view(-1, *zeros.shape[1:])
    matrix = call(eye).detach().flatten(1) - bias
    split = shares(rule, matrix, bias, x.detach().flatten(1))
    return (split * relevance.flatten(1)[:, None]).sum(2).view_as(x)


def reference(network: Joined, x: Tensor, rule: str) -> Tensor:
    """Layer by layer, each with its matrix."""
    at = {name: value.detach() for name, value in network.steps(x).items()}
    logits = at["logits"]
    relevance = torch.zeros_like(logits).scatter(1, TARGET[:, None], 1) * logits
    relevance = handed(rule, network.head, at["mean"], relevance)
    relevance = handed("epsilon", lambda v: v.mean((2, 3)), at["last"], relevance)
    total = at["side"] + at["gated"]
    relevance = relevance / (total + 1e-6 * torch.where(total >= 0, 1, -1))
    skipped = at["gated"] * relevance
    relevance = handed(rule, network.third, at["gated"], at["side"] * relevance) + skipped
    left, right = relevance.split(4, 1)
    left = handed(rule, network.second, at["h"], left)
    right = handed("epsilon", lambda v: F.avg_pool2d(v, 3, 1, 1), at["h"], right)
    return handed(rule, lambda v: network.norm(network.first(v)), x, left + right)


@pytest.mark.parametrize("rule", RULES)
def test_functions_against_a_reference_layer_by_layer(rule):
    network = calibrate(seeded(Joined()), 6).eval().double()
    with torch.no_grad():
        network.second.bias += 6  # some units are saturated
    x = draw(2, 3, 6, 6, dtype=DOUBLE)
    assert (network.steps(x)["both"] == 6).any()
    expected = reference(network, x, rule)
    assert relative(Lrp(rule)(network, x, TARGET), expected) < 1e-12


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("input_rule", INPUT_RULES)
def test_nothing_is_lost_without_an_account(rule, input_rule):
    model = classifier(calibrate(seeded(Joined()), 6).eval().double(), 6)
    x, method = draw(2, 3, 6, 6, dtype=DOUBLE), Lrp(rule, input_rule, epsilon=0.01)
    kept = method.absorbed(model, x, TARGET)
    assert {"'first' (Conv2d) conv2d", "'norm' (BatchNorm2d) batch_norm"} <= kept.keys()
    total = method(model, x, TARGET).sum((1, 2, 3)) + sum(kept.values())
    assert relative(total, logits_of(model, x)) < 1e-9
    assert kept["relu6"].abs().max() < 1e-12 < kept["'head' (Linear) linear"].abs().min()


class Layered(nn.Module):
    """A batch norm with no layer before it, as DenseNets have, and a linear layer by functions."""

    def __init__(self):
        super().__init__()
        self.norm, self.head = nn.BatchNorm2d(3), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.where(self.norm(x) > 0, self.norm(x), 0.0)
        return x.mean((2, 3)) @ self.head.weight.T + self.head.bias


class Swish(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.head((x * x.sigmoid()).mean((2, 3)))


def test_a_gate_by_itself_is_the_activation_that_it_spells():
    spelled, network, x = seeded(Swish()).double(), Swish(), draw(2, 3, 6, 6, dtype=DOUBLE)
    network = nn.Sequential(*spelled.children())
    network = nn.Sequential(
        network[0], nn.SiLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), network[1]
    )
    for rule in RULES:
        assert relative(Lrp(rule)(spelled, x, TARGET), Lrp(rule)(network, x, TARGET)) < 1e-9


def test_a_layer_may_be_written_out():
    network, x = calibrate(seeded(Layered()), 6).eval().double(), draw(2, 3, 6, 6, dtype=DOUBLE)
    modules = nn.Sequential(
        network.norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), network.head
    )
    for rule in RULES:
        assert relative(Lrp(rule)(network, x, TARGET), Lrp(rule)(modules, x, TARGET)) < 1e-9


@pytest.mark.parametrize("name", ["densenet121", "googlenet", "inception_v3"])
def test_epsilon_is_gradient_times_input_on_networks_of_functions(name):
    size = 75 if name == "inception_v3" else 48
    model = random_classifier(name, size).double()
    x, label = draw(1, 3, size, size, dtype=DOUBLE), torch.tensor([1])
    expected = TimesInput(Gradient())(model, x, label)
    assert relative(Lrp(epsilon=1e-14)(model, x, label), expected) < 1e-6


class Centred(nn.Module):
    """A batch norm before a layer, which runs in groups, and one before a dense layer."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 6, 3, padding=1, groups=2)
        self.late, self.head = nn.BatchNorm1d(6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.norm(torch.relu(self.first(x))))
        return self.head(self.late(torch.relu(x).mean((2, 3))))


class Overwriting(Centred):
    """What a convolution gives is used twice, and written on in place at every step."""

    def forward(self, x: Tensor) -> Tensor:
        z = self.first(x)
        y = self.norm(z)
        y += z
        y = F.relu_(y)
        w = y * 2
        w[:, :2] = y[:, 2:]
        w.add_(y)
        w.view(len(w), 4, -1).mul_(0.5)
        w = F.leaky_relu_(w, 0.1)
        return self.head(self.late(self.second(w - 0.1).amax((2, 3))))


class Beside(Centred):
    """The same, written out of place."""

    def forward(self, x: Tensor) -> Tensor:
        z = self.first(x)
        y = torch.relu(self.norm(z) + z)
        w = torch.cat([y[:, 2:], (y * 2)[:, 2:]], 1) + y
        w = F.leaky_relu(w, 0.1) * 0.5
        return self.head(self.late(self.second(w - 0.1).amax((2, 3))))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("input_rule", ["same", "flat"])
def test_what_is_written_in_place_is_as_what_is_not(rule, input_rule):
    kinds = Overwriting, Beside
    network, twin = (calibrate(seeded(kind()), 6).eval().double() for kind in kinds)
    x, method = draw(2, 3, 6, 6, dtype=DOUBLE), Lrp(rule, input_rule, epsilon=1e-3)
    found = method(network, x, TARGET)
    assert relative(found, method(twin, x, TARGET)) < 1e-9
    total = found.sum((1, 2, 3)) + sum(method.absorbed(network, x, TARGET).values())
    assert relative(total, logits_of(network, x)) < 1e-9


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v3_small", "regnet_y_400mf"])
def test_nothing_is_lost_on_networks_with_gates_and_ceilings(name):
    model, label = random_classifier(name, 48).double(), torch.tensor([1])
    x, method = draw(1, 3, 48, 48, dtype=DOUBLE), Lrp("zplus", "zbox")
    total = method(model, x, label).sum((1, 2, 3)) + sum(method.absorbed(model, x, label).values())
    assert relative(total, logits_of(model, x, label)) < 1e-6


class Attending(nn.Module):
    """A block of a vision transformer, its attention by the given call."""

    def __init__(self, needs_weights: bool = False):
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 8, 3, 3), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.later, self.wide, self.narrow = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.head, self.needs_weights = nn.Linear(8, 4), needs_weights

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=self.needs_weights)[0]
        x = x + self.narrow(F.gelu(self.wide(self.later(x))))
        return self.head(x[:, 0])


def attended(network: Attending, x: Tensor) -> Tensor:
    """Rules of AttnLRP in their own form, relevance handed down, for a picture each."""

    def stable(z: Tensor) -> Tensor:
        return z + 1e-6 * torch.where(z >= 0, 1, -1)

    def dense(layer: nn.Linear, x: Tensor, relevance: Tensor) -> Tensor:
        return x * ((relevance / stable(F.linear(x, layer.weight, layer.bias))) @ layer.weight)

    def normed(layer: nn.LayerNorm, x: Tensor, relevance: Tensor) -> Tensor:
        spread = (x.var(-1, unbiased=False, keepdim=True) + layer.eps).sqrt()
        shares = relevance / stable(layer(x)) * layer.weight / spread
        return x * (shares - shares.mean(-1, keepdim=True))

    def product(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
        shares = relevance / stable(a @ b) / 2
        return a * (shares @ b.transpose(-2, -1)), b * (a.transpose(-2, -1) @ shares)

    with torch.no_grad():
        x0 = network.patches(x).flatten(2).transpose(1, 2)
        y = network.norm(x0)
        qkv = F.linear(y, network.attention.in_proj_weight, network.attention.in_proj_bias)
        q, k, v = (part.unflatten(2, (2, 4)).transpose(1, 2) for part in qkv.split(8, 2))
        scores = q / 2 @ k.transpose(2, 3)
        weights = scores.softmax(-1)
        heads = (weights @ v).transpose(1, 2).flatten(2)
        out = network.attention.out_proj(heads)
        x1 = x0 + out
        z = network.later(x1)
        wide = network.wide(z)
        deep = network.narrow(F.gelu(wide))
        x2 = x1 + deep
        logits = network.head(x2[:, 0])
        relevance = torch.zeros_like(logits).scatter(1, TARGET[:, None], 1) * logits
        last = torch.zeros_like(x2)
        last[:, 0] = dense(network.head, x2[:, 0], relevance)
        last = last / stable(x2)
        inner = dense(network.narrow, F.gelu(wide), deep * last)
        relevance = normed(network.later, x1, dense(network.wide, z, inner)) + x1 * last
        relevance = relevance / stable(x1)
        inner = dense(network.attention.out_proj, heads, out * relevance)
        inner = inner.unflatten(2, (2, 4)).transpose(1, 2)
        of_weights, of_v = product(weights, v, inner)
        of_scores = scores * (of_weights - weights * of_weights.sum(-1, keepdim=True))
        of_q, of_k = product(q / 2, k.transpose(2, 3), of_scores)
        parts = (of_q, of_k.transpose(2, 3), of_v)
        of_qkv = torch.cat([part.transpose(1, 2).flatten(2) for part in parts], 2)
        linear = nn.Linear(8, 24)
        linear.weight, linear.bias = (
            network.attention.in_proj_weight,
            network.attention.in_proj_bias,
        )
        relevance = normed(network.norm, x0, dense(linear, y, of_qkv)) + x0 * relevance
        relevance = relevance.transpose(1, 2).view_as(network.patches(x))
        shares = relevance / stable(network.patches(x))
        return x * F.conv_transpose2d(shares, network.patches.weight, stride=3)


@pytest.mark.parametrize("needs_weights", [False, True])
def test_attention_against_rules_written_out(needs_weights):
    network = seeded(Attending(needs_weights)).eval().double()
    x = draw(2, 3, 9, 9, dtype=DOUBLE)
    assert relative(Lrp()(network, x, TARGET), attended(network, x)) < 1e-9


@pytest.mark.parametrize("rule", RULES)
def test_nothing_is_lost_in_attention(rule):
    network, x = seeded(Attending()).eval().double(), draw(2, 3, 9, 9, dtype=DOUBLE)
    method = Lrp(rule, epsilon=1e-3)
    kept = method.absorbed(network, x, TARGET)
    total = method(network, x, TARGET).sum((1, 2, 3)) + sum(kept.values())
    assert relative(total, logits_of(network, x)) < 1e-9


# What is refused


class Apt(nn.Module):
    """What a function makes of hidden units, before the last layer."""

    def __init__(self, function):
        super().__init__()
        self.first, self.head, self.function = nn.Linear(12, 12), nn.Linear(12, 4), function

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(torch.relu(self.first(x.flatten(1)))))


def dense(*between: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 12), nn.ReLU(), *between, nn.Linear(12, 4))


REFUSED = {
    "exp": (torch.exp, "calls 'exp'"),
    "power": (lambda x: x**2, "calls 'pow'"),
    "softplus": (F.softplus, "calls 'softplus'"),
    "log_softmax": (lambda x: x.log_softmax(1), "calls 'log_softmax'"),
    "divisor": (lambda x: x / (1 + x.sum(1, keepdim=True)), "a divisor that depends on the input"),
    "bounds": (lambda x: x.clamp(0.5, 1), "calls 'clamp' with bounds that exclude 0"),
    "gate": (lambda x: x + x.sigmoid(), "a gate gives is no factor where it calls 'add'"),
    "weights": (lambda x: F.linear(x, x.T @ x), "with weights that depend on the input"),
    "batch": (
        lambda x: F.batch_norm(x.view(-1, 2, 6), None, None, training=True).flatten(1),
        "statistics of its batch",
    ),
    "noise": (lambda x: F.dropout(x), "calls 'dropout' in training"),
    "operator": (torch.ops.aten.relu, "calls 'relu'"),
    "checkpoint": (
        lambda x: torch.utils.checkpoint.checkpoint(torch.relu, x, use_reentrant=True),
        "'CheckpointFunctionBackward' in its graph was made out of sight",
    ),
}


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("rule", ["epsilon", "zplus"])
def test_refused_with_function_and_place(name, rule):
    function, message = REFUSED[name]
    network = seeded(nn.Sequential(Apt(function))).eval()
    kept, before = copy.deepcopy(network.state_dict()), traces(network)
    with pytest.raises(NotApplicable, match=message) as error:
        Lrp(rule)(network, draw(2, 3, 2, 2), TARGET)
    assert name == "checkpoint" or "in layer '0' (Apt)" in str(error.value)
    assert traces(network) == before
    assert all(torch.equal(kept[key], value) for key, value in network.state_dict().items())


def test_functional_parts_that_only_move_values_are_not_refused():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = convolutional()

        def forward(self, x):
            conv, relu, _, second, _, average, _, head = self.layers
            x = F.max_pool2d(relu(conv(x)), 2)
            x = torch.cat([part.contiguous() for part in x.chunk(2, dim=1)], dim=1)
            x = F.dropout(average(relu(second(x))), 0.5, training=self.training)
            return head(x[:, :, :, :].reshape(len(x), -1))

    x = draw(2, 3, 14, 14, dtype=DOUBLE)
    for rule in RULES:
        found = Lrp(rule)(Functional(), x, TARGET)
        assert relative(found, Lrp(rule)(convolutional(), x, TARGET)) < 1e-12


def test_what_another_hook_does_to_a_layers_output_is_seen():
    network, x = convolutional(), draw(2, 3, 14, 14, dtype=DOUBLE)
    network[3].register_forward_hook(lambda _module, _inputs, output: output * 2)
    expected = TimesInput(Gradient())(network, x, TARGET)
    assert relative(Lrp(epsilon=1e-12)(network, x, TARGET), expected) < 1e-9


class Apart(nn.Module):
    """A part that runs out of sight of whoever looks at the calls."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Scripted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(2 * x) + 0.1


def in_a_thread(x: Tensor) -> Tensor:
    found = []
    thread = threading.Thread(target=lambda: found.append(2 * x))
    thread.start()
    thread.join()
    return found[0]


def hooked(module: nn.Module) -> nn.Module:
    module.register_forward_hook(lambda _module, _inputs, output: Doubled.apply(output))
    return module


UNSEEN = {
    "scripted": (lambda: torch.jit.script(Scripted()), "Backward.' in its graph|Graph"),
    "traced": (lambda: torch.jit.trace(nn.Tanh(), torch.ones(2, 12)), "TanhBackward0' in its"),
    "own function": (lambda: Apart(Doubled.apply), "DoubledBackward' in its graph"),
    "another thread": (lambda: Apart(in_a_thread), "MulBackward0' in its graph"),
    "hook": (lambda: hooked(nn.ReLU()), "DoubledBackward' in its graph"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", UNSEEN)
def test_what_no_call_shows_is_found_in_the_graph(name):
    build, message = UNSEEN[name]
    network, x = seeded(dense(build(), nn.Linear(12, 12))).eval(), draw(2, 3, 2, 2)
    before = traces(network)
    for _ in range(3):
        with pytest.raises(NotApplicable, match=message):
            Lrp()(network, x, TARGET)
    assert traces(network) == before


def test_hooks_that_only_look_are_no_reason_to_refuse():
    network, x = convolutional(), draw(2, 3, 14, 14, dtype=DOUBLE)
    expected = Lrp()(network, x, TARGET)
    network[1].register_full_backward_hook(lambda *_: None)
    network[3].register_forward_hook(lambda *_: None)
    assert torch.equal(Lrp()(network, x, TARGET), expected)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("input_rule", ["same", "flat", "zbox"])
def test_parameters_are_the_same_objects_afterwards(rule, input_rule):
    """An optimizer and a tied layer would hold on to the old ones."""
    model, x = small(kind=ModularNet), draw(2, 3, 16, 16)
    kept, before = copy.deepcopy(model.state_dict()), traces(model)
    Lrp(rule, input_rule)(model, x, TARGET)
    with Lrp(rule, input_rule).explaining(model, x) as maps:
        maps(TARGET)
    assert traces(model) == before
    assert model.state_dict().keys() == kept.keys()
    assert all(torch.equal(kept[key], value) for key, value in model.state_dict().items())


def test_input_rules_where_they_cannot_be():
    x = draw(2, 3, 2, 2, dtype=DOUBLE)
    with pytest.raises(NotApplicable, match=r"has no scaling: wrap .*Classifier"):
        Lrp(input_rule="zbox")(layered(), x, TARGET)
    turned = seeded(nn.Sequential(nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(3, 4))).double()
    for rule in ("zbox", "flat"):  # what has only been moved is a pixel still
        found = Lrp(input_rule=rule)(classifier(turned, 2), x, TARGET)
        assert (found != 0).sum((2, 3)).amax() == 1
        assert relative(found.sum((1, 2, 3)), logits_of(turned, x)) < 1e-6

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.relu, self.head = nn.Linear(12, 5), nn.ReLU(), nn.Linear(17, 4)

        def forward(self, x):
            x = x.flatten(1)
            return self.head(torch.cat([self.relu(self.first(x)), x], 1))

    both = seeded(Both()).double()
    with pytest.raises(NotApplicable, match="sees pixels and hidden units at once"):
        Lrp(input_rule="flat")(both, x, TARGET)
    expected = TimesInput(Gradient())(both, x, TARGET)
    assert relative(Lrp(epsilon=1e-12)(both, x, TARGET), expected) < 1e-9


def test_another_rule_at_rectifiers_is_refused():
    with pytest.raises(NotApplicable, match=r"cannot take Guided\(\)"):
        Rectified(Lrp(), Guided())(convolutional(), draw(2, 3, 14, 14, dtype=DOUBLE), TARGET)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rule": "eps"}, "unknown LRP rule 'eps'. Nearest: epsilon"),
        ({"input_rule": "zbx"}, "unknown LRP input rule 'zbx'. Nearest: zbox"),
        ({"epsilon": 0}, "epsilon 0 must be above 0"),
        ({"epsilon": float("nan")}, "epsilon nan must be above 0"),
        ({"alpha": 0.5}, "alpha 0.5 must be at least 1"),
        ({"gamma": -1}, "gamma -1 must be at least 0"),
        ({"dense": "zbox"}, "unknown LRP rule of dense layers 'zbox'"),
    ],
)
def test_wrong_parameters_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Lrp(**given)


def test_a_layer_with_a_frame_is_explained_at_every_size_and_for_every_label():
    torch.manual_seed(0)
    layer = FramedConv2d(nn.Conv2d(3, 4, 3), (1, 1), torch.full((3, 1, 1), 0.5)).requires_grad_(
        False
    )
    tail = [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
    network = nn.Sequential(layer, *tail).double().eval()
    labels = torch.tensor([0, 1])
    for size in (8, 12, 8):
        x = draw(2, 3, size, size, dtype=torch.float64)
        with Lrp().explaining(network, x) as maps:
            found = [maps(labels), maps(labels.flip(0)), maps(labels)]
        assert torch.equal(found[0], found[2])
        # What the frame adds hangs on the size of the pictures, not on who else there is.
        for one, wanted in zip(found, (labels, labels.flip(0), labels), strict=True):
            alone = [Lrp()(network, x[i : i + 1], wanted[i : i + 1]) for i in range(2)]
            assert relative(one, torch.cat(alone)) < 1e-9


@pytest.mark.parametrize("rule", RULES)
def test_a_batch_norm_before_a_layer_is_a_part_of_it(rule):
    network = calibrate(seeded(Centred()), 6).eval().double()
    network.late.running_mean += 0.1
    x = draw(2, 3, 6, 6, dtype=DOUBLE)
    hidden = torch.relu(network.first(x)).detach()
    y = network.second(network.norm(hidden)).detach()
    mean = torch.relu(y).mean((2, 3))
    logits = network(x).detach()
    relevance = torch.zeros_like(logits).scatter(1, TARGET[:, None], 1) * logits
    relevance = handed(rule, lambda v: network.head(network.late(v)), mean, relevance)
    relevance = handed("epsilon", lambda v: v.mean((2, 3)), torch.relu(y), relevance)
    relevance = handed(rule, lambda v: network.second(network.norm(v)), hidden, relevance)
    expected = handed(rule, network.first, x, relevance)
    assert relative(Lrp(rule)(network, x, TARGET), expected) < 1e-9
    kept = Lrp(rule).absorbed(network, x, TARGET)
    total = expected.sum((1, 2, 3)) + sum(kept.values())
    assert relative(total, logits_of(network, x)) < 1e-9
