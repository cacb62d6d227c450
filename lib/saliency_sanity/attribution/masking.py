"""Explanations by forward passes alone: what hiding parts of a picture does to the score."""

from dataclasses import dataclass
from math import ceil, inf

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saliency_sanity._random import generator
from saliency_sanity.attribution.base import Score, attributing
from saliency_sanity.attribution.compose import (
    Colour,
    at_least,
    baseline_of,
    checked,
    explained,
    raw_colour,
)


@dataclass(frozen=True)
class Occlusion:
    """By how much the target's logit falls where a window is hidden, the mean over windows.

    Map ``[N, 1, H, W]`` in logit: each pixel has the mean of f(x) - f(x hidden) over the windows
    that cover it. ``window`` and ``stride`` are shares of the picture's sides, so that pictures of
    any size have as many windows: spread evenly from edge to edge, each rounded to whole pixels, up
    for the window. ``baseline`` is the window's colour in raw pixel units [0, 1], or None for the
    network's zero. Raises ValueError unless 0 < stride <= window <= 1. [zeiler2014visualizing];
    the mean over windows as in [kokhlikyan2020captum]
    """

    window: float = 0.125
    stride: float = 0.0625
    baseline: Colour = None

    def __post_init__(self):
        window, stride = at_least("window", self.window, 0, float), self.stride
        if not 0 < at_least("stride", stride, 0, float) <= window <= 1:
            raise ValueError(
                f"stride {stride} and window {window} are shares of a picture's side: "
                "0 < stride <= window <= 1, so that windows leave no gaps"
            )
        checked(
            self,
            window=float(window),
            stride=float(stride),
            baseline=raw_colour(self.baseline),
        )

    @property
    def _along(self) -> int:
        """Windows along each side."""
        return 1 + ceil(round((1 - self.window) / self.stride, 9))

    @property
    def passes(self) -> int:
        """Forward passes an image costs."""
        return 1 + self._along**2

    def _windows(self, length: int) -> list[slice]:
        width = ceil(round(self.window * length, 9))
        step = (length - width) / max(1, self._along - 1)
        starts = (round(step * place) for place in range(self._along))
        return [slice(start, start + width) for start in starts]

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain ``target`` for ``x``."""
        with attributing(model, x, target):
            colour = baseline_of(model, x, self.baseline)
            columns = self._windows(x.shape[3])
            windows = [(rows, part) for rows in self._windows(x.shape[2]) for part in columns]

            def hide(part: Tensor, _rows: slice, copy: int) -> Tensor:
                part = part.detach().clone()
                if copy:
                    part[:, :, *windows[copy - 1]] = colour
                return part

            kind = torch.promote_types(x.dtype, torch.float32)
            whole = x.new_empty(len(x), 1, 1, 1, dtype=kind)
            total = x.new_zeros(len(x), 1, *x.shape[2:], dtype=kind)
            covered = torch.zeros_like(total[:1])
            for copy, rows, score in explained(Score(), model, x, target, self.passes, hide):
                if copy:
                    total[rows, :, *windows[copy - 1]] += whole[rows] - score
                else:
                    whole[rows] = score.to(kind)
            for window in windows:
                covered[:, :, *window] += 1
            return (total / covered).to(x.dtype)


@dataclass(frozen=True)
class Rise:
    """RISE: the mean of random masks, each times the target's probability seen through it.

    Map ``[N, 1, H, W]``, never negative: the sum of f(x M) M over ``masks`` masks M, divided by
    their number and by ``keep``. A mask is ``grid`` x ``grid`` cells that are open with probability
    ``keep``, made larger by one cell than the picture, bilinearly, and cut out at a random place.
    All images see the same masks. A mask multiplies what the picture is more than ``baseline``, a
    colour in raw pixel units [0, 1], or None for the network's zero. [petsiuk2018rise], eq. 6
    """

    masks: int = 2000
    grid: int = 8
    keep: float = 0.5
    baseline: Colour = None
    seed: int = 0

    def __post_init__(self):
        if not 0 < at_least("keep", self.keep, 0, float) <= 1:
            raise ValueError(f"keep {self.keep} is the share of open cells: above 0, at most 1")
        checked(
            self,
            masks=at_least("masks", self.masks, 1),
            grid=at_least("grid", self.grid, 1),
            keep=float(self.keep),
            baseline=raw_colour(self.baseline),
            seed=at_least("seed", self.seed, -inf),
        )

    @property
    def passes(self) -> int:
        """Forward passes an image costs."""
        return self.masks

    def _mask(self, number: int, x: Tensor) -> Tensor:
        """A mask ``[1, 1, H, W]`` for pictures like ``x``."""
        key = generator(self.seed, "mask", number)
        drawn = torch.rand(self.grid**2 + 2, generator=key, dtype=torch.float32, device="cpu")
        cells = (drawn[2:] < self.keep).float().view(1, 1, self.grid, self.grid)
        sides = [-(-length // self.grid) for length in x.shape[2:]]
        size = [(self.grid + 1) * side for side in sides]
        large = F.interpolate(cells, size=size, mode="bilinear")
        top, left = (int(part * side) for part, side in zip(drawn[:2].tolist(), sides, strict=True))
        return large[:, :, top : top + x.shape[2], left : left + x.shape[3]].to(x)

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain ``target`` for ``x``."""
        with attributing(model, x, target):
            start = baseline_of(model, x, self.baseline)

            def look(part: Tensor, _rows: slice, number: int) -> Tensor:
                part = part.detach()
                return start + self._mask(number, part) * (part - start)

            kind = torch.promote_types(x.dtype, torch.float32)
            total = x.new_zeros(len(x), 1, *x.shape[2:], dtype=kind)
            seen = explained(Score(probability=True), model, x, target, self.masks, look)
            for number, rows, score in seen:
                total[rows] += score * self._mask(number, x)
            return (total / (self.masks * self.keep)).to(x.dtype)
