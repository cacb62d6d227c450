"""Networks so small that their maps can be written down."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saliency_sanity._random import generator, normal


class Linear(nn.Module):
    """Logits ``w . x`` with random weights: gradient and SmoothGrad are ``w`` itself.

    [adebayo2018sanity], section 5.3.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int = 10, seed: int = 0):
        super().__init__()
        draw = normal((classes, *shape), generator(seed, "linear"))
        self.weight = nn.Parameter(draw / shape[0] ** 0.5)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return torch.einsum("nchw,kchw->nk", x, self.weight)


class SumPool(nn.Module):
    """One 3x3 convolution with random weights, ReLU, sum over all places: one logit per filter.

    Zero padding, no bias. [adebayo2018sanity], section 5.3 and figure 7.
    """

    def __init__(self, channels: int = 3, filters: int = 1, seed: int = 0):
        super().__init__()
        shape = (filters, channels, 3, 3)
        self.weight = nn.Parameter(normal(shape, generator(seed, "sum-pool")))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return F.relu(F.conv2d(x, self.weight, padding=1)).sum((2, 3))

    @torch.no_grad()
    def closed_form(self, x: Tensor, target: Tensor) -> Tensor:
        """Gradient ``[N, C, H, W]`` of the target's logit, written down instead of differentiated.

        Where the activation pattern a is known, the gradient at (i, j) is the sum over the nine
        offsets of w[k, m] a[i - k, j - m]: a constant wherever the pattern is constant around
        (i, j), so that it changes only where activations do, at edges.
        """
        height, width = x.shape[2:]
        active = (F.conv2d(x, self.weight, padding=1) > 0).to(x)
        # Padding the pattern by one on each side makes every shift a plain slice.
        pattern = F.pad(active[torch.arange(len(x), device=x.device), target], (1, 1, 1, 1))
        gradient = torch.zeros_like(x)
        for k in (-1, 0, 1):
            for m in (-1, 0, 1):
                shifted = pattern[:, 1 - k : 1 - k + height, 1 - m : 1 - m + width]
                gradient += self.weight[target, :, k + 1, m + 1, None, None] * shifted[:, None]
        return gradient
