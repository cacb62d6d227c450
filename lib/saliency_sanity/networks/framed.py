"""A convolution that pads with a colour, for networks whose zero is another one than black."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FramedConv2d(nn.Conv2d):
    """A convolution whose padding has a colour: that of the buffer ``frame`` ``[C, 1, 1]``.

    Made of ``layer``, a plain convolution with a bias, whose parameters it shares. ``padding`` is
    a width for each direction, or ``same``: what TensorFlow pads for an input of its size.
    """

    def __init__(self, layer: nn.Conv2d, padding: tuple[int, int] | str, frame: Tensor):
        channels, shape = (layer.in_channels, layer.out_channels), (layer.kernel_size, layer.stride)
        # Without memory first: the constructor would draw from the global generator.
        super().__init__(*channels, *shape, 0, layer.dilation, layer.groups, device="meta")
        self.weight, self.bias, self.padding = layer.weight, layer.bias, padding
        self.register_buffer("frame", frame)
        self.train(layer.training)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.in_zeros(x) + self.offset(x)

    def in_zeros(self, x: Tensor) -> Tensor:
        """What ``x`` adds to the output: the convolution padded with zeros, without its bias."""
        return self._convolved(F.pad(x, self._margins(x)), None)

    def offset(self, x: Tensor) -> Tensor:
        """What the frame and the bias add, ``[1, K, H', W']``, around inputs of the size of x."""
        outside = 1 - F.pad(torch.ones_like(x[:1, :1]), self._margins(x))
        return self._convolved(outside * self.frame, self.bias)

    def _convolved(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, self.weight, bias, self.stride, 0, self.dilation, self.groups)

    def _margins(self, x: Tensor) -> list[int]:
        """Left, right, top and bottom."""
        if self.padding != "same":
            vertical, horizontal = self.padding
            return [horizontal, horizontal, vertical, vertical]
        sides = zip(x.shape[-2:], self.kernel_size, self.stride, self.dilation, strict=True)
        height, width = (_same_padding(*side) for side in sides)
        return [width // 2, width - width // 2, height // 2, height - height // 2]


def _same_padding(size: int, kernel: int, stride: int, dilation: int) -> int:
    """What TensorFlow pads in one direction, both sides together."""
    return max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
