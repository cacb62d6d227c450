"""Competition for pixels: a map loses what speaks as much for, or against, another label."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from saliency_sanity._hashing import describe, named
from saliency_sanity.attribution.base import (
    Attribution,
    attributing,
    differentiable,
    in_chunks,
    passes,
    select,
)
from saliency_sanity.attribution.compose import at_least, checked
from saliency_sanity.attribution.per_label import explaining, room
from saliency_sanity.attribution.rectifiers import interception

# What a killed run loses at most, but for the label it was at.
_SECONDS = 30.0


class Checkpoints(Protocol):
    """Where a competition leaves what it has so far; ``experiments.store.Store`` is one."""

    def subject(self, model: nn.Module, x: Tensor) -> dict[str, Any]:
        """What names the network and its pictures in a key."""
        ...

    def get(self, key: Mapping[str, Any]) -> Mapping[str, np.ndarray] | None:
        """What was left under a key, or None."""
        ...

    def put(self, key: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Leave arrays under a key."""
        ...


@dataclass
class _Running:
    """A competition under way: the target's map, and the extremes of the rivals so far."""

    own: Tensor
    high: Tensor
    low: Tensor
    done: int = 0

    def arrays(self) -> dict[str, np.ndarray]:
        tensors = {"own": self.own, "high": self.high, "low": self.low}
        return {key: t.cpu().numpy() for key, t in tensors.items()} | {"done": np.array(self.done)}


def check_top(top: int, labels: int) -> None:
    """Raise ValueError unless so many of a network's ``labels`` can compete; 0 is all of them."""
    if top > labels:
        raise ValueError(
            f"top {top} is more than the {labels} labels of the network; valid are 1 to "
            f"{labels}, or 0 for all"
        )


@dataclass(frozen=True)
class Compete:
    """Keep of a map only what no other label's map outdoes, and set the rest to exactly 0.

    A value stays where it is positive and at least that of every other label, or negative and at
    most that of every other: H > 0 and H >= max, or H < 0 and H <= min; ties stay, zeros are
    nothing. Others are all labels of the network, or with ``top`` as many, the target among them,
    as have the largest logits. With ``per_channel`` each channel competes for itself; without, the
    sum over channels competes and a pixel that stays keeps all its channels, whatever their signs.

    Costs a backward pass for each label, and where ``per_label.explaining`` knows the method two
    forward passes for all of them, one for the logits and one for the graph; memory does not grow
    with the number of labels. With ``store`` a run that was killed goes on from where it was about
    half a minute earlier. NaN in any label's map gives NaN. Raises ValueError for a ``top`` that is
    negative or above the number of labels, and for a method whose maps have another shape for
    another label. [gupta2019simple]
    """

    method: Attribution
    top: int = 0
    per_channel: bool = True
    store: Checkpoints | None = field(default=None, repr=False, compare=False)

    def __post_init__(self):
        checked(self, top=at_least("top", self.top, 0))
        if not isinstance(self.per_channel, bool):
            raise TypeError(f"per_channel {self.per_channel!r} must be True or False")

    @property
    def passes(self) -> int:
        """Passes an image costs; for each label of the network where all compete."""
        return (self.top or 1) * passes(self.method)

    @property
    def every_label(self) -> bool:
        """Whether ``passes`` is to be multiplied by the network's number of labels."""
        return self.top == 0

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain ``target`` for ``x``, with progress where it takes more than some seconds."""
        with (
            attributing(model, x, target),
            tqdm(unit="map", delay=5, mininterval=1, leave=False) as bar,
        ):
            explain = partial(self._survivors, model, bar, len(x))
            size = max(1, room(self.method, model, x))
            parts = zip(x.split(size), target.split(size), strict=True)
            return torch.cat([in_chunks(part, wanted, explain) for part, wanted in parts])

    def _survivors(
        self, model: nn.Module, bar: tqdm, images: int, x: Tensor, target: Tensor
    ) -> Tensor:
        with torch.no_grad():
            logits = differentiable(model, x)[1]
        select(logits, target)
        rivals = self._rivals(logits, target)
        bar.total = images * (1 + rivals.shape[1])
        key = self._key(model, x, target)
        kept = (self.store.get(key) if self.store else None) or {}
        if "map" in kept:
            _advance(bar, len(x) * (1 + rivals.shape[1]))
            return torch.from_numpy(kept["map"]).to(x.device)
        running = self._run(model, bar, x, target, rivals, key, kept)
        result = self._judged(running)
        if self.store:
            self.store.put(key, {"map": result.cpu().numpy()})
        return result

    def _rivals(self, logits: Tensor, target: Tensor) -> Tensor:
        """The labels ``[N, m - 1]`` that each image's target competes with."""
        labels = logits.shape[1]
        check_top(self.top, labels)
        if self.top:
            order = logits.argsort(dim=1, descending=True, stable=True)
        else:
            order = torch.arange(labels, device=logits.device).expand_as(logits)
        # Without the target: computed a second time it might outdo itself by its rounding.
        others = order[order != target[:, None]].view(len(target), labels - 1)
        return others[:, : (self.top or labels) - 1]

    def _key(self, model: nn.Module, x: Tensor, target: Tensor) -> dict:
        if self.store is None:
            return {}
        rule = interception()
        return self.store.subject(model, x) | {
            "what": "competition",
            "method": named(self.method),
            "rule": None if rule is None else describe(rule.rule),
            "top": self.top,
            "per_channel": self.per_channel,
            "classes": target.tolist(),
        }

    def _run(
        self,
        model: nn.Module,
        bar: tqdm,
        x: Tensor,
        target: Tensor,
        rivals: Tensor,
        key: Mapping,
        kept: Mapping[str, np.ndarray],
    ) -> _Running:
        with explaining(self.method, model, x) as maps:
            if kept:
                tensors = {name: torch.from_numpy(kept[name]) for name in ("own", "high", "low")}
                done = {"done": int(kept["done"])}
                running = _Running(**{k: t.to(x.device) for k, t in tensors.items()}, **done)
                _advance(bar, len(x) * (1 + running.done))
            else:
                own = maps(target).detach().clone(memory_format=torch.contiguous_format)
                none = torch.full_like(self._score(own), torch.inf)
                running = _Running(own, -none, none)
                bar.update(len(x))
            saved = time.monotonic()
            for labels in rivals.T[running.done :]:
                found = maps(labels).detach()
                if found.shape != running.own.shape:
                    raise ValueError(
                        f"{self.method} gave a map of shape {tuple(running.own.shape)} for the "
                        f"target and {tuple(found.shape)} for other labels; competing maps must "
                        "have one shape"
                    )
                score = self._score(found)
                torch.maximum(running.high, score, out=running.high)
                torch.minimum(running.low, score, out=running.low)
                running.done += 1
                bar.update(len(x))
                if self.store and time.monotonic() - saved >= _SECONDS:
                    self.store.put(key, running.arrays())
                    saved = time.monotonic()
        return running

    def _score(self, maps: Tensor) -> Tensor:
        return maps if self.per_channel else maps.sum(1, keepdim=True)

    def _judged(self, running: _Running) -> Tensor:
        own, high, low = self._score(running.own), running.high, running.low
        stays = ((own > 0) & (own >= high)) | ((own < 0) & (own <= low))
        unknown = own.isnan() | high.isnan()
        return torch.where(stays, running.own, 0).masked_fill(unknown, torch.nan)


def _advance(bar: tqdm, maps: int) -> None:
    """Count what was there already, without taking it for the speed at which the rest goes."""
    bar.initial += maps
    bar.n += maps
