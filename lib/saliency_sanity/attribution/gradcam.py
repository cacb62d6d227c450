"""Grad-CAM: which places of a convolutional layer speak for the class."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saliency_sanity._errors import NotApplicable
from saliency_sanity._hashing import unwrapped
from saliency_sanity.attribution.base import attributing, in_chunks, recording, select
from saliency_sanity.networks.classifier import submodule


@contextmanager
def _graph_from(module: nn.Module) -> Iterator[list[Tensor]]:
    """Start the graph at ``module``'s output; the list receives that output, once per call."""
    seen: list[Tensor] = []

    def start(_module: nn.Module, _inputs: tuple, output: object) -> object:
        if not isinstance(output, Tensor) or output.ndim != 4:
            return output
        seen.append(output.detach().requires_grad_())
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
    gets none. Raises ValueError for an unknown layer, NotApplicable for one that does not give
    exactly one ``[N, K, h, w]`` on the way to the logits. [selvaraju2017gradcam], eq. 1-2;
    [pair-saliency] ``grad_cam.py``.
    """

    layer: str | None = None
    unit: bool = True

    def _path(self, model: nn.Module) -> str:
        path = self.layer or getattr(unwrapped(model), "cam_layer", None)
        if path is None:
            raise NotApplicable(
                f"Grad-CAM needs a layer: {getattr(model, 'name', type(model).__name__)} has no "
                "default one; name a module path, e.g. GradCAM('layer4')"
            )
        return path

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain ``target`` for ``x``."""

        def explain(part: Tensor, wanted: Tensor) -> Tensor:
            with recording(), _graph_from(module) as seen:
                score = select(
                    model(part.detach().clone(memory_format=torch.channels_last)), wanted
                )
                if len(seen) != 1:
                    raise NotApplicable(
                        f"layer {path!r} gave {len(seen)} feature maps [N, K, h, w] in one pass; "
                        "Grad-CAM needs a layer that gives exactly one"
                    )
                (features,) = seen
                if not score.requires_grad:
                    raise NotApplicable(f"the logits do not depend on layer {path!r}")
                (gradient,) = torch.autograd.grad(score.sum(), features)
            with torch.no_grad():
                weight = gradient.mean((2, 3), keepdim=True)
                coarse = (weight * features).sum(1, keepdim=True).clamp_min(0)
                if self.unit:
                    top = coarse.amax((2, 3), keepdim=True)
                    coarse = coarse / torch.where(top > 0, top, torch.ones_like(top))
                return F.interpolate(coarse, size=x.shape[2:], mode="bilinear")

        with attributing(model, x, target):
            path = self._path(model)
            module = submodule(model, path)
            return in_chunks(x, target, explain)
