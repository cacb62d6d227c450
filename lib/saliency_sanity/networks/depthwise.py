"""Depthwise convolutions in double precision on a CPU, all channels at once.

There torch has none (2.9 to 2.15 at least): it splits them into a convolution a channel, some ten
thousand for one picture through EfficientNet-Lite0, which take three quarters of its pass.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.modules.utils import _pair
from torch.overrides import TorchFunctionMode


@contextmanager
def together(x: Tensor) -> Iterator[None]:
    """Make passes of inputs like ``x`` with ``Depthwise`` where that is faster."""
    if x.dtype == torch.float64 and x.device.type == "cpu":
        with Depthwise():
            yield
    else:
        yield


class Depthwise(TorchFunctionMode):
    """Within it, each depthwise convolution of doubles sums shifted pictures.

    Gradients of the input are right to rounding. Calls that want those of weights are made as they
    stand, and so is any other call.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Make the call."""
        kwargs = kwargs or {}
        if func is F.conv2d or func is torch.conv2d:
            found = _convolved(*args, **kwargs)
            if found is not None:
                return found
        return func(*args, **kwargs)


def _convolved(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """The convolution, where it is one of these; else None."""
    fits = (
        isinstance(input, Tensor)
        and isinstance(weight, Tensor)
        and input.dtype == weight.dtype == torch.float64
        and input.device.type == weight.device.type == "cpu"
        and input.ndim == 4
        and 1 < groups == weight.shape[0] == input.shape[1]
        and weight.shape[1] == 1
        and not isinstance(padding, str)
        and not (torch.is_grad_enabled() and weight.requires_grad)
    )
    if not fits:
        return None
    found = _Shifted.apply(input, weight, *map(_pair, (stride, padding, dilation)))
    return found if bias is None else found + bias[:, None, None]


class _Shifted(torch.autograd.Function):
    """The sum, over the places of a filter, of the picture moved by so much, times its weight."""

    @staticmethod
    def forward(ctx, x, weight, stride, padding, dilation):
        ctx.save_for_backward(weight)
        ctx.shape, ctx.settings = x.shape, (stride, padding, dilation)
        wide = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
        found = None
        for window, share in _windows(wide, weight, stride, dilation):
            found = window * share if found is None else found.addcmul_(window, share)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        (weight,) = ctx.saved_tensors
        stride, (top, left), dilation = ctx.settings
        *batch, height, width = ctx.shape
        wide = gradient.new_zeros(*batch, height + 2 * top, width + 2 * left)
        for window, share in _windows(wide, weight, stride, dilation):
            window.addcmul_(gradient, share)
        return wide[..., top : top + height, left : left + width], None, None, None, None


def _windows(
    wide: Tensor, weight: Tensor, stride: tuple[int, int], dilation: tuple[int, int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """What each place of filters ``[C, 1, h, w]`` sees, and its weights ``[C, 1, 1]``."""
    h, w = weight.shape[2:]
    rows = wide.shape[2] - dilation[0] * (h - 1)
    columns = wide.shape[3] - dilation[1] * (w - 1)
    for i in range(h):
        for j in range(w):
            top, left = i * dilation[0], j * dilation[1]
            yield (
                wide[..., top : top + rows : stride[0], left : left + columns : stride[1]],
                weight[:, :, i, j, None],
            )
