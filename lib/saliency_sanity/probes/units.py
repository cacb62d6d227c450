"""The same network in other units, where zero is another colour, and what a map makes of it.

Which colour is zero is a convention: the layer that sees the pixels can take any other into its
weights. Maps that are multiplied by the input follow the convention, others do not, and they are
blind to the colour that is zero.
"""

import copy
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from saliency_sanity._arithmetic import arithmetic
from saliency_sanity._errors import NotApplicable
from saliency_sanity._random import generator, normal
from saliency_sanity.attribution.base import Attribution, attributing
from saliency_sanity.experiments.comparison import explain
from saliency_sanity.networks.classifier import Classifier, Scaling
from saliency_sanity.networks.forward import fitted, logits_of
from saliency_sanity.networks.framed import FramedConv2d
from saliency_sanity.probes.regions import area, share_inside
from saliency_sanity.similarity.metrics import similarity_rows
from saliency_sanity.similarity.rank import PixelSpearman
from saliency_sanity.subjects.photographs import dithered
from saliency_sanity.verdict.interval import interval
from saliency_sanity.verdict.obstacle import LEAST_IMAGES
from saliency_sanity.verdict.reading import read, table
from saliency_sanity.verdict.wording import rounded

_TOLERANCE = 1e-4  # of the largest logit, in the network's own precision
_LAYERS = (nn.Linear, nn.Conv2d, FramedConv2d)


def rescaled(classifier: Classifier, scaling: Scaling) -> Classifier:
    """A copy that gives the same logits for the same picture, fed in another scaling.

    The layer that sees the pixels takes the change into its weights and its bias, and where it
    pads with zeros, it pads with the colour that was zero before: logits agree at the borders too.
    The copy is in evaluation mode, and has no ``untrained``: its tensors are in other units.

    Raises NotApplicable where no one Linear or Conv2d layer sees the pixels, all of them and as
    they are; ValueError for a scaling of another number of channels. [kindermans2017unreliability]
    """
    mean, std = _constants(classifier)
    if len(scaling.mean) != len(mean):
        raise ValueError(
            f"{scaling} is for {len(scaling.mean)} channels, but {classifier.name} takes "
            f"{len(mean)}: give mean and std that many entries each"
        )
    new_mean, new_std = torch.tensor([scaling.mean, scaling.std], dtype=torch.float64, device="cpu")
    return _absorbed(classifier, scaling, new_std / std, (new_mean - mean) / std)


def inverted(classifier: Classifier) -> Classifier:
    """A copy that gives for a picture what the original gives for its negative.

    The negative of a raw picture p is 1 - p; the scaling stays the same. A network that knows
    bright things on black so knows dark things on white, without training. Raises NotApplicable
    as ``rescaled`` does.
    """
    mean, std = _constants(classifier)
    return _absorbed(classifier, classifier.scaling, -torch.ones_like(std), (1 - 2 * mean) / std)


def zero_at(scaling: Scaling, colour: float | tuple[float, ...]) -> Scaling:
    """The scaling of the same unit whose zero is this raw colour in [0, 1].

    Raises ValueError for a colour outside [0, 1], or one that has neither one entry nor one for
    each channel.
    """
    channels = len(scaling.mean)
    mean = colour if isinstance(colour, tuple) else (colour,) * channels
    if len(mean) != channels:
        raise ValueError(f"colour {colour} needs one value, or one for each of {channels} channels")
    if not all(0 <= value <= 1 for value in mean):
        raise ValueError(f"colour {colour} is no raw colour: valid are 0 (black) to 1 (white)")
    return Scaling(tuple(map(float, mean)), scaling.std)


def _constants(classifier: Classifier) -> Tensor:
    """Mean and std, ``[2, C]``."""
    if not isinstance(classifier, Classifier):
        raise TypeError(
            f"{type(classifier).__name__} has no scaling: wrap it in saliency_sanity.Classifier"
        )
    scaling = classifier.scaling
    return torch.tensor([scaling.mean, scaling.std], dtype=torch.float64, device="cpu")


