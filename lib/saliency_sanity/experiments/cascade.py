"""Randomize a network stage by stage, explain it again each time, and compare with before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from saliency_sanity._errors import NotApplicable, unknown
from saliency_sanity._hashing import describe, named
from saliency_sanity.attribution.base import (
    Attribution,
    attributing,
    differentiable,
    in_chunks,
    logits,
    mapped,
    recording,
)
from saliency_sanity.experiments.comparison import check_map, refuse_all
from saliency_sanity.experiments.keys import subject
from saliency_sanity.experiments.outcome import ORIGINAL, Outcome, displayed, packed, unpacked
from saliency_sanity.experiments.replay import replaying
from saliency_sanity.experiments.shard import Shard
from saliency_sanity.experiments.store import Store
from saliency_sanity.randomization.blocks import (
    Block,
    Stage,
    find_blocks,
    find_stages,
    spread,
)
from saliency_sanity.randomization.schemes import EXPLAINED, Randomization, Randomizer
from saliency_sanity.similarity.metrics import Metric, Similarity, similarity_matrix

Arrays = dict[str, np.ndarray]
# A stage, the seed of a random network, methods whose maps are missing, and those a prior needs.
Step = tuple[Stage, int, list[str], list[str]]
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
    ``block`` pictures are explained together, 0 all: the last bits of a map may depend on it, but
    not on which job makes the map, see ``share``. What shares have left in the store is not
    made again, and dropped once all results are stored.

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
    block: int = 0

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
        if self.block < 0:
            raise ValueError(f"block {self.block}; 0 for all pictures together, or at least 1")

    def __call__(self) -> Outcome:
        """Run what is not in the store yet, showing progress by stage."""
        return Run(self).outcome()


class Run:
    """One run of an experiment: the network as it is now, and the maps in hand.

    ``journal`` says what is known and what is missing. ``outcome`` does all of it; ``steps``,
    ``explain`` and ``classes``, within ``held``, do some.
    """

    def __init__(self, experiment: Experiment):
        self.of = experiment
        self.blocks: tuple[Block, ...] = find_blocks(experiment.model, experiment.x)
        stages = spread(find_stages(self.blocks, experiment.order), experiment.stage_limit)
        # Now, while the network is what it was trained to be.
        self.journal = Journal(experiment, stages)
        self.reference: dict[str, Tensor] = {}
        self.described: dict[tuple[str, str], Any] = {}

    def outcome(self) -> Outcome:
        """Do what is not in the store yet, and put everything together."""
        journal = self.journal
        with self.held() as bar:
            self._explain_original()
            before: dict[str, Tensor] = {}
            whole: dict[str, Tensor] = {}
            for stage, seed, missing, paired in self.steps(bar):
                if not journal.have("classes", stage, seed):
                    found = [self.classes(rows, stage, seed) for rows in journal.parts]
                    journal.keep({"largest": np.concatenate(found)}, "classes", stage, seed)
                for name in dict.fromkeys([*missing, *paired]):
                    try:
                        found = self._maps(name, stage, seed)
                    except NotApplicable as error:
                        # Random weights led to a part of the network to which it does not apply.
                        self.drop(name, stage, error)
                        continue
                    if name in missing:
                        self._measure(name, stage, seed, found)
                    if name in paired:
                        whole[name] = found
                if stage is journal.stages[-1]:
                    self._pair(before, whole, seed)
                    before, whole = whole, {}
        outcome = self._gather()
        # Not before everything is stored: a run that is killed here has lost nothing.
        journal.drop()
        return outcome

    @contextmanager
    def held(self) -> Iterator[tqdm]:
        """Hold the network, which ends as it was, and show a bar of stages."""
        of, (first, *_) = self.of, self.journal.stages
        self.now: tuple[Stage, int] | None = None
        total = 1 + len(self.journal.seeds) * len(self.journal.stages)
        with (
            Randomizer(of.model, self.blocks, of.randomization, of.x) as self.randomizer,
            replaying(of.model, self.blocks, of.x) as self.replay,
            tqdm(total=total, unit="stage", mininterval=1) as bar,
        ):
            bar.set_description(ORIGINAL)
            self.replay.random(first.blocks)
            yield bar

    def steps(self, bar: tqdm) -> Iterator[Step]:
        """What is to be done at each stage, with progress; the trained network is done."""
        for step in self.journal.steps():
            stage, seed, *_ = step
            bar.update()
            bar.set_description(f"{stage.name}, network {seed - self.of.seed + 1}")
            yield step
        bar.update()

    # What is computed.

    def _explain_original(self) -> None:
        """Maps of the trained network, where something has still to be compared with them."""
        for name in self.journal.unexplained():
            shared = self.of.originals if self.of.originals is not None else {}
            method = describe(self.of.methods[name])
            known = (name, method, tuple(self.of.target.tolist()), self.of.block)
            try:
                if known not in shared:
                    shared[known] = self._maps(name, None, self.of.seed)
            except NotApplicable as error:
                self.journal.refused[name] = str(error)
                continue
            found = self.reference[name] = shared[known]
            arrays = self._measured(found) | self._as_pictures(found)
            self.journal.keep(arrays, "original", None, self.of.seed, name)
        if not self.journal.methods():
            refuse_all(self.journal.refused)

    def drop(self, name: str, stage: Stage, error: NotApplicable) -> None:
        """Leave out a method that does not apply to the network as it is at a stage."""
        self.journal.refused[name] = f"at stage {stage.name}: {error}"
        if not self.journal.methods():
            refuse_all(self.journal.refused)

    def _maps(self, name: str, stage: Stage | None, seed: int) -> Tensor:
        """Maps of all pictures, block by block; those that shares have left are not made again."""
        what, parts = "original" if stage is None else "maps", []
        for rows in self.journal.parts:
            left = self.journal.part(rows, what, stage, seed, name)
            if left is None:
                parts.append(self.explain(rows, stage, seed, name))
            else:
                parts.append(torch.from_numpy(left).to(self.of.x.device))
        return torch.cat(parts) if self.of.block else parts[0]

    def explain(self, rows: slice, stage: Stage | None, seed: int, name: str) -> Tensor:
        """Maps of a block, made now."""
        x, target = self.of.x[rows], self.of.target[rows]
        if stage is not None and self.of.explained == "argmax":
            target = torch.from_numpy(self.classes(rows, stage, seed)).to(target)
        self._randomize(stage, seed)
        found = mapped(self.of.methods[name], self.of.model, x, target)
        # In one order in memory, on which the rounding of sums depends.
        return check_map(name, found, x).contiguous()

    def classes(self, rows: slice, stage: Stage, seed: int) -> np.ndarray:
        """The largest logit of each picture of a block."""
        name = "classes", stage, seed
        if self.journal.have(*name):
            return self.journal.known[name]["largest"][rows]
        left = self.journal.part(rows, *name)
        if left is not None:
            return left
        self._randomize(stage, seed)
        model, x, target = self.of.model, self.of.x[rows], self.of.target[rows]

        def found(part: Tensor, _: Tensor) -> Tensor:
            # With a graph: the gradient that follows may start from this very pass.
            try:
                return differentiable(model, part)[1].detach()
            except NotApplicable:
                return logits(model, part)  # there is none, and methods will say so

        with attributing(model, x, target), recording():
            return in_chunks(x, target, found).argmax(1).cpu().numpy()

    def _randomize(self, stage: Stage | None, seed: int) -> None:
        """Make the network what it is at a stage; before the first it is the trained one, None."""
        if stage is not None and self.now != (stage, seed):
            self.replay.random(stage.blocks)
            self.randomizer.set(stage.blocks, seed)
            self.now = stage, seed

    # What is read from maps, and kept.

    def _measure(self, name: str, stage: Stage, seed: int, found: Tensor) -> None:
        """Compare maps with the trained network's."""
        arrays = {key: self._compare(name, key, found) for key in self.of.metrics}
        arrays |= self._measured(found)
        if seed == self.of.seed:
            arrays |= self._as_pictures(found)
        self.journal.keep(arrays, "maps", stage, seed, name)

    def _compare(self, method: str, key: str, found: Tensor) -> np.ndarray:
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

    def _pair(self, before: Mapping[str, Tensor], whole: Mapping[str, Tensor], seed: int) -> None:
        """The prior of two networks drawn one after the other."""
        for name in whole:
            if name in before and not self.journal.have("prior", None, seed - 1, name):
                arrays = {
                    key: similarity_matrix(metric, before[name], whole[name]).cpu().numpy()
                    for key, metric in self.of.metrics.items()
                }
                self.journal.keep(arrays, "prior", None, seed - 1, name)

    def _measured(self, found: Tensor) -> Arrays:
        return {
            f"statistic {name}": statistic(found).double().cpu().numpy()
            for name, statistic in self.of.statistics.items()
        }

    def _as_pictures(self, found: Tensor) -> Arrays:
        shown = found[: self.of.shown]
        return packed(displayed(shown)) if len(shown) else {}

    def _gather(self) -> Outcome:
        known, seeds, stages = self.journal.known, self.journal.seeds, self.journal.stages
        kept = self.journal.methods()
        pairs = [(m, key) for m in kept for key in self.of.metrics]
        grid = [[(stage, seed) for seed in seeds] for stage in stages]

        def stacked(what: str, key: str, *method: str) -> np.ndarray:
            return np.array([[known[what, *at, *method][key] for at in row] for row in grid])

        def numbers(method: str, name: str) -> np.ndarray:
            key = f"statistic {name}"
            before = known["original", None, seeds[0], method][key]
            after = stacked("maps", key, method)
            return np.concatenate([np.broadcast_to(before, (1, *after.shape[1:])), after])

        def prior(method: str, key: str) -> np.ndarray:
            found = [known["prior", None, seed, method][key] for seed in seeds[:-1]]
            return np.array(found).reshape(-1, len(self.of.x), len(self.of.x))

        return Outcome(
            stages=tuple(stage.name for stage in stages),
            matrices={(m, key): stacked("maps", key, m) for m, key in pairs},
            priors={(m, key): prior(m, key) for m, key in pairs},
            classes=stacked("classes", "largest"),
            statistics={(m, n): numbers(m, n) for m in kept for n in self.of.statistics},
            pictures={m: self._pictures(m) for m in kept} if self.of.shown else {},
            refused=self.journal.refused,
            shortened=self.replay.shortened,
            whole=self.replay.whole,
            reason=self.replay.reason,
        )

    def _pictures(self, method: str) -> tuple[np.ndarray, np.ndarray]:
        known, first = self.journal.known, self.of.seed
        kept = [
            known["original", None, first, method],
            *(known["maps", stage, first, method] for stage in self.journal.stages),
        ]
        absolute, signed = (
            unpacked(np.array([arrays[kind] for arrays in kept])) for kind in ("absolute", "signed")
        )
        return absolute, signed


