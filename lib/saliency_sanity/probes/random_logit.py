"""Another logit: how alike the map of a class is to that of a label drawn at random."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from saliency_sanity._errors import known
from saliency_sanity._random import generator
from saliency_sanity.attribution.base import Attribution
from saliency_sanity.attribution.compose import Rectified, TimesInput
from saliency_sanity.attribution.lrp import Lrp
from saliency_sanity.attribution.per_label import explaining
from saliency_sanity.attribution.rectgrad import Threshold
from saliency_sanity.similarity.metrics import Metric
from saliency_sanity.similarity.prepare import Array, namespace, percentile
from saliency_sanity.similarity.ssim import Ssim, Uniform

FLIPS = ("as it is", "either sign")

# Percentage of pixels that are cut at either end.
_TAILS = 0.5


@dataclass(frozen=True)
class Tails:
    """A map as its authors' code compares it: channels together, tails cut, moved to [0, 1].

    ``channels``: ``sum``, or ``largest`` absolute value. ``tails`` is the percentage cut at either
    end; ``flipped`` turns the sign before. A map that is constant after the cut is NaN. Raises
    ValueError for other ``channels``, or ``tails`` outside [0, 50). [sixt2020code]
    """

    channels: str = "sum"
    tails: float = _TAILS
    flipped: bool = False

    def __post_init__(self):
        known("channels", self.channels, ("sum", "largest"))
        if not 0 <= self.tails < 50:
            raise ValueError(f"tails {self.tails} must be at least 0 and below 50, in per cent")

    def __call__(self, maps: Array) -> Array:
        """Prepared maps ``[N, H, W]`` of raw ones ``[N, C, H, W]``."""
        xp = namespace(maps)
        maps = maps.sum(axis=1) if self.channels == "sum" else xp.amax(abs(maps), axis=1)
        maps = -maps if self.flipped else maps
        low, high = (percentile(maps, q)[:, None, None] for q in (self.tails, 100 - self.tails))
        span = xp.where(high > low, high - low, np.nan)
        return xp.clip((maps - low) / span, 0, 1)


def prepared(method: Attribution, *, flipped: bool = False) -> Tails:
    """How a method's maps are compared: products and LRP by their sum, RectGrad without a cut."""
    product = isinstance(method, TimesInput | Lrp)
    own = method.method if isinstance(method, TimesInput) else method
    sparse = isinstance(own, Rectified) and isinstance(own.rule, Threshold)
    return Tails("sum" if product else "largest", 0.0 if sparse else _TAILS, flipped)


def other_labels(target: Tensor, labels: int, draws: int, seed: int = 0) -> Tensor:
    """Labels ``[draws, N]`` other than ``target`` ``[N]``, of ``labels`` each as likely.

    Those of a picture depend on its place alone. Raises ValueError where there is no other label.
    """
    if labels < 2 or draws < 1:
        raise ValueError(
            f"{draws} draws of another among {labels} labels; valid are 1 of 2 or more"
        )
    steps = [
        torch.randint(1, labels, (draws,), generator=generator(seed, "label", place), device="cpu")
        for place in range(len(target))
    ]
    return (target + torch.stack(steps, 1).to(target)) % labels


def label_maps(method: Attribution, model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """Maps ``[R, N, C, H, W]`` of labels ``[R, N]``, from one forward pass where that can be."""
    with explaining(method, model, x) as maps:
        return torch.stack([maps(row).detach() for row in labels])


def logit_similarities(method: Attribution, maps: Tensor) -> dict[str, np.ndarray]:
    """Similarities ``[R, N, N]`` of the first of ``maps`` ``[R + 1, N, C, H, W]`` with the others.

    A picture's own other label is on the diagonal, other pictures beside it. ``as it is`` compares
    the maps, ``either sign`` takes the larger of that and of one map turned in its sign, pair by
    pair. The similarity is structural, with a uniform window of 5 x 5 pixels.
    [sixt2020explanations], [sixt2020code]
    """
    ssim = Ssim(Uniform(5), data_range=2.0)
    plain, turned = (Metric(prepared(method, flipped=flip), (), ssim) for flip in (False, True))
    own = plain.descriptors(maps[0])
    found = [
        [way.compare.matrix(own, way.descriptors(theirs)).cpu().numpy() for way in (plain, turned)]
        for theirs in maps[1:]
    ]
    straight, other = np.stack(found, 1)
    return dict(zip(FLIPS, (straight, np.maximum(straight, other)), strict=True))
