"""Zennit's composites and attributors, as ``zennit:NAME``."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saliency_sanity._errors import NotApplicable, unknown
from saliency_sanity.attribution.base import Attribution
from saliency_sanity.networks.classifier import scaling_of
from saliency_sanity.networks.forward import name_of
from saliency_sanity.peers import adapter
from saliency_sanity.peers.trace import Trace, counted

_COMPOSITES = (
    *("EpsilonPlus", "EpsilonPlusFlat", "EpsilonAlpha2Beta1", "EpsilonAlpha2Beta1Flat"),
    *("EpsilonGammaBox", "ExcitationBackprop", "BetaSmooth", "DeconvNet", "GuidedBackprop"),
)
_ATTRIBUTORS = ("Gradient", "SmoothGrad", "IntegratedGradients", "Occlusion")
_RULES = frozenset({"BetaSmooth", "DeconvNet", "GuidedBackprop"})  # of rectifiers alone
METHODS = (*_COMPOSITES, *_ATTRIBUTORS)
REFUSED = dict.fromkeys(
    (
        *("LayerMapComposite", "NameMapComposite", "NameLayerMapComposite", "MixedComposite"),
        "SpecialFirstLayerMapComposite",
    ),
    "it is made of rules of its caller's",
)
# Modules with rules that read values.
_RULED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_CANONIZERS = ("SequentialMergeBatchNorm", "VGGCanonizer", "ResNetCanonizer")
_LEFT_OUT = (
    *("self", "model", "composite", "attr_output", "create_graph", "retain_graph"),
    *("baseline_fn", "occlusion_fn", "layer_map", "first_map"),
)


def method(name: str, parameters: dict[str, Any]) -> Attribution:
    """Give the adapter of ``zennit:NAME``.

    Parameters are those of the class. ``canonizers`` are names: SequentialMergeBatchNorm,
    VGGCanonizer or ResNetCanonizer; without them batch norms hand relevance on as it is. ``low``
    and ``high`` of EpsilonGammaBox are values in the network's scaling, one or one for each
    channel; black and white where none are given. Relevance starts with 1 at the class.
    [anders2021zennit]
    """
    adapter.library(name, "zennit.composites", "zennit")
    kind = adapter.one_of(name, METHODS, REFUSED)
    for key in _listed(parameters.get("canonizers")):
        if key not in _CANONIZERS:
            raise ValueError(unknown(f"canonizer of {name}", key, _CANONIZERS))
    more = {"low": None, "high": None} if kind == "EpsilonGammaBox" else {}
    calls = [_class(kind).__init__]
    return adapter.build(Zennit, kind, parameters, calls=calls, left_out=_LEFT_OUT, more=more)


def _listed(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _class(name: str) -> Any:
    homes = ("composites", "attribution", "canonizers", "torchvision")
    found = [adapter.library(f"zennit:{name}", f"zennit.{home}", "zennit") for home in homes]
    return next(getattr(home, name) for home in found if hasattr(home, name))


@dataclass(frozen=True)
class Zennit(adapter.Adapter):
    """A composite or an attributor of Zennit; see ``adapter.Adapter``."""

    library = "zennit"

    def explain(self, model: nn.Module, x: Tensor, target: int) -> Tensor:
        """Explain one picture."""
        network, kind = adapter.Logits(model, x), _class(self.method)
        given = {key: adapter.ready(value, x) for key, value in self.parameters}
        with torch.no_grad():
            logits = network(x)
        start = torch.zeros_like(logits)
        start[0, target] = 1
        if self.method in _ATTRIBUTORS:
            attributor = kind(network, **given)
            if self.method == "Occlusion":  # which takes what it is given here for the score
                row = start
                start = lambda output: output * row  # noqa: E731
        else:
            if "canonizers" in given:
                names = _listed(given["canonizers"])
                given["canonizers"] = [_class(name)() for name in names]
            if "zero_params" in given and isinstance(given["zero_params"], tuple):
                given["zero_params"] = list(given["zero_params"])
            if self.method == "EpsilonGammaBox":
                given |= {key: self._bound(model, x, key) for key in ("low", "high")}
            attributor = _class("Gradient")(network, kind(**given))
        with attributor:
            _, relevance = attributor(x, start)
        return relevance

    def _bound(self, model: nn.Module, x: Tensor, key: str) -> Tensor:
        value, scaling = self.given.get(key), scaling_of(model)
        if value is not None:
            value = adapter.ready(value, x)
            return torch.as_tensor(value).to(x).reshape(1, -1, 1, 1).expand_as(x).clone()
        if scaling is None:
            raise NotApplicable(
                f"{self.name} needs the lowest and the highest picture: {name_of(model)} is no "
                "Classifier, so that black and white are not known; give low and high"
            )
        return scaling.to_network(torch.full_like(x.detach(), float(key == "high")))

    def notes(self, seen: Trace) -> Iterator[str]:
        """What Zennit does otherwise than one would think."""
        named = f"Zennit {self.version}"
        if self.method == "SmoothGrad":
            yield f"{named} adds no noise to the last of its samples."
        if self.method == "IntegratedGradients":
            yield f"{named} sums at the right ends of its steps."
        if self.method == "Occlusion":
            yield f"{named} shows the score of a window alone: what is occluded is all the rest."
        if self.method in _RULES:
            strange = [*seen.functions, *seen.rectifiers_but(nn.ReLU)]
            if strange:
                yield (
                    f"{named} gives its rule to nn.ReLU modules only: here {counted(strange)} "
                    "keep the gradient's."
                )
        if self.method in _COMPOSITES and self.method not in _RULES:
            norms = seen.of(nn.BatchNorm2d)
            if norms and not _listed(self.given.get("canonizers")):
                yield (
                    f"{named} hands relevance through batch norms as it is unless a canonizer "
                    f"merges them: {counted(norms)}."
                )
            if seen.sums:
                yield (
                    f"{named} knows no sums outside of modules: here {counted(seen.sums)} hand the "
                    "whole relevance to each summand."
                )
            if seen.means:
                yield (
                    f"{named} knows no averages outside of modules: here {counted(seen.means)} "
                    "hand relevance down as a gradient."
                )
            curves = [name for name in seen.curves if name != "max_pool2d"]  # no rule for either
            if curves:
                yield (
                    f"{named} gives no rule to functions: here {counted(curves)} hand relevance "
                    "down as a gradient, and the same as modules would pass it on as it is."
                )
        ruled = (nn.ReLU,) if self.method == "BetaSmooth" else _RULED
        twice = [name for name in seen.of(*ruled) if name in seen.reused]
        if twice and (self.method == "BetaSmooth" or self.method not in (*_RULES, *_ATTRIBUTORS)):
            yield (
                f"{named} keeps the last values that a module was given, and takes them for those "
                f"of its other calls, too: {counted(twice)}."
            )
