"""The check of somebody's own method: each violation is found, named and undone."""

import inspect
import random
import re

import numpy as np
import pytest
import torch
from made.networks import apt, draw, small
from made.states import assert_unchanged, build, global_state, state, unsettle
from saliency_sanity import CATALOGUE, resolve
from saliency_sanity._errors import NotApplicable
from saliency_sanity.contract.clauses import CHECKS, ContractError
from saliency_sanity.contract.trial import check_method, require_method
from saliency_sanity.subjects.toys import SumPool
from torch import nn

X = draw(4, 3, 16, 16)
TARGET = torch.tensor([1, 2, 3, 4])


def honest(model, x, target):
    leaf = x.detach().clone().requires_grad_()
    score = model(leaf).gather(1, target[:, None]).sum()
    return torch.autograd.grad(score, leaf)[0]


def raises(model, x, target):
    model(x)
    raise KeyError("no such layer")


def ends_the_program(model, x, target):
    raise SystemExit(3)


@torch.no_grad()
def raises_decorated(model, x, target):
    return honest(model, x, target)


def not_applicable(model, x, target):
    raise NotApplicable("it has no layer for this")


def raises_for_another_class(model, x, target):
    if not torch.equal(target, TARGET[: len(x)]) and len(x) > 1:
        raise RuntimeError("unknown class")
    return honest(model, x, target)


def not_called_so(model, x):
    return x


def returns_array(model, x, target):
    return honest(model, x, target).numpy()


def drops_channels(model, x, target):
    return honest(model, x, target).mean(1)


def coarse(model, x, target):
    return honest(model, x, target)[..., ::2, ::2]


def double(model, x, target):
    return honest(model, x, target).double()


def integers(model, x, target):
    return (1000 * honest(model, x, target)).int()


def elsewhere(model, x, target):
    return honest(model, x, target).to("meta")


def keeps_graph(model, x, target):
    leaf = x.detach().clone().requires_grad_()
    score = model(leaf).gather(1, target[:, None]).sum()
    return torch.autograd.grad(score, leaf, create_graph=True)[0]


def logarithm(model, x, target):
    return honest(model, x, target).log()


def infinite_in_one(model, x, target):
    found = honest(model, x, target)
    found[0, 0, 0, 0] = torch.inf
    return found


def zero(model, x, target):
    return torch.zeros_like(x)


def uniform(model, x, target):
    return honest(model, x, target).sum((1, 2, 3), keepdim=True).expand(-1, 1, 16, 16)


def zero_in_one(model, x, target):
    return honest(model, x, target) * (x[:, :1, :1, :1] != X[0, 0, 0, 0])


def changes_weights(model, x, target):
    found = honest(model, x, target)
    model.network.head.bias.data += 1
    return found


def changes_buffers(model, x, target):
    found = honest(model, x, target)
    model.network.norm.running_mean.mul_(2)
    return found


def leaves_training(model, x, target):
    found = honest(model, x, target)
    model.train()
    return found


def leaves_frozen(model, x, target):
    model.requires_grad_(False)
    return honest(model, x, target)


def leaves_no_grad(model, x, target):
    found = honest(model, x, target)
    torch.set_grad_enabled(False)
    return found


def leaves_hook(model, x, target):
    model.network.second.register_forward_hook(lambda module, inputs, output: None)
    return honest(model, x, target)


def leaves_hook_when_it_fails(model, x, target):
    model.network.second.register_forward_hook(lambda module, inputs, output: None)
    raise KeyError("no such layer")


def leaves_module(model, x, target):
    found = honest(model, x, target)
    model.network.relu = nn.Softplus()
    return found


def fills_gradients(model, x, target):
    leaf = x.detach().clone().requires_grad_()
    model(leaf).gather(1, target[:, None]).sum().backward()
    return leaf.grad


def works_in_place(model, x, target):
    found = honest(model, x, target)
    x.clamp_(min=0)
    return found


def works_on_target(model, x, target):
    found = honest(model, x, target)
    target.zero_()
    return found


def requires_gradient(model, x, target):
    x.requires_grad_()
    return torch.autograd.grad(model(x).gather(1, target[:, None]).sum(), x)[0]


def noisy(model, x, target):
    return honest(model, x + 0.1 * torch.randn(x.shape), target)


