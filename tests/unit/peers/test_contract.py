"""What every method owes its caller, other libraries' methods, too."""

import random

import numpy as np
import pytest
import torch
from made.networks import ModularNet, draw, relative, small
from made.peers import METHODS, each
from made.states import FaultError, assert_unchanged, global_state, state, unsettle
from saliency_sanity import Classifier, resolve
from saliency_sanity._hashing import named
from torch import nn

X, TARGET = draw(2, 3, 16, 16), torch.tensor([1, 3])
# The map of these is the same for every class; the page says so.
CLASSLESS = ("EigenCAM", "KPCA_CAM", "FEM", "RandomCAM")


class Modular(ModularNet):
    """No rectifier works in place, as SHAP's DeepExplainer asks."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()


def network(dtype: torch.dtype = torch.float32) -> Classifier:
    found = small(dtype, kind=Modular)
    with torch.no_grad():
        found.network.head.weight *= 10  # Captum's Lime says 0 of what hardly changes the logit
    return found


def versions(model: nn.Module) -> list[int]:
    return [tensor._version for tensor in (*model.parameters(), *model.buffers())]


def build(name: str):
    return resolve(name, **METHODS[name])


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


@pytest.mark.parametrize("name", each())
def test_a_peer_keeps_the_contract(name):
    model, kept = network(), X.clone()
    found = build(name)(model, X, TARGET)

    assert found.shape in (X.shape, (2, 1, 16, 16))
    assert found.dtype == X.dtype
    assert found.is_contiguous()
    assert not found.requires_grad
    assert torch.isfinite(found).all()
    assert all(one.amax() > one.amin() for one in found)

    # A network in any state, a picture alone, other global generators, a caller without gradients.
    world, other = global_state(), unsettle(network())
    before, writes = state(other), versions(other)
    try:
        seed_all(3)
        drawn = global_state()
        with torch.no_grad():
            alone = build(name)(other, X[1:].requires_grad_(), TARGET[1:])
        assert global_state() == drawn
    finally:
        random.setstate(world[0])
        torch.set_rng_state(torch.tensor(world[2], dtype=torch.uint8))
    assert torch.equal(X, kept)
    assert X.grad is None
    assert_unchanged(other, before)
    assert versions(other) == writes  # or a graph that the caller keeps is lost
    assert relative(alone, found[1:]) < 1e-5

    if not name.endswith(CLASSLESS):
        instead = build(name)(model, X[:1], TARGET[1:])
        assert relative(instead, found[:1]) > 1e-3


@pytest.mark.parametrize("name", each())
def test_state_comes_back_after_an_exception(name):
    model, calls = unsettle(network()), iter(range(4))

    def fail(module, inputs):
        if next(calls, None) is None:
            raise FaultError

    model.network.head.register_forward_pre_hook(fail)
    before, kept, drawn = state(model), X.clone(), global_state()
    method = build(name)
    with pytest.raises(FaultError):
        [method(model, X[:1], TARGET[:1]) for _ in range(6)]
    assert_unchanged(model, before)
    assert torch.equal(X, kept)
    assert global_state() == drawn
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("name", each(n for n in METHODS if n != "shap:GradientExplainer"))
def test_double_precision_comes_back_as_it_is_given(name):
    found = build(name)(network(torch.float64), X[:1].double(), TARGET[:1])
    assert found.dtype == torch.float64


@pytest.mark.parametrize("name", each())
def test_the_record_of_a_result_names_the_library_and_its_version(name):
    method = build(name)
    described, source = named(method)
    assert method.version in described
    assert method.version[0].isdigit()
    assert "seed=0" in described
    assert source == "" or len(source) == 12
    assert named(resolve(name, **METHODS[name], seed=1)) != named(method)
    assert hash(method) == hash(build(name))


@pytest.mark.parametrize("name", each())
def test_wrong_input_is_refused(name):
    with pytest.raises(ValueError, match="target 5 is out of range: valid are 0 to 4"):
        build(name)(network(), X, torch.tensor([0, 5]))
    with pytest.raises(ValueError, match=r"x must be \[N, C, H, W\]"):
        build(name)(network(), X[0], TARGET[:1])


@pytest.mark.parametrize("name", each(["captum:IntegratedGradients", "pytorch_grad_cam:ScoreCAM"]))
def test_hooks_on_the_model_count_all_pictures_that_go_through(name):
    model, seen = network(), []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    build(name)(model, X[:1], TARGET[:1])
    assert sum(seen) >= (4 if name.startswith("captum") else 8)
