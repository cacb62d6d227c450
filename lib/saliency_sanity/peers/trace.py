"""What one pass shows of a network that other libraries' rules depend on."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from saliency_sanity.attribution.base import attributing, recording
from saliency_sanity.attribution.spellings import READERS, follow
from saliency_sanity.networks.classifier import network_of
from saliency_sanity.networks.forward import laid_out

_RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Threshold)
_CURVED = (
    *_RECTIFIERS,
    *(nn.ELU, nn.LeakyReLU, nn.PReLU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softmax, nn.MaxPool2d),
    *(nn.LayerNorm, nn.GroupNorm),
)
# What may be called twice without harm, for nothing is done to values.
_SAME = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.Flatten)


def _calls(*names: str) -> dict[Callable, str]:
    homes = (torch, torch.Tensor, F)
    found = {name: [getattr(home, name, None) for home in homes] for name in names}
    return {call: name.strip("_") for name, calls in found.items() for call in calls if call}


_CURVES = _calls(
    *("elu", "leaky_relu", "selu", "celu", "gelu", "silu", "mish", "hardswish", "hardsigmoid"),
    *("sigmoid", "tanh", "softplus", "softmax", "max_pool2d", "layer_norm", "group_norm"),
    "scaled_dot_product_attention",
)
_SUMS = _calls("add", "add_", "__add__", "__radd__", "__iadd__", "sub", "__sub__")
_PRODUCTS = _calls("mul", "mul_", "__mul__", "__rmul__", "__imul__", "matmul", "bmm", "__matmul__")
_MEANS = _calls("mean", "sum", "avg_pool2d", "adaptive_avg_pool2d")


@dataclass
class Trace:
    """What a pass of one picture did outside of modules, and with them; names, one each time.

    ``functions`` are rectifiers that are called as functions, ``curves`` other such functions that
    are not linear, ``sums`` and ``products`` those of two tensors that both hang on the picture,
    ``means`` averages and sums over places. ``reused`` modules were called more than once,
    ``hooked`` ones have backward hooks, and the output of ``overwritten`` ones was changed in place
    by what came after.
    """

    model: nn.Module
    modules: dict[str, nn.Module] = field(default_factory=dict)
    functions: list[str] = field(default_factory=list)
    curves: list[str] = field(default_factory=list)
    sums: list[str] = field(default_factory=list)
    products: list[str] = field(default_factory=list)
    means: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    hooked: list[str] = field(default_factory=list)
    overwritten: frozenset[str] = frozenset()

    def of(self, *kinds: type) -> list[str]:
        """Names of the modules of these kinds that have been called."""
        return [name for name, module in self.modules.items() if isinstance(module, kinds)]

    def rectifiers_of(self, kind: type) -> list[str]:
        """Rectifying modules of one kind."""
        return self.of(kind)

    def rectifiers_but(self, kind: type) -> list[str]:
        """Rectifying modules that are not of one kind."""
        return [name for name in self.of(*_RECTIFIERS) if name not in self.of(kind)]

    def curved_but(self, kinds: tuple[type, ...]) -> list[str]:
        """Modules that are not linear and of exactly none of these kinds."""
        return [name for name in self.of(*_CURVED) if type(self.modules[name]) not in kinds]


def counted(names: Iterable[str], most: int = 4) -> str:
    """Names with how often they come: ``relu (3), head``."""
    found = [f"{key} ({n})" if n > 1 else key for key, n in Counter(names).items()]
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


class _Watch(TorchFunctionMode):
    """Notes calls that are made outside of modules without parts."""

    def __init__(self, found: Trace):
        super().__init__()
        self.found, self.depth = found, 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self.depth == 0 and torch.is_grad_enabled():
            self.note(func, args, kwargs)
        output = func(*args, **kwargs)
        follow(func, args, output)
        return output

    def note(self, func: Callable, args: tuple, kwargs: dict[str, Any]) -> None:
        found, wanting = self.found, [a for a in args if _wants(a)]
        if func in READERS:
            x, floor, ceiling, _ = READERS[func](*args, **kwargs)
            if floor == 0 and ceiling > 0 and _wants(x):
                found.functions.append(getattr(func, "__name__", "clamp").strip("_"))
                return
        if not wanting:
            return
        if func in _CURVES:
            found.curves.append(_CURVES[func])
        elif func in _SUMS and len(wanting) > 1:
            found.sums.append("add")
        elif func in _PRODUCTS and len(wanting) > 1:
            found.products.append(_PRODUCTS[func])
        elif func in _MEANS:
            found.means.append(_MEANS[func])


def _wants(value: object) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def trace(model: nn.Module, x: Tensor) -> Trace:
    """Run one picture of ``x`` ``[N, C, H, W]`` through the network and note what it does."""
    found, calls, outputs = Trace(model), Counter(), []
    with attributing(model, x, torch.zeros(len(x), dtype=torch.int64, device=x.device)):
        laid_out(model, x[:1])
        network = network_of(model)
        named = {path: module for path, module in network.named_modules() if path}
        found.hooked = [p for p, m in named.items() if m._backward_hooks]
        watch, handles = _Watch(found), []

        def enter(*_: Any) -> None:
            watch.depth += 1

        def leave(path: str) -> None:
            watch.depth -= 1
            calls[path] += not isinstance(named[path], _SAME)

        def keep(path: str, output: Any) -> None:
            found.modules[path] = named[path]
            if isinstance(output, Tensor):
                outputs.append((path, output, output._version))

        try:
            for path, module in named.items():
                if not [*module.children()]:
                    handles.append(module.register_forward_pre_hook(enter))
                    handles.append(module.register_forward_hook(lambda *_, p=path: leave(p)))
                handles.append(module.register_forward_hook(lambda _m, _i, y, p=path: keep(p, y)))
            with recording(), watch:
                leaf = x[:1].detach().clone(memory_format=torch.contiguous_format).requires_grad_()
                network(leaf.clone())
        finally:
            for handle in handles:
                handle.remove()
    found.reused = [path for path, count in calls.items() if count > 1]
    found.overwritten = frozenset(path for path, y, made in outputs if y._version != made)
    return found
