"""What a forward pass did, call by call: in which unit, on what, and with which numbers.

A pass may be started behind a unit only where nothing but the unit's own output leads on from what
is left out. Attributes, containers, closures and buffers leave no trace in the modules or in the
graph for the backward pass; the calls that read them do.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# What hands the values of a tensor to Python. Where that happens, another picture, or another
# random weight, may go another way through the network.
_READ = {torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__array__}
# Made by the graph itself, wherever a gradient is asked for; it computes nothing.
_SILENT = {torch.ops.aten.detach.default}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

Call = tuple[int | None, tuple]  # the unit in which it was made, and what it was


class StrayedError(Exception):
    """A pass made another call than the one that it stands for."""


@dataclass(slots=True)
class _Memory:
    """What is known of a piece of memory that a pass has written."""

    place: StorageWeakRef
    owner: int | None  # the unit inside which it was written; outside of all units None
    garbage: int  # bit k: not what it should be in a pass that starts behind unit k
    derived: bool  # it hangs on the input or on weights


def hooked(network: nn.Module) -> str:
    """The first module with hooks of somebody else's, which may do anything; "" without one."""
    for path, module in network.named_modules():
        if any(getattr(module, kind, None) for kind in _HOOKS):
            return path or type(network).__name__
    return ""


class Trace(TorchDispatchMode):
    """Follow one pass of ``network``, whose ``units`` may be left out by another.

    ``reason`` says why no pass can be started in the middle, if there is one; ``starts()`` behind
    which units it can. Where the network ``branches``, its way depends on values.
    """

    def __init__(self, network: nn.Module, units: Sequence[str] = (), kept: Iterable[int] = ()):
        super().__init__()
        self.network, self.units, self.kept = network, tuple(units), set(kept)
        self.calls: list[Call] = []
        # Of each unit, by call: itself where it is to be kept, else a hollow tensor of its form.
        self.outputs: dict[int, list[Any]] = {}
        self.reason = ""
        self.branches = False
        self._invalid = 0  # bit k: no pass may start behind unit k
        self._known: dict[int, _Memory] = {}
        self._inside: list[int] = []  # units that are running
        self._still = False
        tensors = [*network.parameters(), *network.buffers()]
        self._weights = {_key(tensor) for tensor in tensors}

    def __enter__(self):
        self._stack = ExitStack()
        self._hooks_before = _saving_hooks()
        for number, path in enumerate(self.units):
            module = self.network.get_submodule(path)
            for handle in (
                module.register_forward_pre_hook(self._entering(number)),
                module.register_forward_hook(self._leaving(number)),
            ):
                self._stack.callback(handle.remove)
        entered = super().__enter__()
        self._stack.enter_context(_Reading(self))
        return entered

    def __exit__(self, *exception):
        self._stack.close()
        return super().__exit__(*exception)

    def starts(self, logits: Tensor) -> set[int]:
        """Units behind which a pass gives these logits from the unit's output and the input alone.

        A unit that was called more than once, or gave something else than a tensor, is none.
        """
        if self.reason:
            return set()
        memory = self._known.get(_key(logits))
        invalid = self._invalid | (memory.garbage if memory is not None else 0)
        return {
            number
            for number, outputs in self.outputs.items()
            if len(outputs) == 1 and isinstance(outputs[0], Tensor) and not invalid >> number & 1
        }

    def expected(self, start: int) -> list[tuple]:
        """The calls of a pass that starts behind a unit."""
        return [call for unit, call in self.calls if unit is None or unit > start]

    def give_up(self, reason: str) -> None:
        """No pass may be started in the middle."""
        self.reason = self.reason or reason

    def reads(self, tensor: object) -> None:
        """Note that Python sees the values of a tensor."""
        if isinstance(tensor, Tensor) and self._is_derived(tensor):
            self._branch()

    def _branch(self) -> None:
        self.branches = True
        self.give_up("the way through it depends on values")

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Calls of our own."""
        before, self._still = self._still, True
        try:
            yield
        finally:
            self._still = before

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Make the call, and note it."""
        kwargs = kwargs or {}
        if self._still:
            return func(*args, **kwargs)
        unit = self._inside[-1] if self._inside else None
        call = fingerprint(func, args, kwargs)
        output = func(*args, **kwargs)
        if func not in _SILENT:
            self.calls.append((unit, call))
        if not self.branches:
            self._follow(unit, func, args, kwargs, output)
        return output

    def _follow(self, unit: int | None, func: Any, args: tuple, kwargs: dict, output: Any) -> None:
        garbage, derived = 0, False
        given = [*_tensors(args), *_tensors(kwargs.values())]
        for tensor in given:
            memory = self._memory(tensor)
            if memory is None:
                derived |= _key(tensor) in self._weights
                continue
            derived |= memory.derived
            garbage |= memory.garbage
            owner = memory.owner
            if owner is not None and owner != unit:
                # What is hidden inside a unit is seen from outside: by a later unit, or by all.
                until = len(self.units) if unit is None else max(owner, unit)
                self._invalid |= _bits(owner, until)
        kind = _kind(func)
        if derived and (kind.reads or (kind.indexes and _masked(args))):
            self._branch()
        if kind.draws:
            self.give_up("it draws random numbers")
        if _saving_hooks() != self._hooks_before:
            self.give_up("it computes parts of itself again for the backward pass")
        for name in kind.writes:
            written = args[name] if isinstance(name, int) and name < len(args) else None
            for tensor in _tensors([written if isinstance(name, int) else kwargs.get(name)]):
                memory = self._memory(tensor)
                if memory is None:
                    self.give_up("it writes to tensors that outlive the pass")
                else:
                    memory.garbage |= garbage
                    memory.derived |= derived
                    memory.owner = unit if unit is not None else memory.owner
        for tensor in _tensors([output]):
            if self._memory(tensor) is None and not _is_among(tensor, given):
                self._remember(tensor, _Memory(_place(tensor), unit, garbage, derived))

    def starting(self, leaf: Tensor) -> Tensor:
        """The input of the pass."""
        self._remember(leaf, _Memory(_place(leaf), None, 0, True))
        return leaf

    def _entering(self, number: int) -> Callable:
        def hook(_module: nn.Module, _inputs: tuple) -> None:
            self._inside.append(number)

        return hook

    def _leaving(self, number: int) -> Callable:
        def hook(_module: nn.Module, _inputs: tuple, output: object) -> object:
            self._inside.pop()
            if not is_plain(output):
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
        behind = _bits(number + 1, len(self.units))
        derived = self._is_derived(tensor)
        self._remember(copy, _Memory(_place(copy), None, before | behind, derived))
        return copy

    def _is_derived(self, tensor: Tensor) -> bool:
        memory = self._memory(tensor)
        return _key(tensor) in self._weights if memory is None else memory.derived

    def _memory(self, tensor: Tensor) -> _Memory | None:
        memory = self._known.get(_key(tensor))
        # Memory that was freed may have been given to another tensor.
        return None if memory is None or memory.place.expired() else memory

    def _remember(self, tensor: Tensor, memory: _Memory) -> None:
        self._known[_key(tensor)] = memory


