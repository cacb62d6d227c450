"""A network of one random convolution, where every map can be worked out by hand."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from saliency_sanity.attribution.base import Attribution
from saliency_sanity.attribution.controls import edge_magnitude
from saliency_sanity.subjects.toys import Linear, SumPool

JUMPS = "jumps of G"


@dataclass(frozen=True)
class OneLayer:
    """Maps of random convolutions of ``pixels`` ``[N, C, H, W]``, seeds ``seed`` and following.

    ``methods`` has ``G``, the gradient, and ``SG``, SmoothGrad, and maybe others.
    [adebayo2018sanity], section 5.3.
    """

    methods: Mapping[str, Attribution]
    pixels: Tensor
    filters: int
    seed: int = 0

    @cached_property
    def _target(self) -> Tensor:
        return torch.zeros(len(self.pixels), dtype=torch.int64, device="cpu")

    @cached_property
    def _networks(self) -> list[SumPool]:
        return [SumPool(seed=self.seed + k) for k in range(self.filters)]

    @cached_property
    def maps(self) -> dict[str, list[Tensor]]:
        """Maps by method, and where the gradient jumps; of each as many as there are networks."""
        maps = {
            name: [method(network, self.pixels, self._target) for network in self._networks]
            for name, method in self.methods.items()
        }
        maps[JUMPS] = [
            torch.from_numpy(edge_magnitude(g.double().sum(1).numpy()))[:, None] for g in maps["G"]
        ]
        return maps

    @cached_property
    def closed_error(self) -> float:
        """How far the gradient is from its closed form, relative to the largest value."""
        closed = [network.closed_form(self.pixels, self._target) for network in self._networks]
        return max(
            float((g - c).abs().max() / c.abs().max())
            for g, c in zip(self.maps["G"], closed, strict=True)
        )

    @cached_property
    def linear_error(self) -> float:
        """How far maps of a linear network are from its weights, relative to the largest."""
        linear = Linear(tuple(self.pixels.shape[1:]), seed=self.seed)
        weight = linear.weight[0].detach()
        return max(
            float(
                (self.methods[name](linear, self.pixels, self._target) - weight).abs().max()
                / weight.abs().max()
            )
            for name in ("G", "SG")
        )
