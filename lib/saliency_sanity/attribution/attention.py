"""Attention of a vision transformer: how much of each patch reaches its class token.

A function mode sees every call that Python makes, and no module is touched. Fused attention is
computed by its definition, so that its weights are seen and have a gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from saliency_sanity._errors import NotApplicable
from saliency_sanity.attribution.base import (
    attributing,
    in_chunks,
    leaf_of,
    recording,
    require_gradient,
    select,
)
from saliency_sanity.attribution.spellings import MATRICES, attended, named, opened
from saliency_sanity.attribution.tokens import grid_of, on_grid, resized
from saliency_sanity.networks.branching import tensors
from saliency_sanity.networks.classifier import network_of
from saliency_sanity.networks.forward import logits_of, name_of

_SOFTMAX = {*named("softmax")}
_PRODUCTS = {*MATRICES, *named("einsum")}


class Attending(TorchFunctionMode):
    """Keep the attention weights of the passes within the block, in order, as they are made.

    They are what a softmax over the last dimension gives and a product takes, ``[..., T, T]``.
    """

    def __init__(self):
        super().__init__()
        self.weights: list[Tensor] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Make the call, and see whether it is attention."""
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query, key, value, mask, scale = attended(*args, **kwargs)
            if mask is NotImplemented:
                raise NotApplicable("its attention has dropout, or heads that share their keys")
            scores = query * scale @ key.transpose(-2, -1)
            self.weights.append((scores if mask is None else scores + mask).softmax(-1))
            return self.weights[-1] @ value
        if func is F.multi_head_attention_forward:
            with self:
                return opened(func)(*args, **kwargs)
        output = func(*args, **kwargs)
        if func in _SOFTMAX and _over_last(*args, **kwargs):
            output._soft = True
        elif func in _PRODUCTS:
            for one in tensors(args):
                if getattr(one, "_soft", False):
                    one._soft = False  # seen
                    self.weights.append(one)
        return output


def _over_last(input, dim=None, *_rest, **_named):
    return dim in (-1, input.ndim - 1)


@dataclass(frozen=True)
class Attention:
    """The class token's attention to each patch in the last block, averaged over heads.

    Map ``[N, 1, H, W]``, the grid of patches resized bilinearly; each place has the weight of its
    patch. It contains neither the classifier nor what attention is paid to, and is the same for
    every label. Raises NotApplicable for a network without a class token that attends to a grid of
    patches, the first of its tokens and the only one that the logits read. [dosovitskiy2021image]
    """

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain ``target`` for ``x``."""
        return _explained(model, x, target, lambda weights, _: weights[-1].mean(1), False)


@dataclass(frozen=True)
class Rollout:
    """Attention handed down through all blocks, half of it by the way round each of them.

    Heads are averaged, the identity is added, rows are normalised, and the product over blocks is
    taken. Like ``Attention`` in all else. [abnar2020quantifying]
    """

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain ``target`` for ``x``."""

        def rolled(weights: list[Tensor], _: list[Tensor]) -> Tensor:
            found = None
            for block in weights:
                step = block.mean(1) + _identity(block)
                step = step / step.sum(-1, keepdim=True)
                found = step if found is None else step @ found
            return found

        return _explained(model, x, target, rolled, False)


@dataclass(frozen=True)
class GradientAttention:
    """Attention times the gradient of the logit, handed down through all blocks.

    Of each block what speaks for the label: the positive part of gradient ⊙ attention, averaged
    over heads. Like ``Attention`` in all else, except that labels have their own maps.
    [chefer2021generic]
    """

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain ``target`` for ``x``."""

        def relevant(weights: list[Tensor], gradients: list[Tensor]) -> Tensor:
            found = _identity(weights[0])
            for block, gradient in zip(weights, gradients, strict=True):
                found = found + (gradient * block).clamp_min(0).mean(1) @ found
            return found

        return _explained(model, x, target, relevant, True)


def _identity(weights: Tensor) -> Tensor:
    return torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device)


def _explained(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    combine: Callable[[list[Tensor], list[Tensor]], Tensor],
    graded: bool,
) -> Tensor:
    """The class token's row of what ``combine`` makes of weights, and gradients where asked."""

    def explain(part: Tensor, wanted: Tensor) -> Tensor:
        _vet(model, part[:1])
        weights, gradients = _attention(model, part, wanted, graded)
        with torch.no_grad():
            row = combine([one.detach() for one in weights], gradients)[:, 0, :, None]
            return resized(on_grid(row, grid_of(model, row.shape[1], part)), part)

    with attributing(model, x, target):
        return in_chunks(x, target, explain)


def _attention(
    model: nn.Module, x: Tensor, target: Tensor, graded: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """Weights of each block ``[N, heads, T, T]``, and the gradients of the logit by them."""
    if graded:
        require_gradient(model, x)
    with recording(), torch.set_grad_enabled(graded):
        leaf = leaf_of(model, x)
        try:
            with Attending() as seen:
                score = select(logits_of(model, leaf), target)
        except NotApplicable as error:
            raise _refusal(model, str(error)) from error
        gradients = []
        if graded and seen.weights:
            gradients = torch.autograd.grad(
                score.sum(), seen.weights, allow_unused=True, materialize_grads=True
            )
    return [_by_head(model, one, len(x)) for one in seen.weights], [
        _by_head(model, one, len(x)) for one in gradients
    ]


def _by_head(model: nn.Module, weights: Tensor, images: int) -> Tensor:
    """Weights with a dimension for heads, which some calls join to that of images."""
    joined = weights.ndim == 3 and not len(weights) % images
    shape = weights.shape
    if not (joined or (weights.ndim == 4 and shape[0] == images)) or shape[-1] != shape[-2]:
        raise _refusal(model, f"it has attention of the form {list(shape)} for {images} picture(s)")
    return weights.reshape(images, -1, *shape[-2:])


def _refusal(model: nn.Module, why: str) -> NotApplicable:
    return NotApplicable(
        f"attention explains nothing of {name_of(model)}: {why}. It needs a vision transformer "
        "whose logits are read from a class token that attends to a grid of patches in all "
        "blocks; take gradient_x_input or lrp_epsilon for other networks"
    )


_vetted: WeakKeyDictionary[nn.Module, set] = WeakKeyDictionary()


def _vet(model: nn.Module, x: Tensor) -> None:
    """Raise NotApplicable where there is no class token; tried once for each network and size."""
    known, key = _vetted.setdefault(network_of(model), set()), (x.shape[1:], x.dtype)
    if key in known:
        return
    nothing = torch.zeros(1, dtype=torch.int64, device=x.device)
    weights, gradients = _attention(model, x, nothing, True)
    if not weights:
        raise _refusal(model, "no softmax in it weighs anything with which it is multiplied")
    counts = {one.shape[-1] for one in weights}
    if len(counts) > 1:
        raise _refusal(model, f"the number of its tokens changes: {sorted(counts)}")
    (tokens,) = counts
    found = grid_of(model, tokens, x)
    if found is None or not found[0]:
        before = "no class token before them" if found else "which make no grid of the picture"
        raise _refusal(model, f"it has {tokens} tokens, {before}")
    # Of the last block only those rows have a gradient that somebody reads.
    rows = gradients[-1].abs().sum((0, 1, 3)).nonzero().flatten().tolist()
    if rows not in ([], [0]):
        raise _refusal(model, f"its logits read {len(rows)} of {tokens} tokens")
    known.add(key)
