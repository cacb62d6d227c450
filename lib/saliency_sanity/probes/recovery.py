"""Random networks whose maps show the picture: nothing was learned, and it is there all the same.

A rectified hidden unit with weights w lets a map through where w . p > 0, p the patch that it sees,
and hands w down. Of weights without a direction of their own, the mean of w over such units points
along p. So a map adds up the patches, if what comes from above has one sign only: it does where
negative gradients are cut off, and averages out where they are not. [nie2018theoretical]
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import norm
from torch import Tensor, nn

from saliency_sanity._arithmetic import arithmetic
from saliency_sanity._random import generator
from saliency_sanity.attribution.base import Attribution, logits, mapped
from saliency_sanity.networks.classifier import Scaling
from saliency_sanity.similarity.metrics import Metric
from saliency_sanity.similarity.prepare import Prepare
from saliency_sanity.similarity.rank import Pearson

# Grey levels less the mean colour of ImageNet, in which the networks of [nie2018theoretical] see.
SCALING = Scaling(tuple(level / 255 for level in (123.68, 116.779, 103.939)), (1 / 255,) * 3)

# Over all pixels and channels, with signs: 1 for the picture itself, whatever its contrast.
CORRELATION = Metric(Prepare("each"), (), Pearson())

# Where normal numbers are cut, in their spread, and what is then left of it.
_CUT = 2.0
_LEFT = math.sqrt(1 - 2 * _CUT * norm.pdf(_CUT) / (2 * norm.cdf(_CUT) - 1))
# Of such numbers of spread 1 before the cut, the mean of the positive part, and of its square.
_POSITIVE = (norm.pdf(0) - norm.pdf(_CUT)) / (2 * norm.cdf(_CUT) - 1)
_SQUARE = _LEFT**2 / 2


class RandomConvolution(nn.Module):
    """Logits of one random convolution, rectified, and a random layer on top of all its places.

    ``units`` filters of ``kernel`` pixels and no bias see pictures ``[N, C, size, size]``, padded
    with zeros; ``pool`` pixels wide is the max pooling above, of stride 1, 0 for none. Weights are
    normal, cut at two of their spread, 0.1; ``seed`` decides them.

    Raises ValueError for an even kernel or pool, which have no middle. [nie2018theoretical]
    """

    std = 0.1

    def __init__(
        self, units: int, size: int, *, kernel: int = 7, pool: int = 0, classes: int = 10,
        channels: int = 3, seed: int = 0,
    ):  # fmt: skip
        super().__init__()
        if kernel % 2 == 0 or (pool and pool % 2 == 0):
            raise ValueError(f"kernel {kernel} and pool {pool} need a middle: give odd numbers")
        self.units, self.kernel, self.pool = units, kernel, pool
        self.hidden = _drawn((units, channels, kernel, kernel), self.std, seed, "hidden")
        self.top = _drawn((classes, units, size, size), self.std, seed, "top")

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        found = F.relu(F.conv2d(x, self.hidden, padding=self.kernel // 2))
        if self.pool:
            found = F.max_pool2d(found, self.pool, 1, self.pool // 2)
        return found.flatten(1) @ self.top.flatten(1).T

    def limit(self, x: Tensor) -> Tensor:
        """What guided backpropagation tends to without a pool, but for a factor: ``[N, C, H, W]``.

        Each patch of length 1, laid where it was: as a patch has at a pixel what the picture has
        there, that is the picture times the sum of 1 / length over the patches that see the pixel.
        """
        squares = x.double().square().sum(1, keepdim=True)
        lengths = self._spread(squares).clamp_min(0).sqrt()
        # A patch of zeros turns no unit on.
        return x * self._spread(torch.where(lengths > 0, 1 / lengths, 0.0))

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of what one filter adds to guided backpropagation, a coordinate."""
        mean = _POSITIVE * self.std * _LEFT * self.std / math.sqrt(2 * math.pi) * self.limit(x)
        seen = self._spread(torch.ones_like(x[:1, :1], dtype=torch.float64))
        square = _SQUARE * self.std**2 * (_LEFT * self.std) ** 2 / 2 * seen
        return mean, square - mean.square()

    def _spread(self, values: Tensor) -> Tensor:
        ones = values.new_ones(1, 1, self.kernel, self.kernel)
        return F.conv2d(values, ones, padding=self.kernel // 2)


class RandomDense(nn.Module):
    """Logits of one random hidden layer whose units see all of a picture ``[N, C, size, size]``.

    Weights are normal, cut at two of their spread, 0.1 below with a bias of 1, and 10 on top;
    ``seed`` decides them. [nie2018theoretical]
    """

    std, bias, top_std = 0.1, 1.0, 10.0

    def __init__(
        self, units: int, size: int, *, classes: int = 10, channels: int = 3, seed: int = 0
    ):
        super().__init__()
        self.units = units
        self.hidden = _drawn((units, channels, size, size), self.std, seed, "hidden")
        self.top = _drawn((classes, units), self.top_std, seed, "top")

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return F.relu(x.flatten(1) @ self.hidden.flatten(1).T + self.bias) @ self.top.T

    def limit(self, x: Tensor) -> Tensor:
        """What guided backpropagation tends to, but for a factor: the picture itself."""
        return x.double()

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of what one unit adds to guided backpropagation, a coordinate."""
        spread = _LEFT * self.std
        length = x.double().flatten(1).norm(dim=1).view(-1, 1, 1, 1).clamp_min(1e-300)
        middle = self.bias / (spread * length)
        density = torch.exp(-middle.square() / 2) / math.sqrt(2 * math.pi)
        mean = _POSITIVE * self.top_std * spread * density * x.double() / length
        on = torch.special.ndtr(middle)
        return mean, _SQUARE * self.top_std**2 * spread**2 * on - mean.square()


Network = RandomConvolution | RandomDense


def _drawn(shape: tuple[int, ...], std: float, seed: int, name: str) -> nn.Parameter:
    weight = torch.empty(shape, dtype=torch.float32, device="cpu")
    key = generator(seed, "recovery", name, *shape)
    nn.init.trunc_normal_(weight, std=std, a=-_CUT * std, b=_CUT * std, generator=key)
    return nn.Parameter(weight, requires_grad=False)


def expected(network: Network, x: Tensor) -> np.ndarray:
    """Correlation ``[N]`` of guided backpropagation with its picture that is to be expected.

    From the ``moments`` of a unit: the signal grows with the number of units, the noise with its
    root. Nothing is fitted. Exact for many inputs a unit and a class chosen without regard to its
    logit; for a network without a pool.
    """
    mean, variance = (part.flatten(1) for part in network.moments(x))
    picture = x.double().flatten(1)
    picture = picture - picture.mean(1, keepdim=True)
    signal = network.units * (mean - mean.mean(1, keepdim=True))
    noise = network.units * variance.expand_as(mean).mean(1)
    spread = (signal.square().mean(1) + noise).sqrt() * picture.square().mean(1).sqrt()
    return ((signal * picture).mean(1) / spread).cpu().numpy()


@dataclass(frozen=True)
class Recovered:
    """What maps of one method show of their pictures, over R random networks of one kind.

    ``similarity`` ``[R, N, N]`` correlates the map of picture i with picture j, ``limit``
    ``[R, N]`` each map with the limit of its own, and ``classes`` ``[R, N, N]`` the map of picture
    i for one class with that of picture j for another. ``maps`` ``[N, C, H, W]`` are the first
    network's.
    """

    similarity: np.ndarray
    limit: np.ndarray
    classes: np.ndarray
    maps: Tensor


def recovered(
    build: Callable[[int], Network],
    seeds: Iterable[int],
    methods: Mapping[str, Attribution],
    x: Tensor,
) -> dict[str, Recovered]:
    """Explain pictures ``[N, C, H, W]`` to random networks, by method.

    ``build`` makes a network of a seed. What is explained is the class with the largest logit, and
    beside it the next one in order. Raises as methods do.
    """
    parts: dict[str, list[tuple]] = {name: [] for name in methods}
    first: dict[str, Tensor] = {}
    for seed in seeds:
        network = build(seed).to(x.device)
        with arithmetic("exact", x.device):
            scores = logits(network, x)
            target, limit = scores.argmax(1), network.limit(x)
            other = (target + 1) % scores.shape[1]
            for name, method in methods.items():
                maps, others = (mapped(method, network, x, one) for one in (target, other))
                first.setdefault(name, maps)
                found = (
                    CORRELATION.matrix(maps, x),
                    CORRELATION(maps, limit),
                    CORRELATION.matrix(maps, others),
                )
                parts[name].append(tuple(one.cpu().numpy() for one in found))
    return {
        name: Recovered(*map(np.stack, zip(*rows, strict=True)), maps=first[name])
        for name, rows in parts.items()
    }
