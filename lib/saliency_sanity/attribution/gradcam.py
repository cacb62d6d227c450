"""Grad-CAM and its kin: which places of a layer speak for the class."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from saliency_sanity._errors import NotApplicable
from saliency_sanity._hashing import unwrapped
from saliency_sanity.attribution.base import Score, attributing, in_chunks, recording, select
from saliency_sanity.attribution.compose import (
    Colour,
    baseline_of,
    checked,
    explained,
    raw_colour,
)
from saliency_sanity.attribution.tokens import grid_of, on_grid, resized
from saliency_sanity.networks.classifier import submodule
from saliency_sanity.networks.forward import laid_out, logits_of, name_of, quietly, reaches

# What gives [N, K, h, w], and what leaves the order of dimensions as it is.
_CHANNELS_FIRST = (
    *(nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.MaxPool2d),
    *(nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Upsample, nn.PixelShuffle),
)
_ELEMENTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Hardswish, nn.Sigmoid, nn.Identity),
    *(nn.Dropout, nn.Dropout2d),
)

# A dimension goes with rows of the picture, and not with columns, from this difference on of how
# far its centre of change moves, in units of its length.
_MOVES = 0.02


@contextmanager
def _graph_from(module: nn.Module) -> Iterator[list[Tensor]]:
    """Start the graph at ``module``'s output; the list receives that output, once per call."""
    seen: list[Tensor] = []

    def start(_module: nn.Module, _inputs: tuple, output: object) -> object:
        if not isinstance(output, Tensor) or output.ndim not in (3, 4):
            return output
        # A copy of what an inference mode in the network has made.
        values = output.clone() if output.is_inference() else output
        seen.append(values.detach().requires_grad_())
        # A copy, since the next layer may work in place.
        return seen[-1].clone()

    handle = module.register_forward_hook(start)
    try:
        yield seen
    finally:
        handle.remove()


@dataclass(frozen=True)
class GradCAM:
    """Rectified sum of a layer's channels, weighted by their mean gradient, resized bilinearly.

    ``layer`` is a module path of the network; None takes the classifier's own. Each map
    ``[N, 1, H, W]`` is divided by its maximum, as in the reference code, unless ``unit`` is False;
    a map without positive evidence stays zero. The pass below the layer needs no gradient and
    gets none. Which dimension of the layer has the channels, the second or the last, is told from
    its modules, else from where its output changes with parts of the picture. Of a transformer's
    tokens ``[N, T, K]`` those of the patches are laid out as the picture is. Raises ValueError
    for an unknown layer, NotApplicable for one that does not give exactly one ``[N, K, h, w]``,
    ``[N, h, w, K]`` or ``[N, T, K]`` on the way to the logits. [selvaraju2017gradcam], eq. 1-2;
    [pair-saliency] ``grad_cam.py``; for tokens [gildenblat2021cam].
    """

    layer: str | None = None
    unit: bool = True

    def _path(self, model: nn.Module) -> str:
        path = self.layer or getattr(unwrapped(model), "cam_layer", None)
        if path is None:
            raise NotApplicable(
                f"Grad-CAM needs a layer: {name_of(model)} has no "
                "default one; name a module path, e.g. GradCAM('layer4')"
            )
        return path

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain ``target`` for ``x``."""

        def explain(part: Tensor, wanted: Tensor) -> Tensor:
            with recording():
                score, features = _features(model, path, part, wanted)
                found = self._weighed(model, path, part, wanted, score, features)
            with torch.no_grad():
                coarse = found.sum(1, keepdim=True).clamp_min(0)
                if self.unit:
                    top = coarse.amax((2, 3), keepdim=True)
                    coarse = coarse / torch.where(top > 0, top, torch.ones_like(top))
                return resized(coarse, x)

        with attributing(model, x, target):
            path = self._path(model)
            return in_chunks(x, target, explain)

    def _weighed(
        self,
        model: nn.Module,
        path: str,
        x: Tensor,
        target: Tensor,  # noqa: ARG002
        score: Tensor,
        features: Tensor,
    ) -> Tensor:
        """The layer's output ``[N, K, h, w]``, every channel times its weight."""
        (gradient,) = torch.autograd.grad(score.sum(), features)
        with torch.no_grad():
            tokens = features.ndim == 3
            features, gradient = (_laid(model, path, x, values) for values in (features, gradient))
            if tokens and not gradient.any():
                raise NotApplicable(
                    f"the logits do not depend on the patches of layer {path!r}, only on other "
                    "tokens; take one before the last attention, as the first norm of the last "
                    "block"
                )
            return self._terms(features, gradient)

    def _terms(self, features: Tensor, gradient: Tensor) -> Tensor:
        return gradient.mean((2, 3), keepdim=True) * features


