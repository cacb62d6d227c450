"""The ways in which a rectifier is called, each read as its input and its bounds; attention, too.

Clamps and their like have bounds of their own. A gate (a product, a choice, a filling) is a
rectifier where its mask says of its own input whether that is above 0: ``x * (x > 0)``.
"""

from collections.abc import Callable
from math import inf, nan
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# A call as (input, lower bound, upper bound, inplace). None is no bound at all; NaN is one that
# is no single number.
Reading = tuple[Any, float | None, float, bool]
Reader = Callable[..., Reading]


def _level(bound: Any, x: Any) -> float | None:
    if not isinstance(bound, Tensor):
        return bound
    if bound.requires_grad or not bound.numel():
        return nan
    low, high = bound.aminmax()
    fits = torch.broadcast_shapes(bound.shape, x.shape) == x.shape
    return low.item() if fits and low == high else nan


def _relu(input, inplace=False):
    return input, 0, inf, inplace


def _relu_(input):
    return input, 0, inf, True


def _relu6(input, inplace=False):
    return input, 0, 6, inplace


def _leaky_relu(input, negative_slope=0.01, inplace=False):
    return input, (0 if negative_slope == 0 else None), inf, inplace


def _leaky_relu_(input, negative_slope=0.01):
    return _leaky_relu(input, negative_slope, True)


def _hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False):
    return input, min_val, max_val, inplace


def _hardtanh_(input, min_val=-1.0, max_val=1.0):
    return input, min_val, max_val, True


def _threshold(input, threshold, value, inplace=False):
    return input, (0 if threshold == value == 0 else None), inf, inplace


def _threshold_(input, threshold, value):
    return _threshold(input, threshold, value, True)


def _clamp(input, min=None, max=None, *, out=None):  # noqa: ARG001
    return input, _level(min, input), (inf if max is None else _level(max, input)), False


def _clamp_(input, min=None, max=None):
    return *_clamp(input, min, max)[:3], True


def _maximum(input, other=None, *options, **named):
    if options or named or not isinstance(other, Tensor):  # a maximum along a dimension
        return input, None, inf, False
    x, bound = (input, other) if input.requires_grad else (other, input)
    return x, _level(bound, x), inf, False


def _gate(x: Any, mask: Any, rest: Any, above: bool) -> float | None:
    """0 where ``x`` stays where it is above 0 and a constant 0 is elsewhere; NaN below 0."""
    source, version, signs = getattr(mask, "_signs", (None, 0, False))
    if source is None or not isinstance(x, Tensor) or version != x._version:
        return None
    if source.data_ptr() != x.data_ptr() or source.stride() != x.stride() or mask.shape != x.shape:
        return None
    if signs is not above:
        return nan
    return 0 if _level(rest, x) == 0 else None


def _mul(input, other, *, out=None):  # noqa: ARG001
    x, mask = (input, other) if getattr(input, "requires_grad", False) else (other, input)
    return x, _gate(x, mask, 0, True), inf, False


def _mul_(input, other):
    return input, _gate(input, other, 0, True), inf, True


def _where(condition, input=None, other=None, *, out=None):  # noqa: ARG001
    if getattr(input, "requires_grad", False):
        return input, _gate(input, condition, other, True), inf, False
    return other, _gate(other, condition, input, False), inf, False


def _tensor_where(input, condition, other=None):
    return _where(condition, input, other)


def _masked_fill(input, mask, value):
    return input, _gate(input, mask, value, False), inf, False


def _masked_fill_(input, mask, value):
    return input, _gate(input, mask, value, False), inf, True


def named(names: str) -> list[Callable]:
    """The functions and methods of these names, as far as there are such."""
    places = (torch, torch.Tensor, F, torch._C._nn)
    found = (getattr(home, name, None) for name in names.split() for home in places)
    return [call for call in found if call is not None]


MATRICES = {*named("matmul mm bmm __matmul__")}


def attended(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
):
    """Attention as it is called: queries, keys, values, what is added to scores, their factor.

    What is added is NotImplemented where there is dropout, or where heads share keys.
    """
    mask = attn_mask
    if dropout_p or enable_gqa:
        mask = NotImplemented
    elif is_causal:
        mask = query.new_ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
    if isinstance(mask, Tensor) and mask.dtype == torch.bool:
        mask = query.new_zeros(()).masked_fill(~mask, -inf)
    return query, key, value, mask, query.shape[-1] ** -0.5 if scale is None else scale


def opened(func: Callable) -> Callable:
    """A function that is written in Python so that a function mode sees what it calls."""
    seen = {**func.__globals__, "has_torch_function": lambda _: False}
    found = FunctionType(func.__code__, seen, func.__name__, func.__defaults__)
    found.__kwdefaults__ = func.__kwdefaults__
    return found


READERS: dict[Callable, Reader] = {
    F.relu: _relu,
    F.relu6: _relu6,
    F.leaky_relu: _leaky_relu,
    F.leaky_relu_: _leaky_relu_,
    F.hardtanh: _hardtanh,
    F.hardtanh_: _hardtanh_,
    F.threshold: _threshold,
    **dict.fromkeys(named("relu"), _relu),
    **dict.fromkeys(named("relu_"), _relu_),
    **dict.fromkeys(named("threshold"), _threshold),
    **dict.fromkeys(named("threshold_"), _threshold_),
    **dict.fromkeys(named("clamp clip clamp_min"), _clamp),
    **dict.fromkeys(named("clamp_ clip_ clamp_min_"), _clamp_),
    **dict.fromkeys(named("max maximum fmax"), _maximum),
    **dict.fromkeys(named("mul multiply __mul__ __rmul__"), _mul),
    **dict.fromkeys(named("mul_ multiply_ __imul__"), _mul_),
    torch.where: _where,
    torch.Tensor.where: _tensor_where,
    **dict.fromkeys(named("masked_fill"), _masked_fill),
    **dict.fromkeys(named("masked_fill_ __setitem__"), _masked_fill_),
}

# Comparisons with 0, whether they are true above or below it; what hands their masks on, whether
# as they are or turned round.
_COMPARISONS = dict.fromkeys(named("gt ge greater greater_equal"), True)
_COMPARISONS |= dict.fromkeys(named("lt le less less_equal"), False)
_COPIES = dict.fromkeys(named("to type type_as float double clone detach"), True)
_COPIES |= dict.fromkeys(named("logical_not bitwise_not __invert__"), False)


def follow(func: Callable, args: tuple, output: Any) -> None:
    """Remember of what a call gave, if it is a mask, of which tensor it gives the signs."""
    if func in _COMPARISONS and len(args) == 2 and not args[0].is_inference():
        if _level(args[1], args[0]) == 0:
            output._signs = args[0].detach(), args[0]._version, _COMPARISONS[func]
    elif func in _COPIES and args and hasattr(args[0], "_signs"):
        source, version, above = args[0]._signs
        output._signs = source, version, above is _COPIES[func]
