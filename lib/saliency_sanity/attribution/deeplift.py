"""DeepLIFT's rescale rule, put in place by intercepting calls.

A function mode sees the calls of two passes, of a baseline and of the picture. On the second a unit
of one input hands down how far it moved over how far its input did, where autograd would hand down
its slope. What adds up or moves values needs no rule, and what has none is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from saliency_sanity._errors import NotApplicable
from saliency_sanity.attribution.base import (
    attributing,
    gradient_of,
    in_chunks,
    leaf_of,
    recording,
    require_gradient,
    select,
)
from saliency_sanity.attribution.compose import Colour, baseline_of, checked, raw_colour
from saliency_sanity.attribution.graph import mark, marked, nodes
from saliency_sanity.attribution.rectifiers import interception
from saliency_sanity.attribution.relevance import (
    CURVED,
    KINKED,
    LINEAR,
    MOVES,
    SCALED,
    SUMMED,
    drops,
    overwrites,
)
from saliency_sanity.attribution.spellings import MATRICES, READERS, follow, named
from saliency_sanity.networks.branching import saving_hooks, tensors
from saliency_sanity.networks.forward import logits_of, name_of
from saliency_sanity.networks.pairs import normalising

# Inputs that moved by less hand down their slope, as in [kokhlikyan2020captum].
_STILL = 1e-10


# Values of a window that rounding alone sets apart, in units of the largest value's last digit.
_TIED = 128

_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Multipliers:
    """DeepLIFT's multipliers of the target's logit, by the rescale rule: change over change.

    Map ``[N, C, H, W]`` in logit per unit of the network's scaling; times the difference to the
    same ``baseline``, as ``TimesInput`` has it, it sums to the logit less the baseline's.
    ``baseline`` is a colour in raw pixel units [0, 1], or None for the network's zero.

    Units of one input (ReLU, GELU, sigmoid, say) hand down the change of their output over that of
    their input, or their slope where the input stays. A max pool hands what a maximum gained to its
    place in the picture, and what it lost to its place in the baseline; to that in the picture
    where the baseline has its maximum there as well, up to rounding, as in windows of one colour:
    other implementations take the first place, or what rounding prefers. Two forward passes and one
    backward. Raises NotApplicable for a network with anything that no rule covers, by name, such as
    products of hidden units, softmax, norms by a picture's own statistics; and in half precision.
    [shrikumar2017deeplift]; conventions of [kokhlikyan2020captum]
    """

    baseline: Colour = None

    def __post_init__(self):
        checked(self, baseline=raw_colour(self.baseline))

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain ``target`` for ``x``."""

        def explain(part: Tensor, wanted: Tensor) -> Tensor:
            flat = torch.zeros_like(part) + baseline_of(model, part, self.baseline)
            with recording():
                first = Lifting(model)
                first.run(flat)
                second = Lifting(model, first.inputs)
                leaf, logits = second.run(part)
                return gradient_of(model, select(logits, wanted), leaf)

        with attributing(model, x, target):
            if (other := interception()) is not None:
                raise NotApplicable(f"DeepLIFT has its own rule and cannot take {other.rule}")
            if x.dtype in _HALF or torch.is_autocast_enabled(x.device.type):
                raise NotApplicable(
                    "DeepLIFT divides by differences that half precision cannot tell from zero; "
                    "give model and pictures in single precision, with .float(), and outside of "
                    "torch.autocast"
                )
            require_gradient(model, x)
            return in_chunks(x, target, explain)


