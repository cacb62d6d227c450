"""How networks are run: each in its own manner, by plain passes of copies of the pictures.

Oracles are plain loops: one contiguous picture at a time, without chunks or scopes.
"""

import warnings
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from made.networks import ModularNet, draw, relative, seeded
from saliency_sanity import CATALOGUE, Classifier, Scaling, resolve
from saliency_sanity._errors import NotApplicable
from saliency_sanity.attribution.base import Gradient, logits
from saliency_sanity.attribution.per_label import explaining
from saliency_sanity.contract.clauses import ELSEWHERE
from saliency_sanity.contract.trial import check_method, require_method
from saliency_sanity.experiments.comparison import explain
from saliency_sanity.networks.forward import fitted, held, logits_in, manner
from saliency_sanity.probes.deletion import removal_curve, removal_order
from saliency_sanity.randomization.blocks import find_blocks
from saliency_sanity.verdict.reading import read
from torch import nn

DOUBLE = torch.float64
X = draw(4, 3, 16, 16, dtype=DOUBLE)
TARGET = torch.tensor([1, 2, 3, 4])
FEW = {"samples": 3, "steps": 4, "top": 3, "masks": 5, "window": 0.5, "stride": 0.5}
METHODS = {
    name: resolve(name, **{key: value for key, value in FEW.items() if key in card.defaults})
    for name, card in CATALOGUE.items()
    if "attention" not in card.needs
}
CONTROLS = {"sobel", "canny", "input", "noise", "input_x_noise"}
# Every call has to have a rule of theirs.
RULED = {"deeplift", "lrp_epsilon", "competitive_lrp", "lrp_zplus", "lrp_alpha_beta"}
SQUARES = {"vargrad", "smoothgrad_squared"}


def made(kind: type[nn.Module], dtype: torch.dtype = DOUBLE) -> Classifier:
    network = seeded(kind()).eval().to(dtype)
    scaling = Scaling((0.5,) * 3, (0.25,) * 3)
    return Classifier(
        network, name="made", weights="w", scaling=scaling, size=16, cam_layer="second"
    )


def plain_logits(network, x):
    with torch.no_grad():
        return torch.cat([logits_in(network(x[i : i + 1].clone()), 1) for i in range(len(x))])


def plain_gradient(network, x, target):
    found = []
    for one, wanted in zip(x, target, strict=True):
        leaf = one[None].clone(memory_format=torch.contiguous_format).requires_grad_()
        score = logits_in(network(leaf.clone()), 1)[0, wanted]
        found.append(torch.autograd.grad(score, leaf)[0])
    return torch.cat(found)


def assert_right(kind: type[nn.Module]) -> None:
    model = made(kind)
    for network in (model, model.network):
        assert relative(logits(network, X), plain_logits(model.network, X)) < 1e-12
        assert (
            relative(Gradient()(network, X, TARGET), plain_gradient(model.network, X, TARGET))
            < 1e-12
        )


class Features(ModularNet):
    def features(self, x):
        return self.late(self.second(self.relu(self.norm(self.first(x)))))

    def top(self, features):
        return self.head(self.pool(features).flatten(1))

    def forward(self, x):
        return self.top(self.features(x))


# In place on the input.


class Scales(Features):
    def forward(self, x):
        return super().forward(x.sub_(0.5).div_(0.25))


class Rectifies(Features):
    def forward(self, x):
        return super().forward(F.relu(x, inplace=True))


class Writes(Features):
    def forward(self, x):
        x[:, :, :2] = 0
        return super().forward(x)


@pytest.mark.parametrize("kind", [Scales, Rectifies, Writes])
def test_a_network_may_work_in_place_on_its_input(kind):
    assert_right(kind)
    model, before = made(kind), X.clone()
    for network in (model, model.network):
        network.cam_layer = "second"
        expected = {name: method(made(Features), X, TARGET) for name, method in METHODS.items()}
        for name, method in METHODS.items():
            try:
                found = method(network, X, TARGET)
            except NotApplicable:
                assert name in RULED
                continue
            assert torch.equal(X, before), name
            if name in CONTROLS - {"noise", "input_x_noise"} and network is model:
                assert torch.equal(found, expected[name])

        def own(model, x, target):
            leaf = x.clone().requires_grad_()
            score = model(leaf * 1).gather(1, target[:, None]).sum()
            return torch.autograd.grad(score, leaf)[0] + 0 * model(x).sum()

        assert "input" not in {
            violation.key for violation in check_method("own", own, network, X, TARGET)
        }
        explain({"own": own}, network, X, TARGET)
        assert torch.equal(X, before)
    assert torch.equal(model.predict(X), plain_logits(model.network, X).argmax(1))
    find_blocks(model, X)
    order = removal_order(METHODS["gradient"](model, X, TARGET))
    removal_curve(model, X, TARGET, order, [0, 0.5])
    assert torch.equal(X, before)


