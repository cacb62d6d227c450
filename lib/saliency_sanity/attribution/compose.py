"""Attribution methods as compositions of small parts.

Each part is a frozen dataclass that is itself an attribution ``(model, x, target) -> map``; its
``repr`` is the full description of what was computed. Shapes and errors are those of
``base.Attribution`` and ``base.check`` throughout. What averages over perturbed copies of images
sends them through the method in full chunks, as one ``stream``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from numbers import Integral, Real

import numpy as np
import torch
from torch import Tensor, nn

from saliency_sanity._errors import NotApplicable, unknown
from saliency_sanity._hashing import digest
from saliency_sanity._random import generator, normal
from saliency_sanity.attribution.base import Attribution, attributing, chunk_size, passes
from saliency_sanity.attribution.rectifiers import Interception, Rule, images_apart
from saliency_sanity.networks.classifier import scaling_of
from saliency_sanity.networks.forward import manner, name_of

Perturb = Callable[[Tensor, slice, int], Tensor]


def stream(
    x: Tensor, copies: int, perturb: Perturb
) -> Iterator[tuple[list[tuple[int, slice]], Tensor]]:
    """Perturbed versions of every image in full chunks: which (copy, images) each, and the inputs.

    Copies are the outer loop, so that each image meets its copies in the same order whatever the
    chunk size is: sums are reproducible to the last bit as far as the network is.
    """
    images, size, total = len(x), chunk_size(x), len(x) * copies
    for start in range(0, total, size):
        runs, position, stop = [], start, min(start + size, total)
        while position < stop:
            copy, first = divmod(position, images)
            last = min(images, first + stop - position)
            runs.append((copy, slice(first, last)))
            position += last - first
        yield runs, torch.cat([perturb(x[rows], rows, copy) for copy, rows in runs])


def explained(
    method: Attribution, model: nn.Module, x: Tensor, target: Tensor, copies: int, perturb: Perturb
) -> Iterator[tuple[int, slice, Tensor]]:
    """Explain the perturbed versions; yields (copy, images, maps of those)."""
    for runs, inputs in stream(x, copies, perturb):
        # Somebody's own method may return a graph; summed up, it would hold every copy's pass.
        maps = method(model, inputs, torch.cat([target[rows] for _, rows in runs])).detach()
        yield from divided(runs, maps)


def divided(runs: list[tuple[int, slice]], maps: Tensor) -> Iterator[tuple[int, slice, Tensor]]:
    """Take the maps of one chunk of ``stream`` apart, by copy."""
    parts = maps.split([rows.stop - rows.start for _, rows in runs])
    for (copy, rows), part in zip(runs, parts, strict=True):
        yield copy, rows, part


def weighted(
    parts: Iterator[tuple[int, slice, Tensor]], weights: list[float], images: int
) -> Tensor:
    """The sum of the maps of all copies, each times its weight."""
    total = None
    for copy, rows, maps in parts:
        if total is None:
            total = maps.new_zeros(images, *maps.shape[1:], dtype=_sums(maps))
        total[rows].add_(maps, alpha=weights[copy])
    return total.to(maps.dtype)


def _sums(maps: Tensor) -> torch.dtype:
    """The type that many maps are summed in: half precision loses what is small beside the sum."""
    return torch.promote_types(maps.dtype, torch.float32)


Colour = float | tuple[float, ...] | None


def raw_colour(colour: Colour) -> Colour:
    """A colour in raw pixel units as numbers of Python's.

    Raises ValueError for what is none: outside [0, 1], not finite, or no number.
    """
    if colour is None:
        return None
    try:
        several = () if isinstance(colour, Real) else np.asarray(colour, dtype=float).reshape(-1)
        values = tuple(map(float, several)) or (colour,)
        if isinstance(colour, bool | str) or not all(0 <= value <= 1 for value in values):
            raise ValueError
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"baseline {colour!r} is no raw colour: valid are 0 (black) to 1 (white), one number "
            "or one for each channel, and None for the network's zero; of 8 bits, divide by 255"
        ) from error
    return values if len(several) else at_least("baseline", colour, 0, float)


def baseline_of(model: nn.Module, x: Tensor, colour: Colour) -> Tensor | float:
    """The baseline in network units for a colour in raw pixel units [0, 1].

    None is the network's own zero, which the reference code uses: mid-grey for networks fed
    [-1, 1]. Raises ValueError where the model's scaling is not known.
    """
    if colour is None:
        return 0.0
    scaling = scaling_of(model)
    if scaling is None:
        raise ValueError(
            f"baseline {colour} is in raw pixel units, but {type(model).__name__} has no scaling: "
            "wrap the network in saliency_sanity.Classifier, or use baseline=None (network zero)"
        )
    raw = torch.as_tensor(raw_colour(colour), dtype=x.dtype, device=x.device).reshape(-1, 1, 1)
    if len(raw) not in (1, x.shape[1]):
        raise ValueError(
            f"baseline {colour} needs one value, or one for each of {x.shape[1]} channels"
        )
    return scaling.to_network(raw.expand(x.shape[1], 1, 1))


def at_least(name: str, value: float, least: float, kind: type = int) -> float:
    """A parameter as a number of Python's, whose repr is the same wherever it came from.

    Raises TypeError or ValueError for one of another type, that is too small or is not finite.
    """
    valid = Integral if kind is int else Real
    if isinstance(value, bool) or not isinstance(value, valid):
        raise TypeError(f"{name} {value!r} must be {kind.__name__}, not {type(value).__name__}")
    if not least <= value < np.inf:
        raise ValueError(f"{name} {value} must be at least {least}, and finite")
    return int(value) if isinstance(value, Integral) else float(value)


def checked(composition: object, **values: object) -> None:
    """Write fields of a frozen composition, as they were checked."""
    for name, value in values.items():
        object.__setattr__(composition, name, value)


@dataclass(frozen=True)
class TimesInput:
    """Multiply a map by the input, or by its difference to a baseline.

    ``baseline`` is a colour in raw pixel units [0, 1], or None for the network's zero. This one
    product is what the dispute about input bias is about. [shrikumar2017deeplift]
    """

    method: Attribution
    baseline: Colour = None

    def __post_init__(self):
        checked(self, baseline=raw_colour(self.baseline))

    @property
    def passes(self) -> int:
        """Passes an image costs."""
        return passes(self.method)

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain ``target`` for ``x``."""
        with attributing(model, x, target):
            return self.method(model, x, target) * (
                x.detach() - baseline_of(model, x, self.baseline)
            )


