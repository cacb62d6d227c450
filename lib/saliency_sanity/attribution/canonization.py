"""The form of a network for which the rules of relevance propagation are stated.

Batch norms are folded into the layers before them, the sums of torchvision's ResNets are modules,
and the frame of a ``FramedConv2d`` is a bias that differs from place to place. Outputs do not
change.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from saliency_sanity._errors import NotApplicable
from saliency_sanity._extras import need
from saliency_sanity.attribution.base import recording
from saliency_sanity.networks.compat import ensure_torchvision
from saliency_sanity.networks.framed import FramedConv2d

need("layer-wise relevance propagation", "lrp", "zennit")
ensure_torchvision()

from zennit.core import collect_leaves  # noqa: E402
from zennit.torchvision import (  # noqa: E402
    ResNetBasicBlock,
    ResNetBasicBlockCanonizer,
    ResNetBottleneck,
    ResNetBottleneckCanonizer,
)

# Exact types: a subclass may do something else with its weights.
LINEAR = frozenset({nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, FramedConv2d})
NORMS = frozenset({nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d})

_current: ContextVar[tuple[nn.Module, frozenset[nn.Module]] | None]
_current = ContextVar("canonical", default=None)


def _folds(norm: nn.Module, into: nn.Module | None) -> bool:
    if type(into) not in LINEAR or type(norm) not in NORMS:
        return False
    fits = norm.num_features == len(into.weight)
    return fits and norm.affine and norm.running_mean is not None


@contextmanager
def _merged(layer: nn.Module, norm: nn.Module) -> Iterator[None]:
    """Make what a batch norm does part of the layer before it."""
    bias, changed = layer.bias, (layer.weight, *norm.parameters(), *norm.buffers())
    before = [tensor.data for tensor in changed]
    scale = norm.weight.data / (norm.running_var + norm.eps).sqrt()
    shifted = (0 if bias is None else bias.data) - norm.running_mean
    rows = scale.view(-1, *[1] * (layer.weight.ndim - 1))
    try:
        layer.weight.data = layer.weight.data * rows
        layer.bias = nn.Parameter(shifted * scale + norm.bias.data, requires_grad=False)
        norm.weight.data, norm.bias.data = torch.ones_like(scale), torch.zeros_like(scale)
        norm.running_mean.data = torch.zeros_like(scale)
        norm.running_var.data = torch.ones_like(scale) - norm.eps
        yield
    finally:
        layer.bias = bias
        for tensor, data in zip(changed, before, strict=True):
            tensor.data = data


@contextmanager
def _unframed(layer: FramedConv2d) -> Iterator[None]:
    """Make what the frame adds part of the bias, which rules know how to treat."""
    bias = layer.bias

    @torch.no_grad()
    def write(_module: nn.Module, inputs: tuple) -> None:
        layer.bias = bias
        layer.bias = nn.Parameter(layer.offset(inputs[0])[0], requires_grad=False)

    handle = layer.register_forward_pre_hook(write)
    layer.forward = lambda x: layer.in_zeros(x) + layer.bias
    try:
        yield
    finally:
        handle.remove()
        del layer.forward
        layer.bias = bias


def changes(model: nn.Module) -> bool:
    """Whether ``canonical`` would touch anything of ``model``."""
    return any(
        type(module) in NORMS
        or isinstance(module, ResNetBasicBlock | ResNetBottleneck | FramedConv2d)
        for module in model.modules()
    )


@contextmanager
def canonical(model: nn.Module) -> Iterator[frozenset[nn.Module]]:
    """Give ``model`` its canonical form within the block, and the batch norms that are folded.

    Parameters, buffers and methods come back as they were, after an exception too. Nested use
    changes nothing further. A batch norm is folded into the layer that is defined right before it;
    whether that is also the one that runs before it, ``compare`` says. [anders2021zennit]
    """
    outer = _current.get()
    if outer is not None and outer[0] is model:
        yield outer[1]
        return
    # Undone in reverse: a layer may have been changed twice.
    with ExitStack() as undo:
        folded, last = set(), None
        with recording():
            for leaf in collect_leaves(model):
                if _folds(leaf, last):
                    undo.enter_context(_merged(last, leaf))
                    folded.add(leaf)
                last = leaf
        for kind in (ResNetBasicBlockCanonizer, ResNetBottleneckCanonizer):
            for instance in kind().apply(model):
                undo.callback(instance.remove)
        for module in model.modules():
            if type(module) is FramedConv2d:
                undo.enter_context(_unframed(module))
        token = _current.set((model, frozenset(folded)))
        undo.callback(_current.reset, token)
        yield frozenset(folded)


def compare(model: nn.Module, before: Tensor, after: Tensor) -> None:
    """Raise NotApplicable where logits ``before`` and ``after`` canonization differ."""
    if ((after - before).abs() > 1e-3 * before.abs().max()).any():
        raise NotApplicable(
            f"relevance cannot be propagated through {getattr(model, 'name', type(model).__name__)}"
            ": folding its batch norms into the layers defined before them changes its logits, so "
            "other layers run before them. Use gradient_x_input for this network"
        )
