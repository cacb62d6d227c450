"""Which batch norms follow a convolution, seen in one pass of a network."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from saliency_sanity.networks.branching import saving_hooks
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

    def tensors(self, modules: Sequence[nn.Module]) -> Tensors:
        """What it is made of now."""
        return tuple(place and getattr(modules[place[0]], place[1]) for place in self.places)

    def is_parted(self, modules: Sequence[nn.Module], homes: Mapping[nn.Module, object]) -> bool:
        """Whether the two have different homes."""
        convolution, norm = (modules[self.places[number][0]] for number in (0, 2))
        return homes.get(convolution) != homes.get(norm)


def convolving(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Input, weight and bias of a call, and its options where it can be folded."""
    if isinstance(padding, str) or input.ndim != 4:
        return input, weight, bias, None
    return input, weight, bias, (*map(_twice, (stride, padding, dilation)), groups)


def _twice(value: int | Sequence[int]) -> tuple[int, int]:
    both = (value,) if isinstance(value, int) else tuple(value)
    return both * 2 if len(both) == 1 else both


def normalising(input, running_mean, running_var, weight=None, bias=None, *rest, **options):
    """Input and tensors of a call, and its epsilon where it does not look at the batch."""
    training, _, eps = _rest(*rest, **options)
    fixed = not training and running_mean is not None and running_var is not None
    return input, (running_mean, running_var, weight, bias), eps if fixed else None


def _rest(training=False, momentum=0.1, eps=1e-5):
    return training, momentum, eps


def among(values: Iterable[Any], known: Mapping[int, Any]) -> Iterator[int]:
    """Which of the tensors in arguments are known."""
    for value in values:
        if id(value) in known:
            yield id(value)
        elif isinstance(value, list | tuple | dict):
            yield from among(value.values() if isinstance(value, dict) else value, known)


class Watching(TorchFunctionMode):
    """See in a pass which convolutions a batch norm follows, and nothing else."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self._places = {
            id(tensor): (number, name)
            for number, module in enumerate(model.modules())
            for name, tensor in (*module._parameters.items(), *module._buffers.items())
        }
        self._saving = saving_hooks()
        self._made: dict[int, tuple] = {}  # outputs of convolutions, and how they were made
        self._norms: dict[int, tuple] = {}  # what comes after them
        self._else: set[int] = set()  # those that went elsewhere, too
        self._calls: Counter[int] = Counter()  # by weight

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if func in HARMLESS:
            return output
        norm = normalising(*args, **kwargs) if func is F.batch_norm else (None, (), None)
        for key in among((args, kwargs), self._made):
            if norm[2] is None or key != id(norm[0]) or key in self._norms:
                self._else.add(key)
            self._norms[key] = norm
        if func is torch.conv2d:
            call = convolving(*args, **kwargs)
            self._calls[id(call[1])] += 1
            # Parts that are computed again in the backward pass must be as they are.
            if call[3] and torch.is_grad_enabled() and saving_hooks() == self._saving:
                self._made[id(output)] = output, *call
        return output

    def pairs(self) -> Iterator[Pair]:
        """The pairs that can be folded."""
        for key, (_, tensors, eps) in self._norms.items():
            output, x, weight, bias, options = self._made[key]
            found = weight, bias, *tensors
            kinds = {(t.dtype, t.device) for t in found if t is not None}
            known = all(t is None or id(t) in self._places for t in found)
            once = key not in self._else and self._calls[id(weight)] == 1
            if once and known and kinds == {(output.dtype, output.device)}:
                places = tuple(t if t is None else self._places[id(t)] for t in found)
                yield Pair(places, options, eps, x.shape[1:], output.shape[1:])
