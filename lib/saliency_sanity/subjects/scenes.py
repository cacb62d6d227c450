"""Pictures with a known answer: a garment beside a shape, and a garment without its lower half.

Where the label hangs on is known by construction, whatever a map says. The tasks are those of
[yona2021revisiting], with garments for digits; sizes, shapes and places are ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from saliency_sanity._random import generator

SIDE = 28
# Two cells fit beside each other; each is moved up and down by itself.
CELL = SIDE // 2
SHAPES = ("rectangle", "circle")
STATES = ("whole", "lower half deleted")
# Rows on either side of the cut that count for neither half: so far do first kernels reach.
_RIM = 2
# Half of a shape's height and width and its grey level, least and most.
_RADII, _GREYS = (4.0, 6.5), (0.5, 1.0)


@dataclass(frozen=True, eq=False)
class Scenes:
    """Grey pictures ``images`` uint8 ``[N, 28, 28]`` on a ground of exactly 0, and what is where.

    ``labels[task]`` ``[N]`` is the answer of a task, ``regions[name]`` ``[N, 28, 28]`` booleans.
    """

    images: Tensor
    labels: Mapping[str, Tensor]
    regions: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.images)

    def at(self, taken: Tensor | slice) -> "Scenes":
        """Some of the scenes, by index ``[M]`` or slice."""
        return Scenes(
            self.images[taken],
            {task: labels[taken] for task, labels in self.labels.items()},
            {name: masks[taken] for name, masks in self.regions.items()},
        )


def pairs(garments: Tensor, labels: Tensor, seed: int, split: str) -> Scenes:
    """Each garment, at half its size, beside a rectangle or circle, each in a cell of 14 x 14.

    ``garments`` uint8 ``[N, 28, 28]`` with ``labels`` ``[N]``. Which is left, how high each cell
    lies, the shape, its size and its grey level are drawn by ``seed`` and ``split``, independently
    of the garment. Tasks and regions are ``garment`` and ``shape``; the regions are the cells.
    Raises ValueError for pictures of another size.
    """
    _check(garments)
    drawn = _uniform(7, garments, "pairs", seed, split)
    left = (drawn[0] < 0.5).long()
    tops = (drawn[1:3] * (SIDE - CELL + 1)).long()
    shapes = (drawn[3] < 0.5).long()
    radii, grey = (
        low + (high - low) * u for (low, high), u in ((_RADII, drawn[4:6]), (_GREYS, drawn[6]))
    )
    small = F.avg_pool2d(garments[:, None].double(), 2).squeeze(1).round().to(torch.uint8)
    objects = {"garment": small, "shape": _drawn(shapes, radii, grey)}
    images = torch.zeros_like(garments)
    regions = {}
    for name, top, side in zip(objects, tops, (left, 1 - left), strict=True):
        regions[name] = _cells(top, CELL * side)
        images[regions[name]] = objects[name].flatten()
    return Scenes(images, {"garment": labels, "shape": shapes}, regions)


def halves(garments: Tensor, seed: int, split: str) -> Scenes:
    """Garments of which, by chance, every other one has lost its lower half: rows from 14 on are 0.

    ``garments`` uint8 ``[N, 28, 28]``. The task is ``state``; regions, the same in every picture,
    are ``kept``, ``boundary`` (two rows on either side of the cut) and ``deleted``, which share the
    picture among them. Raises ValueError for pictures of another size.
    """
    _check(garments)
    deleted = _uniform(1, garments, "halves", seed, split)[0] < 0.5
    row = torch.arange(SIDE, device=garments.device)[:, None].expand(SIDE, SIDE)
    images = torch.where(deleted[:, None, None] & (row >= CELL), 0, garments)
    parts = {"kept": row < CELL - _RIM, "deleted": row >= CELL + _RIM}
    parts["boundary"] = ~(parts["kept"] | parts["deleted"])
    regions = {name: part.expand(len(garments), -1, -1) for name, part in parts.items()}
    return Scenes(images, {"state": deleted.long()}, regions)


def _check(garments: Tensor) -> None:
    if garments.ndim != 3 or garments.shape[1:] != (SIDE, SIDE) or garments.dtype != torch.uint8:
        raise ValueError(
            f"garments are {garments.dtype} {tuple(garments.shape)}; expected uint8 "
            f"[N, {SIDE}, {SIDE}], as load_dataset gives them"
        )


def _uniform(numbers: int, garments: Tensor, *keys: int | str) -> Tensor:
    """Numbers in [0, 1) for each garment, ``[numbers, N]``."""
    # A column is a garment's, whatever comes after it.
    shape = (len(garments), numbers)
    key = generator("scenes", *keys)
    drawn = torch.rand(shape, generator=key, dtype=torch.float64, device="cpu")
    return drawn.T.to(garments.device)


def _drawn(shapes: Tensor, radii: Tensor, grey: Tensor) -> Tensor:
    """Filled shapes in the middle of their cells, ``[N, 14, 14]`` uint8.

    ``radii`` ``[2, N]`` are half of height and width; circles take the first.
    """
    at = torch.arange(CELL, dtype=torch.float64, device=grey.device) - (CELL - 1) / 2
    down, across = at[:, None].abs(), at.abs()
    high, wide = radii[:, :, None, None]
    rectangles = (down <= high) & (across <= wide)
    circles = down**2 + across**2 <= high**2
    inside = torch.where((shapes == SHAPES.index("circle"))[:, None, None], circles, rectangles)
    return (inside * (255 * grey)[:, None, None]).round().to(torch.uint8)


def _cells(top: Tensor, left: Tensor) -> Tensor:
    """Cells by their upper left corners ``[N]`` as masks ``[N, 28, 28]``."""
    at = torch.arange(SIDE, device=top.device)
    rows, columns = ((at >= first[:, None]) & (at < first[:, None] + CELL) for first in (top, left))
    return rows[:, :, None] & columns[:, None, :]