def quadrature(rule: str, steps: int) -> tuple[list[float], list[float]]:
    """Positions in [0, 1] and weights of an integration rule.

    ``endpoints`` is the reference code's: ``steps`` equidistant points, both ends among them, all
    with weight 1/steps. Raises ValueError for an unknown rule or too few steps.
    """
    at_least("steps", steps, 2 if rule in ("endpoints", "trapezoid") else 1)
    equal = np.full(steps, 1 / steps)
    if rule == "endpoints":
        points, weights = np.linspace(0, 1, steps), equal
    elif rule == "midpoint":
        points, weights = (np.arange(steps) + 0.5) / steps, equal
    elif rule == "trapezoid":
        points, weights = np.linspace(0, 1, steps), np.full(steps, 1 / (steps - 1))
        weights[[0, -1]] /= 2
    elif rule == "gauss-legendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        points, weights = (nodes + 1) / 2, weights / 2
    else:
        valid = ["endpoints", "midpoint", "trapezoid", "gauss-legendre"]
        raise ValueError(unknown("quadrature", rule, valid))
    return points.tolist(), weights.tolist()


class _Average:
    """The mean of a map over copies of the input: those, with weights, that ``copies`` gives."""

    method: Attribution

    def copies(self, model: nn.Module, x: Tensor) -> tuple[Perturb, list[float]]:
        """How copies are made of the images, and the weight of each copy."""
        raise NotImplementedError

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain ``target`` for ``x``."""
        with attributing(model, x, target):
            perturb, weights = self.copies(model, x)
            maps = explained(self.method, model, x, target, len(weights), perturb)
            return weighted(maps, weights, len(x))


@dataclass(frozen=True)
class PathAverage(_Average):
    """Average a map along the straight path from a baseline to the input.

    With ``TimesInput`` of the same baseline around it this is integrated gradients, equations 1
    and 3 of [sundararajan2017axiomatic]; the default rule is that of [pair-saliency]
    ``integrated_gradients.py``. Its first point is the baseline itself: where that is constant, all
    values of a max pool's window tie, and which one the gradient takes hangs on rounding, thus on
    the memory layout; take ``midpoint`` where the last digits matter.
    """

    method: Attribution
    steps: int = 50
    rule: str = "endpoints"
    baseline: Colour = None

    def __post_init__(self):
        quadrature(self.rule, self.steps)
        checked(self, steps=int(self.steps), baseline=raw_colour(self.baseline))

    @property
    def passes(self) -> int:
        """Passes an image costs."""
        return self.steps * passes(self.method)

    def copies(self, model: nn.Module, x: Tensor) -> tuple[Perturb, list[float]]:
        """Points of the path, and the weight of each."""
        points, weights = quadrature(self.rule, self.steps)
        start = baseline_of(model, x, self.baseline)

        def perturb(part: Tensor, _rows: slice, step: int) -> Tensor:
            return start + points[step] * (part - start)

        return perturb, weights


@dataclass(frozen=True)
class _Noisy:
    """Gaussian copies of the input, their spread relative to each image's own range.

    ``noise`` is sigma / (max - min) of each image, the convention of [smilkov2017smoothgrad]. All
    images see the same draws: results do not depend on the batch an image came in, and what maps
    share through the noise is part of chance.
    """

    method: Attribution
    samples: int = 50
    noise: float = 0.15
    seed: int = 0

    _fewest = 1

    def __post_init__(self):
        checked(
            self,
            samples=at_least("samples", self.samples, self._fewest),
            noise=at_least("noise", self.noise, 0, float),
            seed=at_least("seed", self.seed, -np.inf),
        )

    @property
    def passes(self) -> int:
        """Passes an image costs."""
        return self.samples * passes(self.method)

    def copies(self, model: nn.Module, x: Tensor) -> tuple[Perturb, list[float]]:  # noqa: ARG002
        """Noise on the images, and the weight of each sample."""
        sigma = self.noise * (x.amax((1, 2, 3)) - x.amin((1, 2, 3))).view(-1, 1, 1, 1)

        def perturb(part: Tensor, rows: slice, sample: int) -> Tensor:
            draw = normal(x.shape[1:], generator(self.seed, "noise", sample))
            return part + sigma[rows] * draw.to(part)

        return perturb, [1 / self.samples] * self.samples


@dataclass(frozen=True)
class NoiseAverage(_Noisy, _Average):
    """SmoothGrad: the signed mean of a map over noisy copies of the input.

    [smilkov2017smoothgrad]; defaults of [adebayo2018code]: 50 samples, noise 0.15, no squaring,
    no noise-free sample among them.
    """


@dataclass(frozen=True)
class NoiseVariance(_Noisy):
    """VarGrad: the variance of a map over noisy copies of the input, never negative.

    Population variance (division by the number of samples), as in [adebayo2018code]
    ``utils.py``; Welford's update, so that memory does not grow with the samples. Raises
    NotApplicable for float16. [adebayo2018local]
    """

    _fewest = 2

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain ``target`` for ``x``."""
        with attributing(model, x, target):
            _check_squares(x)
            mean = spread = None
            perturb, _ = self.copies(model, x)
            noisy = explained(self.method, model, x, target, self.samples, perturb)
            for sample, rows, maps in noisy:
                if mean is None:
                    mean = maps.new_zeros(len(x), *maps.shape[1:], dtype=_sums(maps))
                    spread = torch.zeros_like(mean)
                before = maps - mean[rows]
                mean[rows].add_(before, alpha=1 / (sample + 1))
                spread[rows].addcmul_(before, maps - mean[rows])
            return (spread / self.samples).to(maps.dtype)


