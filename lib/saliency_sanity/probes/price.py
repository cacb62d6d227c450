"""What a method costs: the passes it asks of a network, and seconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from saliency_sanity._arithmetic import arithmetic
from saliency_sanity.attribution.base import Attribution, mapped
from saliency_sanity.peers.adapter import Adapter

# Forward passes beside those for the map: an adapter looks at the logits before the library does.
_LOOKS = 2


class TooDearError(Exception):
    """A method asked for more passes than it was to have."""


@dataclass
class Passes:
    """Pictures that went through a network, forward and back."""

    forward: int = 0
    backward: int = 0

    @property
    def asked(self) -> int:
        """Backward passes, each with its forward pass; forward passes where there are no others."""
        return self.backward or self.forward


@contextmanager
def passes_of(model: nn.Module, most: int = 0, looks: int = 0) -> Iterator[Passes]:
    """Count what ``model`` is asked for; TooDearError beyond ``most``, 0 for no end.

    So many ``looks`` are forward passes that count for nothing.
    """
    found = Passes()

    def enter(_module: nn.Module, inputs: tuple, named: dict[str, Any]) -> None:
        given = (value for value in (*inputs, *named.values()) if isinstance(value, Tensor))
        found.forward += len(next(given, ()))
        if most and found.forward > most + looks:
            raise TooDearError(f"more than {most} passes")

    def leave(_module: nn.Module, _inputs: tuple, output: object) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(back)

    def back(gradient: Tensor) -> None:
        found.backward += len(gradient)
        if most and found.backward > most:
            raise TooDearError(f"more than {most} passes")

    handles = [
        model.register_forward_pre_hook(enter, with_kwargs=True),
        model.register_forward_hook(leave),
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Price:
    """Passes and seconds of one picture; where ``stopped`` it costs more than these."""

    passes: int
    seconds: float
    stopped: bool


def price(method: Attribution, model: nn.Module, x: Tensor, target: Tensor, most: int) -> Price:
    """Measure what one picture ``x`` ``[1, C, H, W]`` costs, ending beyond ``most`` passes.

    A second call is measured, since the first finds out how the network is to be run. Raises
    whatever the method raises. ``most`` is at least 1.
    """
    if most < 1 or len(x) != 1:
        raise ValueError(f"{len(x)} pictures and {most} passes; give one picture, and 1 or more")
    spent = (0, 0.0)
    for _ in range(2):
        spent, stopped = _timed(method, model, x, target, most)
        if stopped:
            break
    return Price(*spent, stopped)


def _timed(
    method: Attribution, model: nn.Module, x: Tensor, target: Tensor, most: int
) -> tuple[tuple[int, float], bool]:
    looks = _LOOKS if isinstance(method, Adapter) else 0
    stopped, begin = False, perf_counter()
    with arithmetic("exact", x.device), passes_of(model, most, looks) as found:
        try:
            mapped(method, model, x, target)
        except TooDearError:
            stopped = True
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
    return (most if stopped else found.asked, perf_counter() - begin), stopped
