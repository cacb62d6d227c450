"""Layers that add up their inputs with weights, and the rules by which they share relevance.

A rule hands down what autograd does: a gradient whose product with the layer's input is the
relevance of that input. So what lies between two layers and only moves values needs no rule. The
rules of layers that see pixels share without regard to these, and hand down relevance itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from saliency_sanity.networks.depthwise import together

# Added to denominators whose terms are of one sign, which are zero only where all of them are.
_TINY = 1e-9

# Weights that positive inputs meet, those that negative ones meet, a bias, and its share.
_Part = tuple[Tensor, Tensor, Tensor | None, Tensor | float]


@dataclass(frozen=True)
class Rule:
    """What is to be done at a layer: a rule's name, and the numbers that it needs."""

    name: str
    epsilon: float
    alpha: float
    gamma: float

    @property
    def by_size(self) -> bool:
        """Whether relevance itself is handed down, which a pixel of 0 can have too."""
        return self.name in ("zbox", "wsquare", "flat")


@dataclass(eq=False)
class Output:
    """What a call has given, for as long as its graph is there; ``merged`` into the next one."""

    value: Tensor
    merged: bool = False
    uses: int = 0
    factor: Tensor | None = None

    def damped(self, gradient: Tensor, epsilon: float, keep: bool) -> Tensor | None:
        """A gradient times z / (z + epsilon sign z)."""
        if self.merged and self.uses == 1:
            return None
        factor = self.factor
        if factor is None:
            # Written so that 0 gives 0, and infinity, as masks have it, 1.
            factor = self.value.abs().reciprocal_().mul_(epsilon).add_(1).reciprocal_()
            if keep:
                self.factor = factor
        return gradient * factor


@dataclass(eq=False)
class Affine:
    """A layer as it was called: ``run(x, weight)`` adds up, ``bias`` has the output's form.

    ``pixels`` are for a layer that sees such: ones in their places, and bounds where known.
    """

    run: Callable[[Tensor, Tensor], Tensor]
    x: Tensor
    weight: Tensor
    bias: Tensor | None
    rule: Rule
    pixels: tuple[Tensor, ...]
    rows: bool  # whether each row of the weight makes a channel of the output
    keep: bool
    output: Output = field(init=False)

    def __post_init__(self):
        self._version, self._shares = self.x._version, None

    def scaled(self, scale: Tensor, shift: Tensor) -> "Affine":
        """Take an affine map of the channels after the layer into it."""
        columns = [1] * (self.weight.ndim - 1)
        weight = self.weight * scale.view(-1, *columns)
        form = (-1, *columns[1:])
        return self._with(weight, shift.view(form) + (self._offset() * scale.view(form)))

    def raised(self, by: Tensor) -> "Affine":
        """Take what is added to the output into the layer."""
        return self._with(self.weight, self._offset() + by)

    def _offset(self) -> Tensor:
        return self.weight.new_zeros(()) if self.bias is None else self.bias

    def _with(self, weight: Tensor, bias: Tensor) -> "Affine":
        rest = self.rule, self.pixels, self.rows, self.keep
        return Affine(self.run, self.x, weight, bias, *rest)

    def handed(self, gradient: Tensor) -> Tensor:
        """What the layer hands down of what it is handed."""
        if self.x._version != self._version:
            raise RuntimeError("the input of a layer was modified by an inplace operation")
        shares = self._shares
        if shares is None:
            # What is on while a network runs is off while autograd calls a rule.
            with torch.enable_grad(), together(self.x):
                shares = list(self._terms())
            if self.keep:
                self._shares = shares
        leaves, totals, factors = zip(*shares, strict=True)
        found = torch.autograd.grad(
            totals,
            leaves[0],
            [gradient * factor for factor in factors],
            retain_graph=self.keep,
        )
        if self.rule.by_size:
            return sum(leaf.detach() * one for leaf, one in zip(leaves[0], found, strict=True))
        return found[0]

    def _terms(self) -> Iterator[tuple[tuple[Tensor, ...], Tensor, Tensor]]:
        """Leaves, what is added up of them, and what a gradient is to be multiplied by."""
        z = self.output.value
        if self.rule.by_size:
            leaves, total = self._by_size()
            yield leaves, total, z / stabilized(total.detach())
            return
        x = self.x.detach().requires_grad_()
        negative = bool((x < 0).any())
        above, below = (x.clamp_min(0), x.clamp_max(0)) if negative else (x, None)
        for first, second, bias, factor in self._parts(z):
            total = self.run(above, first)
            if negative:
                total = total + self.run(below, second)
            if bias is not None:
                total = total + bias
            yield (x,), total, z * factor / stabilized(total.detach())

    def _parts(self, z: Tensor) -> Iterator[_Part]:
        weight, bias = self.weight, self.bias
        high, low = weight.clamp_min(0), weight.clamp_max(0)
        up, down = (None, None) if bias is None else (bias.clamp_min(0), bias.clamp_max(0))
        if self.rule.name == "gamma":
            gamma = self.rule.gamma
            raised, lowered = weight + gamma * high, weight + gamma * low
            more, less = (None if bias is None else bias + gamma * part for part in (up, down))
            yield raised, lowered, more, z > 0
            yield lowered, raised, less, z < 0
            return
        alpha = self.rule.alpha if self.rule.name == "alpha_beta" else 1.0
        yield high, low, up, alpha
        if alpha > 1:
            yield low, high, down, 1 - alpha

    def _by_size(self) -> tuple[tuple[Tensor, ...], Tensor]:
        if self.rule.name == "zbox":
            values = self.x, *self.pixels[1:]
            leaves = tuple(one.detach().requires_grad_() for one in values)
            weights = self.weight, self.weight.clamp_min(0), self.weight.clamp_max(0)
            own, *bounds = (self.run(leaf, w) for leaf, w in zip(leaves, weights, strict=True))
            return leaves, own - bounds[0] - bounds[1]
        leaf = self.pixels[0].detach().requires_grad_()
        flat = self.rule.name == "flat"
        weight = torch.ones_like(self.weight) if flat else self.weight**2
        return (leaf,), self.run(leaf, weight)


def stabilized(total: Tensor) -> Tensor:
    """A denominator moved from zero by little, zero itself upwards."""
    return torch.where(total < 0, total - _TINY, total + _TINY)


class Ruled(torch.autograd.Function):
    """Give what a layer has given already, and hand down by its rule."""

    @staticmethod
    def forward(ctx, x, layer, value):  # noqa: ARG004, D102
        ctx.layer = layer
        return value.pop()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):  # noqa: D102
        return ctx.layer.handed(gradient), None, None


class Elementwise(torch.autograd.Function):
    """Units of one input each, which hand on their relevance: f(x) / x times the gradient."""

    @staticmethod
    def forward(ctx, x, run, writes, whole):  # noqa: D102
        before = x.clone() if writes and not whole else x
        value = run()
        # A unit whose input is 0 has nothing to hand on.
        ctx.share = None if whole else torch.where(before == 0, 0, value / before)
        if writes:
            ctx.mark_dirty(x)
            return x
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):  # noqa: D102
        share = ctx.share
        return gradient if share is None else gradient * share, None, None, None
