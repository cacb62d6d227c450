"""Where maps lie when the same pictures are given to networks of several tasks, and random ones.

A map that sees the network lies on what the task hangs on, wherever that is, and moves with the
task. [yona2021revisiting]
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from saliency_sanity._arithmetic import arithmetic
from saliency_sanity.attribution.base import Attribution, logits
from saliency_sanity.experiments.comparison import explain
from saliency_sanity.networks.forward import fitted
from saliency_sanity.probes.regions import area, share_inside
from saliency_sanity.probes.units import Gap
from saliency_sanity.randomization.blocks import find_blocks
from saliency_sanity.randomization.schemes import Randomization, randomized
from saliency_sanity.similarity.metrics import Similarity, similarity_rows
from saliency_sanity.verdict.interval import interval
from saliency_sanity.verdict.obstacle import CeilingKind
from saliency_sanity.verdict.reading import Reading, read, table

# What networks a map is made under are called in tables.
TRAINED, OTHER, RANDOM = "trained", "other task", "random"

Maps = Mapping[str, Sequence[Tensor]]


@contextmanager
def wholly_random(
    model: nn.Module, x: Tensor, seed: int, randomization: Randomization | None = None
) -> Iterator[nn.Module]:
    """Give ``model`` with every block drawn anew by ``seed``; outside the block it is as it was.

    ``x`` ``[N, C, H, W]`` is what its blocks are found with. Raises as ``randomized``.
    """
    with randomized(model, find_blocks(model, x), randomization, seed=seed, calibration=x):
        yield model


def maps_under(
    methods: Mapping[str, Attribution],
    networks: Sequence[nn.Module],
    x: Tensor,
    *,
    random_from: int | None = None,
    precision: str = "exact",
) -> tuple[dict[str, list[Tensor]], dict[str, str]]:
    """Maps ``[N, C, H, W]`` by method, one a network, of the class that it finds; shows progress.

    ``x`` in the networks' units. With ``random_from`` each network is drawn anew, with this seed
    and those that follow, and is as it was afterwards. With the maps come methods that do not apply
    to one of the networks, with the reason. Raises ValueError without networks, and as ``explain``.
    """
    if not networks:
        raise ValueError("no networks to explain; give one or more")
    found: dict[str, list[Tensor]] = {key: [] for key in methods}
    refused: dict[str, str] = {}
    kind = TRAINED if random_from is None else RANDOM
    for place, network in enumerate(tqdm(networks, desc=kind, unit="network", mininterval=1)):
        with ExitStack() as stack:
            if random_from is not None:
                stack.enter_context(wholly_random(network, x, random_from + place))
            given = fitted(network, x)
            target = logits(network, given).argmax(1)
            explained = explain(methods, network, given, target, precision, progress=False)
        refused |= explained.refused
        for key, maps in explained.maps.items():
            found[key].append(maps.cpu())
    return {key: maps for key, maps in found.items() if key not in refused}, refused


def shares(maps: Sequence[Tensor], mask: Tensor) -> np.ndarray:
    """Share of ``|map|`` inside a mask ``[N, H, W]`` for maps ``[N, C, H, W]`` of R networks.

    Float64 ``[R, N]`` in [0, 1]; NaN for a map that is zero everywhere. Raises as ``share_inside``.
    """
    return torch.stack([share_inside(found, mask) for found in maps]).cpu().numpy()


def share_gap(first: np.ndarray, second: np.ndarray | float, *, confidence: float = 0.95) -> Gap:
    """How much larger shares ``[R, N]`` are than others, network by network, picture by picture.

    ``second`` is ``[R, N]``, ``[N]`` or a number. The interval is over pictures and networks.
    """
    difference = first - second
    images = int(np.isfinite(difference).any(axis=0).sum())
    return Gap(*interval(difference, confidence=confidence), images)


def share_table(maps: Mapping[str, Maps], mask: Tensor) -> pd.DataFrame:
    """Share of maps inside a mask ``[N, H, W]``, a row a kind of network and method.

    ``maps`` are by kind of network, then by method, one a network. Columns are method, network,
    value with its 95 % interval over pictures and networks, low to high, networks and images, those
    with a map that is not zero everywhere; and area, area_low and area_high: the mask's share of
    the picture, which a map that knows nothing has inside. Raises as ``share_inside``.
    """
    covered = dict(
        zip(("area", "area_low", "area_high"), interval(area(mask).numpy()[None]), strict=True)
    )
    rows = []
    for network, by_method in maps.items():
        for method, found in by_method.items():
            values = shares(found, mask)
            value, low, high = interval(values)
            known = np.isfinite(values)
            rows.append(
                {"method": method, "network": network, "value": value, "low": low, "high": high}
                | covered
                | {"networks": int(known.any(1).sum()), "images": int(known.any(0).sum())}
            )
    return pd.DataFrame(rows)


def likeness(
    first: Maps, second: Maps, metrics: Mapping[str, Similarity], *, margin: float = 0.1
) -> pd.DataFrame:
    """How alike maps of networks and of as many others are, pair by pair, read against chance.

    Maps are by method, one a network, of the same pictures. The ceiling is what a network of the
    first kind and the next have in common. A row a method of both and metric, with the fields of
    ``verdict.Reading``. Raises ValueError for other numbers of networks.
    """
    readings: dict[tuple[str, str], Reading] = {}
    for method in (key for key in first if key in second):
        ours, theirs = first[method], second[method]
        if len(ours) != len(theirs):
            raise ValueError(
                f"maps of {method!r} under {len(ours)} networks and {len(theirs)} others; they are "
                "compared pair by pair, so give as many of each"
            )
        for key, metric in metrics.items():
            square = _rows(metric, list(zip(ours, theirs, strict=True)))
            again = list(pairwise(ours))
            ceiling = {CeilingKind.SEEDS: _rows(metric, again)} if again else None
            readings[method, key] = read(square, ceiling=ceiling, margin=margin)
    return table(readings, index=("method", "metric"))


def _rows(metric: Similarity, pairs: Sequence[tuple[Tensor, Tensor]]) -> np.ndarray:
    with arithmetic("exact", pairs[0][0].device):
        return np.array([similarity_rows(metric, *pair) for pair in pairs])
