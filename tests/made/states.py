"""What a method could leave changed, and how a network and the world are unsettled beforehand."""

import random

import numpy as np
import torch
from saliency_sanity import CATALOGUE, Classifier, resolve
from torch import nn

FEW = {"samples": 2, "steps": 2, "top": 3, "masks": 5, "window": 0.5, "stride": 0.5}


def build(name: str, **given):
    """The catalogue's entry, with few samples, steps, masks and windows where it has them."""
    defaults = CATALOGUE[name].defaults
    return resolve(name, **{k: v for k, v in (FEW | given).items() if k in defaults})


def state(model: nn.Module) -> tuple[dict, dict]:
    """Everything of a model that an attribution could leave changed."""
    tensors = {key: value.detach().clone() for key, value in model.state_dict().items()}
    rest = {
        "training": {key: module.training for key, module in model.named_modules()},
        "requires_grad": {key: p.requires_grad for key, p in model.named_parameters()},
        "grad": {key: p.grad for key, p in model.named_parameters()},
        "modules": {key: id(module) for key, module in model.named_modules()},
        "parameters": {key: id(p) for key, p in model.named_parameters()},
        "hooks": {
            (key, kind): len(getattr(module, kind))
            for key, module in model.named_modules()
            for kind in vars(module)
            if kind.endswith("_hooks")
        },
    }
    return tensors, rest


def assert_unchanged(model: nn.Module, before: tuple[dict, dict]) -> None:
    tensors, rest = state(model)
    assert rest == before[1]
    assert list(tensors) == list(before[0])
    for key, value in tensors.items():
        assert torch.equal(value, before[0][key]), key


def global_state() -> tuple:
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002


def unsettle(model: Classifier) -> Classifier:
    """Training flags, gradients and hooks as no two modules of a careful owner have them."""
    model.train()
    model.network.norm.eval()
    model.network.first.weight.requires_grad_(False)
    model.network.head.weight.grad = torch.ones_like(model.network.head.weight)
    model.network.second.register_forward_hook(lambda module, inputs, output: None)
    model.network.head.register_full_backward_hook(lambda module, inputs, output: None)
    return model


class FaultError(Exception):
    """Raised in the middle of a forward pass."""
