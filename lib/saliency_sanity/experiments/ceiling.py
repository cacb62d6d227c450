"""The same map again, in exact arithmetic: how alike two maps are when nothing has changed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from saliency_sanity._attributes import Attributes
from saliency_sanity.attribution.base import Attribution, mapped, out_of_memory, passes
from saliency_sanity.experiments.comparison import check_map

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
        yield
    finally:
        before.restore()
        for tensor, narrow in kept:
            tensor.data = narrow


def exact(
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

    for name in methods:
        if not passes(methods[name]):
            one_by_one(name, x)
    wide = [name for name in methods if passes(methods[name])]
    if wide:
        with widened(model, forget):
            for name in wide:
                one_by_one(name, x.double())
    return maps, refused