# Memory layouts.


class Viewed(Features):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8 * 64, 5)

    def top(self, features):
        return self.head(features.view(len(features), -1))


class Strided(Viewed):
    def top(self, features):
        return self.head(torch.as_strided(features, (len(features), 512), (512, 1)))


class Volume(Features):
    def __init__(self):
        super().__init__()
        self.third = nn.Conv3d(3, 3, (1, 3, 3), padding=(0, 1, 1))

    def forward(self, x):
        return super().forward(self.third(x[:, :, None])[:, :, 0])


class _Viewing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.view(-1).view(gradient.shape)


class ViewedBackwards(Features):
    def features(self, x):
        return super().features(_Viewing.apply(x))


@pytest.mark.parametrize("kind", [Viewed, Strided, Volume, ViewedBackwards])
def test_the_memory_layout_is_left_where_it_does_not_work(kind):
    assert_right(kind)
    for network in (made(kind), made(kind).network):
        network.cam_layer = "second"
        for name, method in METHODS.items():
            if name in RULED and kind in (Strided, ViewedBackwards):
                continue
            found = method(network, X, TARGET)
            alone = torch.cat([method(network, X[i : i + 1], TARGET[i : i + 1]) for i in (0, 1)])
            assert name == "noise" or relative(found[:2], alone) < 1e-9, name
        assert find_blocks(network, X)[0].name == "first" or kind is Volume
    weight = network.first.weight
    assert weight.is_contiguous()
    with explaining(Gradient(), made(kind), X) as maps:
        assert relative(maps(TARGET), plain_gradient(made(kind).network, X, TARGET)) < 1e-12


def test_ordinary_networks_get_the_fast_layout_and_keep_their_weights_in_theirs():
    model = made(Features)
    assert manner(model, X).layout is torch.channels_last
    assert model.network.first.weight.is_contiguous()
    assert not made(Features).network.first.weight.is_contiguous(memory_format=torch.channels_last)


# Company.


class NoStatistics(Features):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(6, track_running_stats=False)


class Centred(Features):
    def forward(self, x):
        return super().forward(x - x.mean(0, keepdim=True) / 2)


class Attends(Features):
    def top(self, features):
        rows = self.pool(features).flatten(1)
        return self.head((rows @ rows.T).softmax(1) @ rows)


class Exits(Features):
    """Leaves early where all pictures agree."""

    def top(self, features):
        logits = super().top(features)
        return logits if (logits.argmax(1) == logits[0].argmax()).all() else 3 - logits


class Counts(Features):
    """What Python reads of the pictures."""

    def forward(self, x):
        return super().forward(x) * int((x.mean((1, 2, 3)) > 0).sum())


class Chooses(Features):
    """A gate by all pictures, of which Python reads nothing."""

    def forward(self, x):
        return super().forward(torch.where(x.mean() > 2, x, -x))


@pytest.mark.parametrize("kind", [Exits, Counts, Chooses])
def test_what_may_hang_on_company_is_known_from_one_picture(kind):
    assert_right(kind)
    assert manner(made(kind), X).alone


def test_what_reads_its_own_weights_only_goes_in_batches():
    class Tempered(Features):
        def forward(self, x):
            return super().forward(x) / self.norm.eps ** float(self.norm.weight.mean() > 2)

    assert_right(Tempered)
    assert not manner(made(Tempered), X).alone


@pytest.mark.parametrize("kind", [NoStatistics, Centred, Attends])
def test_what_hangs_on_company_is_computed_picture_by_picture(kind):
    assert_right(kind)
    model = made(kind)
    network = model.network
    assert relative(network(X).detach(), plain_logits(network, X)) > 0.01
    assert manner(network, X).alone
    for name, method in METHODS.items():
        try:
            found = method(model, X, TARGET)
        except NotApplicable:
            assert name in RULED
            continue
        alone = torch.cat([method(model, X[i : i + 1], TARGET[i : i + 1]) for i in range(4)])
        assert torch.allclose(found, alone, rtol=1e-9, atol=1e-12), name
    for name in ("gradient", "grad_cam"):
        assert not list(check_method(name, METHODS[name], model, X, TARGET))

    def own(model, x, target):
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(model(leaf).gather(1, target[:, None]).sum(), leaf)[0]

    assert not list(check_method("own", own, network, X, TARGET))
    found = explain({"own": own}, network, X, TARGET).maps["own"]
    assert relative(found, plain_gradient(network, X, TARGET)) < 1e-12


