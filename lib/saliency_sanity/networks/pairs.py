"""Which batch norms follow a convolution, seen in one pass of a network."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from saliency_sanity.networks.convolution import Options

# Weight and bias of the convolution; running mean and variance, weight and bias of the norm.
Tensors = tuple[Tensor | None, ...]

# What may be asked of a tensor without looking at its values.
HARMLESS = {torch.Tensor.dim, torch.Tensor.size, torch.Tensor.numel}
HARMLESS |= {getattr(torch.Tensor, key).__get__ for key in ("shape", "ndim", "dtype", "nbytes")}


@dataclass(frozen=True, eq=False)
class Pair:
    """A convolution and its batch norm, as a pass has called them."""

    places: tuple[tuple[int, str] | None, ...]  # of its tensors: number of a module, and name
    options: Options
    eps: float
    size: torch.Size  # of an input, [C, H, W]
    output: torch.Size  # the same

    def tensors(self, modules: list[nn.Module]) -> Tensors:
        """What it is made of now."""
        return tuple(place and getattr(modules[place[0]], place[1]) for place in self.places)

    def parted(self, modules: list[nn.Module], homes: Mapping[nn.Module, object]) -> bool:
        """Whether the two have different homes."""
        first, second = (homes.get(modules[self.places[place][0]]) for place in (0, 2))
        return first != second


@dataclass(slots=True)
class Convolving:
    """A call of a convolution in two dimensions."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    options: Options | None  # None where they are none that can be folded

    @classmethod
    def read(cls, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        """Take its arguments."""
        options = None
        if not isinstance(padding, str) and input.ndim == 4:
            options = (*map(_twice, (stride, padding, dilation)), groups)
        return cls(input, weight, bias, options)


def _twice(value: int | Sequence[int]) -> tuple[int, int]:
    both = (value,) if isinstance(value, int) else tuple(value)
    return both * 2 if len(both) == 1 else both


@dataclass(slots=True)
class Normalising:
    """A call of a batch norm; the tensors in the order of ``Tensors``."""

    x: Tensor
    tensors: Tensors
    eps: float

    @classmethod
    def read(
        cls,
        input,
        running_mean,
        running_var,
        weight=None,
        bias=None,
        training=False,
        momentum=0.1,  # noqa: ARG003
        eps=1e-5,
    ):
        """Take its arguments; None for one that looks at the batch."""
        fixed = not training and running_mean is not None and running_var is not None
        return cls(input, (running_mean, running_var, weight, bias), eps) if fixed else None


def among(values: Iterable[Any], known: dict[int, Any]) -> Iterator[int]:
    """Which of the tensors in arguments are known."""
    for value in values:
        if id(value) in known:
            yield id(value)
        elif isinstance(value, list | tuple):
            yield from among(value, known)
        elif isinstance(value, dict):
            yield from among(value.values(), known)


class Watching(TorchFunctionMode):
    """See in one pass which convolutions a batch norm follows, and nothing else."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self._places = {
            id(tensor): (number, name)
            for number, module in enumerate(model.modules())
            for name, tensor in chain(module._parameters.items(), module._buffers.items())
        }
        self._saving = _saving_hooks()
        self._made: dict[int, tuple[Tensor, Convolving, bool]] = {}
        self._followed: dict[int, Normalising] = {}
        self._else: set[int] = set()  # outputs that went elsewhere, too
        self._calls: Counter[int] = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if func in HARMLESS:
            return output
        norm = None
        if func is F.batch_norm:
            norm = Normalising.read(*args, **kwargs)
        for key in among((args, kwargs), self._made):
            if norm is None or key != id(norm.x) or key in self._followed:
                self._else.add(key)
            else:
                self._followed[key] = norm
        if func is torch.conv2d:
            call = Convolving.read(*args, **kwargs)
            self._calls[id(call.weight)] += 1
            # Parts that are computed again in the backward pass must be as they are.
            plain = torch.is_grad_enabled() and _saving_hooks() == self._saving
            self._made[id(output)] = output, call, plain
        return output

    def pairs(self) -> Iterator[Pair]:
        """The pairs that can be folded."""
        for key, norm in self._followed.items():
            output, call, plain = self._made[key]
            found = (call.weight, call.bias, *norm.tensors)
            own = [t for t in found if t is not None]
            if (
                plain
                and key not in self._else
                and call.options is not None
                and self._calls[id(call.weight)] == 1
                and all(id(t) in self._places for t in own)
                and {(t.dtype, t.device) for t in own} == {(output.dtype, output.device)}
            ):
                places = tuple(t if t is None else self._places[id(t)] for t in found)
                yield Pair(places, call.options, norm.eps, call.x.shape[1:], output.shape[1:])


def _saving_hooks() -> object:
    return torch._C._autograd._top_saved_tensors_default_hooks(True)