def noisy_by_numpy(model, x, target):
    noise = torch.from_numpy(np.random.normal(size=x.shape))  # noqa: NPY002
    return honest(model, x + 0.1 * noise.to(x), target)


def drops_out(model, x, target):
    return nn.functional.dropout(honest(model, x, target))


def own_generator_unseeded(model, x, target):
    source = torch.Generator()
    source.seed()
    return honest(model, x + 0.1 * torch.randn(x.shape, generator=source), target)


def fails_the_second_time(model, x, target, calls=[]):  # noqa: B006
    calls.append(x)
    return honest(model, x, target) if len(calls) % 2 else 1 / 0


def seeds_torch(model, x, target):
    torch.manual_seed(0)
    return honest(model, x + 0.1 * torch.randn(x.shape[1:]), target)


def seeds_numpy(model, x, target):
    np.random.seed(0)  # noqa: NPY002
    return honest(model, x, target)


def draws_in_vain(model, x, target):
    random.random()
    return honest(model, x, target)


def divides_by_the_largest(model, x, target):
    found = honest(model, x, target)
    return found / found.abs().max()


def squeezes(model, x, target):
    return honest(model, x, target).squeeze(0)


def fails_alone(model, x, target):
    found = honest(model, x, target)
    return found * (found[1].abs().max() > 0)


def ignores_target(model, x, target):
    leaf = x.detach().clone().requires_grad_()
    return torch.autograd.grad(model(leaf).amax(1).sum(), leaf)[0]


def picture_only(model, x, target):
    return torch.gradient(x, dim=3)[0]


def sets_an_attribute(model, x, target):
    model.network.norm.eps = 1.0
    return honest(model, x, target)


# The one check that each method fails, and what is said of it.
OFFENDERS = {
    raises: ("runs", "first call it raised KeyError in test_trial.py, line"),
    ends_the_program: ("runs", "SystemExit in test_trial.py.*: 3[.]"),
    raises_decorated: ("runs", "RuntimeError in test_trial.py.*does not require grad"),
    not_applicable: ("runs", "does not apply to this network: it has no layer for this[.]"),
    raises_for_another_class: ("runs", "another class it raised RuntimeError.*unknown class[.]"),
    not_called_so: ("runs", "takes 2 positional arguments but 3 were given"),
    returns_array: ("tensor", "returned ndarray"),
    drops_channels: ("shape", r"map is \[3, 16, 16\]"),
    coarse: ("shape", r"map is \[3, 3, 8, 8\]"),
    double: ("dtype", "map is torch.float64"),
    integers: ("dtype", "map is torch.int32"),
    elsewhere: ("device", "lies on meta"),
    keeps_graph: ("graph", "requires a gradient"),
    logarithm: ("finite", "NaN or infinite values in the map of 3 of 3 pictures"),
    infinite_in_one: ("finite", "of 1 of 3 pictures"),
    zero: ("constant", "One value fills the map of 3 of 3 pictures"),
    uniform: ("constant", "3 of 3 pictures"),
    zero_in_one: ("constant", "1 of 3 pictures"),
    changes_weights: ("weights", "changed network.head.bias[.]"),
    changes_buffers: ("weights", "changed network.norm.running_mean"),
    leaves_training: ("flags", "training of model.* and . more"),
    leaves_frozen: ("flags", "requires_grad of network.first.bias"),
    leaves_no_grad: ("flags", "gradient mode"),
    leaves_hook: ("hooks", "forward_hooks of network.second"),
    leaves_module: ("hooks", "modules of network"),
    sets_an_attribute: ("attributes", "It changed eps of network.norm"),
    fills_gradients: ("gradients", "grad of network.first.bias"),
    works_in_place: ("input", "changed values of x"),
    works_on_target: ("input", "or target in place"),
    requires_gradient: ("input", "left x requiring a gradient"),
    noisy: ("reproducible", "another map the second time"),
    noisy_by_numpy: ("reproducible", "another map the second time"),
    drops_out: ("reproducible", "another map the second time"),
    own_generator_unseeded: ("reproducible", "another map the second time"),
    fails_the_second_time: ("reproducible", "second call it raised ZeroDivisionError"),
    seeds_torch: ("global", "global random generator"),
    seeds_numpy: ("global", "global random generator"),
    draws_in_vain: ("global", "global random generator"),
    divides_by_the_largest: ("batch", "2 of 3 pictures was another one without the others"),
    squeezes: ("batch", r"alone it returned \[3, 16, 16\]"),
    fails_alone: ("batch", "For one picture alone it raised IndexError in test_trial"),
    ignores_target: ("target", "first picture's map is the same for class 1 and for class"),
    picture_only: ("target", "map is the same for class 1"),
}
WARNED = ("gradients", "global", "target")