def test_a_network_that_takes_no_picture_alone_is_refused_and_controls_go_on():
    class Flat(Features):
        def __init__(self):
            super().__init__()
            self.flat = nn.BatchNorm1d(8, track_running_stats=False)

        def top(self, features):
            return self.head(self.flat(self.pool(features).flatten(1)))

    found = explain(METHODS, made(Flat), X, TARGET)
    assert set(found.maps) == CONTROLS
    assert all("takes no picture by itself" in why for why in found.refused.values())


# A graph that is cut.


class NoGrad(Features):
    def features(self, x):
        with torch.no_grad():
            return super().features(x)


class Inferred(Features):
    def features(self, x):
        with torch.inference_mode():
            return super().features(x)


class Detached(Features):
    def features(self, x):
        return super().features(x).detach().requires_grad_()


class Rounded(Features):
    def features(self, x):
        return (super().features(x) * 8).round() / 8


class Numpy(Features):
    def features(self, x):
        return torch.from_numpy(super().features(x).detach().numpy())


class Quantized(Features):
    """Its last layer is dynamically quantized, which has no derivative at all."""

    def __init__(self):
        super().__init__()
        self.fixed = None

    def top(self, features):
        if self.fixed is None:
            linear = nn.Sequential(self.head).float()
            quantize = torch.ao.quantization.quantize_dynamic
            self.fixed = quantize(linear, {nn.Linear}, dtype=torch.qint8)
        return self.fixed(self.pool(features).flatten(1).float())


QUIET = [
    pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "UserWarning")
]
CUT = [NoGrad, Inferred, Detached, Rounded, Numpy, pytest.param(Quantized, marks=QUIET)]


@pytest.mark.parametrize("kind", CUT)
def test_a_graph_that_is_cut_is_a_reason_and_controls_go_on(kind):
    model = made(kind)
    assert relative(model.logits(X), plain_logits(model.network, X)) < 1e-12
    found = explain(METHODS, model, X, TARGET)
    assert set(found.maps) == CONTROLS | {"occlusion", "rise"}
    assert "no gradient of the logits of made reaches the pictures" in found.refused["gradient"]
    with pytest.raises(NotApplicable), explaining(Gradient(), model, X) as maps:
        maps(TARGET)

    def own(model, x, target):
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(model(leaf).gather(1, target[:, None]).sum(), leaf)[0]

    names = ["gradient", "guided_backprop", "lrp_epsilon", "grad_cam"]
    methods = {name: METHODS[name] for name in names} | ({} if kind is Rounded else {"own": own})
    for name, method in methods.items():
        (violation,) = check_method(name, method, model, X, TARGET)
        assert violation.key == "runs"
        assert violation.fix == ELSEWHERE
        with pytest.raises(NotApplicable, match="nothing in the method needs mending"):
            require_method(name, method, model, X, TARGET)


class Overwrites(Features):
    """It works in place on what its convolution keeps for the backward pass."""

    def features(self, x):
        x = self.first(x)
        y = self.second(x)
        x.zero_()
        return self.late(y)


class Overscales(Features):
    def features(self, x):
        x = self.first(x)
        return self.late(self.second(x.sigmoid().mul_(2)))


class Overfills(Features):
    def features(self, x):
        x = self.first(x).exp()
        x[:, 0] = 0
        return self.late(self.second(x))


@pytest.mark.parametrize("kind", [Overwrites, Overscales, Overfills])
def test_a_graph_that_is_overwritten_is_a_reason_and_controls_go_on(kind):
    few = {name: METHODS[name] for name in ("gradient", "guided_backprop", "smoothgrad", "sobel")}
    found = explain(few, made(kind), X, TARGET)
    assert set(found.maps) == {"sobel"}
    assert all("overwrites in place" in found.refused[name] for name in few if name != "sobel")


def test_grad_cam_needs_no_graph_below_its_layer():
    class Frozen(Features):
        def features(self, x):
            with torch.no_grad():
                below = self.relu(self.norm(self.first(x)))
            return self.late(self.second(below))

    expected = METHODS["grad_cam"](made(Features), X, TARGET)
    assert torch.equal(METHODS["grad_cam"](made(Frozen), X, TARGET), expected)


