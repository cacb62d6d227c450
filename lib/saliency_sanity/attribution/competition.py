"""Competition for pixels: a map loses what speaks as much for, or against, another label."""

import time
from collections.abc import Callable, Mapping
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
    chunk_size,
    differentiable,
    in_chunks,
    passes,
    select,
)
from saliency_sanity.attribution.compose import at_least, checked
from saliency_sanity.attribution.per_label import explaining, room
from saliency_sanity.attribution.rectifiers import interception
from saliency_sanity.networks.forward import out_of_memory

# What a killed run loses at most, but for the labels it was at.
_SECONDS = 30.0

# Devices on which copies of a picture share a pass, a label each, as many as go through at once.
# EfficientNet-Lite0 at 224 px, time a label: on an H100 64 copies take 0.26 of one, on a CPU core
# 2, 4, 8 and 16 copies 0.97, 1.02, 1.15 and 2.1 (MobileNet v2: 1.02, 1.03, 1.17 and 2.2), two
# cores 0.92, 0.94 and 1.5; `is_grads_batched` over 16 labels 0.72 (32, H100) and 2.3 (CPU).
_SHARING = frozenset({"cuda"})


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

    def meet(self, scores: Tensor) -> None:
        """Let rivals ``[k, N, ...]`` in."""
        if len(scores):
            one = len(scores) == 1
            torch.maximum(self.high, scores[0] if one else scores.amax(0), out=self.high)
            torch.minimum(self.low, scores[0] if one else scores.amin(0), out=self.low)
        self.done += len(scores)

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
    with the number of labels. On a GPU labels share a pass: how many changes a map by rounding, and
    who stays only where two labels are as close as that. With ``store`` a run that was killed goes
    on from where it was about half a minute earlier. NaN in any label's map gives NaN. Raises
    ValueError for a ``top`` that is negative or above the number of labels, and for a method whose
    maps have another shape for another label. [gupta2019simple]
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
            size = max(1, room(self.method, model, x))
            explain = partial(self._survivors, model, bar, len(x), size)
            parts = zip(x.split(size), target.split(size), strict=True)
            return torch.cat([in_chunks(part, wanted, explain) for part, wanted in parts])

    def _survivors(
        self, model: nn.Module, bar: tqdm, images: int, most: int, x: Tensor, target: Tensor
    ) -> Tensor:
        with torch.no_grad():
            logits = differentiable(model, x)[1]
        select(logits, target)
        labels = self._labels(logits, target)
        bar.total = images * len(labels)
        key = self._key(model, x, target)
        kept = (self.store.get(key) if self.store else None) or {}
        if "map" in kept:
            _advance(bar, labels.numel())
            return torch.from_numpy(kept["map"]).to(x.device)
        running = self._resumed(kept, x.device)
        if running:
            _advance(bar, len(x) * (1 + running.done))
        running = self._run(model, bar, x, labels, most, key, running)
        result = self._judged(running)
        if self.store:
            self.store.put(key, {"map": result.cpu().numpy()})
        return result

    def _labels(self, logits: Tensor, target: Tensor) -> Tensor:
        """The labels ``[m, N]`` that compete for each image, its target first."""
        labels = logits.shape[1]
        check_top(self.top, labels)
        if self.top:
            order = logits.argsort(dim=1, descending=True, stable=True)
        else:
            order = torch.arange(labels, device=logits.device).expand_as(logits)
        # Without the target: computed a second time it might outdo itself by its rounding.
        others = order[order != target[:, None]].view(len(target), labels - 1)
        return torch.cat([target[None], others.T])[: self.top or labels]

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

    def _resumed(self, kept: Mapping[str, np.ndarray], device: torch.device) -> _Running | None:
        if not kept:
            return None
        tensors = {name: torch.from_numpy(kept[name]) for name in ("own", "high", "low")}
        return _Running(**{k: t.to(device) for k, t in tensors.items()}, done=int(kept["done"]))

    def _sharing(self, x: Tensor, most: int, labels: int) -> int:
        """How many of so many labels share a pass; ``most`` pictures have all their graphs kept."""
        if x.device.type not in _SHARING:
            return 1
        copies = max(1, passes(self.method))  # controls need none
        together = chunk_size(x) // (len(x) * copies)
        if copies > 1:
            together = min(together, most // len(x))
        return -(-labels // -(-labels // max(1, together)))  # none of the passes nearly empty

    def _run(
        self,
        model: nn.Module,
        bar: tqdm,
        x: Tensor,
        labels: Tensor,
        most: int,
        key: Mapping,
        running: _Running | None,
    ) -> _Running:
        """Let all ``labels [m, N]`` meet, the first of which are the targets."""
        together, saved = self._sharing(x, most, len(labels)), time.monotonic()
        begun = 1 + running.done if running else 0
        while begun < len(labels):
            try:
                copies = x if together == 1 else x.repeat(together, 1, 1, 1)
                with explaining(self.method, model, copies) as maps:
                    while begun < len(labels):
                        wanted = labels[begun : begun + together]
                        found = self._found(maps, wanted, together)
                        running = self._met(running, found)
                        begun += len(wanted)
                        bar.update(wanted.numel())
                        if self.store and running.done and time.monotonic() - saved >= _SECONDS:
                            self.store.put(key, running.arrays())
                            saved = time.monotonic()
            except (RuntimeError, MemoryError) as error:
                if together == 1 or not out_of_memory(error):
                    raise
            else:
                break
            # Outside the handler, so that the failed pass's frames no longer hold its tensors.
            together //= 2
            if x.is_cuda:
                torch.cuda.empty_cache()
        return running

    def _found(self, maps: Callable[[Tensor], Tensor], labels: Tensor, together: int) -> Tensor:
        """Maps ``[k, N, ...]`` of labels ``[k, N]`` from a pass that is made for more of them."""
        # Filled up with the last: every pass has one shape, and so one rounding.
        filled = torch.cat([labels, labels[-1:].expand(together - len(labels), -1)])
        found = maps(filled.flatten()).detach()
        return found.unflatten(0, (together, -1))[: len(labels)]

    def _met(self, running: _Running | None, found: Tensor) -> _Running:
        if running is None:
            own = found[0].clone(memory_format=torch.contiguous_format)
            none = torch.full_like(self._score(own), torch.inf)
            running, found = _Running(own, -none, none), found[1:]
        elif found.shape[1:] != running.own.shape:
            raise ValueError(
                f"{self.method} gave a map of shape {tuple(running.own.shape)} for the target and "
                f"{tuple(found.shape[1:])} for other labels; competing maps must have one shape"
            )
        running.meet(self._score(found))
        return running

    def _score(self, maps: Tensor) -> Tensor:
        return maps if self.per_channel else maps.sum(-3, keepdim=True)

    def _judged(self, running: _Running) -> Tensor:
        own, high, low = self._score(running.own), running.high, running.low
        stays = ((own > 0) & (own >= high)) | ((own < 0) & (own <= low))
        unknown = own.isnan() | high.isnan()
        return torch.where(stays, running.own, 0).masked_fill(unknown, torch.nan)


def _advance(bar: tqdm, maps: int) -> None:
    """Count what was there already, without taking it for the speed at which the rest goes."""
    bar.initial += maps
    bar.n += maps
