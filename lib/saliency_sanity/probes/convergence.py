"""Convergence of relevance: whether it matters below a layer what is put in above it.

Backpropagation of whatever kind hands relevance down by a product of matrices, one a layer. Where
these have no negative entry the product tends to rank one: all that is put in above comes out below
in the same direction. [sixt2020explanations]
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import beta
from torch import Tensor, nn

from saliency_sanity._errors import NotApplicable, known
from saliency_sanity._random import generator, normal
from saliency_sanity.attribution.base import (
    Attribution,
    Gradient,
    attributing,
    chunk_size,
    leaf_of,
    recording,
    require_gradient,
)
from saliency_sanity.attribution.compose import Rectified, TimesInput, baseline_of
from saliency_sanity.attribution.deeplift import Lifting, Multipliers
from saliency_sanity.attribution.lrp import Lrp
from saliency_sanity.attribution.rectifiers import Interception, images_apart
from saliency_sanity.attribution.relevance import Passing
from saliency_sanity.networks.classifier import submodule
from saliency_sanity.networks.forward import logits_of, manner, name_of
from saliency_sanity.randomization.blocks import find_blocks, spread

# Of the cosines of one layer, beside the median.
PERCENTILES = (5.0, 95.0)

# What a unit has to have for relevance to be put in there, as in [kokhlikyan2020captum].
_OFF = 1e-10

Handed = Callable[[str, Tensor], dict[str, Tensor]]


def inner_layers(model: nn.Module, x: Tensor, limit: int = 0) -> dict[str, str]:
    """Layers whose relevance is looked at, from the pixels up: module paths by name.

    They are where the network's blocks end, as ``find_blocks`` finds them; at most ``limit``, first
    and last among them, or all for 0.
    """
    found = {block.name: block.modules[-1] for block in find_blocks(model, x)}
    chosen = spread(tuple(found), limit)
    return {name: found[name] for name in chosen}


@contextmanager
def inner_relevance(
    method: Attribution, model: nn.Module, x: Tensor, layers: Sequence[str]
) -> Iterator[tuple[dict[str, Tensor], Handed]]:
    """What each layer gives, and ``handed(layer, relevance)``: what comes of relevance put in.

    ``layers`` are module paths from the pixels up, each called once in a pass and giving one tensor
    ``[N, ...]``. ``handed`` gives the relevance of every layer below, by path, that its argument
    hangs on; each is shaped as the layer's output. Relevance is what the method hands down: a
    gradient, under the method's rule for rectifiers; for LRP and DeepLIFT that gradient times what
    the unit has, or what it has more than for the baseline. Units that have nothing get nothing.

    Methods are those that hand relevance down in one backward pass: gradient, guided
    backpropagation, DeconvNet, RectGrad, LRP and DeepLIFT, whose last product with the picture does
    not matter here. Raises NotApplicable for others, for a network that the method cannot explain,
    and for a layer that is not called once or does not give a tensor; ValueError for an unknown
    layer. [sixt2020explanations]
    """
    modules = {path: submodule(model, path) for path in layers}
    target = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    with attributing(model, x, target), recording():
        if torch.finfo(x.dtype).bits < 32:
            raise NotApplicable(
                f"relevance is divided by what units have, which {x.dtype} cannot tell from zero; "
                "give model and pictures in single precision, with .float()"
            )
        require_gradient(model, x)  # and how the network is to be run, before calls are seen
        passing = _passing(method, model, x)
        seen: dict[str, list[Tensor]] = {path: [] for path in layers}
        handles = [
            # A default binds the list of this very layer.
            module.register_forward_hook(lambda _m, _i, output, to=seen[path]: to.append(output))
            for path, module in modules.items()
        ]
        try:
            leaf, passes, products = passing()
        finally:
            for handle in handles:
                handle.remove()
        for path, outputs in seen.items():
            given = [one.shape for one in outputs if isinstance(one, Tensor)]
            if len(outputs) != passes or len(given) != passes or given[0][0] != len(x):
                raise NotApplicable(
                    f"layer {path!r} of {name_of(model)} was called {len(outputs)} times in "
                    f"{passes} pass(es); relevance is looked at where a layer is called once in "
                    "each, and gives one tensor [N, ...]"
                )
        values = {path: outputs[-1] for path, outputs in seen.items()}
        changes = {
            path: (outputs[-1] - outputs[0] if passes == 2 else outputs[-1]).detach()
            for path, outputs in seen.items()
        }

        def handed(layer: str, relevance: Tensor) -> dict[str, Tensor]:
            below = [*layers][: [*layers].index(layer)]
            given = relevance
            if products:
                given = torch.where(changes[layer].abs() < _OFF, 0, relevance / changes[layer])
            # To the pixels, always: a layer's gradient is then the one before its own hooks.
            *found, _ = torch.autograd.grad(
                values[layer],
                [*(values[path] for path in below), leaf],
                given,
                retain_graph=True,
                allow_unused=True,
            )
            pairs = zip(below, found, strict=True)
            return {
                path: one * changes[path] if products else one
                for path, one in pairs
                if one is not None
            }

        yield {path: value.detach() for path, value in values.items()}, handed


def _passing(
    method: Attribution, model: nn.Module, x: Tensor
) -> Callable[[], tuple[Tensor, int, bool]]:
    """What runs the network under a method's rules.

    It gives the leaf, how many passes there were, and whether relevance is a product.
    """
    own = method.method if isinstance(method, TimesInput) else method
    if isinstance(own, Gradient):

        def run() -> tuple[Tensor, int, bool]:
            leaf = leaf_of(model, x)
            logits_of(model, leaf)
            return leaf, 1, False

    elif isinstance(own, Rectified) and isinstance(own.method, Gradient):
        if getattr(own.rule, "per_image", False):
            images_apart(model, x, own.rule)

        def run() -> tuple[Tensor, int, bool]:
            leaf = leaf_of(model, x)
            with Interception(own.rule, model) as interception:
                interception.vet(logits_of(model, leaf), leaf)
            if not interception.hits:
                raise NotApplicable(f"{own.rule} needs rectifiers; {name_of(model)} called none")
            return leaf, 1, False

    elif isinstance(own, Lrp):

        def run() -> tuple[Tensor, int, bool]:
            leaf = leaf_of(model, x)
            passing = Passing(model, leaf, own.rules(), own.bounds(model, leaf), keep=True)
            with passing:
                passing.vet(logits_of(model, leaf))
            return leaf, 1, True

    elif isinstance(own, Multipliers):

        def run() -> tuple[Tensor, int, bool]:
            first = Lifting(model)
            first.run(torch.zeros_like(x) + baseline_of(model, x, own.baseline))
            return Lifting(model, first.inputs).run(x)[0], 2, True

    else:
        raise NotApplicable(
            f"{method} hands no relevance from layer to layer; choose a gradient, guided "
            "backpropagation, DeconvNet, RectGrad, LRP or DeepLIFT"
        )
    return run


def cosines(first: Tensor, second: Tensor) -> Tensor:
    """Absolute cosines of two relevances ``[N, K, ...]`` over the K channels, a row an image.

    A place of a layer is a vector of its own; a dense layer ``[N, K]`` has one place. NaN where
    one of the two is zero.
    """
    first, second = (one.flatten(2) if one.ndim > 2 else one[..., None] for one in (first, second))
    first, second = (one / one.abs().amax(1, keepdim=True) for one in (first, second))
    product = (first * second).sum(1)
    sizes = first.square().sum(1) * second.square().sum(1)
    return (product / sizes.sqrt()).abs().clamp(max=1)


def chance(channels: int, q: float = 50.0) -> float:
    """The ``q``-th percentile of the absolute cosine of two random vectors of so many channels.

    Of directions drawn uniformly its square has a beta distribution with 1/2 and (K - 1)/2.
    """
    if channels < 1:
        raise ValueError(f"{channels} channels; valid are 1 and more")
    return 1.0 if channels == 1 else float(beta.ppf(q / 100, 0.5, (channels - 1) / 2) ** 0.5)


class Convergence(NamedTuple):
    """Cosines of random relevances by method, layer of the start, and layer.

    ``pictures`` has a row a picture: ``cosine`` is the median over places and pairs. ``pooled`` has
    the ``median`` over pictures, too, ``low`` and ``high``, the ``PERCENTILES``, how many
    ``channels`` a layer has and their ``chance``. ``position`` counts layers from the pixels up.
    ``refused`` says why a method does not apply.
    """

    pictures: pd.DataFrame
    pooled: pd.DataFrame
    refused: dict[str, str]


def converging(
    methods: Mapping[str, Attribution],
    model: nn.Module,
    x: Tensor,
    layers: Mapping[str, str],
    starts: Sequence[str],
    *,
    draws: int = 5,
    seed: int = 0,
) -> Convergence:
    """How alike random relevances become on their way down from layers ``starts``.

    At each start ``draws`` relevances of standard normal numbers are put in, the same for all
    methods, drawn for each picture of ``x`` ``[N, C, H, W]`` by itself; each pair of them gives an
    absolute cosine for each place of a lower layer. ``layers`` are as ``inner_layers`` gives them.
    Cosines of zero vectors are left out. Raises ValueError for fewer than two draws or an unknown
    start. [sixt2020explanations]
    """
    if draws < 2:
        raise ValueError(f"draws {draws} must be at least 2: a cosine is of two relevances")
    for start in starts:
        known("layer", start, layers)
    tables: list[tuple[pd.DataFrame, pd.DataFrame]] = []
    refused: dict[str, str] = {}
    for name, method in methods.items():
        try:
            found = _cosines_of(method, model, x, layers, starts, draws, seed)
        except NotApplicable as error:
            refused[name] = str(error)
            continue
        tables.append(tuple(table.assign(method=name) for table in _tables(found, layers)))
    if not tables:
        raise NotApplicable(f"no method applies: {refused}")
    pictures, pooled = (pd.concat(parts, ignore_index=True) for parts in zip(*tables, strict=True))
    return Convergence(pictures, pooled, refused)


_Cosines = dict[tuple[str, str], list[np.ndarray]]  # [pairs, places] of each picture


def _cosines_of(
    method: Attribution,
    model: nn.Module,
    x: Tensor,
    layers: Mapping[str, str],
    starts: Sequence[str],
    draws: int,
    seed: int,
) -> tuple[_Cosines, dict[str, int]]:
    names = {path: name for name, path in layers.items()}
    found: _Cosines = {}
    channels: dict[str, int] = {}
    # Graphs of the whole network are kept, and with them what rules compute.
    size = 1 if manner(model, x).alone else max(1, chunk_size(x) // 4)
    for first in range(0, len(x), size):
        part = x[first : first + size]
        with inner_relevance(method, model, part, [*names]) as (values, handed):
            channels |= {names[path]: value.shape[1] for path, value in values.items()}
            for start in starts:
                shape = values[layers[start]].shape[1:]
                below: dict[str, list[Tensor]] = {}
                for draw in range(draws):
                    keys = [(seed, "relevance", start, first + i, draw) for i in range(len(part))]
                    given = torch.stack([normal(shape, generator(*key)) for key in keys]).to(part)
                    down = {layers[start]: given} | handed(layers[start], given)
                    for path, relevance in down.items():
                        below.setdefault(names[path], []).append(relevance)
                for layer, relevances in below.items():
                    pairs = [cosines(*pair) for pair in combinations(relevances, 2)]
                    rows = torch.stack(pairs, 1).flatten(1).cpu().numpy()
                    found.setdefault((start, layer), []).extend(rows)
    return found, channels


def _tables(
    found: tuple[_Cosines, dict[str, int]], layers: Mapping[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    places = {name: position for position, name in enumerate(layers)}
    pictures, pooled = [], []
    for (start, layer), rows in found[0].items():
        at = {"start": start, "layer": layer, "position": places[layer]}
        for image, values in enumerate(rows):
            pictures.append({**at, "image": image, "cosine": _percentiles(values, 50)[0]})
        median, low, high = _percentiles(np.concatenate(rows), 50, *PERCENTILES)
        own = {"channels": found[1][layer], "chance": chance(found[1][layer])}
        pooled.append({**at, "median": median, "low": low, "high": high, **own})
    return pd.DataFrame(pictures), pd.DataFrame(pooled)


def _percentiles(values: np.ndarray, *q: float) -> list[float]:
    """Percentiles of the defined values; NaN where there is none."""
    values = values[np.isfinite(values)]
    return [float(one) for one in np.percentile(values, q)] if len(values) else [np.nan] * len(q)


FACTORS = ("non-negative", "signed")


def product_cosines(
    kind: str, factors: int, channels: int, *, pairs: int = 50, seed: int = 0
) -> np.ndarray:
    """Absolute cosines ``[factors + 1, pairs]`` of random vectors after so many random matrices.

    Each pair of standard normal vectors goes through square matrices of its own, first none, then
    one more in each row. Entries are standard normal, ``non-negative`` ones their absolute values,
    or ``signed`` ones as they are. In double precision. Raises ValueError for another kind or fewer
    than two channels. [sixt2020explanations]
    """
    known("kind of matrix", kind, FACTORS)
    if channels < 2:
        raise ValueError(f"{channels} channels; a cosine says something of 2 and more")
    rows = np.empty((factors + 1, pairs))
    for pair in range(pairs):
        random = generator(seed, "factors", kind, pair)
        vectors = normal((channels, 2), random).double()
        for row in range(factors + 1):
            if row:
                matrix = normal((channels, channels), random).double()
                vectors = (matrix.abs() if kind == FACTORS[0] else matrix) @ vectors
                vectors = vectors / vectors.norm(dim=0)
            first, second = vectors.T[:, None]
            rows[row, pair] = cosines(first, second)
    return rows
