"""A stored result belongs to what a network does, not only to its weights and modules."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from made.experiments import METRIC, images, same
from made.networks import draw, seeded
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.attribution.competition import Compete
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.experiments.keys import subject
from saliency_sanity.experiments.label_permutation import Agreement
from saliency_sanity.experiments.store import Store
from torch import nn

X = images(4, 8)
TARGET = torch.tensor([0, 1, 2, 0])


class Furnished(nn.Module):
    """What it does with its weights hangs on attributes, a hidden buffer and a tensor in a list."""

    def __init__(self, classes=3):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Linear(4, classes)
        self.power, self.transform_input, self.shifts = 1.0, False, [draw(4, 1, 1)]
        self.options = {"deep": {"gain": 1.0}}
        self.register_buffer("mask", torch.ones(4, 1, 1), persistent=False)

    def forward(self, x):
        if self.transform_input:
            x = x * torch.tensor([2.0, 0.5, -1.0]).view(3, 1, 1)
        y = self.one(x).relu() ** self.power * self.mask + self.shifts[0]
        return self.two((y * self.options["deep"]["gain"]).tanh().mean((2, 3)))


def network():
    return seeded(Furnished()).eval()


def power(model):
    model.power = 2.0


def transform_input(model):
    model.transform_input = True


def hidden_buffer(model):
    model.mask[:2] = 0


def tensor_in_a_list(model):
    model.shifts[0] = 2 * model.shifts[0]


def deep_in_a_dictionary(model):
    model.options["deep"]["gain"] = 2.0


def forward_hook(model):
    model.one.register_forward_hook(lambda module, inputs, output: output * 2)


def other_forward_hook(model):
    model.one.register_forward_hook(lambda module, inputs, output: output * 3)


def forward_pre_hook(model):
    model.two.register_forward_pre_hook(lambda module, inputs: (inputs[0].flip(1),))


def backward_hook(model):
    # It changes no logit.
    model.one.register_full_backward_hook(lambda module, ins, outs: tuple(3 * g for g in ins))


def changed_method(model):
    model.one.forward = lambda x: nn.functional.conv2d(x, model.one.weight)


CHANGES = (power, transform_input, hidden_buffer, tensor_in_a_list, deep_in_a_dictionary,
           forward_hook, other_forward_hook, forward_pre_hook, backward_hook,
           changed_method)  # fmt: skip


def experiment(model, store=None):
    return Experiment(
        model, X, TARGET, {"gradient": Gradient()}, METRIC, order="full", seeds=1, store=store
    )


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A store in which the plain network's results are, and those."""
    store = Store(tmp_path_factory.mktemp("store"))
    outcome = experiment(network(), store)()
    return store, outcome


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_changed_network_gets_its_own_results(change, stored):
    store, before = stored
    changed = network()
    change(changed)
    right = experiment(changed)()
    found = experiment(changed, store)()
    assert same(found, right)
    if change is not backward_hook:  # which scales all gradients alike
        assert not same(found, before)
    assert same(experiment(network(), store)(), before)


def test_every_change_has_a_key_of_its_own():
    keys = [subject(network(), X)]
    for change in CHANGES:
        model = network()
        change(model)
        keys.append(subject(model, X))
    assert len({str(key) for key in keys}) == len(keys)


@pytest.mark.parametrize("change", [power, hidden_buffer, forward_hook, backward_hook])
def test_other_stores_ask_the_same(change, tmp_path):
    store, changed = Store(tmp_path), network()
    change(changed)
    for model in (network(), changed):
        compete = Compete(Gradient(), store=store)(model, X, TARGET)
        assert torch.equal(compete, Compete(Gradient())(model, X, TARGET))
        one = {"methods": {"g": Compete(Gradient())}, "metrics": METRIC, "x": X, "labels": TARGET}
        plain = Agreement([model], [model], **one)()
        kept = Agreement([model], [model], **one, store=store)()
        for key, matrices in plain.matrices.items():
            np.testing.assert_array_equal(kept.matrices[key], matrices)


class Noting(nn.Module):
    """Fills caches, counts its calls, keeps its last features, and works in place on its input."""

    def __init__(self):
        super().__init__()
        self.layer, self.cache, self.mask, self.calls, self.last = nn.Linear(192, 3), {}, None, 0, 0
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("late", None)

    def forward(self, x):
        x = x.mul_(2).flatten(1)
        if self.mask is None:
            self.mask = torch.arange(192.0).cos()
            self.cache[x.shape[1]] = self.layer.weight.detach().abs().mean()
            self.late = self.mask + 1
        self.calls, self.last = self.calls + 1, x
        self.seen += 1
        return self.layer(x * self.mask * self.late) / self.cache[192]


def test_what_a_pass_fills_or_counts_changes_no_key():
    model = seeded(Noting()).eval()
    x = X.clone()
    first = subject(model, X)
    assert torch.equal(x, X)
    assert (model.cache, model.mask, model.late, model.calls, model.last) == ({}, None, None, 0, 0)
    assert model.seen == 0
    for _ in range(3):
        model(X[:2].clone())
        assert subject(model, X) == first
        assert model.calls == model.seen
    with torch.inference_mode():
        assert subject(model, X) == first
    model.train()
    assert subject(model, X) == first
    assert model.training


class Thing:
    def __init__(self):
        self.size, self.names = 3, {"b", "a", "c"}


def many_things():
    """Keys of networks that hold what has no name of its own, or lies somewhere in memory."""
    model, seen = network(), {}
    model.thing, model.function, model.partial = Thing(), lambda x: x + model.power, partial(max, 3)
    model.rest = [Thing, seeded(nn.Linear(2, 2)), torch.relu, {1: (b"2", None)}, model, object()]
    model.handle = model.one.register_forward_hook(lambda _m, _i, o: seen.update(mean=o.mean()))
    return [subject(model, X), subject(seeded(Noting()).eval(), X)]


def test_another_process_has_the_same_keys():
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    script = "import torch; handle = torch.nn.ReLU().register_forward_hook(print)\n"
    script += f"from {__name__} import many_things; print(many_things())"
    found = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": paths},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout == f"{many_things()}\n"