class Journal:
    """What is known of an experiment, in hand or in its store; made while its network is trained.

    A result has a name: "maps", "original", "prior" or "classes", the stage or None, the random
    network's seed, and but for "classes" the method. ``parts`` are the pictures of each block, and
    ``refused`` the methods that turned out not to apply, with the reason.
    """

    def __init__(self, experiment: Experiment, stages: tuple[Stage, ...]):
        self.of, self.stages = experiment, stages
        self.seeds = range(experiment.seed, experiment.seed + experiment.seeds)
        count = len(experiment.x)
        size = experiment.block or count
        self.parts = [slice(i, min(i + size, count)) for i in range(0, count, size)]
        self.known: MutableMapping[tuple, Arrays] = {}
        self.refused: dict[str, str] = {}
        self._digests: dict[tuple, str] = {}
        self._base = {} if experiment.store is None else _base(experiment)

    def have(self, *name: Any) -> bool:
        """Whether a result is known, looking into the store once."""
        if name not in self.known and self.of.store is not None:
            found = self.of.store.get(self._key(*name))
            if found is not None:
                self.known[name] = found
        return name in self.known

    def keep(self, arrays: Arrays, *name: Any) -> None:
        """Note a result, and store it."""
        self.known[name] = arrays
        if self.of.store is not None:
            self.of.store.put(self._key(*name), arrays)

    # What shares leave for the results that need all pictures.

    def part(self, rows: slice, *name: Any) -> np.ndarray | None:
        """What a share has left of a result, for the pictures of a block."""
        if not self.of.block or self.of.store is None:
            return None
        found = self.of.store.get(self._part_key(rows, *name))
        return None if found is None else found["part"]

    def leave(self, array: np.ndarray, rows: slice, *name: Any) -> None:
        """Store what a share has made of a result."""
        self.of.store.put(self._part_key(rows, *name), {"part": array})

    def drop(self) -> None:
        """Take out of the store whatever shares have left there."""
        if not self.of.block or self.of.store is None:
            return
        at = [(stage, seed) for stage in self.stages for seed in self.seeds]
        names = [("original", None, self.of.seed, m) for m in self.of.methods]
        names += [("maps", *one, m) for one in at for m in self.of.methods]
        names += [("classes", *one) for one in at]
        for name in names:
            for rows in self.parts:
                self.of.store.drop(self._part_key(rows, *name))

    # What is missing.

    def methods(self) -> list[str]:
        """Those that apply, as far as is known."""
        return [name for name in self.of.methods if name not in self.refused]

    def unexplained(self) -> list[str]:
        """Methods whose maps of the trained network have still to be compared or shown."""
        at = [(stage, seed) for stage in self.stages for seed in self.seeds]
        return [
            name
            for name in self.of.methods
            if not all(self.have("maps", *one, name) for one in at)
            or not self.have("original", None, self.of.seed, name)
        ]

    def steps(self) -> Iterator[Step]:
        """Every stage of every network."""
        for seed in self.seeds:
            for stage in self.stages:
                methods, last = self.methods(), stage is self.stages[-1]
                missing = [m for m in methods if not self.have("maps", stage, seed, m)]
                yield stage, seed, missing, [m for m in methods if last and self._unpaired(m, seed)]

    def _unpaired(self, method: str, seed: int) -> bool:
        """Whether the maps of a wholly random network are needed for a prior."""
        return any(
            first in self.seeds
            and first + 1 in self.seeds
            and not self.have("prior", None, first, method)
            for first in (seed - 1, seed)
        )

    def _key(self, what: str, stage: Stage | None, seed: int, method: str = "") -> dict[str, Any]:
        key = self._base | {"what": what, "seed": seed}
        if stage is not None:
            # Not the stage's name: the whole network is random in the last stage of every order.
            key |= {"random": sorted(stage.blocks)}
        if method:
            key |= {"method": named(self.of.methods[method])}
        if what in ("maps", "original"):
            key |= {"shown": self.of.shown if seed == self.of.seed else 0}
            key |= {"statistics": {n: named(one) for n, one in self.of.statistics.items()}}
        return key

    def _part_key(self, rows: slice, *name: Any) -> dict[str, Any]:
        # The result's own key, metrics and all, so that a part belongs to one result and can go
        # with it; as a digest, since there are many parts and it is long.
        if name not in self._digests:
            text = json.dumps(self._key(*name), sort_keys=True)
            self._digests[name] = hashlib.sha256(text.encode()).hexdigest()
        return {"part of": self._digests[name], "pictures": [rows.start, rows.stop]}