class Lifting(TorchFunctionMode):
    """A pass on which units of one input are noted, or given the ``inputs`` of the pass before."""

    def __init__(self, model: nn.Module, inputs: list[tuple[Callable, Tensor]] | None = None):
        super().__init__()
        self.model, self.inputs = model, [] if inputs is None else inputs
        self._known = None if inputs is None else iter(inputs)
        self._saving = saving_hooks()

    def run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The leaf and the logits of a pass; raises NotApplicable for what has no rule."""
        leaf = leaf_of(self.model, x)
        with self:
            logits = logits_of(self.model, leaf)
        idle = ("torch::autograd::AccumulateGrad", "BackwardHookFunctionBackward")
        for node in nodes(logits):
            if not marked(node) and node.name() not in idle:
                raise self._refusal(f"{node.name()!r} in its graph was made out of sight")
        if self._known is not None and next(self._known, None) is not None:
            raise self._elsewhere()
        return leaf, logits

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = list(tensors((args, kwargs)))
        kept = [one for one in given if hasattr(one, "_moves")]
        hanging = [one for one in given if one.requires_grad]
        recorded = hanging if torch.is_grad_enabled() else []
        # What is written to a view is written to its base, whose graph changes as well.
        bases = [one._base for one in given[:1] if one._base is not None]
        before = [one.grad_fn for one in (*recorded, *bases) if one.grad_fn is not None]
        output = self._called(func, args, kwargs, recorded, bool(kept))
        follow(func, args, output)
        made = args[0] if output is None and args else output
        mark(nodes([made, bases] if recorded else [], before))
        for one in tensors(made):
            if (hanging or kept) and not one.requires_grad and not _constant(func):
                one._moves = True  # with the picture, without a gradient
        return output

    def _called(
        self, func: Callable, args: tuple, kwargs: dict, hanging: list[Tensor], kept: bool
    ) -> Any:
        if not hanging:
            return func(*args, **kwargs)
        if func in READERS:
            x, floor, ceiling, writes = READERS[func](*args, **kwargs)
            if floor == 0 and ceiling > 0 and x.requires_grad:
                run = partial(_clipped, ceiling=ceiling)
                return self._unit(func, args, kwargs, x, run, writes)
        rule = _RULES.get(func)
        if rule is not None and not kept:
            return rule(self, func, args, kwargs, hanging)
        output = func(*args, **kwargs)
        if output is None or any(one.requires_grad for one in tensors(output)):
            raise self._refusal(f"it calls {_name(func)!r}" + " with values of the picture" * kept)
        return output

    def _refusal(self, why: str) -> NotApplicable:
        return NotApplicable(
            f"DeepLIFT cannot explain {name_of(self.model)}: {why}. The rescale rule is for sums "
            "and for units of one input, so the map would not sum to the change of the logit. Use "
            "integrated_gradients for this network"
        )

    def _elsewhere(self) -> NotApplicable:
        return self._refusal("the way through it differs between picture and baseline")

    # Rules, each given a call

    def _plain(self, func: Callable, args: tuple, kwargs: dict, _hanging: list[Tensor]) -> Any:
        return func(*args, **kwargs)

    def _single(self, func: Callable, args: tuple, kwargs: dict, hanging: list[Tensor]) -> Any:
        """What is linear in each of its inputs, but not in two at once."""
        if len(hanging) > 1:
            raise self._refusal(
                f"it calls {_name(func)!r} with two inputs that depend on the picture"
            )
        return func(*args, **kwargs)

    def _quotient(self, func: Callable, args: tuple, kwargs: dict, hanging: list[Tensor]) -> Any:
        if len(hanging) > 1 or hanging[0] is not args[0] or "__r" in _name(func):
            raise self._refusal(
                f"it calls {_name(func)!r} with a divisor that depends on the picture"
            )
        return func(*args, **kwargs)

    def _norm(self, func: Callable, args: tuple, kwargs: dict, hanging: list[Tensor]) -> Any:
        if normalising(*args, **kwargs)[2] is None:
            raise self._refusal(f"it calls {_name(func)!r} with the statistics of its batch")
        return self._single(func, args, kwargs, hanging)

    def _dropout(self, func: Callable, args: tuple, kwargs: dict, _hanging: list[Tensor]) -> Any:
        if drops(*args, **kwargs):
            raise self._refusal(f"it calls {_name(func)!r} in training")
        return func(*args, **kwargs)

    def _curve(self, func: Callable, args: tuple, kwargs: dict, hanging: list[Tensor]) -> Tensor:
        (x, *others) = hanging

        def run(values: Tensor) -> Tensor:
            swapped = [values if one is x else one for one in args]
            return func(*swapped, **{k: values if v is x else v for k, v in kwargs.items()})

        if others:
            raise self._refusal(
                f"it calls {_name(func)!r} with two inputs that depend on the picture"
            )
        return self._unit(func, args, kwargs, x, run, overwrites(func, args, kwargs))

    def _unit(
        self,
        func: Callable,
        args: tuple,
        kwargs: dict,
        x: Tensor,
        run: Callable[[Tensor], Tensor],
        writes: bool,
    ) -> Tensor:
        """What a function of each unit by itself gives; on the second pass with its multiplier."""
        start = self._noted(func, x)
        if start is None:
            return func(*args, **kwargs)
        leaf = x.detach().clone().requires_grad_()
        with torch.enable_grad():
            value = run(leaf.clone())
        if value.shape != x.shape:
            raise self._refusal(f"it calls {_name(func)!r} with one input for several units")
        (slope,) = torch.autograd.grad(value.sum(), leaf)
        value = value.detach()
        moved = leaf.detach() - start
        rescaled = (value - run(start.clone())) / moved
        slope = torch.where(moved.abs() < _STILL, slope, rescaled)
        return _Unit.apply(x, [value], slope, writes)

    def _pool(self, func: Callable, args: tuple, kwargs: dict, hanging: list[Tensor]) -> Tensor:
        start = self._noted(func, hanging[0])
        if start is None:
            return func(*args, **kwargs)
        options = {key: value for key, value in kwargs.items() if key != "return_indices"}
        pool = partial(_POOLS[func], **options)
        found = [pool(one, *args[1:]) for one in (args[0].detach(), start)]
        return _Pool.apply(args[0], start, *found)

    def _noted(self, func: Callable, x: Tensor) -> Tensor | None:
        """What the call was given on the pass of the baseline; None on that pass itself."""
        if saving_hooks() != self._saving:
            raise self._refusal("it computes a part again in the backward pass")
        if self._known is None:
            self.inputs.append((func, x.detach().clone()))
            return None
        known, start = next(self._known, (None, None))
        if known is not func or start.shape != x.shape:
            raise self._elsewhere()
        return start


class _Unit(torch.autograd.Function):
    """Give values that are known already, and hand down by known multipliers."""

    @staticmethod
    def forward(ctx, x, value, multiplier, writes):
        ctx.multiplier = multiplier
        if writes:
            ctx.mark_dirty(x)
            return x.copy_(value.pop())
        return value.pop()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient * ctx.multiplier, None, None, None


class _Pool(torch.autograd.Function):
    """A max pool: its places in the picture get what was gained, those in the baseline the loss."""

    @staticmethod
    def forward(ctx, x, start, found, baseline):
        (value, places), (before, those) = found, baseline
        own = start.flatten(-2).gather(-1, places.flatten(-2)).view(places.shape)
        tied = before - own <= _TIED * torch.finfo(x.dtype).eps * start.abs().amax()
        ctx.kept = x.detach(), start, value, places
        ctx.baseline = torch.where(tied, own, before), torch.where(tied, places, those)
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        (x, start, value, places), (before, those) = ctx.kept, ctx.baseline

        def down(handed: Tensor, places: Tensor) -> Tensor:
            flat = torch.zeros_like(x, memory_format=torch.contiguous_format).flatten(-2)
            flat.scatter_add_(-1, places.flatten(-2), handed.flatten(-2))
            return flat.view(x.shape)

        high = torch.maximum(value, before)
        shared = down(gradient * (high - before), places) + down(gradient * (value - high), those)
        still = (x - start).abs() < _STILL
        return torch.where(still, down(gradient, places), shared / (x - start)), None, None, None


def _clipped(x: Tensor, ceiling: float) -> Tensor:
    return x.relu() if ceiling == inf else F.hardtanh(x, 0, ceiling)


def _constant(func: Callable) -> bool:
    """Whether a call gives what does not depend on the values it is given."""
    return _name(func).startswith("new_") or _name(func).endswith("_like")


def _name(func: Callable) -> str:
    return getattr(func, "__name__", str(func))


_POOLS: dict[Callable, Callable] = {
    call: indexed
    for name, indexed in (
        ("max_pool2d", F.max_pool2d_with_indices),
        ("adaptive_max_pool2d", F.adaptive_max_pool2d_with_indices),
    )
    for call in named(name)
}
_FURTHER = """
    sigmoid sigmoid_ hardsigmoid hardsigmoid_ softplus logsigmoid exp exp_ expm1 log log1p sqrt
    square sin cos atan erf"""
_QUOTIENTS = "div div_ divide true_divide __div__ __truediv__ __itruediv__ __rtruediv__"

_RULES: dict[Callable, Callable] = {
    **dict.fromkeys(named(f"{MOVES} {SUMMED}"), Lifting._plain),
    **dict.fromkeys([*named(f"{SCALED} {LINEAR} einsum"), *MATRICES], Lifting._single),
    **dict.fromkeys(named(_QUOTIENTS), Lifting._quotient),
    **dict.fromkeys(named("dropout dropout1d dropout2d dropout3d"), Lifting._dropout),
    **dict.fromkeys(named(f"{KINKED} {CURVED} {_FURTHER}"), Lifting._curve),
    **dict.fromkeys(_POOLS, Lifting._pool),
    F.batch_norm: Lifting._norm,
    **{getattr(torch.Tensor, key).__get__: Lifting._plain for key in ("T", "mT", "H", "mH")},
}
