"""RectGrad's backward rule: what is above a layer's percentile passes, all else is cut off."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from saliency_sanity._errors import NotApplicable
from saliency_sanity.attribution.compose import at_least, checked
from saliency_sanity.attribution.graph import Node

# Added to the mean of a pool's window, as in [kim2019code]: where all is zero, nothing is shared.
_TINY = 1e-10


@dataclass(frozen=True)
class Threshold:
    """RectGrad: pass R through units whose product with their activation, a R, exceeds tau.

    tau is the ``q``-th percentile of a R over all units of the rectifier's call, of each image by
    itself, by the nearest rank; or ``tau`` itself where ``q`` is None. With a constant 0 this is
    guided backpropagation. Below 0 it lets R through units that are off, as published. A saturated
    ReLU6 passes nothing: its product counts as 0.

    ``padding_trick`` clears the outermost ring of what arrives at each zero-padded convolution,
    1x1 convolutions excepted, since they have no padding here. ``proportional`` has a max pool
    share R in proportion to the activations of its window, where it would go to the largest alone.
    Both are off unless asked for. Raises ValueError for ``q`` outside [0, 100); NotApplicable for
    pools and sizes that a switch cannot treat. [kim2019rectgrad], [kim2019code] ``methods.py``
    """

    q: float | None = 98.0
    tau: float = 0.0
    padding_trick: bool = False
    proportional: bool = False

    def __post_init__(self):
        if self.q is not None:
            checked(self, q=at_least("q", self.q, 0, float))
            if not self.q < 100:
                raise ValueError(f"q {self.q} must be below 100: nothing is above the maximum")

    def __call__(self, gradient: Tensor, output: Tensor, ceiling: float) -> Tensor:
        """Apply the rule at a rectifier."""
        if ceiling < inf:
            gradient = gradient * (output < ceiling)
        product = gradient * output
        if self.q is None:
            return torch.ops.aten.threshold_backward(gradient, product, self.tau)
        above = percentile(product, self.q)
        if product.is_cuda:  # a number for each picture would have to come back first
            return gradient * (product > above.reshape(-1, *[1] * (product.ndim - 1)))
        passed = torch.empty_like(product)
        for parts in zip(gradient, product, above.tolist(), passed, strict=True):
            torch.ops.aten.threshold_backward.grad_input(*parts[:3], grad_input=parts[3])
        return passed

    def elsewhere(self, func: Callable, args: Sequence, kwargs: Mapping[str, Any]) -> Tensor | None:
        """Take the calls that the two switches are about; None for all others."""
        if self.padding_trick and func in _CONVOLUTIONS:
            output = func(*args, **kwargs)
            if output.requires_grad and _is_padded(*args, **kwargs):
                output.register_hook(_without_ring)
            return output
        if self.proportional and func in _POOLS:
            return _shared(*args, **kwargs)
        if self.proportional and func in _OTHER_POOLS:
            raise NotApplicable(
                f"proportional redistribution is for max_pool2d, but the network calls "
                f"{getattr(func, '__name__', func)}; use proportional=False"
            )
        return None

    @property
    def per_image(self) -> bool:
        """Whether what passes hangs on an image's other units."""
        return self.q is not None

    @property
    def convolutions(self) -> bool:
        """Whether something is done at convolutions."""
        return self.padding_trick

    def overlooked(self, node: Node) -> bool:
        """Whether a node is one of the calls that the two switches are about."""
        name = node.name()
        if self.padding_trick and name == "ConvolutionBackward0" and not node._saved_transposed:
            padded = any(b.name().startswith("ConstantPad") for b, _ in node.next_functions if b)
            return len(node._saved_padding) == 2 and (padded or max(node._saved_padding) > 0)
        return self.proportional and "MaxPool" in name


def percentile(values: Tensor, q: float) -> Tensor:
    """The ``q``-th percentile ``[N]`` of each row of ``values`` ``[N, ...]``, by the nearest rank.

    The rank is counted from the largest value down, and one halfway between two is the even one, as
    in TensorFlow Probability's ``percentile``, which [kim2019code] calls. NumPy's method
    ``nearest`` counts from the smallest up, which can be one rank higher or lower.
    """
    if values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last):
        values = values.movedim(1, -1)  # the order is of no concern, a copy would be
    rows = values.reshape(len(values), -1)
    rank = rows.shape[1] - 1 - round((rows.shape[1] - 1) * (1 - q / 100))
    if rows.is_cuda:
        # Where few are above it, to take those is many times as fast as to look for it among all.
        above = rows.shape[1] - rank
        if above <= rows.shape[1] // 8:
            return rows.topk(above, dim=1, sorted=False).values.amin(1)
        return rows.kthvalue(rank + 1, dim=1).values
    if rows.dtype == torch.bfloat16:  # NumPy has no such type
        rows = rows.float()
    ranked = [_ranked(row, rank) for row in rows.numpy()]
    return torch.tensor(ranked, dtype=values.dtype, device="cpu")


def _ranked(row: np.ndarray, rank: int) -> float:
    """The value of ``row`` with ``rank`` others before it in order."""
    # Most products are zero, and a selection among equal values takes many times as long.
    above = len(row) - 1 - rank
    positive = row[row > 0]
    if above < len(positive):
        return np.partition(positive, len(positive) - 1 - above)[len(positive) - 1 - above]
    negative = row[row < 0]
    return np.partition(negative, rank)[rank] if rank < len(negative) else 0.0


_CONVOLUTIONS = {torch.conv2d}
_POOLS = {F.max_pool2d, torch.max_pool2d}
_OTHER_POOLS = {F.max_pool2d_with_indices, F.adaptive_max_pool2d}


def _is_padded(input, weight, bias=None, stride=1, padding=0, *_rest, **_options) -> bool:  # noqa: ARG001
    before = input.grad_fn.name() if input.grad_fn is not None else ""
    if before.startswith("ConstantPad"):  # TensorFlow's padding is a step of its own
        return True
    if isinstance(padding, str):
        return padding == "same" and max(weight.shape[2:]) > 1
    return max(padding if isinstance(padding, Sequence) else (padding,)) > 0


def _without_ring(gradient: Tensor) -> Tensor:
    height, width = gradient.shape[2:]
    if min(height, width) < 3:
        raise NotApplicable(
            f"the padding trick would clear all of a layer of {height} x {width}; "
            "use larger pictures or padding_trick=False"
        )
    return F.pad(gradient[:, :, 1:-1, 1:-1], (1, 1, 1, 1))


class _Proportional(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, window, stride, padding, ceil_mode):
        ctx.save_for_backward(x)
        ctx.options = window, stride, padding, ceil_mode
        return F.max_pool2d(x, window, stride, padding, 1, ceil_mode)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            means = F.avg_pool2d(leaf, *ctx.options)
            (share,) = torch.autograd.grad(means, leaf, gradient / (means + _TINY))
        return x * share, None, None, None, None


def _shared(
    input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
):
    if dilation not in (1, (1, 1), [1, 1]) or return_indices:
        raise NotApplicable(
            f"proportional redistribution has no max pool with dilation {dilation} or with "
            "indices; use proportional=False"
        )
    return _Proportional.apply(input, kernel_size, stride or kernel_size, padding, ceil_mode)
