"""Perturbed copies of images, sent through a method in full chunks."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from saliency_sanity.gradient import Attribution, chunk_size

Perturb = Callable[[Tensor, slice, int], Tensor]


def stream(
    x: Tensor, copies: int, perturb: Perturb
) -> Iterator[tuple[list[tuple[int, slice]], Tensor]]:
    """Perturbed versions of every image in full chunks: which (copy, images) each, and the inputs.

    Copies are the outer loop, so that each image meets its copies in the same order whatever the
    chunk size is: sums are reproducible to the last bit as far as the network is.
    """
    images, size, total = len(x), chunk_size(x), len(x) * copies
    for start in range(0, total, size):
        runs, position, stop = [], start, min(start + size, total)
        while position < stop:
            copy, first = divmod(position, images)
            last = min(images, first + stop - position)
            runs.append((copy, slice(first, last)))
            position += last - first
        yield runs, torch.cat([perturb(x[rows], rows, copy) for copy, rows in runs])


def explained(
    method: Attribution,
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    copies: int,
    perturb: Perturb,
) -> Iterator[tuple[int, slice, Tensor]]:
    """Explain the perturbed versions; yields (copy, images, maps of those)."""
    for runs, inputs in stream(x, copies, perturb):
        # Somebody's own method may return a graph; summed up, it would hold every copy's pass.
        maps = method(model, inputs, torch.cat([target[rows] for _, rows in runs])).detach()
        yield from divided(runs, maps)


def divided(runs: list[tuple[int, slice]], maps: Tensor) -> Iterator[tuple[int, slice, Tensor]]:
    """Take the maps of one chunk of ``stream`` apart, by copy."""
    parts = maps.split([rows.stop - rows.start for _, rows in runs])
    for (copy, rows), part in zip(runs, parts, strict=True):
        yield copy, rows, part


def weighted(
    parts: Iterator[tuple[int, slice, Tensor]], weights: list[float], images: int
) -> Tensor:
    """The sum of the maps of all copies, each times its weight."""
    total = None
    for copy, rows, maps in parts:
        if total is None:
            total = maps.new_zeros(images, *maps.shape[1:])
        total[rows].add_(maps, alpha=weights[copy])
    return total
