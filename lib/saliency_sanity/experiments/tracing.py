"""What a forward pass did, call by call: in which unit, on what, and with which numbers.

A pass may be started behind a unit only where nothing but the unit's own output leads on from what
is left out. Attributes, containers, closures and buffers leave no trace in the modules or in the
graph for the backward pass; the calls that read them do.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from saliency_sanity._attributes import HOOKS
from saliency_sanity.networks.branching import (
    Branching,
    given,
    kind_of,
    place,
    saving_hooks,
    tensors,
    weakly,
    written,
)


class StrayedError(Exception):
    """A pass made another call than the one that it stands for."""


def hooked(network: nn.Module) -> str:
    """The first module with hooks of somebody else's, which may do anything; "" without one."""
    for path, module in network.named_modules():
        if any(getattr(module, kind, None) for kind in HOOKS):
            return path or type(network).__name__
    return ""


class _Quiet:
    """Calls of our own, which a mode does not look at."""

    _still = False

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Look away."""
        before, self._still = self._still, True
        try:
            yield
        finally:
            self._still = before


@dataclass(slots=True)
class _Memory:
    """What is known of a piece of memory that a pass has written."""

    place: StorageWeakRef
    owner: int | None  # the unit inside which it was written; outside of all units None
    garbage: int  # bit k: not what it should be in a pass that starts behind unit k


class Trace(_Quiet, Branching):
    """Follow one pass of ``network``, whose ``units`` may be left out by another.

    ``reason`` says why no pass can be started in the middle, if there is one; ``starts()`` behind
    which units it can. Outputs of the ``kept`` units are kept, of others their form.
    """

    def __init__(self, network: nn.Module, units: Sequence[str], kept: Iterable[int] = ()):
        super().__init__(network)
        self.network, self.units, self.kept = network, tuple(units), set(kept)
        self.calls: list[tuple[int | None, tuple]] = []  # the unit in which each was made
        # Of each unit, by call: itself where it is to be kept, else a hollow tensor of its form.
        self.outputs: dict[int, list[Any]] = {}
        self._own_reason = ""
        self._invalid = 0  # bit k: no pass may start behind unit k
        self._known: dict[int, _Memory] = {}
        self._inside: list[int] = []  # units that are running

    def __enter__(self):
        self._stack = ExitStack()
        self._before = saving_hooks()
        for number, path in enumerate(self.units):
            module = self.network.get_submodule(path)
            for handle in (
                module.register_forward_pre_hook(self._entering(number)),
                module.register_forward_hook(self._leaving(number)),
            ):
                self._stack.callback(handle.remove)
        return super().__enter__()

    def __exit__(self, *exception):
        self._stack.close()
        return super().__exit__(*exception)

    @property
    def reason(self) -> str:
        """Why no pass can be started in the middle; empty where one can."""
        if self.branches:
            return "the way through it depends on values"
        return self._own_reason

    def starts(self, logits: Tensor) -> set[int]:
        """Units behind which a pass gives these logits from the unit's output and the input alone.

        A unit that was called more than once, or gave something else than a tensor, is none.
        """
        if self.reason:
            return set()
        memory = self._memory(logits)
        invalid = self._invalid | (memory.garbage if memory is not None else 0)
        return {
            number
            for number, outputs in self.outputs.items()
            if len(outputs) == 1 and isinstance(outputs[0], Tensor) and not invalid >> number & 1
        }

    def expected(self, start: int) -> list[tuple]:
        """The calls of a pass that starts behind a unit."""
        return [call for unit, call in self.calls if unit is None or unit > start]

    def forget(self, unit: int) -> None:
        """Keep of a unit's outputs the form only, which frees their graph."""
        self.outputs[unit] = [mapped(output, _hollow) for output in self.outputs.get(unit, [])]

    def starting(self, x: Tensor) -> Tensor:
        """The input of the pass."""
        self._known[place(x)] = _Memory(weakly(x), None, 0)
        return super().starting(x)

    def see(self, func: Any, args: Sequence, kwargs: dict[str, Any], output: Any) -> None:
        """Note a call, and follow what it leaves where."""
        if self._still:
            return
        unit = self._inside[-1] if self._inside else None
        if not _is_silent(func):
            self.calls.append((unit, fingerprint(func, args, kwargs)))
        if self.reason:
            return
        super().see(func, args, kwargs, output)
        kind, garbage = kind_of(func), 0
        if kind.draws:
            self._own_reason = "it draws random numbers"
        if saving_hooks() != self._before:
            self._own_reason = "it computes parts of itself again for the backward pass"
        before = given(args, kwargs)
        for memory in filter(None, map(self._memory, before)):
            garbage |= memory.garbage
            if memory.owner is not None and memory.owner != unit:
                # What is hidden inside a unit is seen from outside: by a later unit, or by all.
                until = len(self.units) if unit is None else max(memory.owner, unit)
                self._invalid |= _bits(memory.owner, until)
        for memory in map(self._memory, written(kind, args, kwargs)):
            if memory is None:
                self._own_reason = "it writes to tensors that outlive the pass"
            else:
                memory.garbage |= garbage
                memory.owner = memory.owner if unit is None else unit
        places = {place(tensor) for tensor in before}
        for tensor in tensors(output):
            if self._memory(tensor) is None and place(tensor) not in places:
                self._known[place(tensor)] = _Memory(weakly(tensor), unit, garbage)

    def _entering(self, number: int) -> Callable:
        def hook(_module: nn.Module, _inputs: tuple) -> None:
            self._inside.append(number)

        return hook

    def _leaving(self, number: int) -> Callable:
        def hook(_module: nn.Module, _inputs: tuple, output: object) -> object:
            self._inside.pop()
            if not _is_plain(output):
                # It cannot be left out: nobody knows how to stand in for it.
                self._invalid |= _bits(number, len(self.units))
                return None
            with self.quiet():
                seen = output if number in self.kept else mapped(output, _hollow)
                self.outputs.setdefault(number, []).append(seen)
                # A copy, since the next layer may work in place, and since what the unit keeps of
                # its output for itself is not what it hands on.
                return mapped(output, lambda tensor: self._handed_on(tensor, number))

        return hook

    def _handed_on(self, tensor: Tensor, number: int) -> Tensor:
        memory, copy = self._memory(tensor), tensor.clone()
        before = memory.garbage & ((1 << number) - 1) if memory is not None else 0
        garbage = before | _bits(number + 1, len(self.units))
        self._known[place(copy)] = _Memory(weakly(copy), None, garbage)
        if self.is_derived(tensor):
            super().starting(copy)
        return copy

    def _memory(self, tensor: Tensor) -> _Memory | None:
        memory = self._known.get(place(tensor))
        return None if memory is None or memory.place.expired() else memory


