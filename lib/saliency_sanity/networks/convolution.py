"""A convolution with fixed weights, for inputs of one size."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Stride, padding, dilation and groups of a convolution in two dimensions.
Options = tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]


@dataclass(frozen=True, eq=False)
class Dense:
    """Weights as they are."""

    weight: Tensor
    bias: Tensor
    options: Options

    def __call__(self, x: Tensor) -> Tensor:
        """Convolve ``x``."""
        return torch.conv2d(x, self.weight, self.bias, *self.options)


@dataclass(frozen=True, eq=False)
class Packed:
    """Weights in the order in which oneDNN reads them, which it would put them in at every call.

    The backward pass is a convolution, too, with the weights turned round.
    """

    weight: Tensor
    bias: Tensor
    turned: Tensor
    options: Options
    margin: tuple[int, int]  # padding of the backward pass
    last: bool  # whether weights had channels last, as then outputs have

    def __call__(self, x: Tensor) -> Tensor:
        """Convolve ``x``."""
        return _Convolution.apply(x, self)


def kernel(weight: Tensor, bias: Tensor, options: Options, size: torch.Size) -> Dense | Packed:
    """A convolution of inputs ``[N, *size]`` with ``weight [K, C, h, w]`` and ``bias [K]``."""
    stride, padding, dilation, groups = options
    # Where one output is reached from each place and the other way round.
    plain = stride == dilation == (1, 1) and groups == 1
    margin = tuple(n - 1 - p for n, p in zip(weight.shape[2:], padding, strict=True))
    mkldnn = weight.device.type == "cpu" and weight.dtype == torch.float32
    if not (plain and mkldnn and min(margin) >= 0 and torch._C._get_mkldnn_enabled()):
        return Dense(weight, bias, options)
    turned = weight.transpose(0, 1)
    if max(weight.shape[2:]) > 1:
        turned = turned.flip(2, 3)
    # For one picture whatever comes, so that the last bits do not hang on what came first.
    channels, *place = size
    after = [
        n + m + p - k + 1
        for n, m, p, k in zip(place, padding, padding, weight.shape[2:], strict=True)
    ]
    packed = _packed(weight, padding, (1, channels, *place))
    backward = _packed(turned, margin, (1, len(weight), *after))
    return Packed(packed, bias, backward, options, margin, _is_last(weight))


def _is_last(tensor: Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


def _packed(weight: Tensor, padding: tuple[int, int], size: tuple[int, ...]) -> Tensor:
    return torch._C._nn.mkldnn_reorder_conv2d_weight(
        weight.to_mkldnn(), padding, (1, 1), (1, 1), 1, size
    )


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
    return torch.ops.mkldnn._convolution_pointwise.default(
        x, weight, bias, padding, (1, 1), (1, 1), 1, "none", [], ""
    )


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, kernel):
        ctx.kernel = kernel
        output = _convolved(x, kernel.weight, kernel.bias, kernel.options[1])
        return output if kernel.last or _is_last(x) else output.contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return _convolved(gradient, ctx.kernel.turned, None, ctx.kernel.margin), None
