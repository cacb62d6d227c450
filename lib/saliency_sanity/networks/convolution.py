"""A convolution with fixed weights, for inputs of one size."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Stride, padding, dilation and groups of a convolution in two dimensions.
Options = tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]


def convolution(
    weight: Tensor, bias: Tensor, options: Options, size: torch.Size
) -> Callable[[Tensor], Tensor]:
    """Convolve inputs ``[N, *size]`` with ``weight [K, C, h, w]`` and ``bias [K]``.

    In single precision on a CPU, weights lie in the order in which oneDNN reads them, into which it
    would put them at every call; the backward pass is a convolution with the weights turned round.
    """
    stride, padding, dilation, groups = options
    shape = weight.shape[2:]
    margin = tuple(n - 1 - p for n, p in zip(shape, padding, strict=True))
    turns = stride == dilation == (1, 1) and groups == 1 and min(margin) >= 0
    single = weight.device.type == "cpu" and weight.dtype == torch.float32
    if not (turns and single and torch._C._get_mkldnn_enabled()):
        keys = ("stride", "padding", "dilation", "groups")
        return partial(
            torch.conv2d, weight=weight, bias=bias, **dict(zip(keys, options, strict=True))
        )
    turned = weight.transpose(0, 1)
    turned = turned.flip(2, 3) if max(shape) > 1 else turned
    after = [n + p - m for n, p, m in zip(size[1:], padding, margin, strict=True)]
    # For one picture whatever comes, so that the last bits do not hang on what came first.
    packed = _packed(weight, padding, (1, *size)), _packed(turned, margin, (1, len(weight), *after))
    return Packed(*packed, bias, padding, margin, _is_last(weight))


@dataclass(frozen=True, eq=False)
class Packed:
    """Weights for the forward and the backward pass, and the padding of each."""

    weight: Tensor
    turned: Tensor
    bias: Tensor
    padding: tuple[int, int]
    margin: tuple[int, int]
    last: bool  # whether weights had channels last, as then outputs have

    def __call__(self, x: Tensor) -> Tensor:
        """Convolve ``x``."""
        return _Convolution.apply(x, self)


def _is_last(tensor: Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


def _packed(weight: Tensor, padding: tuple[int, int], size: tuple[int, ...]) -> Tensor:
    pack = torch._C._nn.mkldnn_reorder_conv2d_weight
    return pack(weight.to_mkldnn(), padding, (1, 1), (1, 1), 1, size)


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
    run = torch.ops.mkldnn._convolution_pointwise.default
    return run(x, weight, bias, padding, (1, 1), (1, 1), 1, "none", [], "")


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, packed):
        ctx.packed = packed
        output = _convolved(x, packed.weight, packed.bias, packed.padding)
        return output if packed.last or _is_last(x) else output.contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return _convolved(gradient, ctx.packed.turned, None, ctx.packed.margin), None
