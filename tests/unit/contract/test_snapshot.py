"""A model's state: every change is named and undone."""

import copy

import numpy as np
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


def set_number(model):
    model.network.norm.eps = 1.0


def set_flag(model):
    model.network.relu.inplace = False


def add_attribute(model):
    model.network.second.note = "seen"


def delete_attribute(model):
    del model.network.drop.p


def enter_in_list(model):
    model.network.rates[1][0] = 7


def enter_in_dictionary(model):
    model.network.options["deep"]["power"] = 3


def drop_from_dictionary(model):
    del model.network.options["deep"]


def change_tensor_within(model):
    model.network.options["mask"].mul_(2)


def change_array(model):
    model.network.settings.table[0] = 5


def change_object(model):
    model.network.settings.power = 3


def change_hidden_module(model):
    model.network.rates[0].weight.data.add_(1)


def shadow_a_buffer(model):
    # As canonizers do, which hide the statistics of a batch norm.
    vars(model.network.norm)["running_mean"] = torch.zeros(6)


def replace_class(model):
    model.network.relu.__class__ = nn.Softplus


def default_to_double(_model):
    torch.set_default_dtype(torch.float64)


def default_to_nowhere(_model):
    torch.set_default_device("meta")


def be_deterministic(_model):
    torch.use_deterministic_algorithms(True, warn_only=True)


CHANGES = {
    set_number: ("attributes", "eps of network.norm"),
    set_flag: ("attributes", "inplace of network.relu"),
    add_attribute: ("attributes", "note of network.second"),
    delete_attribute: ("attributes", "p of network.drop"),
    enter_in_list: ("attributes", "rates of network"),
    enter_in_dictionary: ("attributes", "options of network"),
    drop_from_dictionary: ("attributes", "options of network"),
    change_tensor_within: ("attributes", "options of network"),
    change_array: ("attributes", "settings of network"),
    change_object: ("attributes", "settings of network"),
    change_hidden_module: ("attributes", "rates of network"),
    shadow_a_buffer: ("attributes", "running_mean of network.norm"),
    add_hook: ("hooks", "forward_hooks of network.second"),
    remove_hooks: ("hooks", "forward_hooks of network.second"),
    add_backward_hook: ("hooks", "backward_hooks of model"),
    replace_forward: ("hooks", "forward of network.norm"),
    replace_class: ("hooks", "class of network.relu"),
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
    default_to_double: ("flags", "torch's default dtype"),
    default_to_nowhere: ("flags", "torch's default device"),
    be_deterministic: ("flags", "torch's deterministic mode"),
    backward: ("gradients", "grad of network.second.weight"),
    forget_gradients: ("gradients", "grad of network.head.weight"),
}


class Settings:
    def __init__(self):
        self.power, self.table = 2, np.arange(3)


def furnished():
    """A network with attributes of many kinds."""
    model = unsettle(small()).eval()
    model.network.rates = [nn.Linear(2, 2), [1, 2]]
    model.network.options = {"mask": torch.tensor([torch.nan, 1]), "deep": {"power": 2}}
    model.network.settings = Settings()
    return model


def attributes(model):
    """Every attribute and what is in it, as text."""
    network = model.network
    return {
        **{f"{key}.{name}": str(value) for key, module in model.named_modules()
           for name, value in vars(module).items() if not name.startswith("_")},
        "rates": f"{network.rates} {network.rates[0].weight.tolist()}",
        "settings": f"{network.settings.power} {network.settings.table}",
    }  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_is_named_and_undone(change):
    model = furnished()
    before, grad = state(model), copy.deepcopy(model.network.head.weight.grad)
    plain = attributes(model)
    snapshot = Snapshot(model)
    kind, name = CHANGES[change]
    for _ in range(2):
        change(model)
        changed = snapshot.restore()
        assert name in changed[kind]
        # Converting a network converts its gradients too.
        assert changed.keys() - {kind} <= ({"gradients"} if change is convert else set())
        assert_unchanged(model, before)
        assert attributes(model) == plain
        assert torch.equal(model.network.head.weight.grad, grad)
        assert torch.is_grad_enabled()
        assert (torch.zeros(1).dtype, torch.zeros(1).device.type) == (torch.float32, "cpu")
        assert not torch.are_deterministic_algorithms_enabled()
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
