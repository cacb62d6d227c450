"""A network together with everything that belongs to it: scaling, size, names, layers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saliency_sanity._errors import unknown
from saliency_sanity._hashing import bare_name, unwrapped
from saliency_sanity.networks.forward import fitted, held, laid_out, logits_of, manner


@dataclass(frozen=True)
class Scaling:
    """The per-channel map from raw pixels in [0, 1] to the network's own units.

    ``(raw - mean) / std`` with one entry per channel. Inception and EfficientNet-Lite use
    mean = std = 0.5, which is [-1, 1]: there a zero is mid-grey, not black.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self):
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(f"mean {self.mean} and std {self.std} need one entry per channel each")
        if min(self.std) <= 0:
            raise ValueError(f"std {self.std} must be positive")

    def _column(self, values: Sequence[float], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device).view(-1, 1, 1)

    def to_network(self, raw: Tensor) -> Tensor:
        """Scale raw pixels ``[..., C, H, W]`` in [0, 1] to network units."""
        return (raw - self._column(self.mean, raw)) / self._column(self.std, raw)

    def to_raw(self, x: Tensor) -> Tensor:
        """Undo ``to_network``."""
        return x * self._column(self.std, x) + self._column(self.mean, x)

    @property
    def input_range(self) -> tuple[float, float]:
        """Smallest and largest value the network can be given by a picture."""
        low = min((0 - m) / s for m, s in zip(self.mean, self.std, strict=True))
        high = max((1 - m) / s for m, s in zip(self.mean, self.std, strict=True))
        return low, high


class Classifier(nn.Module):
    """A network that maps ``[N, C, H, W]`` in its own scaling to logits ``[N, K]``.

    Module paths (Grad-CAM layers, blocks to randomize) are those of ``network``. ``class_names``
    may be empty. The network is put in evaluation mode. It may return its logits in the ways of
    ``forward.logits_in``, and work in place on its input, which is a copy. ``untrained`` builds a
    bare network of the same tensors from a seed, as the architecture's own initialiser draws it;
    None where nothing is known of one. ``provenance`` is the record of a network trained by this
    project, None for others.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        weights: str,
        scaling: Scaling,
        size: int,
        class_names: Sequence[str] = (),
        cam_layer: str | None = None,
        untrained: Callable[[int], nn.Module] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.network = network.eval()
        self.eval()
        self.name = name
        self.weights = weights
        self.scaling = scaling
        self.size = size
        self.class_names = tuple(class_names)
        self.cam_layer = cam_layer
        self.untrained = untrained
        self.provenance = None if provenance is None else dict(provenance)

    @property
    def accuracy(self) -> float | None:
        """Share of test pictures that a network trained here gets right; None for others."""
        return None if self.provenance is None else self.provenance["test_accuracy"]

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return logits_of(self.network, x)

    def logits(self, x: Tensor, batch: int = 16) -> Tensor:
        """Logits ``[N, K]`` without a graph, in evaluation mode; ``x`` may lie elsewhere."""
        x = fitted(self, x)
        if len(x) == 1:  # to find out how costs more than it gains
            with held(self), torch.no_grad():
                return logits_of(self, x)
        size = 1 if manner(self, x).alone else batch
        with held(self), torch.no_grad():
            return torch.cat([logits_of(self, laid_out(self, part)) for part in x.split(size)])

    def predict(self, x: Tensor) -> Tensor:
        """The class ``[N]`` with the largest logit; 0 where a network has but one logit."""
        return self.logits(x).argmax(1)

    def class_name(self, index: int) -> str:
        """Name of a class, or its number where the names are not known."""
        if 0 <= index < len(self.class_names):
            return self.class_names[index]
        return f"class {index}"


def network_of(model: nn.Module) -> nn.Module:
    """The network inside a Classifier and wrappers; another module is its own."""
    model = unwrapped(model)
    return network_of(model.network) if isinstance(model, Classifier) else model


def scaling_of(model: nn.Module) -> Scaling | None:
    """The scaling of a Classifier; None for a bare network, whose raw units are not known."""
    return getattr(unwrapped(model), "scaling", None)


def submodule(model: nn.Module, path: str) -> nn.Module:
    """Find a module by its path in the network, e.g. ``layer4`` or ``features.28``.

    Raises ValueError that lists the nearest valid paths.
    """
    network = network_of(model)
    modules = {bare_name(network, key): part for key, part in network.named_modules()}
    modules |= dict(network.named_modules())
    if not path or path not in modules:
        raise ValueError(unknown("layer", path, [key for key in modules if key]))
    return modules[path]
