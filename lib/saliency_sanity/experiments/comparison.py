"""Maps of many methods on the same pictures, and how like a reference each of them is."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor, nn
from tqdm import tqdm

from saliency_sanity._arithmetic import arithmetic, check_precision
from saliency_sanity._errors import NotApplicable
from saliency_sanity._groups import GROUP
from saliency_sanity.attribution.base import Attribution, mapped, passes
from saliency_sanity.similarity.metrics import Similarity, similarity_rows
from saliency_sanity.verdict.reading import Reading, by_image, read, table
from saliency_sanity.verdict.share import read_share


@dataclass(frozen=True)
class Explained:
    """Maps by method, and the methods that cannot explain this network, with the reason."""

    maps: Mapping[str, Tensor]
    refused: Mapping[str, str]


@contextmanager
def _counting(model: nn.Module, bar: tqdm) -> Iterator[None]:
    def count(_module: nn.Module, inputs: tuple, named: Mapping[str, object]) -> None:
        # What a hook returns replaces the input, so nothing may be.
        given = (value for value in (*inputs, *named.values()) if isinstance(value, Tensor))
        bar.update(len(next(given, ())))

    handle = model.register_forward_pre_hook(count, with_kwargs=True)
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


def refuse_all(refused: Mapping[str, str]) -> None:
    """Raise NotApplicable with the reason of every method, if there is one."""
    if refused:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise NotApplicable(f"none of the methods applies to this network. {reasons}")


def explain(
    methods: Mapping[str, Attribution],
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    precision: str = "exact",
    *,
    progress: bool = True,
) -> Explained:
    """Explain ``target`` ``[N]`` for ``x`` ``[N, C, H, W]`` by every method, showing progress.

    Not where ``progress`` is False, as for one of many networks. The network is run in the
    ``arithmetic`` of ``precision``. A method that is not applicable to it is set aside with its
    reason; every other fault is raised as it is. Raises ValueError for a precision that does not
    exist or that the device has not, and NotApplicable, with all reasons, where no method applies.
    """
    maps: dict[str, Tensor] = {}
    refused: dict[str, str] = {}
    check_precision(precision, x)
    total = len(x) * sum(passes(method) for method in methods.values())
    with (
        arithmetic(precision, x.device),
        tqdm(total=total, unit="pass", mininterval=1, disable=not progress) as bar,
        _counting(model, bar),
    ):
        for name, method in methods.items():
            bar.set_description(name)
            try:
                maps[name] = check_map(name, mapped(method, model, x, target), x)
            except NotApplicable as error:
                refused[name] = str(error)
                bar.total -= len(x) * passes(method)
    if not maps:
        refuse_all(refused)
    return Explained(maps, refused)


def compare(
    maps: Mapping[str, Tensor | Sequence[Tensor]],
    reference: Tensor | Sequence[Tensor],
    metrics: Mapping[str, Similarity],
    *,
    margin: float = 0.1,
    group: int = GROUP,
    detector: Tensor | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the likeness of every method's maps to a reference against chance.

    ``maps`` and ``reference`` are ``[N, C, H, W]``, or a sequence of those, one a random network
    or draw, over which the interval then runs as well. Chance pairs a map with the references of
    other images of its group of ``group``, 0 all. Where the reference is edges, ``detector``, the
    edges ``[N, 1, H, W]`` of another detector, makes readings shares of what these have.

    Returns two tables: readings, a row for each method and metric with the fields of
    ``verdict.Reading``, or of ``ShareReading``; and measurements, a row for each method, metric,
    draw and image with its similarity and its chance level.
    """
    readings: dict[tuple[str, str], Reading] = {}
    rows = []
    tops: dict[str, np.ndarray] = {}
    if detector is not None:
        with arithmetic("exact", detector.device):
            edges = _draws(reference)[0]
            tops = {key: similarity_rows(metrics[key], detector, edges, group) for key in metrics}
    pairs = [(name, key) for name in maps for key in metrics]
    for name, key in tqdm(pairs, desc="similarity", unit="matrix", mininterval=1):
        first, second = _draws(maps[name]), _draws(reference)
        draws = [
            (first[r % len(first)], second[r % len(second)])
            for r in range(max(len(first), len(second)))
        ]
        with arithmetic("exact", first[0].device):
            square = np.array([similarity_rows(metrics[key], *pair, group) for pair in draws])
        readings[name, key] = (
            read_share(square, tops[key], margin=margin) if tops else read(square, margin=margin)
        )
        rows.append(by_image(square).assign(method=name, metric=key))
    return table(readings, index=("method", "metric")), pd.concat(rows, ignore_index=True)


def _draws(maps: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [maps] if isinstance(maps, Tensor) else maps