def _check_squares(x: Tensor) -> None:
    if x.dtype == torch.float16:
        raise NotApplicable(
            "the method squares gradients, which float16 cannot tell from zero; give the network "
            "and pictures in single precision, with .float()"
        )


@dataclass(frozen=True)
class Squared:
    """The square of a map, never negative; averaged over noise it is SmoothGrad-Squared.

    Raises NotApplicable for float16. [hooker2019benchmark]
    """

    method: Attribution

    @property
    def passes(self) -> int:
        """Passes an image costs."""
        return passes(self.method)

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain ``target`` for ``x``."""
        with attributing(model, x, target):
            _check_squares(x)
            return self.method(model, x, target) ** 2


@dataclass(frozen=True)
class ReferenceAverage:
    """Average a map times x - x', at points of the paths from references x' to the picture x.

    Each sample draws a reference and a point of its path, uniformly, the same for all images.
    ``references`` are pictures ``[M, C, H, W]`` in network units. Of the gradient these are
    expected gradients, whose map sums to the logit less its mean over references, up to the error
    of the draws. Without any, a reference is flat, in the colour of a pixel of the explained
    picture itself: a data set would be one more parameter of a verdict, other pictures of a batch
    would make a map hang on its company, and such colours are known for every network, also where
    its scaling is not. Raises ValueError for references of another form. [erion2021improving]
    """

    method: Attribution
    samples: int = 50
    seed: int = 0
    references: Tensor | None = field(default=None, repr=False, compare=False)
    pictures: str = field(init=False, default="")  # what identifies the references

    def __post_init__(self):
        checked(
            self,
            samples=at_least("samples", self.samples, 1),
            seed=at_least("seed", self.seed, -np.inf),
            pictures="" if self.references is None else digest(self.references),
        )

    @property
    def passes(self) -> int:
        """Passes an image costs."""
        return self.samples * passes(self.method)

    def _drawn(self, x: Tensor, sample: int) -> tuple[Tensor, float]:
        """A sample's reference for each image, and how far from it to the image its point lies."""
        key = generator(self.seed, "reference", sample)
        found = self.references
        sides = x.shape[2:] if found is None else (len(found),)
        along, *parts = torch.rand(
            1 + len(sides), generator=key, dtype=torch.float32, device="cpu"
        ).tolist()
        places = [int(part * side) for part, side in zip(parts, sides, strict=True)]
        if found is not None:
            return found[places[0]].to(x), along
        row, column = places
        return x[:, :, row : row + 1, column : column + 1], along

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain ``target`` for ``x``."""

        def perturb(part: Tensor, _rows: slice, sample: int) -> Tensor:
            start, along = self._drawn(part, sample)
            return start + along * (part - start)

        with attributing(model, x, target):
            x = x.detach()
            if self.references is not None and self.references.shape[1:] != x.shape[1:]:
                raise ValueError(
                    f"references are {list(self.references.shape)}, but must be "
                    f"[M, {', '.join(map(str, x.shape[1:]))}] as the pictures are"
                )
            maps = explained(self.method, model, x, target, self.samples, perturb)
            scaled = (
                (sample, rows, found * (x[rows] - self._drawn(x[rows], sample)[0]))
                for sample, rows, found in maps
            )
            return weighted(scaled, [1 / self.samples] * self.samples, len(x))


@dataclass(frozen=True)
class Rectified:
    """A map computed with another backward rule at every rectifier of the network.

    Raises NotApplicable where the network has no rectifier: the result would be the plain map under
    another name; and where it has one that cannot be given the rule.
    """

    method: Attribution
    rule: Rule

    @property
    def passes(self) -> int:
        """Passes an image costs."""
        return passes(self.method)

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain ``target`` for ``x``."""
        with attributing(model, x, target):
            manner(model, x)  # found out before rectifiers are counted
            if getattr(self.rule, "per_image", False):
                images_apart(model, x, self.rule)
            with Interception(self.rule, model) as interception:
                result = self.method(model, x, target)
        if not interception.hits:
            raise NotApplicable(
                f"{self.rule} needs rectifiers, but {name_of(model)} called none (no ReLU, ReLU6 "
                "or clamp at 0 between input and logits): the result would be the unchanged map. "
                "Use the plain method for this network"
            )
        return result


@dataclass(frozen=True)
class Product:
    """The element-wise product of two maps; a one-channel map counts for every channel.

    Guided Grad-CAM is the product of guided backpropagation and Grad-CAM. [selvaraju2017gradcam]
    """

    first: Attribution
    second: Attribution

    @property
    def passes(self) -> int:
        """Passes an image costs."""
        return passes(self.first) + passes(self.second)

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain ``target`` for ``x``."""
        with attributing(model, x, target):
            return self.first(model, x, target) * self.second(model, x, target)
