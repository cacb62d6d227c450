"""A vision transformer's tokens as places of the picture."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from saliency_sanity.networks.classifier import network_of


def grid_of(model: nn.Module, tokens: int, x: Tensor) -> tuple[int, int, int] | None:
    """How many tokens stand before the patches, and the patches' rows and columns; None if none.

    timm's networks say the first; of others it is a class token, or nothing, whichever leaves as
    many patches as make a grid of the form of ``x`` ``[N, C, H, W]``: it is never both.
    """
    height, width = x.shape[2:]
    known = [
        module.num_prefix_tokens
        for module in network_of(model).modules()
        if isinstance(getattr(module, "num_prefix_tokens", None), int)
    ]
    for before in known[:1] or (1, 0):
        patches = tokens - before
        rows = math.isqrt(max(patches, 0) * height // width)
        if rows and patches % rows == 0 and rows * width == patches // rows * height:
            return before, rows, patches // rows
    return None


def on_grid(values: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Values of tokens ``[N, T, K]`` as ``[N, K, rows, columns]`` of the patches alone."""
    before, rows, columns = grid
    return values[:, before:].unflatten(1, (rows, columns)).movedim(3, 1)


def resized(coarse: Tensor, x: Tensor) -> Tensor:
    """A coarse map as large as the pictures ``x``, bilinearly, in their type."""
    return F.interpolate(coarse.to(x), size=x.shape[2:], mode="bilinear")
