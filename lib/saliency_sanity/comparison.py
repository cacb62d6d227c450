"""Maps of many methods on the same pictures, and how like a reference each of them is."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from saliency_sanity.gradient import Attribution, NotApplicable, passes


@dataclass(frozen=True)
class Explained:
    """Maps by method, and the methods that cannot explain this network, with the reason."""

    maps: Mapping[str, Tensor]
    refused: Mapping[str, str]


@contextmanager
def _counting(model: nn.Module, bar: tqdm) -> Iterator[None]:
    handle = model.register_forward_pre_hook(lambda _module, inputs: bar.update(len(inputs[0])))
    try:
        yield
    finally:
        handle.remove()


def check_map(name: str, attribution: object, x: Tensor) -> Tensor:
    """Return a method's map, or raise ValueError or TypeError naming the method and its fault."""
    if not isinstance(attribution, Tensor):
        raise TypeError(f"method {name!r} returned {type(attribution).__name__}, not a tensor")
    valid = {tuple(x.shape), (len(x), 1, *x.shape[2:])}
    if tuple(attribution.shape) not in valid:
        raise ValueError(
            f"method {name!r} returned shape {tuple(attribution.shape)}; "
            f"valid are {' and '.join(map(str, sorted(valid)))}"
        )
    if not attribution.is_floating_point():
        raise TypeError(f"method {name!r} returned {attribution.dtype}; return floating point")
    return attribution.detach()


def explain(
    methods: Mapping[str, Attribution], model: nn.Module, x: Tensor, target: Tensor
) -> Explained:
    """Explain ``target`` ``[N]`` for ``x`` ``[N, C, H, W]`` by every method, showing progress.

    A method that is not applicable to the network is set aside with its reason; every other
    fault is raised, naming the method.
    """
    maps: dict[str, Tensor] = {}
    refused: dict[str, str] = {}
    total = len(x) * sum(passes(method) for method in methods.values())
    with tqdm(total=total, unit="pass", mininterval=1) as bar, _counting(model, bar):
        for name, method in methods.items():
            bar.set_description(name)
            try:
                maps[name] = check_map(name, method(model, x, target), x)
            except NotApplicable as error:
                refused[name] = str(error)
                bar.total -= len(x) * passes(method)
    return Explained(maps, refused)