def test_every_check_has_its_offender():
    assert {key for key, _ in OFFENDERS.values()} == CHECKS.keys()


@pytest.mark.parametrize("method", OFFENDERS, ids=lambda method: method.__name__)
def test_an_offence_is_the_only_one_found_and_is_undone(method):
    model = unsettle(small()).eval()
    before, generators = state(model), global_state()
    x, target = X.clone(), TARGET.clone()
    key, said = OFFENDERS[method]

    report = check_method("mine", method, model, x, target)

    assert [violation.key for violation in report] == [key], report
    (violation,) = report
    assert re.search(said, violation.found), violation.found
    warned = key in WARNED or method is zero_in_one
    assert violation.severity == ("warning" if warned else "error")
    for sentence in (violation.found, violation.valid, violation.fix):
        assert sentence.endswith(".")
        assert "{" not in sentence
    assert_unchanged(model, before)
    assert torch.equal(x, X)
    assert not x.requires_grad
    assert torch.equal(target, TARGET)
    assert global_state() == generators
    assert torch.is_grad_enabled()


def test_an_error_stops_and_a_warning_does_not():
    assert list(require_method("mine", honest, small(), X, TARGET)) == []
    (warning,) = require_method("mine", ignores_target, small(), X, TARGET)
    assert warning.key == "target"
    with pytest.raises(ContractError, match=r"method 'mine' breaks the contract in 1 point:"):
        require_method("mine", double, small(), X, TARGET)


def test_all_faults_are_told_at_once():
    def many(model, x, target):
        found = keeps_graph(leaves_training_of(model), x, target)
        x.mul_(2)
        return found.double() / (found.abs().max() * torch.rand(()))

    def leaves_training_of(model):
        model.network.drop.train(False)
        model.network.relu.training = True
        return model

    with pytest.raises(ContractError) as caught:
        require_method("mine", many, small(), X, TARGET)
    keys = ["dtype", "graph", "flags", "input", "reproducible"]
    assert [violation.key for violation in caught.value.report] == keys
    assert "in 5 points" in str(caught.value)
    assert str(caught.value).count("\n- ") == 5
    assert "Return the map.to(x.dtype)" in str(caught.value)
    assert caught.value.report.unchecked == ("global", "batch", "target")


def test_what_a_method_leaves_when_it_fails_is_found_too():
    model = small()
    before = state(model)
    report = check_method("mine", leaves_hook_when_it_fails, model, X, TARGET)
    assert [violation.key for violation in report] == ["runs", "hooks"]
    assert_unchanged(model, before)


def test_an_interruption_leaves_everything_as_it_was():
    def interrupted(model, x, target):
        leaves_training(model, x, target)
        torch.manual_seed(0)
        raise KeyboardInterrupt

    model = small()
    before, generators = state(model), global_state()
    with pytest.raises(KeyboardInterrupt):
        check_method("mine", interrupted, model, X, TARGET)
    assert_unchanged(model, before)
    assert global_state() == generators


def test_the_line_is_that_of_the_methods_own_file():
    lines, start = inspect.getsourcelines(raises)
    (violation,) = check_method("mine", raises, small(), X, TARGET)
    line = f"line {start + len(lines) - 1}: raise KeyError(\"no such layer\"): 'no such layer'."
    assert violation.found.endswith(line)


def test_rounding_is_no_dependence_on_the_batch():
    def rounded(model, x, target):
        return honest(model, x, target) * (1 + 1e-5 * len(x))

    assert not check_method("mine", rounded, small(), X, TARGET)


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_catalogue_keeps_its_own_contract(name):
    report = check_method(name, build(name), apt(name), X[:2], TARGET[:2])
    # Grad-CAM may have nothing to say for a picture, Canny may see no edge; attention by itself
    # is the same for every label.
    assert {(violation.key, violation.severity) for violation in report} <= {
        ("constant", "warning"),
        *([("target", "warning")] if name in ("attention", "attention_rollout") else []),
    }, report
    assert report.unchecked == (("target",) if CATALOGUE[name].kind == "control" else ())


