"""The same map again, in double precision: how alike two maps are when nothing has changed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, product

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from saliency_sanity._arithmetic import arithmetic
from saliency_sanity._attributes import Attributes
from saliency_sanity.attribution.base import Attribution, mapped, out_of_memory, passes
from saliency_sanity.experiments.comparison import check_map
from saliency_sanity.networks.pairs import convolving

PICTURES = 6  # one more than an interval needs: a map may be undefined


@contextmanager
def widened(model: nn.Module, forget: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Let a network compute in float64 within the block; it ends as it was, to the bit.

    The network itself, since somebody's method may hold on to it and hooks to its parts: all its
    floating-point parameters and buffers have other values' memory for a while. ``forget`` empties
    what it has worked out of its weights.
    """
    before = Attributes(model, buffers=True)
    kept: list[tuple[Tensor, Tensor]] = []
    try:
        forget()
        for tensor in {id(t): t for t in chain(model.parameters(), model.buffers())}.values():
            if tensor.is_floating_point() and tensor.dtype != torch.float64:
                narrow = tensor.data
                tensor.data = narrow.double()
                kept.append((tensor, narrow))
        with _Depthwise():
            yield
    finally:
        before.restore()
        for tensor, narrow in kept:
            tensor.data = narrow


class _Depthwise(TorchFunctionMode):
    """Convolve each channel by itself in one go, where torch on a CPU takes channel by channel."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.conv2d:
            x, weight, bias, options = convolving(*args, **kwargs)
            # Weights that want a gradient are somebody's business.
            if options is not None and x.device.type == "cpu" and not weight.requires_grad:
                *how, groups = options
                if x.dtype == torch.float64 and groups == len(weight) == x.shape[1] > 1:
                    out = _ByChannel.apply(x, weight.detach(), *how)
                    return out if bias is None else out + bias.view(1, -1, 1, 1)
        return func(*args, **kwargs)


class _ByChannel(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, stride, padding, dilation):
        ctx.of = x.shape, weight, stride, padding, dilation
        padded = F.pad(x, (padding[1],) * 2 + (padding[0],) * 2)
        return sum(part * by for part, by in _taps(padded, weight, stride, dilation))

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        shape, weight, stride, (up, side), dilation = ctx.of
        height, width = shape[2] + 2 * up, shape[3] + 2 * side
        padded = gradient.new_zeros(*shape[:2], height, width)
        for part, by in _taps(padded, weight, stride, dilation):
            part.addcmul_(gradient, by)
        found = padded[:, :, up : height - up, side : width - side]
        return found, None, None, None, None


def _taps(
    padded: Tensor, weight: Tensor, stride: tuple[int, int], dilation: tuple[int, int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """What each weight of ``[C, 1, h, w]`` is multiplied with, a view of the padded pictures."""
    size = [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(padded.shape[2:], weight.shape[2:], stride, dilation, strict=True)
    ]
    for i, j in product(*map(range, weight.shape[2:])):
        rows, columns = (
            slice(at * d, at * d + (n - 1) * s + 1, s)
            for at, n, s, d in zip((i, j), size, stride, dilation, strict=True)
        )
        yield padded[:, :, rows, columns], weight[:, 0, i, j].view(1, -1, 1, 1)


def in_double(
    methods: Mapping[str, Attribution],
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    forget: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Maps of ``target`` ``[N]`` for ``x`` ``[N, C, H, W]`` in float64, one picture at a time.

    Returns them by method, and the methods that have none, with the reason. What asks a network
    for nothing has no arithmetic to change and only sees one picture at a time; so does a control
    that draws its noise from the bits of weights.
    """
    maps: dict[str, Tensor] = {}
    refused: dict[str, str] = {}

    def one_by_one(name: str, x: Tensor) -> None:
        try:
            pairs = zip(x.split(1), target.split(1), strict=True)
            parts = [
                check_map(name, mapped(methods[name], model, one.clone(), wanted), one)
                for one, wanted in pairs
            ]
            if any(part.dtype != x.dtype for part in parts):
                raise TypeError(f"its maps are {parts[0].dtype} where pictures are {x.dtype}")
            maps[name] = torch.cat(parts)
        # What it gives the network as it is, it has given: whatever is wrong now is the precision.
        except Exception as error:
            if out_of_memory(error):
                raise
            refused[name] = f"{type(error).__name__}: {error}"

    with arithmetic("exact", x.device):  # whatever was asked for
        for name in methods:
            if not passes(methods[name]):
                one_by_one(name, x)
        wide = [name for name in methods if passes(methods[name])]
        if wide:
            with widened(model, forget):
                for name in wide:
                    one_by_one(name, x.double())
    return maps, refused
