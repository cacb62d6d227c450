"""A model's state: every change is named and undone."""

import copy

import pytest
import torch
from made.networks import draw, small
from made.states import assert_unchanged, state, unsettle
from saliency_sanity.contract.snapshot import Snapshot
from torch import nn


def add_hook(model):
    model.network.second.register_forward_hook(lambda module, inputs, output: None)


def remove_hooks(model):
    model.network.second._forward_hooks.clear()


def add_backward_hook(model):
    model.register_full_backward_hook(lambda module, inputs, outputs: None)


def replace_forward(model):
    model.network.norm.forward = lambda x: x


def replace_module(model):
    model.network.relu = nn.Softplus()


def add_module(model):
    model.network.extra = nn.Linear(2, 2)


def add_parameter(model):
    model.network.scale = nn.Parameter(torch.ones(1))


def change_weight(model):
    with torch.no_grad():
        model.network.first.weight[0, 0, 0, 0] += 1e-6


def replace_parameter(model):
    model.network.head.bias = nn.Parameter(model.network.head.bias.detach().clone())


def change_buffer(model):
    model.network.norm.running_var.mul_(2)


def convert(model):
    model.double()


def train(model):
    model.train()


def freeze(model):
    model.network.second.weight.requires_grad_(False)


def record_nothing(model):
    torch.set_grad_enabled(False)


def backward(model):
    model(draw(1, 3, 16, 16)).sum().backward()


def forget_gradients(model):
    model.zero_grad()


CHANGES = {
    add_hook: ("hooks", "forward_hooks of network.second"),
    remove_hooks: ("hooks", "forward_hooks of network.second"),
    add_backward_hook: ("hooks", "backward_hooks of model"),
    replace_forward: ("hooks", "forward of network.norm"),
    replace_module: ("hooks", "modules of network"),
    add_module: ("hooks", "modules of network"),
    add_parameter: ("weights", "parameters of network"),
    change_weight: ("weights", "network.first.weight"),
    replace_parameter: ("weights", "parameters of network.head"),
    change_buffer: ("weights", "network.norm.running_var"),
    convert: ("weights", "network.second.bias"),
    train: ("flags", "training of network.second"),
    freeze: ("flags", "requires_grad of network.second.weight"),
    record_nothing: ("flags", "torch's gradient mode"),
    backward: ("gradients", "grad of network.second.weight"),
    forget_gradients: ("gradients", "grad of network.head.weight"),
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_is_named_and_undone(change):
    model = unsettle(small()).eval()
    before, grad = state(model), copy.deepcopy(model.network.head.weight.grad)
    snapshot = Snapshot(model)
    kind, name = CHANGES[change]
    for _ in range(2):
        change(model)
        changed = snapshot.restore()
        assert name in changed[kind]
        # Converting a network converts its gradients too.
        assert changed.keys() - {kind} <= ({"gradients"} if change is convert else set())
        assert_unchanged(model, before)
        assert torch.equal(model.network.head.weight.grad, grad)
        assert torch.is_grad_enabled()
    assert snapshot.restore() == {}


def test_handles_still_work_afterwards():
    model = small()
    handle = model.network.relu.register_forward_hook(lambda module, inputs, output: None)
    snapshot = Snapshot(model)
    remove_hooks(model)
    model.network.relu._forward_hooks.clear()
    snapshot.restore()
    handle.remove()
    assert snapshot.restore() == {"hooks": ["forward_hooks of network.relu"]}


def test_a_pass_changes_nothing():
    model = small()
    snapshot = Snapshot(model)
    x = draw(2, 3, 16, 16).requires_grad_()
    torch.autograd.grad(model(x).sum(), x)
    assert snapshot.restore() == {}
