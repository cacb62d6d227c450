"""Pictures that the network takes for something else, though hardly a pixel has changed."""

import torch
from torch import Tensor, nn

from saliency_sanity._random import generator
from saliency_sanity.attribution.base import (
    attributing,
    differentiable,
    gradient_of,
    in_chunks,
    recording,
    select,
)
from saliency_sanity.networks.classifier import Scaling


def adversarial(
    model: nn.Module, x: Tensor, target: Tensor, scaling: Scaling, bound: float, steps: int = 1
) -> Tensor:
    """Pictures ``[N, C, H, W]`` moved by signs of a gradient, up the loss of ``target`` ``[N]``.

    ``bound``, in raw units of [0, 1], is the farthest that any pixel goes, in ``steps`` steps of
    ``bound / steps`` each; the picture stays within [0, 1]. The loss is the cross entropy. With one
    step it is the fast gradient sign method [goodfellow2015explaining], with several the basic
    iterative method [kurakin2017adversarial]. A class need not change.

    Raises ValueError for a bound or a number of steps out of range, and as ``attribution.base``.
    """
    check_steps(bound, steps)
    raw = scaling.to_raw(x)
    moved = raw
    for _ in range(steps):
        rising = loss_gradient(model, scaling.to_network(moved), target).sign()
        moved = (moved + bound / steps * rising).clamp(0, 1)
    return scaling.to_network(moved)


def check_steps(bound: float, steps: int) -> None:
    """Raise ValueError unless pixels can go so far, in so many steps."""
    if not 0 < bound <= 1:
        raise ValueError(f"bound is {bound:g}; give a share of the range of a pixel, such as 0.01")
    if steps < 1:
        raise ValueError(f"steps is {steps}; give 1, or more smaller ones")


def loss_gradient(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """Gradient ``[N, C, H, W]`` of each picture's cross entropy with its ``target`` ``[N]``."""

    def found(part: Tensor, wanted: Tensor) -> Tensor:
        with recording():
            leaf, logits, kept = differentiable(model, part)
            loss = -select(logits.log_softmax(1), wanted)
            return gradient_of(model, loss, leaf, retain_graph=kept)

    with attributing(model, x, target):
        return in_chunks(x, target, found)


def displaced(x: Tensor, moved: Tensor, scaling: Scaling, seed: int = 0) -> Tensor:
    """Pictures changed by as much as ``moved``, but elsewhere: noise of the very same values.

    The pixels of each picture's change are put in random order, their channels together, and added
    to the picture ``[N, C, H, W]``; it stays within [0, 1] in raw units. ``seed`` and the place in
    the batch decide the order.
    """
    raw = scaling.to_raw(x)
    change = (scaling.to_raw(moved) - raw).flatten(2)
    orders = [
        torch.randperm(change.shape[2], generator=generator(seed, "displaced", i), device="cpu")
        for i in range(len(x))
    ]
    shuffled = torch.stack(
        [one[:, order.to(x.device)] for one, order in zip(change, orders, strict=True)]
    )
    return scaling.to_network((raw + shuffled.view_as(raw)).clamp(0, 1))
