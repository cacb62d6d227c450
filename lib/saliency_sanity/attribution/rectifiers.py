"""Backward rules for rectifiers, put in place by intercepting the calls, not the modules.

Many networks (Inception v3, GoogLeNet, MobileNet v2, DenseNet's last layer) rectify through
functions: hooks on ``nn.ReLU`` modules see nothing there, and guided backpropagation silently
turns into the plain gradient. A function mode sees every call, whoever makes it.
"""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Rule(Protocol):
    """What a rectifier hands down: ``(gradient, output, ceiling) -> gradient``.

    ``output`` is the rectifier's own output; ``ceiling`` its upper bound, infinite for a ReLU and
    6 for a ReLU6. A rule may have ``elsewhere(func, args, kwargs)`` as well, which gives what
    another call of the pass is to give, or None where it is to run as it is.
    """

    def __call__(self, gradient: Tensor, output: Tensor, ceiling: float) -> Tensor: ...  # noqa: D102


def through(gradient: Tensor, output: Tensor, ceiling: float) -> Tensor:
    """The rectifier's true derivative: pass where the unit is neither off nor saturated."""
    passed = torch.ops.aten.threshold_backward(gradient, output, 0)
    return passed if ceiling == inf else passed * (output < ceiling)


@dataclass(frozen=True)
class Guided:
    """Guided backpropagation: pass positive gradients through active units only.

    [springenberg2015striving]; the activity mask is the rectifier's output > 0, as in
    [pair-saliency] ``guided_backprop.py``.
    """

    def __call__(self, gradient: Tensor, output: Tensor, ceiling: float) -> Tensor:
        """Apply the rule."""
        # In place on what `through` has just made; the incoming gradient may have other readers.
        return through(gradient, output, ceiling).clamp_min_(0)


@dataclass(frozen=True)
class Deconv:
    """DeconvNet: pass positive gradients, whether the unit was active or not.

    [zeiler2014visualizing]
    """

    def __call__(self, gradient: Tensor, output: Tensor, ceiling: float) -> Tensor:  # noqa: ARG002
        """Apply the rule."""
        return gradient.clamp_min(0)


class _Rectifier(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, rule, ceiling, inplace):
        if inplace:
            output = x.relu_() if ceiling == inf else x.clamp_(0, ceiling)
            ctx.mark_dirty(x)
        else:
            output = x.relu() if ceiling == inf else x.clamp(0, ceiling)
        ctx.save_for_backward(output)
        ctx.rule, ctx.ceiling = rule, ceiling
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        (output,) = ctx.saved_tensors
        return ctx.rule(gradient, output, ctx.ceiling), None, None, None


# Each entry reads a call as (input, lower bound, upper bound, inplace).
_Reader = Callable[..., tuple[Tensor, Any, Any, bool]]


def _relu(input, inplace=False):
    return input, 0, inf, inplace


def _relu_(input):
    return input, 0, inf, True


def _relu6(input, inplace=False):
    return input, 0, 6, inplace


def _hardtanh_(input, min_val=-1.0, max_val=1.0):
    return input, min_val, max_val, True


def _hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False):
    return input, min_val, max_val, inplace


def _threshold(input, threshold, value, inplace=False):
    return input, (0 if threshold == value == 0 else None), inf, inplace


def _threshold_(input, threshold, value):
    return *_threshold(input, threshold, value)[:3], True


def _clamp(input, min=None, max=None, *, out=None):
    return input, (None if out is not None else min), (inf if max is None else max), False


def _clamp_(input, min=None, max=None):
    return input, min, (inf if max is None else max), True


_READERS: dict[Callable, _Reader] = {
    F.relu: _relu,
    torch.relu: _relu,
    torch.Tensor.relu: _relu,
    torch.relu_: _relu_,
    torch.Tensor.relu_: _relu_,
    F.relu6: _relu6,
    F.hardtanh: _hardtanh,
    F.hardtanh_: _hardtanh_,
    F.threshold: _threshold,
    torch.threshold: _threshold,
    torch.threshold_: _threshold_,
    torch.clamp: _clamp,
    torch.clip: _clamp,
    torch.clamp_min: _clamp,
    torch.Tensor.clamp: _clamp,
    torch.Tensor.clip: _clamp,
    torch.Tensor.clamp_min: _clamp,
    torch.clamp_: _clamp_,
    torch.clip_: _clamp_,
    torch.clamp_min_: _clamp_,
    torch.Tensor.clamp_: _clamp_,
    torch.Tensor.clip_: _clamp_,
    torch.Tensor.clamp_min_: _clamp_,
}


_current: ContextVar["Interception | None"] = ContextVar("interception", default=None)


def interception() -> "Interception | None":
    """The interception that is in force, the innermost one; None where rectifiers are their own."""
    return _current.get()


class Interception(TorchFunctionMode):
    """Give every rectifier that takes part in a gradient the backward rule ``rule``.

    A rectifier is any call that clamps at zero from below: ReLU, ReLU6, hardtanh, clamp and
    threshold with a lower bound of 0, in-place or not. Outputs do not change. ``hits`` counts
    the calls.
    """

    def __init__(self, rule: Rule):
        super().__init__()
        self.rule = rule
        self.hits = 0
        self._elsewhere = getattr(rule, "elsewhere", None)

    def __enter__(self):
        self._token = _current.set(self)
        return super().__enter__()

    def __exit__(self, *exception):
        _current.reset(self._token)
        return super().__exit__(*exception)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Replace the call where it is a rectifier."""
        kwargs = kwargs or {}
        reader = _READERS.get(func)
        if reader is not None and torch.is_grad_enabled():
            x, floor, ceiling, inplace = reader(*args, **kwargs)
            numeric = isinstance(floor, int | float) and isinstance(ceiling, int | float)
            if numeric and floor == 0 and ceiling > 0 and x.requires_grad:
                self.hits += 1
                return _Rectifier.apply(x, self.rule, float(ceiling), inplace)
        if self._elsewhere is not None and torch.is_grad_enabled():
            output = self._elsewhere(func, args, kwargs)
            if output is not None:
                return output
        return func(*args, **kwargs)