def test_the_other_class_is_another_one_where_the_likeliest_is_explained():
    model = small()
    assert not check_method("mine", honest, model, X, model.predict(X))


def test_a_network_of_one_output_has_no_other_class():
    target = torch.zeros(len(X), dtype=torch.int64)
    report = check_method("mine", honest, SumPool().eval(), X, target)
    assert not report, report
    assert report.unchecked == ("target",)


def test_the_report_shows_every_check():
    report = check_method("<mine>", divides_by_the_largest, small(), X, TARGET)
    shown, page = str(report), report._repr_html_()
    results = [line.split()[0] for line in shown.splitlines()[1:]]
    assert results == ["error" if key == "batch" else "kept" for key in CHECKS]
    for check in CHECKS.values():
        assert check.title in shown
    assert page.count("<tr>") == 1 + len(CHECKS)
    assert page.count("✓ kept") == len(CHECKS) - 1
    assert "✗ error" in page
    assert "&lt;mine&gt;" in page
    assert "<mine>" not in page
    assert report[0].fix in shown
    unchecked = str(check_method("mine", raises, small(), X, TARGET))
    assert unchecked.count("not checked  ") == 11


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": X[:1], "target": TARGET[:1]}, "1 picture given; .* on 2 or more"),
        ({"model": small().train()}, "model is in training mode.*model.eval()"),
        ({"target": TARGET + 1}, "target 5 is out of range: valid are 0 to 4"),
        ({"x": X * torch.nan}, "NaN"),
    ],
)
def test_what_no_method_could_explain_is_refused(change, message):
    given = {"model": small(), "x": X, "target": TARGET[: len(change.get("x", X))]} | change
    if "target" in change and len(given["target"]) == 4:
        given["target"] = given["target"].roll(1)
    with pytest.raises(ValueError, match=message):
        check_method("mine", honest, **given)


def test_a_method_that_does_not_apply_says_why():
    model = small()
    model.cam_layer = None
    (violation,) = check_method("grad_cam", resolve("grad_cam"), model, X, TARGET)
    assert "Grad-CAM needs a layer" in violation.found


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
def test_on_a_gpu_a_map_stays_there():
    def fetched(model, x, target):
        return honest(model, x, target).cpu()

    model, x, target = small().cuda(), X.cuda(), TARGET.cuda()
    assert not check_method("mine", honest, model, x, target)
    (violation,) = check_method("mine", fetched, model, x, target)
    assert (violation.key, violation.found) == ("device", "The map lies on cpu.")


def sets_it_and_fails(model, x, target):
    model.network.relu.inplace = False
    raise KeyError("no such layer")


def adds_one_without_a_pass(model, x, target):
    found = honest(model, x, target)
    model.network.first.seen = len(x)
    return found


@pytest.mark.parametrize("method", [sets_an_attribute, sets_it_and_fails, adds_one_without_a_pass])
def test_attributes_come_back_and_are_named(method):
    model = small()
    report = check_method("own", method, model, X, TARGET)
    assert "attributes" in {violation.key for violation in report}
    assert model.network.norm.eps == 1e-5
    assert model.network.relu.inplace is True
    assert not hasattr(model.network.first, "seen")


class Keeping(nn.Module):
    """Keeps a cache, its last picture and a count of its calls."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 16 * 16, 5)
        self.cache, self.calls, self.last = {}, 0, None
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x):
        if "scale" not in self.cache:
            self.cache["scale"] = self.layer.weight.detach().norm()
        self.calls, self.last = self.calls + 1, x
        self.count += 1
        return self.layer(x.flatten(1)) / self.cache["scale"]


def test_what_the_network_keeps_of_every_pass_is_not_the_methods_doing():
    model = Keeping().eval()
    report = check_method("own", honest, model, X, TARGET)
    assert not report.violations
    assert (model.cache, model.calls, model.last, model.count.item()) == ({}, 0, None, 0)

    def sets_the_rest(model, x, target):
        model.extra = 1
        return honest(model, x, target)

    report = check_method("own", sets_the_rest, model, X, TARGET)
    assert [violation.found for violation in report] == ["It changed extra of model."]
