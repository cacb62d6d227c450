"""Whether the way through a network depends on values: on the picture, or on random weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Hand values to Python without a call of torch's own.
_READ = {torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__array__}
_INDEXING = {"aten::index", "aten::index_put", "aten::index_put_"}


@dataclass(frozen=True)
class Kind:
    """What a call of torch's does besides computing."""

    writes: tuple[int | str, ...]  # to these arguments, by place or name
    reads: bool  # what comes next depends on values
    indexes: bool  # so it does where an index is a mask
    draws: bool  # random numbers


class Branching(TorchDispatchMode):
    """Follow a pass of ``network`` within the block; ``branches`` says what was found.

    That is so where Python, or the shape of a tensor, gets to know values that hang on the input,
    which has to be given as ``starting(x)``, or on the network's tensors.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.branches = False
        self._weights = {place(tensor) for tensor in (*network.parameters(), *network.buffers())}
        self._derived: dict[int, StorageWeakRef] = {}

    def __enter__(self):
        entered = super().__enter__()
        self._reading = _Reading(self)
        self._reading.__enter__()
        return entered

    def __exit__(self, *exception):
        self._reading.__exit__(*exception)
        del self._reading  # a circle, which would keep what was followed
        return super().__exit__(*exception)

    def starting(self, x: Tensor) -> Tensor:
        """The input of the pass."""
        self._derived[place(x)] = weakly(x)
        return x

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Make the call, and see what it does."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        self.see(func, args, kwargs, output)
        return output

    def see(self, func: Any, args: Sequence, kwargs: dict[str, Any], output: Any) -> None:
        """Follow values from what a call was given to what it gave."""
        if not any(map(self.is_derived, given(args, kwargs))):
            return
        kind = kind_of(func)
        self.branches |= kind.reads or (kind.indexes and _masked(args))
        for tensor in [*written(kind, args, kwargs), *tensors(output)]:
            self._derived[place(tensor)] = weakly(tensor)

    def is_derived(self, tensor: Tensor) -> bool:
        """Whether a tensor hangs on the input or on the network's tensors."""
        key = place(tensor)
        known = self._derived.get(key)
        # Memory that was freed may have been given to another tensor.
        return key in self._weights or (known is not None and not known.expired())


class _Reading(TorchFunctionMode):
    def __init__(self, watch: Branching):
        super().__init__()
        self.watch = watch

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in _READ and isinstance(args[0], Tensor) and self.watch.is_derived(args[0]):
            self.watch.branches = True
        return func(*args, **(kwargs or {}))


def tensors(values: object) -> Iterator[Tensor]:
    """All tensors among arguments or results, in lists, tuples and dictionaries too."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple | dict):
        for value in values.values() if isinstance(values, dict) else values:
            yield from tensors(value)


@cache
def kind_of(func: Any) -> Kind:
    """What a call of this operator does besides computing."""
    name = func.overloadpacket._qualified_op_name
    changed = [
        argument.name if argument.kwarg_only else number
        for number, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    indexes = name in _INDEXING
    reads = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags)
    # Attention has the tag for its dropout, which is not there in evaluation.
    draws = torch.Tag.nondeterministic_seeded in func.tags and "dot_product" not in name
    return Kind(tuple(changed), bool(reads) and not indexes, indexes, draws)


def given(args: Sequence, kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors among arguments; not packed weights, whose place in memory nobody is told."""
    return [tensor for tensor in tensors([*args, *kwargs.values()]) if not tensor.is_mkldnn]


def written(kind: Kind, args: Sequence, kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that a call changes in place."""
    given = [kwargs.get(key) if isinstance(key, str) else args[key] for key in kind.writes]
    return list(tensors(given))


def saving_hooks() -> object:
    """Hooks on what the graph keeps, by which checkpointing keeps nothing and computes it again."""
    return torch._C._autograd._top_saved_tensors_default_hooks(True)


def place(tensor: Tensor) -> int:
    """Where a tensor lies in memory, the same for all views of it."""
    return tensor.untyped_storage()._cdata


def weakly(tensor: Tensor) -> StorageWeakRef:
    """A tensor's memory, without keeping it."""
    return StorageWeakRef(tensor.untyped_storage())


def _masked(args: Sequence) -> bool:
    return any(tensor.dtype in (torch.bool, torch.uint8) for tensor in tensors(args[1:2]))
