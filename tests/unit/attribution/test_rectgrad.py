"""RectGrad against the rule written down layer by layer, and what must hold for any network."""

from math import inf

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made.networks import SmallNet, draw, relative, seeded, small
from saliency_sanity import chunk_limit, load_model, resolve
from saliency_sanity._errors import NotApplicable
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.attribution.compose import Rectified, TimesInput
from saliency_sanity.attribution.rectgrad import Threshold, percentile
from saliency_sanity.attribution.rectifiers import Guided
from torch import nn


def sequential(dtype=torch.float64) -> nn.Sequential:
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 5, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5 * 16, 60),
        nn.ReLU(),
        nn.Linear(60, 4),
    )
    return seeded(net).to(dtype)


def reference_percentile(values: np.ndarray, q: float) -> float:
    """As TensorFlow Probability defines it: sorted downwards, the nearest place, half to even."""
    downwards = np.sort(values)[::-1]
    return downwards[int(np.rint((len(values) - 1) * (1.0 - q / 100.0)))]


def by_hand(net, x, target, q=None, tau=0.0, trick=False, proportional=False):
    """The published rule, one image and one layer at a time, with plain vector-Jacobian products.

    Threshold of a layer from its sorted products; the pool's shares from its windows, one by one.
    """
    found = []
    for image, label in zip(x, target, strict=True):
        inputs = [image[None]]
        for layer in net:
            inputs.append(layer(inputs[-1]).detach())
        relevance = F.one_hot(label, inputs[-1].shape[1])[None].to(x)
        for layer, before, after in list(zip(net, inputs, inputs[1:], strict=False))[::-1]:
            if isinstance(layer, nn.ReLU):
                product = (after * relevance).numpy().ravel()
                level = tau if q is None else reference_percentile(product, q)
                relevance = relevance * (after * relevance > level)
                continue
            if trick and isinstance(layer, nn.Conv2d) and layer.padding != (0, 0):
                inner = torch.zeros_like(relevance)
                inner[:, :, 1:-1, 1:-1] = relevance[:, :, 1:-1, 1:-1]
                relevance = inner
            if proportional and isinstance(layer, nn.MaxPool2d):
                shared = torch.zeros_like(before)
                for i in range(after.shape[2]):
                    for j in range(after.shape[3]):
                        at = (..., slice(2 * i, 2 * i + 2), slice(2 * j, 2 * j + 2))
                        whole = before[at].sum((2, 3), keepdim=True) + 4e-10
                        shared[at] += before[at] / whole * relevance[..., i : i + 1, j : j + 1]
                relevance = shared
                continue
            leaf = before.clone().requires_grad_()
            (relevance,) = torch.autograd.grad(layer(leaf), leaf, relevance)
        found.append(relevance)
    return torch.cat(found)


@pytest.mark.parametrize(
    ("q", "trick", "proportional"),
    [
        *((q, False, False) for q in (0, 10, 50, 80, 90.5, 98)),
        (80, True, False),
        (80, False, True),
        (50, True, True),
    ],
)
def test_equals_the_rule_written_down_layer_by_layer(q, trick, proportional):
    net, x, target = sequential(), draw(3, 3, 16, 16, dtype=torch.float64), torch.tensor([0, 3, 1])
    rule = Threshold(q, padding_trick=trick, proportional=proportional)
    found = Rectified(Gradient(), rule)(net, x, target)
    expected = by_hand(net, x, target, q, trick=trick, proportional=proportional)
    assert relative(found, expected) < 1e-10
    with chunk_limit(1):
        assert relative(Rectified(Gradient(), rule)(net, x, target), expected) < 1e-10
    whole = resolve("rectgrad", q=q, padding_trick=trick, proportional=proportional)
    assert relative(whole(net, x, target), expected * x) < 1e-10


@pytest.mark.parametrize("tau", [-0.5, 0.0, 0.5])
def test_a_constant_threshold_is_the_rule_with_that_constant(tau):
    net, x, target = sequential(), draw(2, 3, 16, 16, dtype=torch.float64), torch.tensor([0, 3])
    found = Rectified(Gradient(), Threshold(q=None, tau=tau))(net, x, target)
    assert relative(found, by_hand(net, x, target, tau=tau)) < 1e-10


@pytest.mark.parametrize("q", [0, 1, 10, 25, 50, 75, 80, 90, 95, 98, 99, 99.9])
@pytest.mark.parametrize("shape", [(3, 7), (2, 2), (2, 5, 4, 6), (1, 11), (2, 8), (2, 76), (3, 51)])
def test_percentile_is_that_of_the_reference(q, shape):
    values = draw(*shape, seed=int(q))
    for one in (
        values,
        values.round(),
        values.contiguous(memory_format=torch.channels_last)
        if len(shape) == 4
        else values.double(),
    ):
        expected = [reference_percentile(row, q) for row in one.flatten(1).numpy()]
        assert percentile(one, q).tolist() == expected