@dataclass(frozen=True)
class GradCAMPlusPlus(GradCAM):
    """Grad-CAM++: channels weighted by a sum of their positive gradients, each times an alpha.

    alpha = g^2 / (2 g^2 + g^3 sum A), which is 1 / (2 + g sum A), for the exponential of the logit
    and a network that is linear in pieces above the layer; where the denominator is 0, alpha is
    0. A map hangs on the logit's unit. As published, eq. 11 and 19, and without what libraries add
    to the denominator, which outweighs it where gradients are small; the authors' code divides the
    alphas of a channel by their sum as well. As ``GradCAM`` otherwise. [chattopadhay2018gradcam]
    """

    def _terms(self, features: Tensor, gradient: Tensor) -> Tensor:
        below = 2 + gradient * features.sum((2, 3), keepdim=True)
        alpha = torch.where(below == 0, 0, 1 / below)
        return (alpha * gradient.clamp_min(0)).sum((2, 3), keepdim=True) * features


@dataclass(frozen=True)
class LayerCAM(GradCAM):
    """LayerCAM: every place of a channel weighted by its own gradient, where that is positive.

    As ``GradCAM`` otherwise. [jiang2021layercam]
    """

    def _terms(self, features: Tensor, gradient: Tensor) -> Tensor:
        return gradient.clamp_min(0) * features


@dataclass(frozen=True)
class ScoreCAM(GradCAM):
    """Score-CAM: channels weighted by the logit of the picture seen through each of them.

    A channel is resized to the picture, bilinearly, and brought to [0, 1] by its own minimum and
    maximum; one without either masks all. It multiplies what the picture is more than
    ``baseline``, a colour in raw pixel units [0, 1], or None for the network's zero. Weights are
    the softmax, over channels, of the target's logits of what is left: as published; the authors'
    code takes its probabilities. The layer has to have a gradient, although none is taken. A
    forward pass for each channel. As ``GradCAM`` otherwise. [wang2020scorecam]
    """

    baseline: Colour = None

    every_channel = True  # not annotated: no field of the dataclass

    def __post_init__(self):
        checked(self, baseline=raw_colour(self.baseline))

    def _weighed(
        self,
        model: nn.Module,
        path: str,
        x: Tensor,
        target: Tensor,
        score: Tensor,  # noqa: ARG002
        features: Tensor,
    ) -> Tensor:
        features = _laid(model, path, x, features.detach())
        start = baseline_of(model, x, self.baseline)

        def seen(part: Tensor, rows: slice, channel: int) -> Tensor:
            own = resized(features[rows, channel : channel + 1], x)
            low, high = own.amin((2, 3), keepdim=True), own.amax((2, 3), keepdim=True)
            mask = torch.where(high > low, (own - low) / (high - low), 0)
            return start + mask * (part - start)

        count = features.shape[1]
        scores = features.new_empty(len(x), count, dtype=x.dtype)
        for channel, rows, found in explained(Score(), model, x, target, count, seen):
            scores[rows, channel] = found.flatten()
        return scores.softmax(1)[:, :, None, None] * features