def _absorbed(classifier: Classifier, scaling: Scaling, a: Tensor, b: Tensor) -> Classifier:
    """A copy that gives for x' what the original gives for a x' + b, per channel ``[C]``."""
    twin = copy.deepcopy(classifier).eval()
    twin.scaling, twin.untrained = scaling, None
    like = next(classifier.parameters(), torch.empty(0, dtype=torch.float32, device="cpu"))
    # Beyond the range of pictures, so that a network that cuts its input off there is found out.
    random = normal((2, len(a), classifier.size, classifier.size), generator(0, "rescaling"))
    x = classifier.scaling.to_network(random + 0.5).to(like)
    target = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    # TF32 would round to fewer digits than are compared here.
    digits = arithmetic("exact", x.device)
    with attributing(classifier, x, target), torch.no_grad(), digits:
        path, before = _pixel_layer(classifier, x)
        twin.set_submodule(path, _shifted(twin.get_submodule(path), a.to(x.device), b.to(x.device)))
        after = logits_of(twin, (x - b.to(x).view(-1, 1, 1)) / a.to(x).view(-1, 1, 1))
    difference, largest = (after - before).abs().max().item(), before.abs().max().item()
    if not difference <= _TOLERANCE * largest:
        raise NotApplicable(
            f"{classifier.name} cannot be given other units: with the change taken into "
            f"{path.removeprefix('network.')} a logit is off by {difference:.2g}, where the "
            f"largest is {largest:.2g}. It sees the pixels in another way as well"
        )
    return twin


def _pixel_layer(classifier: Classifier, x: Tensor) -> tuple[str, Tensor]:
    """Path of the layer that sees the pixels ``x``, and the logits."""
    seen: dict[str, torch.Size] = {}
    calls: list[str] = []

    def is_x(values: object) -> bool:
        same = isinstance(values, Tensor) and (values.dtype, values.numel()) == (x.dtype, x.numel())
        return same and torch.equal(values.reshape(x.shape), x)

    def look(path: str):
        def hook(_module: nn.Module, inputs: tuple, output: object) -> None:
            calls.append(path)
            # What only hands the pixels on, flattened perhaps, does not count.
            if inputs and is_x(inputs[0]) and not is_x(output):
                seen[path] = inputs[0].shape

        return hook

    handles = [
        module.register_forward_hook(look(path))
        for path, module in classifier.named_modules()
        if isinstance(module, _LAYERS) or not [*module.children()]
    ]
    try:
        logits = logits_of(classifier, x)
    finally:
        for handle in handles:
            handle.remove()
    layers = {path: classifier.get_submodule(path) for path in seen}
    if len(seen) == 1:
        ((path, shape),) = seen.items()
        if calls.count(path) == 1 and _can_absorb(layers[path], shape, x):
            return path, logits
    who = ", ".join(f"{p.removeprefix('network.')} ({type(m).__name__})" for p, m in layers.items())
    found = f"its pixels are first seen by {who}" if who else "no layer sees its pixels as they are"
    raise NotApplicable(
        f"{classifier.name} cannot be given other units: {found}, and only a single call of one "
        "Linear or Conv2d layer can take the change into its weights. Where a network scales its "
        "own input, leave that out and wrap the rest in a Classifier with that scaling"
    )


def _can_absorb(layer: nn.Module, shape: torch.Size, x: Tensor) -> bool:
    # Exact types: a subclass may do something else with its weights, or make them of others.
    if type(layer) not in _LAYERS and not _pads_as_tensorflow(layer):
        return False
    return layer.in_features == x[0].numel() if type(layer) is nn.Linear else shape == x.shape