def _base(experiment: Experiment) -> dict[str, Any]:
    """The part that all keys of an experiment share."""
    base = subject(experiment.model, experiment.x) | {
        "classes": experiment.target.tolist(),
        "randomization": repr(experiment.randomization),
        "explained": experiment.explained,
        "metrics": {name: named(metric) for name, metric in experiment.metrics.items()},
    }
    return base | ({"block": experiment.block} if experiment.block else {})


@dataclass(frozen=True)
class Share:
    """What a shard has to do with an experiment: of ``blocks`` it has ``own``, of so many images.

    ``made`` results were left in the store, ``bytes`` long, the others were there.
    """

    shard: Shard
    own: int
    blocks: int
    images: int
    made: int
    bytes: int

    def __str__(self) -> str:
        if not self.own:
            return f"Shard {self.shard} has nothing to do; blocks there are {self.blocks}"
        return (
            f"Shard {self.shard}: {self.own} of {self.blocks} blocks, {self.images} pictures; "
            f"{self.made} results made, {self.bytes / 1e6:.1f} MB"
        )


def share(experiment: Experiment, shard: Shard | str) -> Share:
    """Make the maps of every so many blocks of pictures, and leave them in the store.

    An image's maps are compared with those of all others, so no shard can tell a similarity.
    Calling the experiment does, to the last bit as if there were no shards, and makes whatever is
    missing. What is in the store is not made again, so a share that was cut off goes on.

    Until then ``methods * (1 + stages * seeds)`` maps of each image lie in the store, of 4 bytes a
    pixel and channel: 0.6 MB a map at 224 pixels.

    Raises ValueError without a store or block, for a shard that does not exist, and what the
    experiment does.
    """
    shard = Shard.read(shard) if isinstance(shard, str) else shard
    if experiment.store is None:
        raise ValueError("shards need a store to leave their maps in: Experiment(store=Store(…))")
    if not experiment.block:
        raise ValueError(
            "shards need blocks of pictures, and block is 0, all of them together; "
            "set it to 1 or more, at most the number of pictures divided by that of shards"
        )
    run = Run(experiment)
    journal, own, left = run.journal, shard.of(run.journal.parts), []

    def leave(make: Callable, what: str, *at: Any) -> None:
        for rows in own:
            if journal.part(rows, what, *at) is None:
                array = np.asarray(torch.as_tensor(make(rows, *at), device="cpu"))
                journal.leave(array, rows, what, *at)
                left.append(array.nbytes)

    with run.held() as bar:
        for method in journal.unexplained():
            try:
                leave(run.explain, "original", None, experiment.seed, method)
            except NotApplicable as error:
                journal.refused[method] = str(error)
        if not journal.methods():
            refuse_all(journal.refused)
        for stage, seed, missing, paired in run.steps(bar):
            if not journal.have("classes", stage, seed):
                leave(run.classes, "classes", stage, seed)
            for method in dict.fromkeys([*missing, *paired]):
                try:
                    leave(run.explain, "maps", stage, seed, method)
                except NotApplicable as error:
                    run.drop(method, stage, error)
    images = sum(rows.stop - rows.start for rows in own)
    return Share(shard, len(own), len(journal.parts), images, len(left), sum(left))