# What networks return.

Named = namedtuple("Named", "logits aux_logits")


@dataclass
class Answer:
    logits: torch.Tensor
    loss: None = None


OUTPUTS = {
    "dict": lambda z: {"loss": None, "logits": z},
    "ordered": lambda z: OrderedDict(logits=z),
    "dataclass": Answer,
    "named tuple": lambda z: Named(z, None),
    "tuple": lambda z: (z, None),
    "list": lambda z: [z],
    "squeezed": lambda z: z.squeeze(),
}


def returning(shape) -> type[nn.Module]:
    class Returns(Features):
        def forward(self, x):
            return shape(super().forward(x))

    return Returns


@pytest.mark.parametrize("name", OUTPUTS)
def test_logits_are_found_in_what_a_network_returns(name):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model, network = made(returning(OUTPUTS[name])), made(Features)
        for name_, method in METHODS.items():
            expected = method(network, X, TARGET)
            assert torch.allclose(method(model, X, TARGET), expected, rtol=1e-9), name_
        assert torch.equal(model.predict(X), network.predict(X))
        assert find_blocks(model, X) == find_blocks(network, X)
    spoken = [str(one.message) for one in said]
    assert len(spoken) == (name != "squeezed"), "once for a network"
    assert all("taken as its logits" in one for one in spoken)
    assert all(one.filename == __file__ for one in said)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({"out": X[:, 0, 0]}, r"not dict of 'out': \(4, 16\)"),
        ((torch.tensor(1.0), X[:, 0, 0]), r"not tuple of \(\), \(4, 16\)"),
        ([X[:, 0, 0], X[:, 0, 0]], r"not list of \(4, 16\), \(4, 16\)"),
        (X, r"not \(4, 3, 16, 16\)"),
        (None, "not NoneType"),
        (Answer(None), "not Answer"),
        (X[:3, 0, 0], r"not \(3, 16\)"),
        (X[:, 0, 0].argmax(1), r"not torch.int64 \(4,\); wrap it"),
        (X[:, 0, 0] > 0, r"not torch.bool \(4, 16\)"),
        ({"logits": X[:, 0, 0].to(torch.complex64)}, "not dict of 'logits': torch.complex64"),
    ],
)
def test_other_outputs_are_refused_by_what_they_are(output, said):
    with pytest.raises(ValueError, match=rf"must return logits \[4, K\], {said}"):
        logits_in(output, 4)


def test_a_loss_beside_the_logits_of_one_picture_is_not_taken_for_them():
    with pytest.raises(ValueError, match=r"logits \[1, K\], not tuple of \(\), \(1, 16\)"):
        logits_in((torch.tensor(1.0), X[:1, 0, 0]), 1)


@pytest.mark.parametrize(
    "shape", [lambda z: z[:, 0], lambda z: z[:, :1], lambda z: {"logits": z[:, 0]}]
)
@pytest.mark.filterwarnings("ignore:Returns returns:UserWarning")
def test_one_logit_is_one_class_with_the_sigmoid_as_its_probability(shape):
    model, first = made(returning(shape)), torch.zeros(4, dtype=torch.int64)
    network = made(Features)
    assert torch.equal(Gradient()(model, X, first), Gradient()(network, X, first))
    order = removal_order(Gradient()(model, X, first))
    curve = removal_curve(model, X, first, order, [0, 1])
    with pytest.warns(UserWarning, match="one logit a picture is its only class, 0"):
        made(returning(shape)).predict(X)
    z = plain_logits(network.network, torch.cat([X, torch.zeros_like(X)]))[:, 0]
    assert curve == pytest.approx(torch.stack(z.sigmoid().split(4), 1).numpy(), rel=1e-9)
    with pytest.raises(ValueError, match=r"valid are 0 to 0; one logit z .*-z / 2, z / 2"):
        Gradient()(model, X, first + 1)


# Inference mode.


class Attribute(Features):
    mask = None

    def forward(self, x):
        if self.mask is None:
            self.mask = torch.linspace(0.5, 1, 16, dtype=x.dtype)
        return super().forward(x * self.mask)


class Container(Attribute):
    def __init__(self):
        super().__init__()
        self.known = {}

    def forward(self, x):
        if "mask" not in self.known:
            self.known["mask"] = (torch.linspace(0.5, 1, 16, dtype=x.dtype), 1)
        return Features.forward(self, x * self.known["mask"][0])


