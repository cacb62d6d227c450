"""Captum's methods, as ``captum:NAME``."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saliency_sanity._extras import need
from saliency_sanity.attribution.base import Attribution
from saliency_sanity.peers import adapter
from saliency_sanity.peers.superpixels import superpixels
from saliency_sanity.peers.trace import Trace, counted

_LAYERED = frozenset({"GuidedGradCam", "LayerGradCam"})
_REFERENCES = frozenset({"GradientShap", "DeepLiftShap"})
_RELU_ONLY = frozenset({"GuidedBackprop", "Deconvolution", "GuidedGradCam"})
_RESCALED = frozenset({"DeepLift", "DeepLiftShap"})
_PARTS = frozenset({"FeatureAblation", "ShapleyValueSampling", "KernelShap", "Lime"})
METHODS = (
    *("Saliency", "InputXGradient", "IntegratedGradients", "GradientShap", "NoiseTunnel"),
    *("DeepLift", "DeepLiftShap", "LRP", "GuidedBackprop", "Deconvolution"),
    *("LayerGradCam", "GuidedGradCam", "Occlusion"),
    *("FeatureAblation", "ShapleyValueSampling", "KernelShap", "Lime"),
)
_UNIT = "it explains a unit within the network, not a class"
_COARSE = "it explains units of a layer and gives no map of the picture; LayerGradCam does"
REFUSED = {
    "FeaturePermutation": "it shuffles values between the pictures of a batch, of which a picture "
    "alone has none",
    "ShapleyValues": "it takes all orders of the features; ShapleyValueSampling draws some",
    "LimeBase": "it is made of functions of its caller's; Lime has them",
    "DataLoaderAttribution": "it goes over a whole data set",
    **dict.fromkeys(
        ("LLMAttribution", "LLMGradientAttribution", "RemoteLLMAttribution"),
        "it explains language models",
    ),
} | dict.fromkeys(
    (
        *("NeuronConductance", "NeuronDeconvolution", "NeuronDeepLift", "NeuronDeepLiftShap"),
        *("NeuronFeatureAblation", "NeuronGradient", "NeuronGradientShap"),
        *("NeuronGuidedBackprop", "NeuronIntegratedGradients"),
    ),
    _UNIT,
)
REFUSED |= dict.fromkeys(
    (
        *("InternalInfluence", "LayerActivation", "LayerConductance", "LayerDeepLift"),
        *("LayerDeepLiftShap", "LayerFeatureAblation", "LayerFeaturePermutation"),
        *("LayerGradientShap", "LayerGradientXActivation", "LayerIntegratedGradients", "LayerLRP"),
    ),
    _COARSE,
)

# What the adapter gives, and what would have it return something else than a map.
_LEFT_OUT = (
    *("self", "forward_func", "model", "layer", "device_ids", "inputs", "target"),
    *("additional_forward_args", "return_convergence_delta", "custom_attribution_func"),
    *("grad_kwargs", "attr_dim_summation", "return_input_shape", "show_progress", "verbose"),
    *("interpretable_model", "similarity_func", "perturb_func", "draw_baseline_from_distrib"),
)


def method(name: str, parameters: dict[str, Any]) -> Attribution:
    """Give the adapter of ``captum:NAME``.

    Parameters are those of the class and of its ``attribute``. ``feature_mask`` may be a number: so
    many superpixels of each picture, 50 where none is given. ``baselines`` of GradientShap and
    DeepLiftShap may be numbers, pictures of one value each; where none are given they are five
    greys from black to white. ``attribution_method`` of NoiseTunnel is the name of another method,
    Saliency where none is given. [kokhlikyan2020captum]
    """
    adapter.library(name, "captum.attr")
    kind = adapter.one_of(name, METHODS, REFUSED)
    if kind in ("KernelShap", "Lime"):
        need(name, "peers", "sklearn")
    calls, more = [_class(kind).__init__, _class(kind).attribute], {}
    if kind == "NoiseTunnel":
        inner = parameters.get("attribution_method", "Saliency")
        adapter.one_of(f"captum:{inner}", sorted(set(METHODS) - {"NoiseTunnel"}), REFUSED)
        calls += [_class(inner).__init__, _class(inner).attribute]
        more = {"attribution_method": "Saliency"}
    if kind == "LayerGradCam":
        more = {"interpolate_mode": "nearest"}
    if kind in _REFERENCES:
        more = {"baselines": None}
    return adapter.build(Captum, kind, parameters, calls=calls, left_out=_LEFT_OUT, more=more)


def _class(name: str) -> Any:
    return getattr(adapter.library(f"captum:{name}", "captum.attr"), name)


@dataclass(frozen=True)
class Captum(adapter.Adapter):
    """A method of Captum; see ``adapter.Adapter``."""

    library = "captum"
    layered = _LAYERED
    refusals = (
        (TypeError, "has no rule defined"),
        (RuntimeError, "was detected that does not contain some of the input/output attributes"),
        (RuntimeError, "is being used more than once"),
        (AssertionError, "baseline"),
        # Of a layer whose output is no map, as tokens are.
        (ValueError, "same number of spatial dimensions"),
    )

    @property
    def inner(self) -> str:
        """The method itself, or that which NoiseTunnel averages."""
        wrapped = self.given.get("attribution_method", "Saliency")
        return wrapped if self.method == "NoiseTunnel" else self.method

    def explain(self, model: nn.Module, x: Tensor, target: int) -> Tensor:
        """Explain one picture."""
        given = {key: adapter.ready(value, x) for key, value in self.given.items()}
        given.pop("attribution_method", None)
        # Its LRP loads the weights anew when it is done.
        network = adapter.Logits(model, x, copied=self.inner == "LRP")
        found = self._object(self.inner, network, model, given)
        if self.method == "NoiseTunnel":
            found = _class("NoiseTunnel")(found)
        if self.inner in _REFERENCES:
            given["baselines"] = self.background(model, x, "baselines")
        if self.inner in _PARTS and not isinstance(given.get("feature_mask"), Tensor):
            given["feature_mask"] = superpixels(model, x, given.get("feature_mask") or 50)
        mode = given.pop("interpolate_mode", "nearest") if self.method == "LayerGradCam" else None
        coarse = found.attribute(x, target=target, **given)
        if mode is None:
            return coarse
        return _class("LayerAttribution").interpolate(coarse.detach(), x.shape[2:], mode)

    def _object(
        self, name: str, network: nn.Module, model: nn.Module, given: dict[str, Any]
    ) -> Any:
        """The library's object; takes its own parameters out of ``given``."""
        kind = _class(name)
        own = {key: given.pop(key) for key in adapter.taken(kind.__init__) if key in given}
        if name in _LAYERED:
            own["layer"] = self.module(model)
        return kind(network, **own)

    def notes(self, seen: Trace) -> Iterator[str]:
        """What Captum does otherwise than one would think."""
        named = f"Captum {self.version}"
        if self.inner == "Saliency" and self.given.get("abs", True):
            yield f"{named} gives absolute values of the gradient unless abs=False."
        if self.method == "NoiseTunnel":
            yield (
                f"{named} takes stdevs in the network's scaling, not as a share of the picture's "
                "range."
            )
        if self.method == "LayerGradCam" and not self.given.get("relu_attributions", False):
            yield f"{named} keeps negative values of Grad-CAM unless relu_attributions=True."
        if self.inner in _RELU_ONLY:
            strange = [*seen.functions, *seen.rectifiers_but(torch.nn.ReLU)]
            if strange:
                every = "" if seen.rectifiers_of(torch.nn.ReLU) else ", so that it is the gradient"
                yield (
                    f"{named} gives its rule to nn.ReLU modules only: here {counted(strange)} "
                    f"keep the gradient's{every}."
                )
        if self.inner in _RESCALED:
            strange = [*seen.functions, *seen.curves, *seen.curved_but(_rescaled()), *seen.products]
            if strange:
                yield (
                    f"{named} rescales at modules of some kinds only: here {counted(strange)} "
                    "hand down plain gradients."
                )
            if seen.hooked:
                yield (
                    f"{named} gives no rule to modules with backward hooks of others': "
                    f"{counted(seen.hooked)}."
                )
        if self.inner == "LRP":
            if seen.sums:
                yield (
                    f"{named} knows no sums outside of modules: at {counted(seen.sums)} relevance "
                    "is not shared out but multiplied by the values, again at each."
                )
            if seen.means:
                yield (
                    f"{named} knows no averages outside of modules: behind {counted(seen.means)} "
                    "the map is another one, though its sum may be right."
                )


def _rescaled() -> tuple[type, ...]:
    names = ("ReLU", "ELU", "LeakyReLU", "Sigmoid", "Tanh", "Softplus", "MaxPool2d", "Softmax")
    return tuple(getattr(nn, name) for name in names)