def _shifted(layer: nn.Module, a: Tensor, b: Tensor) -> nn.Module:
    """What takes x' where ``layer`` took a x' + b; the layer itself is changed for it."""
    groups, weight = getattr(layer, "groups", 1), layer.weight
    # By group, output, channel of the group, and place.
    parts = weight.double().reshape(groups, len(weight) // groups, len(a) // groups, -1)
    scale, shift = (values.view(groups, 1, -1, 1) for values in (a, b))
    offset = (parts * shift).sum((2, 3)).flatten().to(weight)
    weight.copy_((parts * scale).reshape(weight.shape))
    if layer.bias is None:
        layer.bias = nn.Parameter(offset, requires_grad=weight.requires_grad)
    else:
        layer.bias += offset
    a, b = a.view(-1, 1, 1), b.view(-1, 1, 1)
    if type(layer) is FramedConv2d:
        layer.frame.copy_((layer.frame - b) / a)
        return layer
    padding = "same" if _pads_as_tensorflow(layer) else getattr(layer, "padding", "valid")
    # Padding with what is in the picture changes with it.
    mode = getattr(layer, "padding_mode", "zeros")
    if mode != "zeros" or padding in ("valid", (0, 0)):
        return layer
    return FramedConv2d(layer, padding, (-b / a).to(weight))


def _pads_as_tensorflow(layer: nn.Module) -> bool:
    """Whether it is timm's convolution with such padding; where there is one, timm is loaded."""
    layers = sys.modules.get("timm.layers")
    return layers is not None and type(layer) is layers.Conv2dSame


MOVED = "same_map"
UNCHANGED = 0.999  # kappa from which on two maps are the same up to rounding
# Drawn from the weights, which the units change: another map says nothing of them.
_DRAWN = ("noise", "input_x_noise")


@dataclass(frozen=True)
class Gap:
    """Mean difference of two numbers an image, with its interval over ``images``."""

    value: float
    low: float
    high: float
    images: int

    @property
    def verdict(self) -> str:
        """Whether the first is larger; open where images are too few or the interval has 0."""
        if self.images < LEAST_IMAGES or self.low <= 0 <= self.high:
            return "inconclusive"
        return "reproduced" if self.low > 0 else "not reproduced"

    def __str__(self) -> str:
        return f"{rounded(self.value)} ({rounded(self.low, 0)} to {rounded(self.high, 0)})"


def gap(first: np.ndarray, second: np.ndarray, *, confidence: float = 0.95) -> Gap:
    """How much larger ``first`` ``[N]`` is than ``second`` ``[N]``, image by image."""
    difference = np.asarray(first, float) - np.asarray(second, float)
    known = int(np.isfinite(difference).sum())
    return Gap(*interval(difference[None], confidence=confidence), known)


def region_table(maps: Mapping[tuple[str, str], Tensor], mask: Tensor) -> pd.DataFrame:
    """Attribution inside a mask ``[N, H, W]`` for maps by method and by which colour is zero.

    A row a key of ``maps``: value is the share of ``|E|`` inside, density that share by the mask's
    area, each with its 95 % interval over images, low to high; area, area_low and area_high, the
    same for the mask. Raises as ``regions.share_inside``.
    """
    covered = area(mask).cpu().numpy()
    rows = []
    for (method, zero), found in maps.items():
        share = share_inside(found, mask).cpu().numpy()
        row = {"method": method, "zero": zero}
        for name, values in (("value", share), ("density", share / covered), ("area", covered)):
            prefix = "" if name == "value" else f"{name}_"
            row[name], row[f"{prefix}low"], row[f"{prefix}high"] = interval(values[None])
        rows.append(row | {"images": int(np.isfinite(share).sum())})
    return pd.DataFrame(rows)


def moved_table(
    first: Mapping[str, Tensor], second: Mapping[str, Tensor], *, margin: float = 0.1
) -> pd.DataFrame:
    """How alike each method's maps before and after a change are: a row a method, read as ever.

    Columns are method, metric (``MOVED``) and the fields of ``verdict.Reading``. Similarity is the
    rank correlation of absolute values, channels summed, over the pixels where the first map is not
    zero: elsewhere two sparse maps agree for no other reason. Kappa is 1 where nothing has changed.
    Methods that only one of both has are left out.
    """
    return read_moved(moved_matrices(first, second), margin=margin)


def moved_matrices(
    first: Mapping[str, Tensor], second: Mapping[str, Tensor]
) -> dict[tuple[str, str], np.ndarray]:
    """The similarities that ``moved_table`` reads, by method and metric."""
    return {
        (name, MOVED): similarity_rows(
            PixelSpearman((found != 0).any(1), signed=False), found, second[name]
        )
        for name, found in first.items()
        if name in second
    }


def read_moved(
    matrices: Mapping[tuple[str, str], np.ndarray], *, margin: float, confidence: float = 0.95
) -> pd.DataFrame:
    """``moved_table`` of what ``moved_matrices`` gives."""
    readings = {
        key: read(square, margin=margin, confidence=confidence) for key, square in matrices.items()
    }
    return table(readings, index=("method", "metric"))


def units_table(
    methods: Mapping[str, Attribution],
    classifier: Classifier,
    pixels: Tensor,
    target: Tensor,
    *,
    margin: float = 0.1,
    seed: int = 0,
) -> pd.DataFrame:
    """How alike each method's maps are with black and with white as the network's zero.

    ``pixels`` ``[N, C, H, W]`` are raw, in [0, 1]; they get noise of one grey level, which ``seed``
    draws, so that max pools meet no ties. Noise controls are left out. As ``moved_table``; raises
    NotApplicable where the network cannot be given other units. [kindermans2017unreliability]
    """
    steady = {name: method for name, method in methods.items() if name not in _DRAWN}
    uneven, channels, sides = dithered(pixels, seed), pixels.shape[1], []
    for zero in (0.0, 1.0):
        twin = rescaled(classifier, Scaling((zero,) * channels, (1.0,) * channels))
        x = fitted(twin, twin.scaling.to_network(uneven))
        sides.append(explain(steady, twin, x, target).maps)
    return moved_table(*sides, margin=margin)