@pytest.mark.parametrize("units", [26, 76, 77, 126, 176, 276, 376, 1076, 256 * 14 * 14])
def test_ranks_halfway_are_counted_from_the_top(units):
    """At 98 there are such ranks; from the bottom up, as NumPy counts, they are others."""
    values = torch.arange(units, dtype=torch.float64)[None]
    values = values[:, torch.randperm(units, generator=torch.Generator().manual_seed(0))]
    above = units - 1 - percentile(values, 98).item()
    assert above == np.rint((units - 1) * (1 - 98 / 100))
    numpys = np.percentile(values.numpy(), 98, method="nearest")
    assert (units - 1 - numpys == above) == (units % 100 != 76)
    assert abs(units - 1 - numpys - above) <= 1


class TokensFirst(nn.Module):
    """Rectifiers within a transformer, which has the pictures first, second or folded in."""

    def __init__(self, order: str):
        super().__init__()
        first = order == "pictures"
        self.order, self.cells = order, nn.Conv2d(3, 8, 4, stride=4)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=first)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        tokens = self.cells(x).flatten(2).transpose(1, 2)  # [N, T, D]
        if self.order == "folded":
            return self.head(F.relu(tokens.flatten(0, 1)).view_as(tokens).mean(1))
        tokens = tokens if self.order == "pictures" else tokens.transpose(0, 1)
        tokens = self.layer(tokens)
        return self.head(tokens.mean(1 if self.order == "pictures" else 0))


@pytest.mark.parametrize("order", ["tokens", "folded"])
@pytest.mark.parametrize("size", [4, 8])  # 1 and 4 tokens
def test_a_layer_that_does_not_have_pictures_first_is_refused(order, size):
    net, x = seeded(TokensFirst(order)).double().eval(), draw(4, 3, size, size, dtype=torch.float64)
    target = torch.tensor([0, 3, 1, 2])
    if order == "folded" and size == 4:  # as many rows as pictures: each picture is one
        assert resolve("rectgrad", q=50)(net, x, target).any()
        return
    for name in ("rectgrad", "modified_rectgrad"):
        with pytest.raises(
            NotApplicable, match=r"TokensFirst is given . as its first.*batch_first"
        ):
            resolve(name, q=50)(net, x, target)
    # One value at a time does not hang on the company.
    for rule in (Guided(), Threshold(q=None)):
        together = Rectified(Gradient(), rule)(net, x, target)
        alone = [
            Rectified(Gradient(), rule)(net, x[i : i + 1], target[i : i + 1]) for i in range(4)
        ]
        assert relative(together, torch.cat(alone)) < 1e-9


def test_pictures_first_within_a_transformer():
    net, x = seeded(TokensFirst("pictures")).double().eval(), draw(4, 3, 8, 8, dtype=torch.float64)
    target, method = torch.tensor([0, 3, 1, 2]), resolve("rectgrad", q=80)
    alone = [method(net, x[i : i + 1], target[i : i + 1]) for i in range(4)]
    assert relative(method(net, x, target), torch.cat(alone)) < 1e-9


NETWORKS = {
    "inception_v3": 75,
    "efficientnet_lite0": 64,
    "resnet18": 64,
    "vgg11": 48,
    "cnn": 28,
    "mlp": 28,
}


@pytest.fixture(scope="module", params=NETWORKS)
def subject(request):
    model = load_model(request.param, "none", device="cpu").double()
    channels = len(model.scaling.mean)
    x = draw(2, channels, *[NETWORKS[request.param]] * 2, dtype=torch.float64)
    return model, x, model.predict(x)


def test_works_on_every_network_and_keeps_few_units(subject):
    model, x, target = subject
    kept = []

    class Watched(Threshold):
        def __call__(self, gradient, output, ceiling):
            passed = super().__call__(gradient, output, ceiling)
            kept.append((passed != 0).flatten(1).double().mean(1))
            return passed

    assert resolve("rectgrad")(model, x, target).abs().max() > 0
    Rectified(Gradient(), Watched(80))(model, x, target)
    assert len(kept) >= 3
    assert torch.stack(kept).max() <= 0.2 + 1 / 10  # layers of ten units and more


def test_threshold_zero_is_guided_backpropagation_times_input(subject):
    model, x, target = subject
    guided = TimesInput(Rectified(Gradient(), Guided()))(model, x, target)
    found = TimesInput(Rectified(Gradient(), Threshold(q=None)))(model, x, target)
    assert relative(found, guided) < 1e-12
    modified = resolve("modified_rectgrad")(model, x, target)
    assert torch.equal(resolve("rectgrad")(model, x, target), modified * x)


