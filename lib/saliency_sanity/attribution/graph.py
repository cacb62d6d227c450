"""The graph of a pass: what ran, whoever called it.

A function mode sees calls, but none that a scripted part, another thread or a function with a
backward pass of its own makes. The nodes of the graph tell of those too.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from saliency_sanity.networks.branching import tensors

Node = Any  # torch.autograd.graph.Node, whose saved values its type does not tell of

_MARK = "saliency_sanity"


def nodes(values: object, until: Iterable[Node] = ()) -> Iterator[Node]:
    """The nodes behind tensors, each once, up to those of ``until``."""
    seen, todo = {None, *until}, [value.grad_fn for value in tensors(values)]
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            yield node
            todo += [before for before, _ in node.next_functions]


def mark(found: Iterable[Node | None]) -> None:
    """Note on nodes that whoever intercepts calls has seen what made them."""
    for node in found:
        if node is not None:
            node.metadata[_MARK] = True


def marked(node: Node) -> bool:
    """Whether a node was marked."""
    return _MARK in node.metadata


def strangers(values: object) -> list[str]:
    """What acts as a rectifier in the graph of tensors, or may do so, without being marked.

    Names of nodes, each once. A maximum of zero and a part that depends on the input is one, as
    is a product with zeros and ones; of a function with a backward pass of its own it is tried out.
    """
    found = dict.fromkeys(node.name() for node in nodes(values) if _rectifies(node))
    return list(found)


def _rectifies(node: Node) -> bool:
    if isinstance(node, torch.autograd.function.BackwardCFunction):
        return _function_rectifies(node)
    name = node.name()
    judge = _JUDGES.get(name)
    if judge is None:
        # What the just-in-time compiler or other languages made says nothing of its inside.
        return "::" in name and not name.startswith(_KNOWN)
    return not marked(node) and judge(node)


_KNOWN = ("torch::autograd::AccumulateGrad", "torch::autograd::CopySlices")
_KNOWN += ("torch::autograd::CppNode<vision::ops",)


def _zero(bound: Tensor | float | None) -> bool:
    return bound is not None and bool((torch.as_tensor(bound) == 0).any())


def _constant(node: Node) -> Tensor | None:
    """The one of two operands that does not depend on the input; None where both do."""
    (first, _), (second, _) = node.next_functions
    if first is not None and second is not None:
        return None
    return node._saved_other if second is None else node._saved_self


def _is_gate(node: Node) -> bool:
    mask = _constant(node)
    if mask is None or mask.shape != torch.Size(node._input_metadata[0].shape):
        return False
    return mask.dtype == torch.bool or _is_mask(mask)


def _is_mask(factor: Tensor) -> bool:
    """Whether it is of zeros and ones; of zeros alone it is an empty state, of an LSTM say."""
    return bool(((factor == 0) | (factor == 1)).all() and factor.any())


def _is_gate_of_three(node: Node) -> bool:
    factors = [
        node._saved_tensor1 if number == 2 else node._saved_tensor2
        for number in (1, 2)
        if node.next_functions[number][0] is not None
    ]
    return len(factors) == 1 and _is_mask(factors[0])


def _is_filling(node: Node) -> bool:
    """Whether constants are put where a mask says; which ones is not saved."""
    masks = [index for index in node._saved_indices if index is not None]
    return node.next_functions[1][0] is None and any(m.dtype == torch.bool for m in masks)


_JUDGES: dict[str, Callable[[Node], bool]] = {
    "ReluBackward0": lambda _: True,
    "ThresholdBackward0": lambda node: node._saved_threshold == 0,
    "HardtanhBackward0": lambda node: 0 in (node._saved_min_val, node._saved_max_val),
    "LeakyReluBackward0": lambda node: node._saved_negative_slope == 0,
    "RreluWithNoiseBackward0": lambda node: node._saved_lower + node._saved_upper == 0,
    "PreluKernelBackward0": lambda node: _zero(node._saved_weight),
    "EluBackward0": lambda node: node._saved_alpha * node._saved_scale == 0,
    "WhereBackward0": lambda node: None in [before for before, _ in node.next_functions],
    "MaskedFillBackward0": lambda _: True,
    "MaskedFillBackward1": lambda _: True,
    "IndexPutBackward0": _is_filling,
    "MulBackward0": _is_gate,
    "AddcmulBackward0": _is_gate_of_three,
    "LerpBackward1": lambda node: _is_mask(node._saved_weight),
    "MaskedScatterBackward0": lambda _: True,
}
for _name in ("Maximum", "Minimum", "Fmax", "Fmin"):
    _JUDGES[f"{_name}Backward0"] = lambda node: _zero(_constant(node))
for _name in ("Clamp", "ClampMin", "ClampMax"):
    for _overload in (0, 1):
        _JUDGES[f"{_name}Backward{_overload}"] = lambda node: any(
            _zero(getattr(node, bound, None)) for bound in ("_saved_min", "_saved_max")
        )
for _name in ("CudnnRnn", "MiopenRnn"):
    _JUDGES[f"{_name}Backward0"] = lambda node: node._saved_mode == 0  # a ReLU's


def _function_rectifies(node: Node) -> bool:
    """Whether a function that is written in Python lets no gradient pass below zero."""
    function, inputs = type(node)._forward_cls, [n for n, _ in node.next_functions if n is not None]
    if function.__module__.startswith("saliency_sanity."):
        return False
    if function.__module__.startswith(("torch._functorch", "torch._dynamo")):
        return True  # a compiled part
    (device, dtype), *_ = ((one.device, one.dtype) for one in node._input_metadata)
    verdict = _tried(function, device, dtype)
    if verdict is not None or len(inputs) > 1:
        return verdict is not False
    # It takes more than a tensor, so what it did here must do.
    shape = torch.Size(node._input_metadata[0].shape)
    given = torch.linspace(1, 2, shape.numel(), device=device, dtype=dtype).reshape(shape)
    try:
        (slope,) = tensors(node.apply(given))
    except Exception:
        return True
    return slope.shape != shape or bool((slope == 0).any() or (slope == given).all())


@lru_cache(256)
def _tried(function: type, device: torch.device, dtype: torch.dtype) -> bool | None:
    """The verdict on a function of one tensor, value by value; None where it is none."""
    line = torch.linspace(-4, 4, 16, device=device, dtype=dtype).requires_grad_()
    generators = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(generators), torch.enable_grad():
            (output,) = tensors(function.apply(line))
            (slope,) = torch.autograd.grad(output.sum(), line)
    except Exception:
        return None
    return not slope[:8].any() and bool(slope[8:].any())