class Following(_Quiet, TorchDispatchMode):
    """Hold a pass to the ``expected`` calls; raises StrayedError at the first other one."""

    def __init__(self, expected: Iterable[tuple]):
        super().__init__()
        self._expected = iter(expected)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Make the call, and see whether it is the next one."""
        kwargs = kwargs or {}
        if self._still or _is_silent(func):
            return func(*args, **kwargs)
        output = func(*args, **kwargs)
        # Now, since a call in place may change the shape of what it was given.
        if fingerprint(func, args, kwargs) != next(self._expected, None):
            raise StrayedError
        return output

    def finish(self) -> None:
        """Raise StrayedError where calls are missing."""
        if next(self._expected, None) is not None:
            raise StrayedError


def _is_silent(func: Any) -> bool:
    """Whether a call computes nothing: the graph's own ``detach``, and notes for a profiler."""
    return func is torch.ops.aten.detach.default or func.namespace == "profiler"


def fingerprint(func: Any, args: Sequence, kwargs: dict[str, Any]) -> tuple:
    """A call with its numbers, and with the shapes of its tensors in place of them."""
    named = tuple((key, _shape(value)) for key, value in kwargs.items() if key != "device")
    return (func, *map(_shape, args), *named)


def _shape(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, list | tuple):
        return tuple(map(_shape, value))
    return value


def _bits(first: int, end: int) -> int:
    return ((1 << end) - 1) & ~((1 << first) - 1) if end > first else 0


def _hollow(tensor: Tensor) -> Tensor:
    return blank(tensor, torch.device("meta"))


def blank(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the same form, which takes part in a graph if the other does."""
    form = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
    return form.requires_grad_(tensor.requires_grad)


def _is_plain(output: object) -> bool:
    """Whether it is made of tensors, None and tuples of those."""
    if type(output) is tuple:
        return all(map(_is_plain, output))
    return output is None or isinstance(output, Tensor)


def mapped(output: Any, change: Callable[[Tensor], Any]) -> Any:
    """Change every tensor of an output that is made of tensors, None and tuples."""
    if isinstance(output, tuple):
        return tuple(mapped(part, change) for part in output)
    return None if output is None else change(output)
