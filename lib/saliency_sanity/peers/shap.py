"""The explainers of SHAP, as ``shap:NAME``."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saliency_sanity._errors import NotApplicable
from saliency_sanity.attribution.base import Attribution
from saliency_sanity.peers import adapter
from saliency_sanity.peers.trace import Trace, counted

METHODS = ("GradientExplainer", "DeepExplainer", "PartitionExplainer")
_FEATURES = "it takes each value of a picture as a feature; PartitionExplainer takes parts"
REFUSED = {
    **dict.fromkeys(("TreeExplainer", "GPUTreeExplainer"), "it explains trees"),
    **dict.fromkeys(("LinearExplainer", "AdditiveExplainer"), "it explains linear models"),
    **dict.fromkeys(
        (
            *("KernelExplainer", "SamplingExplainer", "ExactExplainer", "PermutationExplainer"),
            "CoalitionExplainer",
        ),
        _FEATURES,
    ),
    "Explainer": "it chooses one of the others",
}
_LEFT_OUT = (
    *("self", "model", "data", "session", "learning_phase_flags", "X", "ranked_outputs"),
    *("output_rank_order", "return_variances", "masker", "output_names", "link", "feature_names"),
    *("linearize_link", "main_effects", "error_bounds", "outputs", "silent", "rseed"),
)


def method(name: str, parameters: dict[str, Any]) -> Attribution:
    """Give the adapter of ``shap:NAME``.

    Parameters are those of the class and of its ``shap_values`` or call. ``data`` is a tensor
    ``[B, C, H, W]``, or values of one-coloured pictures in the network's scaling; five greys from
    black to white where none is given. ``mask_value`` of PartitionExplainer is that of
    ``shap.maskers.Image``: a number or a blur such as "blur(16, 16)", 0 where none is given.
    ``seed`` is SHAP's ``rseed``, too. [lundberg2017unified]
    """
    home = adapter.library(name, "shap")
    kind = adapter.one_of(name, METHODS, REFUSED)
    found = getattr(home, kind)
    if kind == "PartitionExplainer":
        calls, more = [found.__init__, found.__call__], {"mask_value": 0.0}
    else:
        calls, more = [found.__init__, found.shap_values], {"data": None}
    return adapter.build(Shap, kind, parameters, calls=calls, left_out=_LEFT_OUT, more=more)


@dataclass(frozen=True)
class Shap(adapter.Adapter):
    """An explainer of SHAP; see ``adapter.Adapter``."""

    library = "shap"
    refusals = (
        (AssertionError, "The SHAP explanations do not sum up to the model's output"),
        (RuntimeError, "Output 0 of BackwardHookFunction"),  # a rectifier that works in place
    )

    def explain(self, model: nn.Module, x: Tensor, target: int) -> Tensor:
        """Explain one picture."""
        home = adapter.library(self.name, "shap")
        kind, network = getattr(home, self.method), adapter.Logits(model, x, target)
        taken = adapter.taken(kind.__init__)
        given = {key: adapter.ready(value, x) for key, value in self.parameters if key != "data"}
        own = {key: given.pop(key) for key in taken if key in given}
        if self.method == "PartitionExplainer":
            return self._parts(home, network, x, given)
        if self.method == "GradientExplainer":
            if x.dtype != torch.float32:
                raise NotApplicable(
                    f"{self.name} of shap {self.version} draws its samples in float32, and the "
                    f"network is {x.dtype}"
                )
            given["rseed"] = self.seed % 2**32
        data = self.background(model, x, "data")
        found = np.asarray(kind(network, data, **own).shap_values(x, **given))
        return torch.from_numpy(found[..., 0])

    def _parts(self, home: Any, network: nn.Module, x: Tensor, given: dict[str, Any]) -> Tensor:
        image = x.detach()[0].permute(1, 2, 0).cpu().numpy()
        masker = home.maskers.Image(given.pop("mask_value", 0.0), image.shape)

        def value(images: np.ndarray) -> np.ndarray:
            batch = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
            with torch.no_grad():
                return network(batch.to(x.device, x.dtype).contiguous()).cpu().numpy()

        found = home.PartitionExplainer(value, masker)(image[None], silent=True, **given)
        return torch.from_numpy(np.asarray(found.values)[..., 0]).permute(0, 3, 1, 2)

    def notes(self, seen: Trace) -> Iterator[str]:
        """What SHAP does otherwise than one would think."""
        named = f"SHAP {self.version}"
        if self.method == "GradientExplainer":
            yield (
                f"{named} draws other samples at each call unless rseed is given; here it is the "
                f"seed, {self.seed}."
            )
        if self.method == "DeepExplainer":
            strange = [*seen.functions, *seen.curves, *seen.products]
            if strange:
                yield (
                    f"{named} has rules for modules only: here {counted(strange)} hand down plain "
                    "gradients, and its own check may refuse the sum."
                )
            twice = [name for name in seen.curved_but(()) if name in seen.reused]
            if twice:
                yield (
                    f"{named} keeps the last values that a module was given, and takes them for "
                    f"those of its other calls, too: {counted(twice)}."
                )