class Following(TorchDispatchMode):
    """Hold a pass to the ``expected`` calls; raises StrayedError at the first other one."""

    def __init__(self, expected: Iterable[tuple]):
        super().__init__()
        self._expected = iter(expected)
        self._still = False

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Calls of our own."""
        before, self._still = self._still, True
        try:
            yield
        finally:
            self._still = before

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Make the call if it is the next one."""
        kwargs = kwargs or {}
        if self._still or func in _SILENT:
            return func(*args, **kwargs)
        if fingerprint(func, args, kwargs) != next(self._expected, None):
            raise StrayedError
        return func(*args, **kwargs)

    def finish(self) -> None:
        """Raise StrayedError where calls are missing."""
        if next(self._expected, None) is not None:
            raise StrayedError


class _Reading(TorchFunctionMode):
    """See what leaves torch for Python without a call of torch's."""

    def __init__(self, trace: Trace):
        super().__init__()
        self.trace = trace

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in _READ and args:
            self.trace.reads(args[0])
        return func(*args, **(kwargs or {}))


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


@dataclass(frozen=True)
class _Kind:
    writes: tuple[int | str, ...]  # arguments, by place or name
    reads: bool  # what comes next depends on values
    indexes: bool  # the shape of what it gives does where an index is a mask
    draws: bool


@cache
def _kind(func: Any) -> _Kind:
    name = func.overloadpacket._qualified_op_name
    places = enumerate(func._schema.arguments)
    written = [
        argument.name if argument.kwarg_only else place
        for place, argument in places
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    indexes = name in ("aten::index", "aten::index_put", "aten::index_put_")
    reads = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags)
    # Attention has the tag for its dropout, which is not there in evaluation.
    draws = torch.Tag.nondeterministic_seeded in func.tags and "dot_product" not in name
    return _Kind(tuple(written), bool(reads) and not indexes, indexes, draws)


def _masked(args: Sequence) -> bool:
    return any(tensor.dtype in (torch.bool, torch.uint8) for tensor in _tensors(args[1:2]))


def _tensors(values: Iterable) -> list[Tensor]:
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += _tensors(value)
    return found


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _place(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())


def _is_among(tensor: Tensor, others: list[Tensor]) -> bool:
    key = _key(tensor)
    return any(_key(other) == key for other in others)


def _bits(first: int, end: int) -> int:
    return ((1 << end) - 1) & ~((1 << first) - 1) if end > first else 0


def _saving_hooks() -> object:
    """Hooks on what the graph keeps, by which checkpointing keeps nothing and computes it again."""
    return torch._C._autograd._top_saved_tensors_default_hooks(True)


def _hollow(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def is_plain(output: object) -> bool:
    """Whether it is made of tensors, None and tuples of those."""
    if isinstance(output, tuple) and type(output) is tuple:
        return all(map(is_plain, output))
    return output is None or isinstance(output, Tensor)


def mapped(output: Any, change: Callable[[Tensor], Any]) -> Any:
    """Change every tensor of something plain."""
    if isinstance(output, tuple):
        return tuple(mapped(part, change) for part in output)
    return None if output is None else change(output)
