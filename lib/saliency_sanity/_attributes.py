"""Plain attributes of modules: what a network keeps beside parameters, buffers, parts and hooks."""

import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saliency_sanity._hashing import wrapped

# Torch's own; what of them may change has names of its own elsewhere.
_TORCHS = frozenset(vars(nn.Module())) | {"forward", "_compiled_call_impl", "_is_torch_compile"}
# Where torch keeps what is to be called around a module's own passes.
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_SIMPLE = (type(None), bool, int, float, complex, str, bytes)
# Deeper in, only what a thing is counts: somewhere a network may know its trainer, and all data.
_DEPTH = 4


def plain(module: nn.Module) -> dict[str, Any]:
    """The plain attributes of one module, by name."""
    return {key: value for key, value in vars(module).items() if key not in _TORCHS}


def inside(value: object) -> Mapping[Any, Any] | None:
    """What a value holds, by key, place or name; None for what holds nothing that can be told."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list | tuple | deque):
        return dict(enumerate(value))
    if isinstance(value, set | frozenset):
        return {item: item for item in value}
    # Objects of the standard library have states of their own: loggers, locks, threads.
    package = type(value).__module__.partition(".")[0]
    if isinstance(value, type) or (
        package in sys.stdlib_module_names and not isinstance(value, SimpleNamespace)
    ):
        return None
    return getattr(value, "__dict__", None)


def same(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two tensors have one type, device, shape and values, or both are None."""
    if one is None or other is None:
        return one is other
    if (one.dtype, one.device, one.shape) != (other.dtype, other.device, other.shape):
        return False
    if one.is_meta or torch.equal(one, other):
        return True
    if not one.is_floating_point():
        return False
    unknown = one.isnan()
    return torch.equal(unknown, other.isnan()) and torch.equal(one[~unknown], other[~unknown])


class Attributes:
    """The plain attributes of all modules of a network, to compare with and go back to.

    What containers and objects in them hold counts, and the values of tensors. Registered tensors
    and modules do not; with ``buffers`` it counts which buffers there are.
    """

    def __init__(self, model: nn.Module, *, buffers: bool = False):
        self._more = ("_buffers", "_non_persistent_buffers_set") if buffers else ()
        registered = {id(part) for part in (*model.modules(), *model.parameters())}
        self._registered = registered | {id(buffer) for buffer in model.buffers()}
        self._modules = [
            (path, module, {key: self._keep(one, ()) for key, one in self._own(module).items()})
            for path, module in model.named_modules()
            # What torch has compiled keeps notes of its own, and of what is scripted nobody sees.
            if not (wrapped(module) or isinstance(module, torch.jit.ScriptModule))
        ]

    def restore(self, only: Callable[[str, str], bool] = lambda _path, _name: True) -> list[str]:
        """Put everything back, and name what had changed, as "eps of network.norm"."""
        changed = []
        for path, module, before in self._modules:
            own, now = vars(module), self._own(module)
            for name in [*before, *(now.keys() - before.keys())]:
                if not only(path, name):
                    continue
                if name not in before:
                    del own[name]
                elif name in now and not self._differs(now[name], before[name]):
                    continue
                else:
                    own[name] = before[name][0]
                    self._put_back(before[name])
                changed.append(f"{name} of {path or 'model'}")
        return changed

    def _own(self, module: nn.Module) -> dict[str, Any]:
        return plain(module) | {key: vars(module)[key] for key in self._more}

    def _keep(self, value: Any, above: tuple[int, ...]) -> tuple[Any, Any]:
        """A value with a copy of what is in it."""
        if isinstance(value, _SIMPLE) or id(value) in self._registered:
            return value, None
        if isinstance(value, Tensor):
            return value, value.detach().clone()
        if isinstance(value, np.ndarray):
            return value, value.copy()
        found = inside(value) if len(above) < _DEPTH and id(value) not in above else None
        if found is None:
            return value, None
        return value, {key: self._keep(one, (*above, id(value))) for key, one in found.items()}

    def _differs(self, now: Any, kept: tuple[Any, Any]) -> bool:
        before, copy = kept
        if isinstance(before, _SIMPLE):
            return now is not before and (
                type(now) is not type(before) or repr(now) != repr(before)
            )
        if now is not before:
            return True
        if isinstance(copy, Tensor):
            return not same(now.detach(), copy)
        if isinstance(copy, np.ndarray):
            return now.dtype != copy.dtype or now.tobytes() != copy.tobytes()
        if copy is None:
            return False
        found = inside(now)
        return list(found) != list(copy) or any(
            self._differs(found[key], one) for key, one in copy.items()
        )

    def _put_back(self, kept: tuple[Any, Any]) -> None:
        value, copy = kept
        if isinstance(copy, Tensor):
            if not same(value.detach(), copy):
                value.data = copy.clone()
        elif isinstance(copy, np.ndarray):
            if value.shape == copy.shape:
                value[...] = copy
        elif copy is not None:
            for one in copy.values():
                self._put_back(one)
            _refill(value, {key: one for key, (one, _) in copy.items()})


def _refill(value: Any, items: dict) -> None:
    """Let a container hold these items, in their order."""
    if isinstance(value, list):
        value[:] = items.values()
    elif isinstance(value, MutableMapping | set):
        value.clear()
        value.update(items)
    elif isinstance(value, deque):
        value.clear()
        value.extend(items.values())
    elif not isinstance(value, tuple | frozenset | Mapping):
        vars(value).clear()
        vars(value).update(items)


def tensors_in(value: Any, above: tuple[int, ...] = ()) -> Iterator[Tensor]:
    """The tensors that a plain attribute holds, however deep."""
    if isinstance(value, Tensor):
        yield value
    elif not isinstance(value, _SIMPLE) and len(above) < _DEPTH:
        for one in (inside(value) or {}).values():
            yield from tensors_in(one, (*above, id(value)))
