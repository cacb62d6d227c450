"""Maps of the same images for many labels, from one forward pass where the method allows it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import singledispatch

import torch
from torch import Tensor, nn

from saliency_sanity.attribution.base import (
    Attribution,
    Gradient,
    attributing,
    check_target,
    chunk_size,
    differentiable,
    gradient_of,
    in_chunks,
    leaf_of,
    passes,
    recording,
    select,
)
from saliency_sanity.attribution.compose import (
    NoiseAverage,
    PathAverage,
    TimesInput,
    baseline_of,
    divided,
    stream,
    weighted,
)
from saliency_sanity.networks.forward import logits_of, out_of_memory

Maps = Callable[[Tensor], Tensor]

# Graphs kept at most for images that a method sends through the network more than once.
_CPU_BYTES, _GPU_BYTES = 4 * 2**30, 16 * 2**30


@singledispatch
@contextmanager
def explaining(method: Attribution, model: nn.Module, x: Tensor) -> Iterator[Maps]:
    """Within the block, ``maps(labels [N])`` gives what ``method(model, x, labels)`` does.

    Gradient, TimesInput, PathAverage and NoiseAverage of these keep the graph of one forward pass,
    each call a backward pass; labels may differ between images. Any other method is called anew
    for each, which is as right and takes longer; so is one of these for more images than fit
    through the network at once, or whose graphs take too much memory. ``explaining.register(kind)``
    enters a class of methods, with a context manager of the same arguments. Raises what the method
    does.
    """
    yield lambda labels: method(model, x, labels)


_anew = explaining.dispatch(object)


def _kept(kind: type) -> Callable:
    """Register a context manager for a class, not for those that inherit and explain otherwise."""

    def register(handler: Callable[..., Iterator[Maps]]) -> Callable:
        managed = contextmanager(handler)

        @explaining.register(kind)
        @contextmanager
        def enter(method: Attribution, model: nn.Module, x: Tensor) -> Iterator[Maps]:
            same = type(method).__call__ is kind.__call__
            with (managed if same else _anew)(method, model, x) as maps:
                yield maps

        return handler

    return register


@contextmanager
def _holding(model: nn.Module, x: Tensor) -> Iterator[None]:
    nothing = torch.zeros(len(x), dtype=torch.long, device=x.device)
    with attributing(model, x, nothing):
        yield


@_kept(Gradient)
def _gradient(method: Gradient, model: nn.Module, x: Tensor) -> Iterator[Maps]:
    with _holding(model, x):
        if len(x) > chunk_size(x):
            yield lambda labels: method(model, x, labels)
            return
        with recording():
            leaf, logits, _ = differentiable(model, x)

        def maps(labels: Tensor) -> Tensor:
            check_target(x, labels)
            with recording():
                return gradient_of(model, select(logits, labels), leaf, retain_graph=True)

        yield maps


@_kept(TimesInput)
def _times_input(method: TimesInput, model: nn.Module, x: Tensor) -> Iterator[Maps]:
    with _holding(model, x), explaining(method.method, model, x) as maps:
        factor = x.detach() - baseline_of(model, x, method.baseline)
        yield lambda labels: maps(labels) * factor


@_kept(PathAverage)
@_kept(NoiseAverage)
def _average(method: PathAverage | NoiseAverage, model: nn.Module, x: Tensor) -> Iterator[Maps]:
    with _holding(model, x), ExitStack() as stack:
        chunks = []
        if len(x) <= room(method, model, x):
            perturb, weights = method.copies(model, x)
            try:
                for runs, inputs in stream(x, len(weights), perturb):
                    inner = explaining(method.method, model, inputs)
                    chunks.append((runs, stack.enter_context(inner)))
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                stack.close()
                chunks.clear()
        if not chunks:
            yield lambda labels: method(model, x, labels)
            return

        def explained(labels: Tensor) -> Iterator[tuple[int, slice, Tensor]]:
            for runs, maps in chunks:
                wanted = torch.cat([labels[rows] for _, rows in runs])
                yield from divided(runs, maps(wanted).detach())

        def maps(labels: Tensor) -> Tensor:
            check_target(x, labels)
            return weighted(explained(labels), weights, len(x))

        yield maps


def room(method: Attribution, model: nn.Module, x: Tensor) -> int:
    """How many images can have all their graphs kept at once by ``explaining``; 0 for none.

    Found from what a forward pass of one image keeps for the backward pass, where the method
    needs more than one.
    """
    copies = passes(method)
    if copies <= 1:
        return len(x)
    nothing = torch.zeros(1, dtype=torch.long, device=x.device)
    with _holding(model, x):
        each = in_chunks(x[:1], nothing, lambda part, _: _graph_bytes(model, part)).item()
    budget = _GPU_BYTES if x.is_cuda else _CPU_BYTES
    return int(budget // (copies * max(1, each)))


def _graph_bytes(model: nn.Module, x: Tensor) -> Tensor:
    """What a forward pass keeps for the backward pass, besides the network's own tensors."""
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    found: dict[int, int] = {}

    def pack(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return saved

    with recording(), torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        logits = logits_of(model, leaf_of(model, x))
    del logits
    return torch.tensor([sum(found.values())], device="cpu")
