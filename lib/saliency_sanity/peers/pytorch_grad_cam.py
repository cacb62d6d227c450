"""The methods of pytorch-grad-cam, as ``pytorch_grad_cam:NAME``."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from saliency_sanity.attribution.base import Attribution
from saliency_sanity.peers import adapter
from saliency_sanity.peers.trace import Trace, counted

_GUIDED = "GuidedBackpropReLUModel"
_LAYERED = (
    *("GradCAM", "GradCAMPlusPlus", "GradCAMElementWise", "HiResCAM", "LayerCAM", "XGradCAM"),
    *("ScoreCAM", "AblationCAM", "EigenCAM", "EigenGradCAM", "KPCA_CAM", "SegEigenCAM"),
    *("ShapleyCAM", "FEM", "RandomCAM"),
)
METHODS = (*_LAYERED, "FullGrad", _GUIDED)
REFUSED = {
    "DeepFeatureFactorization": "it finds concepts of a picture, without a class",
    **dict.fromkeys(
        ("FinerCAM", "RefineCAM", "SESS"),
        "it is made around another method of its caller's; take that method",
    ),
}
# What reads values alone; what multiplies them by gradients place by place; others by channel.
_VALUES = frozenset({"EigenCAM", "KPCA_CAM", "FEM", "ScoreCAM", "AblationCAM", "RandomCAM"})
_PLACES = frozenset({"HiResCAM", "LayerCAM", "GradCAMElementWise"})
_LEFT_OUT = (
    *("self", "model", "target_layers", "input_tensor", "targets", "ablation_layer", "device"),
    *("input_img", "target_category", "reshape_transform"),
)


def method(name: str, parameters: dict[str, Any]) -> Attribution:
    """Give the adapter of ``pytorch_grad_cam:NAME``.

    Parameters are those of the class and of its call; ``layer`` is the module path of the one
    target layer. ``reshape_transform`` is a function as the library has it, for networks whose
    layers do not give ``[N, K, h, w]``. [gildenblat2021cam]
    """
    home = adapter.library(name, "pytorch_grad_cam")
    kind = adapter.one_of(name, METHODS, REFUSED)
    given = dict(parameters)
    reshape = given.pop("reshape_transform", None) if kind != _GUIDED else None
    found = getattr(home, kind)
    calls = [found.__init__, found.__call__]
    built = adapter.build(PytorchGradCam, kind, given, calls=calls, left_out=_LEFT_OUT)
    return replace(built, reshape_transform=reshape)


@dataclass(frozen=True)
class PytorchGradCam(adapter.Adapter):
    """A method of pytorch-grad-cam; see ``adapter.Adapter``."""

    # A field of its own, so that keys of stored results count its code.
    reshape_transform: Callable | None = None

    library = "pytorch_grad_cam"
    layered = frozenset(_LAYERED)
    refusals = (
        (ValueError, "Invalid activation shape"),
        # Of second derivatives, of which a network of straight pieces may have none.
        (RuntimeError, "element 0 of tensors does not require grad"),
    )

    def explain(self, model: nn.Module, x: Tensor, target: int) -> Tensor:
        """Explain one picture."""
        home = adapter.library(self.name, "pytorch_grad_cam")
        kind, network = getattr(home, self.method), adapter.Logits(model, x)
        if self.method == _GUIDED:
            found = kind(network)(x, target)
            return torch.from_numpy(found.copy()).permute(2, 0, 1)[None]
        taken = adapter.taken(kind.__init__)
        own = {key: value for key, value in self.parameters if key in taken}
        call = {key: value for key, value in self.parameters if key not in taken}
        if self.method == "AblationCAM":
            # The library's default is one object for all, which keeps what it has seen.
            own["ablation_layer"] = home.ablation_layer.AblationLayer()
        layers = [self.module(model)] if self.method in _LAYERED else []
        cam = kind(network, layers, reshape_transform=self.reshape_transform, **own)
        wanted = home.utils.model_targets.ClassifierOutputTarget(target)
        try:
            found = cam(input_tensor=x, targets=[wanted], **call)
        finally:
            cam.activations_and_grads.release()
        return torch.from_numpy(found)[None]

    def notes(self, seen: Trace) -> Iterator[str]:
        """What pytorch-grad-cam does otherwise than one would think."""
        named = f"pytorch-grad-cam {self.version}"
        if self.method == _GUIDED:
            yield (
                f"{named} explains the first picture of a batch only, and adds up over calls with "
                "one tensor; here each picture goes in by itself, as a tensor of its own."
            )
            strange = [*seen.functions, *seen.rectifiers_but(nn.ReLU)]
            if strange:
                every = "" if seen.rectifiers_of(nn.ReLU) else ", so that it is the gradient"
                yield (
                    f"{named} gives its rule to nn.ReLU modules only: here {counted(strange)} "
                    f"keep the gradient's{every}."
                )
            return
        path = self.path(seen.model)
        if path in seen.overwritten:
            effect = ", and pairs it with gradients from before"
            if self.method in _VALUES:
                effect = ""
            elif self.method in _PLACES:
                effect += "; behind a rectifier this changes nothing, for it hands down 0 there"
            yield (
                f"{named} reads what layer {path!r} gave after it was overwritten in place by what "
                f"comes next{effect}."
            )
        if self.method == "RandomCAM":
            yield f"{named} draws the weights of the channels: a control, not a method."
        if self.method in ("EigenCAM", "EigenGradCAM") or self.given.get("eigen_smooth"):
            yield (
                f"{named} leaves the map's sign to the decomposition: of the same activations "
                "mirrored it may be the inverse map, and so it may of a randomized network."
            )
        if self.method in ("EigenCAM", "KPCA_CAM", "FEM"):
            yield f"{named} asks for no class here: the map is the same for all."
