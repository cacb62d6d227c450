"""Methods whose verdict is known beforehand; every ranking carries them."""

from dataclasses import dataclass

import numpy as np
import torch
from skimage.color import rgb2gray
from skimage.feature import canny
from skimage.filters import sobel
from torch import Tensor, nn

from saliency_sanity._hashing import weights_hash
from saliency_sanity._random import generator, normal
from saliency_sanity.attribution.base import attributing
from saliency_sanity.networks.classifier import scaling_of


def luminance(model: nn.Module, x: Tensor) -> np.ndarray:
    """Grey values ``[N, H, W]`` of the picture behind ``x``, in raw units where they are known."""
    scaling = scaling_of(model)
    raw = x.detach() if scaling is None else scaling.to_raw(x.detach())
    pictures = raw.double().cpu().numpy()
    if pictures.shape[1] == 3:
        return rgb2gray(pictures, channel_axis=1)
    return pictures.mean(1)


def edge_magnitude(pictures: np.ndarray) -> np.ndarray:
    """Sobel gradient magnitude of each of ``pictures`` ``[N, H, W]``. [sobel1968isotropic]."""
    return np.stack([sobel(picture) for picture in pictures])


@dataclass(frozen=True)
class Sobel:
    """Edge detector: Sobel gradient magnitude of the luminance, ``[N, 1, H, W]``.

    Sees the picture only. [sobel1968isotropic]; the sources do not say which edge detector they
    used, and their figure shows a soft gradient magnitude.
    """

    passes = 0  # not annotated: no field of the dataclass

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain nothing: find edges in ``x``."""
        with attributing(model, x, target):
            edges = edge_magnitude(luminance(model, x))
            return torch.from_numpy(edges).to(x)[:, None]


@dataclass(frozen=True)
class Canny:
    """Edge detector: Canny's thin binary edges of the luminance, ``[N, 1, H, W]`` in {0, 1}.

    ``sigma`` is the width of the Gaussian in pixels. Sees the picture only.
    [canny1986computational]
    """

    sigma: float = 2.0

    passes = 0  # not annotated: no field of the dataclass

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain nothing: find edges in ``x``."""
        with attributing(model, x, target):
            edges = np.stack([canny(grey, sigma=self.sigma) for grey in luminance(model, x)])
            return torch.from_numpy(edges).to(x)[:, None]


@dataclass(frozen=True)
class Input:
    """The input itself, in the network's scaling. Sees the picture only."""

    passes = 0  # not annotated: no field of the dataclass

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain nothing: return ``x``."""
        with attributing(model, x, target):
            return x.detach().clone(memory_format=torch.contiguous_format)


@dataclass(frozen=True)
class Noise:
    """Gaussian noise determined by the network's weights, the same for every picture.

    Sees the model only: other weights, other noise; other pictures, the same. With ``per_label``
    another label is other noise, too.
    """

    seed: int = 0
    per_label: bool = False

    passes = 0  # not annotated: no field of the dataclass

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain nothing: draw noise in the shape of ``x``."""
        with attributing(model, x, target):
            key = ("control", weights_hash(model))
            if not self.per_label:
                return self._drawn(x, *key).expand_as(x).clone()
            drawn = {label: self._drawn(x, *key, label) for label in set(target.tolist())}
            return torch.stack([drawn[label] for label in target.tolist()])

    def _drawn(self, x: Tensor, *key: object) -> Tensor:
        return normal(x.shape[1:], generator(self.seed, *key)).to(x)
