"""Randomize a network stage by stage, explain it again each time, and compare with before."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from saliency_sanity.blocks import Block, Stage, find_blocks, find_stages, spread
from saliency_sanity.catalogue import describe, named
from saliency_sanity.comparison import check_map, refuse_all
from saliency_sanity.fingerprint import subject
from saliency_sanity.gradient import Attribution, NotApplicable, attributing, in_chunks, recording
from saliency_sanity.names import unknown
from saliency_sanity.outcome import ORIGINAL, Outcome, displayed, packed, unpacked
from saliency_sanity.randomization import EXPLAINED, Randomization, Randomizer
from saliency_sanity.replay import Replay, differentiable, replaying
from saliency_sanity.similarity import Metric, Similarity, similarity_matrix
from saliency_sanity.store import Store

Arrays = dict[str, np.ndarray]

_REFERENCE_CODE = Randomization()


@dataclass(frozen=True)
class Experiment:
    """A sanity check of several methods by randomization; calling it runs it.

    ``x`` ``[N, C, H, W]`` in the network's scaling; ``target`` ``[N]`` the classes explained in
    the trained network. ``explained`` says which are explained in a randomized one: its own
    ``argmax`` (the reference code), or ``fixed``, the same. ``seeds`` random networks are drawn,
    from ``seed`` on; two of them are needed for a prior. ``stage_limit`` keeps at most so many
    stages, evenly spread and with both ends, 0 all. ``shown`` images have their maps kept as
    pictures, for the first random network. ``store`` makes the run resumable. ``statistics`` are
    functions of maps ``[N, C, H, W]`` that give one number a map, ``[N]``. ``originals`` may be
    shared by experiments on one network and batch: maps of the trained network, made once.

    Raises ValueError for values out of range, and what the parts raise.
    """

    model: nn.Module
    x: Tensor
    target: Tensor
    methods: Mapping[str, Attribution]
    metrics: Mapping[str, Similarity]
    order: str = "top_down"
    randomization: Randomization = _REFERENCE_CODE
    explained: str = "argmax"
    seeds: int = 3
    seed: int = 0
    stage_limit: int = 0
    shown: int = 0
    store: Store | None = None
    statistics: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    originals: MutableMapping[tuple, Tensor] | None = field(default=None, repr=False)

    def __post_init__(self):
        if self.explained not in EXPLAINED[:2]:
            raise ValueError(unknown("explained class", self.explained, EXPLAINED[:2]))
        if self.seeds < 1:
            raise ValueError(f"{self.seeds} random networks; at least 1 is needed, 2 for a prior")
        if self.stage_limit < 0 or self.stage_limit == 1:
            raise ValueError(f"stage limit {self.stage_limit}; 0 for all, or at least 2")
        if not 0 <= self.shown <= len(self.x):
            raise ValueError(f"{self.shown} images shown; valid are 0 to {len(self.x)}")
        if not self.methods or not self.metrics:
            raise ValueError("an experiment needs at least one method and one metric")

    def __call__(self) -> "Outcome":
        """Run what is not in the store yet, showing progress by stage."""
        return _Run(self).outcome()


def _base(experiment: Experiment) -> dict[str, Any]:
    """The part that all keys of an experiment share."""
    return subject(experiment.model, experiment.x) | {
        "classes": experiment.target.tolist(),
        "randomization": repr(experiment.randomization),
        "explained": experiment.explained,
        "metrics": {name: named(metric) for name, metric in experiment.metrics.items()},
    }


class _Run:
    """One run of an experiment: what is known, what is missing, and the maps in hand."""

    def __init__(self, experiment: Experiment):
        self.of = experiment
        self.blocks: tuple[Block, ...] = find_blocks(experiment.model, experiment.x)
        self.stages = spread(find_stages(self.blocks, experiment.order), experiment.stage_limit)
        self.known: MutableMapping[tuple, Arrays] = {}
        self.reference: dict[str, Tensor] = {}
        self.described: dict[tuple[str, str], Any] = {}
        self.refused: dict[str, str] = {}
        # Now, while the network is what it was trained to be.
        self.base = {} if experiment.store is None else _base(experiment)

    # What is kept, and under which key.

    def key(self, what: str, stage: Stage | None, seed: int, method: str = "") -> dict[str, Any]:
        key = self.base | {"what": what, "seed": seed}
        if stage is not None:
            # Not the stage's name: the whole network is random in the last stage of every order.
            key |= {"random": sorted(stage.blocks)}
        if method:
            key |= {"method": named(self.of.methods[method])}
        if what in ("maps", "original"):
            key |= {"shown": self.of.shown if seed == self.of.seed else 0}
            key |= {"statistics": {n: named(one) for n, one in self.of.statistics.items()}}
        return key

    def have(self, *name: Any) -> bool:
        """Whether a result is known, looking into the store once."""
        if name not in self.known and self.of.store is not None:
            found = self.of.store.get(self.key(*name))
            if found is not None:
                self.known[name] = found
        return name in self.known

    def keep(self, arrays: Arrays, *name: Any) -> None:
        self.known[name] = arrays
        if self.of.store is not None:
            self.of.store.put(self.key(*name), arrays)

    # What is computed.

    def outcome(self) -> Outcome:
        seeds = range(self.of.seed, self.of.seed + self.of.seeds)
        x = self.of.x
        with ExitStack() as stack:
            randomizer = stack.enter_context(
                Randomizer(self.of.model, self.blocks, self.of.randomization, calibration=x)
            )
            replay = stack.enter_context(replaying(self.of.model, self.blocks, x))
            total = 1 + len(seeds) * len(self.stages)
            bar = stack.enter_context(tqdm(total=total, unit="stage", mininterval=1))
            bar.set_description(ORIGINAL)
            replay.random(self.stages[0].blocks)
            self.explain_original(seeds)
            bar.update()
            before: dict[str, Tensor] = {}
            for seed in seeds:
                whole: dict[str, Tensor] = {}
                for stage in self.stages:
                    bar.set_description(f"{stage.name}, network {seed - self.of.seed + 1}")
                    last = stage is self.stages[-1]
                    missing = self.missing(stage, seed)
                    paired = [m for m in self.methods() if last and self.unpaired(m, seed, seeds)]
                    if missing or paired or not self.have("classes", stage, seed):
                        self.randomize(randomizer, replay, stage, seed)
                        found = self.maps(dict.fromkeys([*missing, *paired]), stage, seed, missing)
                        whole |= {m: maps for m, maps in found if m in paired}
                    bar.update()
                self.pair(before, whole, seed)
                before = whole
        return self.gather(seeds)

    def methods(self) -> list[str]:
        return [name for name in self.of.methods if name not in self.refused]

    def missing(self, stage: Stage, seed: int) -> list[str]:
        return [m for m in self.methods() if not self.have("maps", stage, seed, m)]

    def unpaired(self, method: str, seed: int, seeds: range) -> bool:
        """Whether the maps of a wholly random network are needed for a prior."""
        return any(
            first in seeds and first + 1 in seeds and not self.have("prior", None, first, method)
            for first in (seed - 1, seed)
        )

    def explain_original(self, seeds: range) -> None:
        """Maps of the trained network, where something has still to be compared with them."""
        for name, method in self.of.methods.items():
            todo = any(
                not self.have("maps", stage, s, name) for stage in self.stages for s in seeds
            )
            if not todo and self.have("original", None, self.of.seed, name):
                continue
            shared = self.of.originals if self.of.originals is not None else {}
            known = (name, describe(method), tuple(self.of.target.tolist()))
            try:
                if known not in shared:
                    found = method(self.of.model, self.of.x, self.of.target)
                    shared[known] = check_map(name, found, self.of.x)
            except NotApplicable as error:
                self.refused[name] = str(error)
                continue
            found = self.reference[name] = shared[known]
            arrays = self.measured(found) | self.as_pictures(found)
            self.keep(arrays, "original", None, self.of.seed, name)
        if not self.methods():
            refuse_all(self.refused)

    def randomize(self, randomizer: Randomizer, replay: Replay, stage: Stage, seed: int) -> None:
        replay.random(stage.blocks)
        randomizer.set(stage.blocks, seed)
        model, x, target = self.of.model, self.of.x, self.of.target
        # With a graph: the gradient that follows may start from this very pass.
        with attributing(model, x, target), recording():
            logits = in_chunks(x, target, lambda part, _: differentiable(model, part)[1].detach())
        self.keep({"largest": logits.argmax(1).cpu().numpy()}, "classes", stage, seed)

    def maps(
        self, names: Mapping[str, None], stage: Stage, seed: int, missing: list[str]
    ) -> Iterator[tuple[str, Tensor]]:
        target = self.of.target
        if self.of.explained == "argmax":
            target = torch.from_numpy(self.known["classes", stage, seed]["largest"]).to(target)
        for name in names:
            found = self.of.methods[name](self.of.model, self.of.x, target)
            found = check_map(name, found, self.of.x)
            if name in missing:
                arrays = {key: self.compare(name, key, found) for key in self.of.metrics}
                arrays |= self.measured(found)
                if seed == self.of.seed:
                    arrays |= self.as_pictures(found)
                self.keep(arrays, "maps", stage, seed, name)
            yield name, found

    def compare(self, method: str, key: str, found: Tensor) -> np.ndarray:
        metric, reference = self.of.metrics[key], self.reference[method]
        if not isinstance(metric, Metric):
            return similarity_matrix(metric, reference, found).cpu().numpy()
        if (method, key) not in self.described:
            described = metric.descriptors(reference)
            # Where the description is larger than the map, making it again is cheap.
            if described.nbytes > reference.nbytes:
                return metric.matrix(reference, found).cpu().numpy()
            self.described[method, key] = described
        described = self.described[method, key]
        return metric.compare.matrix(described, metric.descriptors(found)).cpu().numpy()

    def pair(self, before: Mapping[str, Tensor], whole: Mapping[str, Tensor], seed: int) -> None:
        """The prior of two networks drawn one after the other."""
        for name in self.methods():
            if name in before and name in whole and not self.have("prior", None, seed - 1, name):
                arrays = {
                    key: similarity_matrix(metric, before[name], whole[name]).cpu().numpy()
                    for key, metric in self.of.metrics.items()
                }
                self.keep(arrays, "prior", None, seed - 1, name)

    def measured(self, found: Tensor) -> Arrays:
        return {
            f"statistic {name}": statistic(found).double().cpu().numpy()
            for name, statistic in self.of.statistics.items()
        }

    def as_pictures(self, found: Tensor) -> Arrays:
        shown = found[: self.of.shown]
        return packed(displayed(shown)) if len(shown) else {}

    def gather(self, seeds: range) -> Outcome:
        kept = self.methods()
        pairs = [(m, key) for m in kept for key in self.of.metrics]
        grid = [[(stage, seed) for seed in seeds] for stage in self.stages]

        def stacked(what: str, key: str, *method: str) -> np.ndarray:
            return np.array([[self.known[what, *at, *method][key] for at in row] for row in grid])

        def numbers(method: str, name: str) -> np.ndarray:
            key = f"statistic {name}"
            before = self.known["original", None, seeds[0], method][key]
            after = stacked("maps", key, method)
            return np.concatenate([np.broadcast_to(before, (1, *after.shape[1:])), after])

        return Outcome(
            stages=tuple(stage.name for stage in self.stages),
            matrices={(m, key): stacked("maps", key, m) for m, key in pairs},
            priors={
                (m, key): np.array(
                    [self.known["prior", None, s, m][key] for s in seeds[:-1]]
                ).reshape(-1, len(self.of.x), len(self.of.x))
                for m, key in pairs
            },
            classes=stacked("classes", "largest"),
            statistics={(m, n): numbers(m, n) for m in kept for n in self.of.statistics},
            pictures={m: self.pictures(m) for m in kept} if self.of.shown else {},
            refused=self.refused,
        )

    def pictures(self, method: str) -> tuple[np.ndarray, np.ndarray]:
        first = self.of.seed
        kept = [
            self.known["original", None, first, method],
            *(self.known["maps", stage, first, method] for stage in self.stages),
        ]
        absolute, signed = (
            unpacked(np.array([arrays[kind] for arrays in kept])) for kind in ("absolute", "signed")
        )
        return absolute, signed
