"""The methods of PAIR's saliency library, as ``saliency:NAME``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saliency_sanity.attribution.base import Attribution, select
from saliency_sanity.peers import adapter
from saliency_sanity.peers.trace import Trace

METHODS = (
    *("GradientSaliency", "IntegratedGradients", "GuidedIG", "BlurIG", "XRAI", "GradCam"),
    "Occlusion",
)
REFUSED = {"CoreSaliency": "it is what the others have in common"}
_BASELINES = {"IntegratedGradients": "x_baseline", "GuidedIG": "x_baseline", "XRAI": "baselines"}
# What is asked of XRAI beside its map, and what would take a picture of its own.
_LEFT_OUT = (
    *("self", "x_value", "call_model_function", "call_model_args", "extra_parameters"),
    *("return_baseline_predictions", "return_ig_attributions", "return_xrai_segments"),
    *("segments", "base_attribution", "three_dims", "should_resize"),
)


def method(name: str, parameters: dict[str, Any]) -> Attribution:
    """Give the adapter of ``saliency:NAME``.

    Parameters are those of the class's ``GetMask``, of XRAI those of ``XRAIParameters``, too. A
    number as a baseline is a picture of that value in the network's scaling. [pair-saliency]
    """
    home = adapter.library(name, "saliency.core")
    kind = adapter.one_of(name, METHODS, REFUSED)
    calls = [getattr(home, kind).GetMask]
    calls += [home.XRAIParameters.__init__] if kind == "XRAI" else []
    return adapter.build(Saliency, kind, parameters, calls=calls, left_out=_LEFT_OUT)


@dataclass(frozen=True)
class Saliency(adapter.Adapter):
    """A method of PAIR's saliency library; see ``adapter.Adapter``."""

    library = "saliency"
    layered = frozenset({"GradCam"})

    def explain(self, model: nn.Module, x: Tensor, target: int) -> Tensor:
        """Explain one picture."""
        home = adapter.library(self.name, "saliency.core")
        image = _image(x)
        given = {key: adapter.ready(value, x) for key, value in self.parameters}
        key = _BASELINES.get(self.method)
        if key in given:
            pictures = [_image(one[None]) for one in self.background(model, x, key)]
            given[key] = pictures if key == "baselines" else pictures[0]
        if self.method == "XRAI":
            own = adapter.taken(home.XRAIParameters.__init__)
            extra = {name: given.pop(name) for name in own if name in given}
            given["extra_parameters"] = home.XRAIParameters(**extra)
        if self.method == "GradCam":
            given["three_dims"] = False
        layer = self.module(model) if self.method in self.layered else None
        call = _calling(adapter.Logits(model, x), layer, x, target)
        with _older_quantile(home):
            found = np.asarray(getattr(home, self.method)().GetMask(image, call, **given))
        found = torch.from_numpy(np.ascontiguousarray(found))
        return found.permute(2, 0, 1)[None] if found.ndim == 3 else found[None, None]

    def notes(self, seen: Trace) -> Iterator[str]:  # noqa: ARG002
        """What PAIR's library does otherwise than one would think."""
        named = f"saliency {self.version}"
        if self.method == "GuidedIG" and not _takes_interpolation():
            yield (
                f"{named} calls numpy.quantile with interpolation='lower', which NumPy "
                f"{np.__version__} no longer takes; here it is handed on as method='lower', which "
                "is the same."
            )
        if self.method == "Occlusion":
            yield f"{named} sums over windows that cover a place: places at the edge have fewer."


def _image(x: Tensor) -> np.ndarray:
    """One picture ``[1, C, H, W]`` as the library has them, ``[H, W, C]``."""
    return x[0].detach().permute(1, 2, 0).contiguous().cpu().numpy()


def _calling(network: nn.Module, layer: nn.Module | None, x: Tensor, target: int) -> Callable:
    """The function by which the library asks a network for values and gradients."""

    def call(
        images: np.ndarray,
        call_model_args: Any = None,  # noqa: ARG001
        expected_keys: Any = None,
    ) -> dict[str, np.ndarray]:
        given = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
        leaf = given.to(x.device, x.dtype, copy=True).contiguous().requires_grad_()
        seen: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
            seen.append(output)
            return output.clone()  # the next layer may work in place

        handle = layer.register_forward_hook(keep) if layer is not None else None
        try:
            score = select(network(leaf), torch.full((len(leaf),), target, device=x.device))
        finally:
            if handle is not None:
                handle.remove()
        found = {"OUTPUT_LAYER_VALUES": score}
        if "INPUT_OUTPUT_GRADIENTS" in expected_keys:
            (slope,) = torch.autograd.grad(score.sum(), leaf)
            found["INPUT_OUTPUT_GRADIENTS"] = slope.permute(0, 2, 3, 1)
        if "CONVOLUTION_LAYER_VALUES" in expected_keys:
            (slope,) = torch.autograd.grad(score.sum(), seen[0])
            found["CONVOLUTION_LAYER_VALUES"] = seen[0].permute(0, 2, 3, 1)
            found["CONVOLUTION_OUTPUT_GRADIENTS"] = slope.permute(0, 2, 3, 1)
        return {key: value.detach().cpu().numpy() for key, value in found.items()}

    return call


def _takes_interpolation() -> bool:
    try:
        np.quantile(np.zeros(2), 0.5, interpolation="lower")
    except TypeError:
        return False
    return True


class _OlderNumpy:
    """NumPy, with a quantile that takes the name its parameter had before 1.22."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def quantile(self, a: np.ndarray, q: float, *, interpolation: str) -> Any:
        return np.quantile(a, q, method=interpolation)


@contextmanager
def _older_quantile(home: Any) -> Iterator[None]:
    """Let Guided IG call NumPy as it was written for; ``notes`` says so."""
    module = home.guided_ig
    if _takes_interpolation():
        yield
        return
    module.np = _OlderNumpy()
    try:
        yield
    finally:
        module.np = np
