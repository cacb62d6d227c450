"""A model as it was: what a method may not leave changed, and how it is put back."""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from saliency_sanity import _arithmetic
from saliency_sanity._attributes import Attributes, same

_KINDS = {"_parameters": "weights", "_buffers": "weights", "training": "flags"}

# What all code shares: how it is read, and how it is put back.
_SETTINGS = {
    "torch's gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    # None is the CPU, too, and costs nothing.
    "torch's default device": (
        torch.get_default_device,
        lambda place: torch.set_default_device(None if place.type == "cpu" else place),
    ),
    "torch's deterministic mode": (
        torch.get_deterministic_debug_mode,
        torch.set_deterministic_debug_mode,
    ),
    "torch's precision of products": (_arithmetic.settings, _arithmetic.put),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
}


class Snapshot:
    """Weights, gradients, flags, hooks, modules and attributes, to compare with and go back to."""

    def __init__(self, model: nn.Module):
        # Before what is reported as something else: an attribute may be in its way.
        self._attributes = Attributes(model)
        self._modules = [
            (path, module, type(module), _parts(module)) for path, module in model.named_modules()
        ]
        self._tensors = [
            (name, tensor, _copy(tensor), tensor.requires_grad, tensor.grad, _copy(tensor.grad))
            for name, tensor in (*model.named_parameters(), *model.named_buffers())
        ]
        self._settings = {name: read() for name, (read, _) in _SETTINGS.items()}

    def restore(self) -> dict[str, list[str]]:
        """Put everything back, and give what had changed: by kind, the names.

        Kinds are ``weights`` (parameters and buffers), ``gradients`` (their ``.grad``), ``flags``
        (``training``, ``requires_grad``, torch's settings), ``hooks`` (also modules, and a class or
        ``forward`` that was replaced) and ``attributes`` (all others, and what is in them).
        """
        changed: dict[str, list[str]] = defaultdict(list)
        if attributes := self._attributes.restore():
            changed["attributes"] = attributes
        for name, (read, put) in _SETTINGS.items():
            if read() != self._settings[name]:
                changed["flags"].append(name)
                put(self._settings[name])
        for path, module, kind, parts in self._modules:
            if type(module) is not kind:
                changed["hooks"].append(f"class of {path or 'model'}")
                module.__class__ = kind
            for key in _restore(module, parts):
                changed[_KINDS.get(key, "hooks")].append(f"{key.strip('_')} of {path or 'model'}")
        for name, tensor, value, wanted, grad, slope in self._tensors:
            if tensor.requires_grad != wanted:
                changed["flags"].append(f"requires_grad of {name}")
                tensor.requires_grad_(wanted)
            if not same(tensor, value):
                changed["weights"].append(name)
                tensor.data = value.clone()
            if tensor.grad is not grad or not same(tensor.grad, slope):
                changed["gradients"].append(f"grad of {name}")
                # Of its own type again first, or the tensor does not take it.
                if grad is not None:
                    grad.data = slope.clone()
                tensor.grad = grad
        return dict(changed)


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()


def _parts(module: nn.Module) -> dict[str, tuple[Any, dict | None]]:
    """What is reported of a module: each thing itself and, of a dictionary, what is in it."""
    return {
        key: (value, dict(value) if isinstance(value, dict) else None)
        for key, value in vars(module).items()
        if key in ("_parameters", "_buffers", "_modules", "training", "forward") or "_hooks" in key
    }


def _restore(module: nn.Module, before: dict[str, tuple[Any, dict | None]]) -> list[str]:
    own, now, changed = vars(module), _parts(module), []
    for key in now.keys() - before.keys():
        del own[key]
        changed.append(key)
    for key, (value, inside) in before.items():
        found, contents = now.get(key, (None, None))
        if found is value and _identities(contents) == _identities(inside):
            continue
        # Handles that remove hooks know the dictionary itself.
        own[key] = value
        if inside is not None:
            value.clear()
            value.update(inside)
        changed.append(key)
    return changed


def _identities(contents: dict | None) -> list | None:
    return contents and [(key, id(value)) for key, value in contents.items()]