class Branches(nn.Module):
    """One rectifier called twice, on branches of very different size."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()
        self.head = nn.Linear(2 * 3 * 64, 2, bias=False)

    def forward(self, x):
        return self.head(torch.cat([self.relu(x), self.relu(1000 * x)], 1).flatten(1))


def test_each_call_has_a_threshold_of_its_own():
    net, x = seeded(Branches()).double(), draw(1, 3, 8, 8, dtype=torch.float64)
    weight = net.head.weight[1].detach().reshape(2, 3, 8, 8)
    expected = torch.zeros_like(x)
    for scale, part in zip((1, 1000), weight, strict=True):
        product = (scale * x[0]).relu() * part
        level = reference_percentile(product.numpy().ravel(), 90)
        expected[0] += scale * part * (product > level)
    found = resolve("modified_rectgrad", q=90)(net, x, torch.tensor([1]))
    assert relative(found, expected) < 1e-12


def test_padding_trick_clears_what_comes_from_the_ring():
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.ReLU(), nn.Flatten()).double()
    head = nn.Linear(36, 2, bias=False).double()
    with torch.no_grad():
        net[0].weight.fill_(1)
        head.weight.fill_(1)
    net.append(head)
    x, target = torch.ones(1, 1, 6, 6, dtype=torch.float64), torch.tensor([0])
    with_trick = Rectified(Gradient(), Threshold(q=None, padding_trick=True))(net, x, target)
    # Only the inner 4 x 4 units speak: a corner pixel has one of them for a neighbour.
    assert with_trick[0, 0, 0].tolist() == [1, 2, 3, 3, 2, 1]
    assert Rectified(Gradient(), Threshold(q=None))(net, x, target)[0, 0, 0, 0] == 4


def test_padding_trick_knows_tensorflows_padding():
    model = load_model("efficientnet_lite0", "none", device="cpu").double()
    x = draw(1, 3, 96, 96, dtype=torch.float64)
    maps = [
        resolve("modified_rectgrad", q=90, padding_trick=trick)(model, x, torch.tensor([3]))
        for trick in (False, True)
    ]
    # The first convolution has stride 2 and pads right and below: without the ring of its output
    # the first pixel column is out of reach.
    assert maps[0][..., 0].any()
    assert not maps[1][..., 0].any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
@pytest.mark.parametrize("q", [0, 50, 90, 98, 99.9])
def test_percentile_is_the_same_on_a_gpu(q):
    values = draw(3, 4, 40, 50).clamp_min(-0.1) + 0.1  # with many ties
    assert torch.equal(percentile(values.cuda(), q).cpu(), percentile(values, q))


def test_numbers_that_are_none_are_not_hidden():
    gradient, output = draw(2, 4, 5, 5), draw(2, 4, 5, 5, seed=1).relu()
    gradient[1, 0, 0, 0], output[1, 0, 0, 0] = torch.nan, 1
    for rule in (Threshold(None), Threshold(None, tau=0.5)):
        found = rule(gradient, output, inf)
        assert found.isnan().sum() == 1
        assert not found[0].isnan().any()


@pytest.mark.parametrize("q", [100, -1, 130.5, float("nan")])
def test_percentile_out_of_range_is_refused(q):
    with pytest.raises(ValueError, match=f"q {q} must be"):
        resolve("rectgrad", q=q)


def test_percentile_of_another_type_is_refused():
    with pytest.raises(TypeError, match="q '98' must be float, not str"):
        Threshold("98")


def test_a_layer_too_narrow_for_the_percentile_lets_nothing_through():
    # Of 12 units the 98th percentile is the largest, and nothing exceeds that.
    net = nn.Sequential(nn.Flatten(), nn.Linear(27, 12), nn.ReLU(), nn.Linear(12, 2)).double()
    x = draw(1, 3, 3, 3, dtype=torch.float64)
    assert not resolve("rectgrad")(net, x, torch.tensor([0])).any()
    assert resolve("rectgrad", q=90)(net, x, torch.tensor([0])).any()


def test_network_without_rectifiers_is_refused():
    net = nn.Sequential(nn.Flatten(), nn.Linear(27, 8), nn.Tanh(), nn.Linear(8, 2))
    with pytest.raises(NotApplicable, match="needs rectifiers, but Sequential called none"):
        resolve("rectgrad")(net, draw(1, 3, 3, 3), torch.tensor([0]))


@pytest.mark.parametrize(
    ("layers", "switch", "message"),
    [
        ([nn.MaxPool2d(2, dilation=2)], "proportional", "max pool with dilation 2"),
        ([nn.AdaptiveMaxPool2d(2)], "proportional", "the network calls"),
        ([nn.MaxPool2d(8), nn.Conv2d(3, 3, 3, padding=1)], "padding_trick", "layer of 2 x 2"),
    ],
)
def test_what_a_switch_cannot_treat_is_refused(layers, switch, message):
    net = nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    x = draw(1, 3, 16, 16)
    net(x)
    with pytest.raises(NotApplicable, match=message):
        resolve("rectgrad", **{switch: True})(net, x, torch.tensor([0]))


def test_outputs_and_model_are_as_before():
    model, x = small(kind=SmallNet), draw(2, 3, 16, 16)
    before = model(x)
    resolve("rectgrad", q=50, padding_trick=True, proportional=True)(model, x, torch.tensor([0, 1]))
    assert torch.equal(model(x), before)
