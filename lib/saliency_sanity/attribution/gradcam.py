"""Grad-CAM: which places of a layer speak for the class."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from saliency_sanity._errors import NotApplicable
from saliency_sanity._hashing import unwrapped
from saliency_sanity.attribution.base import attributing, in_chunks, recording, select
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
    [pair-saliency] ``grad_cam.py``; for tokens [gildenblat2021gradcam].
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
            channels = _channels(model, path, part)
            with recording(), _graph_from(module) as seen:
                score = select(logits_of(model, laid_out(model, part)), wanted)
                if len(seen) != 1 or len(seen[0]) != len(part):
                    raise NotApplicable(_gave(path, seen, len(part)))
                (features,) = seen
                if not reaches(score, features):
                    raise NotApplicable(
                        f"the logits do not depend on layer {path!r} by anything that has a "
                        "gradient other than zero"
                    )
                (gradient,) = torch.autograd.grad(score.sum(), features)
            with torch.no_grad():
                if features.ndim == 3:
                    gradient, features = _patches(model, path, part, gradient, features)
                gradient, features = (t.movedim(channels, 1) for t in (gradient, features))
                weight = gradient.mean((2, 3), keepdim=True)
                coarse = (weight * features).sum(1, keepdim=True).clamp_min(0)
                if self.unit:
                    top = coarse.amax((2, 3), keepdim=True)
                    coarse = coarse / torch.where(top > 0, top, torch.ones_like(top))
                return resized(coarse, x)

        with attributing(model, x, target):
            path = self._path(model)
            module = submodule(model, path)
            return in_chunks(x, target, explain)


def _patches(
    model: nn.Module, path: str, x: Tensor, gradient: Tensor, features: Tensor
) -> tuple[Tensor, Tensor]:
    """Both as ``[N, K, rows, columns]`` of the patches."""
    grid = grid_of(model, features.shape[1], x)
    if grid is None:
        raise NotApplicable(
            f"layer {path!r} gave {list(features.shape)}, of which no {features.shape[1]} tokens "
            "make a grid of patches as the picture is; Grad-CAM needs a layer that gives one"
        )
    gradient, features = on_grid(gradient, grid), on_grid(features, grid)
    if not gradient.any():
        raise NotApplicable(
            f"the logits do not depend on the patches of layer {path!r}, only on other tokens; "
            "take one before the last attention, as the first norm of the last block"
        )
    return gradient, features


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
