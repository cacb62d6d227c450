"""Deletion and insertion: what becomes of a prediction as pixels go in the order of a map."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from saliency_sanity._random import generator
from saliency_sanity.attribution.base import attributing, logits
from saliency_sanity.attribution.compose import Colour, baseline_of


def removal_order(maps: Tensor, seed: int = 0) -> Tensor:
    """Pixels ``[N, H * W]`` of maps ``[N, C, H, W]``, the most positive first.

    Channels are summed. Equal values, such as a sparse map's zeros, follow each other in random
    order, which ``seed`` and the place in the batch decide. Raises ValueError for values that are
    not finite.
    """
    scores = maps.double().sum(1).flatten(1)
    if not scores.isfinite().all():
        images = (~scores.isfinite().all(1)).nonzero().flatten()[:8].tolist()
        raise ValueError(f"maps of image(s) {images} are not finite; pixels cannot be put in order")
    shuffled = torch.stack(
        [
            torch.randperm(scores.shape[1], generator=generator(seed, "ties", i), device="cpu")
            for i in range(len(scores))
        ]
    ).to(scores.device)
    order = scores.gather(1, shuffled).argsort(dim=1, descending=True, stable=True)
    return shuffled.gather(1, order)


def check_shares(shares: Sequence[float]) -> None:
    """Raise ValueError unless there are shares of the pixels, all in [0, 1]."""
    shares = list(shares)
    if not shares or min(shares) < 0 or max(shares) > 1:
        raise ValueError(f"shares {shares} of the pixels; valid are some of 0 to 1")


def check_rising(shares: Sequence[float]) -> None:
    """Raise ValueError unless curves over these shares of the pixels have an area."""
    check_shares(shares)
    if len(shares) < 2 or any(b <= a for a, b in pairwise(shares)):
        raise ValueError(f"shares {list(shares)} have no area; give two or more that rise")


def removal_curve(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    order: Tensor,
    shares: Sequence[float],
    *,
    insertion: bool = False,
    baseline: Colour = None,
) -> np.ndarray:
    """Probability ``[N, S]`` of the target when the first ``shares`` of the pixels are gone.

    ``order`` as ``removal_order`` gives it. A pixel that is gone has the ``baseline`` colour in
    all channels, in raw units, None for the network's zero. With ``insertion`` it is the other way
    round: all others are gone. The probability is the softmax of the logits, or the sigmoid of the
    only one. Raises ValueError for shares outside [0, 1]. [petsiuk2018rise]
    """
    check_shares(shares)
    pixels = order.shape[1]
    place = torch.empty_like(order).scatter_(
        1, order, torch.arange(pixels, device=order.device).expand_as(order)
    )
    empty = baseline_of(model, x, baseline)
    found = []
    with attributing(model, x, target), torch.no_grad():
        for share in shares:
            first = (place < round(share * pixels)).reshape(len(x), 1, *x.shape[2:])
            kept = first if insertion else ~first
            given = torch.where(kept, x, torch.as_tensor(empty, dtype=x.dtype, device=x.device))
            found.append(_chances(logits(model, given)).gather(1, target[:, None])[:, 0])
    return torch.stack(found, 1).double().cpu().numpy()


def removal_score(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    maps: Tensor,
    shares: Sequence[float],
    *,
    seed: int = 0,
) -> np.ndarray:
    """How faithful maps ``[N, C, H, W]`` are, ``[N]`` in [-1, 1]: insertion less deletion.

    The difference of the areas under the two curves of ``removal_curve`` over ``shares``, by
    trapezoids and per unit of share; 0 for a random order on average, higher is better. ``seed``
    orders equal values. Raises as ``removal_order`` and ``removal_curve`` do, and ValueError for
    shares that do not rise. [petsiuk2018rise]
    """
    check_rising(shares)
    order = removal_order(maps, seed)
    gone, put = (
        removal_curve(model, x, target, order, shares, insertion=way) for way in (False, True)
    )
    return np.trapezoid(put - gone, shares, axis=1) / (shares[-1] - shares[0])


def _chances(logits: Tensor) -> Tensor:
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)