class Buffer(Features):
    def __init__(self):
        super().__init__()
        self.register_buffer("mask", None)

    def forward(self, x):
        if self.mask is None:
            self.mask = torch.linspace(0.5, 1, 16, dtype=x.dtype)
        return super().forward(x * self.mask)


@pytest.mark.parametrize("kind", [Attribute, Container, Buffer])
def test_what_is_kept_under_inference_mode_does_not_break_gradients(kind):
    expected = plain_gradient(made(kind).network, X, TARGET)
    model = made(kind)
    model.predict(X)
    assert relative(Gradient()(model, X, TARGET), expected) < 1e-12
    model = made(kind)
    with torch.inference_mode():
        model.network(X)  # the caller's own
        inside = Gradient()(model, X, TARGET)
    assert relative(inside, expected) < 1e-12
    before = dict(vars(model.network)), dict(model.network._buffers)
    assert relative(Gradient()(model, X, TARGET), expected) < 1e-12
    with pytest.raises(ZeroDivisionError), held(model):
        raise ZeroDivisionError
    after = vars(model.network), model.network._buffers
    for one, other in zip(before, after, strict=True):
        assert {key: id(value) for key, value in one.items()} == {
            key: id(value) for key, value in other.items()
        }


# Types and places.


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_maps_of_its_type_or_a_reason(dtype):
    model, single = made(ModularNet, dtype), made(ModularNet, dtype).float()
    for name, method in METHODS.items():
        if name in RULED or (name in SQUARES and dtype == torch.float16):
            with pytest.raises(NotApplicable, match="in single precision"):
                method(model, X.to(dtype), TARGET)
            continue
        found = method(model, X.to(dtype), TARGET)
        assert found.dtype == dtype
        assert found.isfinite().all()
        expected = method(single, X.to(dtype).float(), TARGET)
        if name in ("gradient", "grad_cam", "guided_backprop", "smoothgrad"):
            assert (found - expected).norm() < 0.1 * expected.norm(), name
    assert model.predict(X.float()).shape == (4,)


def test_under_autocast_maps_have_the_type_of_the_pictures():
    model, x = made(ModularNet, torch.float32), X.float()
    with torch.autocast("cpu", torch.bfloat16):
        for name, method in METHODS.items():
            if name in RULED:
                with pytest.raises(NotApplicable, match=r"outside of torch\.autocast"):
                    method(model, x, TARGET)
                continue
            found = method(model, x, TARGET)
            assert found.dtype == x.dtype, name
            assert found.isfinite().all(), name
        assert model.predict(x).shape == (4,)


def test_similarities_in_half_precision_can_be_read():
    values = torch.rand(6, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert read(values).kappa == read(values.double()).kappa


class Tempered(Features):
    """A first parameter of another type than all others."""

    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(1))
        self._parameters = {"temperature": self.temperature, **self._parameters}

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        self.temperature.data = self.temperature.data.float()
        return self


def test_the_type_of_a_network_is_not_that_of_its_first_parameter_alone():
    model = made(Tempered)
    assert next(model.parameters()).dtype == torch.float32
    expected = Gradient()(made(Features), X, TARGET)
    assert torch.equal(Gradient()(model, X, TARGET), expected)
    with pytest.raises(TypeError, match=r"x is torch\.float16 but the model is torch\.float32 and"):
        Gradient()(model, X.half(), TARGET)


class Energies(nn.Module):
    def forward(self, x):
        return torch.stack([x.sum((1, 2, 3)), x.square().sum((1, 2, 3))], 1)


def test_a_network_without_parameters_can_be_explained():
    model, target = made(Energies), TARGET % 2
    assert torch.equal(model.predict(X), plain_logits(model.network, X).argmax(1))
    expected = torch.where(target.view(-1, 1, 1, 1) == 1, 2 * X, 1)
    assert relative(Gradient()(model, X, target), expected) < 1e-12
    assert fitted(model, X) is X
    with pytest.raises(ValueError, match="nothing to randomize"):
        find_blocks(model, X)


def test_a_method_may_name_the_input():
    def own(model, x, target):
        leaf = x.clone().requires_grad_()
        score = model(x=leaf).gather(1, target[:, None]).sum()
        return torch.autograd.grad(score, leaf)[0]

    model = made(Features)
    found = explain({"own": own}, model, X, TARGET).maps["own"]
    assert relative(found, plain_gradient(model.network, X, TARGET)) < 1e-12
    assert not list(check_method("own", own, model, X, TARGET))
