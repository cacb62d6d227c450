"""Scales: how large a network's channels are, how much they matter, and what randomizing leaves."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from saliency_sanity._arithmetic import arithmetic
from saliency_sanity._errors import NotApplicable, known
from saliency_sanity._random import generator
from saliency_sanity.attribution.base import attributing, in_chunks, recording, select
from saliency_sanity.networks.classifier import network_of
from saliency_sanity.networks.forward import laid_out, logits_of
from saliency_sanity.randomization.blocks import Block, Stage, find_blocks, find_stages, spread
from saliency_sanity.randomization.schemes import Randomization, Randomizer
from saliency_sanity.verdict.interval import interval

# What is compared between two networks, channel by channel.
QUANTITIES = ("norms", "influence", "carried", "top")
# Of the channels of a layer those count as large, by which share.
LARGE = 0.25

_REFERENCE_CODE = Randomization()


@dataclass(frozen=True)
class ChannelScales:
    """Of each layer how large its channels are and what they add to a logit, ``[N, C]`` float64.

    ``norms``: root mean square of a channel over its places. ``influence``: size of the first-order
    change of the logit when the channel is taken away, the absolute sum over places of activation
    times gradient.
    """

    norms: Mapping[str, np.ndarray]
    influence: Mapping[str, np.ndarray]


def channel_scales(
    model: nn.Module, layers: Mapping[str, str], x: Tensor, target: Tensor
) -> ChannelScales:
    """Scales of the channels that some layers give for pictures ``x`` ``[N, C, H, W]``.

    ``layers`` names the path of a module for each layer; ``target`` ``[N]`` is the logit that
    influence is on. A layer gives ``[N, C, h, w]`` or ``[N, C]``; of tokens ``[N, T, C]`` the last
    dimension are channels. Hooks are gone afterwards, also after an exception. Raises as
    ``attributing`` does, and NotApplicable for a layer that gives something else, or not once a
    pass, or does not lead to the logit.
    """
    parts: list[Tensor] = []

    def measure(part: Tensor, wanted: Tensor) -> Tensor:
        with recording(), _recorded(model, layers) as seen:
            leaf = laid_out(model, part).clone().requires_grad_(True)
            score = select(logits_of(model, leaf), wanted).sum()
            found = [_once(layers[name], seen[name]) for name in layers]
            slopes = torch.autograd.grad(score, found, allow_unused=True)
        rows = []
        for name, values, slope in zip(layers, found, slopes, strict=True):
            if slope is None:
                raise NotApplicable(f"layer {layers[name]!r} does not lead to the logits")
            rows.append(_of_channels(values.detach().double(), slope.double()))
        parts.append(torch.tensor([row.shape[2] for row in rows], device="cpu"))
        return torch.cat([row.flatten(1) for row in rows], 1).cpu()

    with attributing(model, x, target):
        flat = in_chunks(x, target, measure)
    widths = [2 * int(width) for width in parts[0]]
    split = [values.reshape(len(x), 2, -1).numpy() for values in flat.split(widths, 1)]
    norms, influence = (
        {name: values[:, i] for name, values in zip(layers, split, strict=True)} for i in (0, 1)
    )
    return ChannelScales(norms, influence)


@contextmanager
def _recorded(model: nn.Module, layers: Mapping[str, str]) -> Iterator[dict[str, list[Tensor]]]:
    """What layers give while they run, in the graph."""
    network, seen = network_of(model), {name: list[Tensor]() for name in layers}

    def keep(name: str) -> Callable[[nn.Module, tuple, object], object]:
        def hook(_module: nn.Module, _inputs: tuple, output: object) -> object:
            if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4):
                return output
            seen[name].append(output)
            # A copy, since the next layer may work in place.
            return output.clone()

        return hook

    handles = [
        network.get_submodule(path).register_forward_hook(keep(name))
        for name, path in layers.items()
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _once(path: str, outputs: Sequence[Tensor]) -> Tensor:
    if len(outputs) != 1:
        raise NotApplicable(
            f"layer {path!r} gave {len(outputs)} tensors of two to four dimensions in a pass; its "
            "channels can be measured where it gives one"
        )
    return outputs[0]


def _of_channels(values: Tensor, slope: Tensor) -> Tensor:
    """Norm and influence, ``[N, 2, C]``."""
    if values.ndim == 3:  # tokens
        values, slope = values.transpose(1, 2), slope.transpose(1, 2)
    values, slope = (part.reshape(*part.shape[:2], -1) for part in (values, slope))
    return torch.stack([values.square().mean(2).sqrt(), (values * slope).sum(2).abs()], 1)


def summary(
    values: np.ndarray, quantity: str, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Mean of a quantity's values ``[R, N]`` and its interval, which ends where values do."""
    value, low, high = interval(values, confidence=confidence)
    return value, max(low, 0.0 if quantity == "top" else -1.0), min(high, 1.0)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Rank correlation ``[...]`` over the last axis; ties share ranks, NaN where all are equal."""
    ranks = [rankdata(part, axis=-1) for part in (first, second)]
    left, right = (part - part.mean(-1, keepdims=True) for part in ranks)
    below = np.sqrt((left**2).sum(-1) * (right**2).sum(-1))
    return np.where(below > 0, (left * right).sum(-1) / np.where(below > 0, below, 1), np.nan)


def shared_top(first: np.ndarray, second: np.ndarray, share: float = LARGE) -> np.ndarray:
    """Share ``[...]`` of the largest of ``first`` among the largest of ``second``, last axis.

    ``share`` of the values count as the largest, one at least; of equal ones those that come
    first. NaN where all values of one are equal. Chance is the count of the largest by that of all.
    """
    count = top_count(first.shape[-1], share)
    tops = [np.argsort(-part, axis=-1, kind="stable")[..., :count] for part in (first, second)]
    inside = [np.zeros(first.shape, bool) for _ in tops]
    for mask, top in zip(inside, tops, strict=True):
        np.put_along_axis(mask, top, values=True, axis=-1)
    flat = np.ptp(first, axis=-1) * np.ptp(second, axis=-1) == 0
    return np.where(flat, np.nan, (inside[0] & inside[1]).sum(-1) / count)


def top_count(channels: int, share: float = LARGE) -> int:
    """How many of so many channels count as the largest."""
    return max(1, round(share * channels))


@dataclass(frozen=True)
class KeptScales:
    """What randomizing a network leaves of its channels' scales.

    ``layers`` by place from the input on, ``stages[order]`` in their order; ``random[order]``
    ``[S, L]`` says which layers are random. ``values[order, quantity]`` and ``chances``, of the
    same channels in random order, are ``[S, R, L, N]`` for stages, random networks, layers and
    pictures. Of a picture's channels, in the trained and the randomized network: ``norms`` and
    ``influence`` are rank correlations of each with itself, ``carried`` that of the trained norm
    with the randomized influence; ``top`` is the share of the quarter with the largest trained
    norms that is in the quarter with the largest randomized influence. ``large[L]`` is what chance
    gives of it.
    """

    layers: tuple[str, ...]
    stages: Mapping[str, tuple[str, ...]]
    random: Mapping[str, np.ndarray]
    values: Mapping[tuple[str, str], np.ndarray]
    chances: Mapping[tuple[str, str], np.ndarray]
    large: np.ndarray

    def table(self, confidence: float = 0.95) -> pd.DataFrame:
        """Means over pictures and networks with their intervals.

        A row an order, stage, layer and quantity: ``position`` and ``place`` are those of stage and
        layer, ``random`` whether the layer is, ``chance`` the mean over permuted channels.
        """
        rows = []
        for (order, quantity), values in self.values.items():
            for s, stage in enumerate(self.stages[order]):
                for place, layer in enumerate(self.layers):
                    value, low, high = summary(values[s, :, place], quantity, confidence)
                    chance = self.chances[order, quantity][s, :, place]
                    rows.append(
                        {
                            "order": order,
                            "stage": stage,
                            "position": s,
                            "layer": layer,
                            "place": place,
                            "random": bool(self.random[order][s, place]),
                            "quantity": quantity,
                            "value": value,
                            "low": low,
                            "high": high,
                            "chance": interval(chance)[0],
                        }
                    )
        return pd.DataFrame(rows)

    def edges(self, order: str) -> dict[int, int]:
        """By stage the place of the highest layer below all random ones, where there is one."""
        # Where no layer is random, only the logits are.
        first = [int(np.argmax([*row, True])) for row in self.random[order]]
        return {stage: place - 1 for stage, place in enumerate(first) if place}

    def edge(self, order: str, quantity: str, *, chance: bool = False) -> np.ndarray:
        """Values ``[R, N]`` of that layer, a mean over the stages that have one.

        Raises ValueError where none has, as in an order that begins at the input.
        """
        return self.at_edges(order, quantity, chance=chance).mean(axis=0)

    def at_edges(self, order: str, quantity: str, *, chance: bool = False) -> np.ndarray:
        """The same stage by stage, ``[S', R, N]``."""
        found, edges = (self.chances if chance else self.values)[order, quantity], self.edges(order)
        if not edges:
            raise ValueError(f"no stage of {order!r} leaves a layer below all random ones")
        return np.stack([found[stage, :, place] for stage, place in edges.items()])

    def whole(self, order: str, quantity: str) -> np.ndarray:
        """Values ``[R, N]`` of the wholly random network, a mean over layers."""
        return self.values[order, quantity][-1].mean(1)


def kept_scales(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    orders: Sequence[str] = ("top_down", "bottom_up"),
    randomization: Randomization = _REFERENCE_CODE,
    seeds: int = 3,
    seed: int = 0,
    stage_limit: int = 0,
) -> KeptScales:
    """Channels' scales of a network randomized stage by stage, beside those of the trained one.

    For pictures ``x`` ``[N, C, H, W]`` and the logits ``target`` ``[N]``, in ``seeds`` random
    networks from ``seed`` on. A layer is what a block of ``find_blocks`` gives, all but the last,
    whose channels are the logits. At most ``stage_limit`` stages are evenly spread, 0 for all. The
    network ends as it was. Raises ValueError for another order or number, and for a network of one
    block; NotApplicable as ``channel_scales``. After [binder2023shortcomings].
    """
    for order in orders:
        known("order", order, ("top_down", "bottom_up"))
    if seeds < 1:
        raise ValueError(f"{seeds} random networks; at least 1 is needed, 2 for an interval")
    blocks = find_blocks(model, x)
    if len(blocks) < 2:
        raise ValueError(f"{type(network_of(model)).__name__} has one block; scales need two")
    layers = {block.name: block.modules[-1] for block in blocks[:-1]}
    stages = {order: spread(find_stages(blocks, order), stage_limit) for order in orders}
    measured: dict[tuple[int, frozenset[str]], ChannelScales] = {}
    with (
        arithmetic("exact", x.device),
        Randomizer(model, blocks, randomization, x) as randomizer,
    ):
        trained = channel_scales(model, layers, x, target)
        for number in range(seed, seed + seeds):
            for stage in (stage for order in orders for stage in stages[order]):
                at = number, frozenset(stage.blocks)
                if at not in measured:
                    randomizer.set(stage.blocks, number)
                    measured[at] = channel_scales(model, layers, x, target)
    return _compared(trained, measured, stages, blocks, range(seed, seed + seeds))


def _compared(
    trained: ChannelScales,
    measured: Mapping[tuple[int, frozenset[str]], ChannelScales],
    stages: Mapping[str, tuple[Stage, ...]],
    blocks: Sequence[Block],
    seeds: range,
) -> KeptScales:
    layers = [block.name for block in blocks[:-1]]
    values: dict[tuple[str, str], list] = {}
    chances: dict[tuple[str, str], list] = {}
    for order, along in stages.items():
        for quantity in QUANTITIES:
            own, by_chance = [], []
            for stage in along:
                for number in seeds:
                    found = measured[number, frozenset(stage.blocks)]
                    for layer in layers:
                        first, second = _pair(quantity, trained, found, layer)
                        key = generator(number, "channels", layer, stage.name)
                        mixed = torch.randperm(first.shape[1], generator=key).numpy()
                        compare = shared_top if quantity == "top" else rank_correlation
                        own.append(compare(first, second))
                        by_chance.append(compare(first, second[:, mixed]))
            shape = len(along), len(seeds), len(layers), -1
            values[order, quantity] = np.reshape(own, shape)
            chances[order, quantity] = np.reshape(by_chance, shape)
    widths = [trained.norms[layer].shape[1] for layer in layers]
    return KeptScales(
        tuple(layers),
        {order: tuple(stage.name for stage in along) for order, along in stages.items()},
        {
            order: np.array([[layer in stage.blocks for layer in layers] for stage in along])
            for order, along in stages.items()
        },
        values,
        chances,
        np.array([top_count(width) / width for width in widths]),
    )


def _pair(
    quantity: str, trained: ChannelScales, found: ChannelScales, layer: str
) -> tuple[np.ndarray, np.ndarray]:
    first = trained.influence if quantity == "influence" else trained.norms
    second = found.norms if quantity == "norms" else found.influence
    return first[layer], second[layer]