def _features(model: nn.Module, path: str, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The target's logits ``[N]``, and a layer's output, from which their graph starts."""
    with _graph_from(submodule(model, path)) as seen:
        score = select(logits_of(model, laid_out(model, x)), target)
    if len(seen) != 1 or len(seen[0]) != len(x):
        raise NotApplicable(_gave(path, seen, len(x)))
    if not reaches(score, seen[0]):
        raise NotApplicable(
            f"the logits do not depend on layer {path!r} by anything that has a gradient other "
            "than zero"
        )
    return score, seen[0]


def _laid(model: nn.Module, path: str, x: Tensor, values: Tensor) -> Tensor:
    """What a layer gave as ``[N, K, h, w]``: tokens as the patches that they stand for."""
    if values.ndim == 4:
        return values.movedim(_channels(model, path, x), 1)
    grid = grid_of(model, values.shape[1], x)
    if grid is None:
        raise NotApplicable(
            f"layer {path!r} gave {list(values.shape)}, of which no {values.shape[1]} tokens "
            "make a grid of patches as the picture is; Grad-CAM needs a layer that gives one"
        )
    return on_grid(values, grid)


def _gave(path: str, seen: list[Tensor], images: int) -> str:
    found = f"{len(seen)} feature maps [N, K, h, w]"
    if len(seen) == 1:
        found = f"{list(seen[0].shape)} for {images} pictures"
    return f"layer {path!r} gave {found} in one pass; Grad-CAM needs a layer that gives exactly one"


_known: WeakIdKeyDictionary = WeakIdKeyDictionary()


def _channels(model: nn.Module, path: str, x: Tensor) -> int:
    """Which dimension of a layer's output has the channels: 1 or 3; found out once for a layer."""
    module = submodule(model, path)
    key = x.shape[1:]
    found = _known.setdefault(module, {})
    if key not in found:
        found[key] = 1 if _is_channels_first(model, module, x[:1]) else _told(model, path, x[:1])
    return found[key]


@torch.no_grad()
def _is_channels_first(model: nn.Module, module: nn.Module, x: Tensor) -> bool:
    """Whether the last of the layer's modules that is not element-wise gives [N, K, h, w]."""
    last: list[nn.Module] = []

    def note(inner: nn.Module, _inputs: tuple, _output: object) -> None:
        last[:] = [inner]

    # timm's batch norms have a rectifier among their children.
    leaves = [m for m in module.modules() if isinstance(m, _CHANNELS_FIRST) or not [*m.children()]]
    handles = [m.register_forward_hook(note) for m in leaves if not isinstance(m, _ELEMENTWISE)]
    try:
        quietly(model, laid_out(model, x).clone())
    finally:
        for handle in handles:
            handle.remove()
    return bool(last) and isinstance(last[0], _CHANNELS_FIRST)


@torch.no_grad()
def _told(model: nn.Module, path: str, x: Tensor) -> int:
    """Tell it from where the output changes with each half of one picture ``x``."""
    module = submodule(model, path)

    def output(given: Tensor) -> Tensor | None:
        seen: list[object] = []
        handle = module.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
        try:
            quietly(model, laid_out(model, given).clone())
        finally:
            handle.remove()
        fits = len(seen) == 1 and isinstance(seen[0], Tensor) and seen[0].ndim == 4
        return seen[0].detach().double().clone() if fits and len(seen[0]) == 1 else None

    before = output(x)
    if before is None:
        return 1  # the pass itself says what is wrong
    halves = {}
    other = 1 - x.flip(2, 3) / 2
    for dim in (2, 3):
        length = x.shape[dim]
        index = torch.arange(length, device=x.device).view(-1, *[1] * (3 - dim))
        halves[dim] = [
            (output(torch.where(part, other, x)) - before).abs()
            for part in (index < length // 2, index >= length // 2)
        ]

    # How far the centre of change along each dimension moves down, and to the right.
    down, right = (
        [_centre(later, dim) - _centre(early, dim) for dim in range(4)]
        for early, later in (halves[2], halves[3])
    )

    def follows(channels: int, rows: int, columns: int) -> bool | None:
        """Whether two dimensions go with those of the picture; None where they hardly move."""
        apart = min(down[rows] - right[rows], right[columns] - down[columns])
        if apart < -_MOVES:
            return False
        return True if apart > max(_MOVES, abs(down[channels]), abs(right[channels])) else None

    shape, (height, width) = before.shape, x.shape[2:]
    for channels, rows, columns in ((1, 2, 3), (3, 1, 2)):
        found = follows(channels, rows, columns)
        # What does not move may be told by its shape.
        fits = shape[rows] * width == shape[columns] * height
        unlike = shape[channels] not in (shape[rows], shape[columns])
        if found or (found is None and fits and unlike):
            return channels
    raise NotApplicable(
        f"layer {path!r} gave {list(shape)}, of which no two dimensions follow rows and columns of "
        "the picture as in [N, K, h, w] or [N, h, w, K]; Grad-CAM needs a layer that does"
    )


def _centre(change: Tensor, dim: int) -> float:
    along = change.movedim(dim, 0).flatten(1).sum(1)
    at = torch.linspace(0, 1, len(along), dtype=along.dtype, device=along.device)
    return float((along * at).sum() / along.sum().clamp_min(1e-300))
