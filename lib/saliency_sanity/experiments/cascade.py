"""Randomize a network stage by stage, explain it again each time, and compare with before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from saliency_sanity._arithmetic import arithmetic, check_precision
from saliency_sanity._errors import NotApplicable, known, unknown
from saliency_sanity._groups import GROUP, groups
from saliency_sanity._hashing import describe, digest, named
from saliency_sanity.attribution.base import (
    Attribution,
    attributing,
    differentiable,
    in_chunks,
    logits,
    mapped,
    recording,
)
from saliency_sanity.experiments.ceiling import PICTURES, in_double
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
from saliency_sanity.randomization.schemes import (
    CALIBRATION,
    EXPLAINED,
    Randomization,
    Randomizer,
)
from saliency_sanity.similarity.metrics import Metric, Similarity, of_rows, similarity_matrix
from saliency_sanity.verdict.obstacle import CeilingKind

Arrays = dict[str, np.ndarray]
_TOPS = ("ceiling", "training")
_REASON = "reason"  # in place of similarities
_REFERENCE_CODE = Randomization()

# Groups of pictures are worked off together, so that random weights are drawn for all of them at
# once: as many as have so few elements of maps, by all methods, and at most so many pictures.
_ELEMENTS, _PICTURES = 2**27, 256


@dataclass(frozen=True)
class Experiment:
    """A sanity check of several methods by randomization; calling it runs it.

    ``x`` ``[N, C, H, W]`` in the network's scaling; ``target`` ``[N]`` the classes explained in
    the trained network. ``explained`` says which are explained in a randomized one: its own
    ``argmax`` (the reference code), or ``fixed``, the same. ``seeds`` random networks are drawn,
    from ``seed`` on; two of them are needed for a prior. ``stage_limit`` keeps at most so many
    stages, evenly spread and with both ends and, of three or more, the middle; 0 all. Where
    ``only`` names some of these, the others but the last are left out. ``shown``
    images have their maps kept as pictures, for the first random network. ``store`` makes the run
    resumable. ``statistics`` are functions of maps ``[N, C, H, W]`` that give one number a map,
    ``[N]``. ``originals`` may be shared by experiments on one network and batch: maps of the
    trained network, made once.
    ``group`` pictures are explained together and compared with each other, 0 all: so the cost
    grows with the pictures, not with their square, and several jobs can share them, see ``share``.
    ``precision`` is the ``arithmetic`` in which networks are run: ``exact``, ``tf32`` or
    ``bfloat16``. Maps are compared in float32 in any case.
    The first ``ceiling`` pictures are explained once more in double precision, by the trained
    network and by the first wholly random one, 0 for none; ``trainings`` are other trainings of the
    same network, whose maps of the first group are made: both say how alike maps can be at all.

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
    only: Sequence[str] = ()
    shown: int = 0
    store: Store | None = None
    statistics: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    originals: MutableMapping[tuple, Tensor] | None = field(default=None, repr=False)
    group: int = GROUP
    precision: str = "exact"
    ceiling: int = PICTURES
    trainings: Sequence[nn.Module] = ()

    def __post_init__(self):
        check_precision(self.precision, self.x)
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
        if self.group < 0 or self.group == 1:
            raise ValueError(
                f"group {self.group}; a picture's map is compared with others of its group; give "
                f"at least 2, as {GROUP}, or 0 for all pictures together"
            )
        if self.ceiling < 0 or self.ceiling == 1:
            raise ValueError(
                f"ceiling of {self.ceiling} pictures; give at least 2, as {PICTURES}, 0 for none"
            )

    def stages(self, blocks: Sequence[Block]) -> tuple[Stage, ...]:
        """Its stages, of a network with these blocks; ValueError for an unknown one in ``only``."""
        found = spread(find_stages(blocks, self.order), self.stage_limit)
        for name in self.only:
            known("stage", name, [stage.name for stage in found])
        return tuple(s for s in found if not self.only or s.name in self.only or s is found[-1])

    def place(self, name: str, rows: slice) -> tuple:
        """Where ``originals`` keep a method's maps of a group of pictures."""
        method = describe(self.methods[name]), self.precision
        return name, method, tuple(self.target[rows].tolist()), rows.start, rows.stop

    def having(self, maps: Mapping[str, Tensor]) -> Experiment:
        """The same, which does not make again ``maps`` ``[N, C, H, W]`` of the trained network.

        By method; they are of the experiment's pictures, classes and precision.
        """
        made = {
            self.place(name, rows): found[rows]
            for name, found in maps.items()
            for rows in groups(len(self.x), self.group)
        }
        return replace(self, originals=made)

    def __call__(self) -> Outcome:
        """Run what is not in the store yet, showing progress by stage."""
        run = Run(self)
        run.measure(run.journal.groups)
        return run.gathered()


class Run:
    """One run of an experiment: the network as it is now, and the maps in hand.

    ``journal`` says what is known and what is missing; ``measure`` finds out about some groups of
    pictures, and ``gathered`` puts everything together.
    """

    def __init__(self, experiment: Experiment):
        self.of = experiment
        self.blocks: tuple[Block, ...] = find_blocks(experiment.model, experiment.x)
        self.journal = Journal(experiment, experiment.stages(self.blocks))
        # Of the groups that are worked off now.
        self.reference: dict[tuple[str, int], Tensor] = {}
        self.described: dict[tuple[str, str, int], Any] = {}

    def measure(self, chosen: Sequence[slice]) -> None:
        """Measure what is not in the store yet of some groups; the network ends as it was."""
        of, journal, windows = self.of, self.journal, self._windows(chosen)
        self.now: tuple[Stage, int] | None = None
        total = len(windows) * (1 + len(journal.seeds) * len(journal.stages))
        with (
            arithmetic(of.precision, of.x.device),
            Randomizer(of.model, self.blocks, of.randomization, of.x) as self.randomizer,
            replaying(of.model, self.blocks, of.x) as self.replay,
            tqdm(total=total, unit="stage", mininterval=1) as self.bar,
        ):
            for window in windows:
                self.bar.set_description(ORIGINAL)
                self._trained()
                # Now, while the network is what it was trained to be.
                journal.open(window)
                for rows in window:
                    self._explain_original(rows)
                    if journal.is_first(rows):
                        maps = {n: m for (n, start), m in self.reference.items() if start == 0}
                        self._again_in_double(rows, None, maps)
                        self._other_trainings(rows, maps)
                self.bar.set_postfix_str("")
                self.bar.update()
                self._walk(window)
                self.reference.clear()
                self.described.clear()

    def _windows(self, chosen: Sequence[slice]) -> list[list[slice]]:
        """Groups that are worked off together."""
        elements = len(self.of.methods) * max(self.of.x[0].numel(), 1)
        most = min(_PICTURES, _ELEMENTS // elements)
        windows: list[list[slice]] = []
        for rows in chosen:
            held = sum(one.stop - one.start for one in windows[-1]) if windows else most
            if held + rows.stop - rows.start > most:
                windows.append([])
            windows[-1].append(rows)
        return windows

    def _walk(self, window: Sequence[slice]) -> None:
        """Every stage of every network."""
        journal = self.journal
        before: dict[tuple[str, int], Tensor] = {}
        whole: dict[tuple[str, int], Tensor] = {}
        for seed in journal.seeds:
            for stage in journal.stages:
                self.bar.set_description(f"{stage.name}, network {seed - self.of.seed + 1}")
                last = stage is journal.stages[-1]
                for rows in window:
                    self.classes(rows, stage, seed)
                    missing = journal.missing(rows, stage, seed)
                    paired = journal.unpaired(rows, seed) if last else []
                    topped = (
                        journal.untopped(rows, stage) if last and seed == journal.seeds[0] else []
                    )
                    top: dict[str, Tensor] = {}
                    for name in dict.fromkeys([*missing, *paired, *topped]):
                        try:
                            found = self.explain(rows, stage, seed, name)
                        except NotApplicable as error:
                            # Random weights led to a part of it to which the method does not apply.
                            self._drop(name, f"at stage {stage.name}: {error}")
                            continue
                        if name in missing:
                            self._compare(rows, stage, seed, name, found)
                        if name in paired:
                            whole[name, rows.start] = found
                        if name in topped:
                            top[name] = found
                    self._again_in_double(rows, stage, top)
                    if last:
                        self._pair(rows, before, whole, seed)
                self.bar.update()
            before, whole = whole, {}

    # What is computed.

    def _explain_original(self, rows: slice) -> None:
        """Maps of the trained network, where something has still to be compared with them."""
        for name in self.journal.unexplained(rows):
            self.bar.set_postfix_str(name)
            shared = self.of.originals if self.of.originals is not None else {}
            place = self.of.place(name, rows)
            try:
                if place not in shared:
                    shared[place] = self.explain(rows, None, self.of.seed, name)
            except NotApplicable as error:
                self._drop(name, str(error))
                continue
            found = self.reference[name, rows.start] = shared[place]
            arrays = self._measured(found) | self._as_pictures(rows, found)
            self.journal.keep(arrays, "original", None, self.of.seed, name, rows)

    def _again_in_double(
        self, rows: slice, stage: Stage | None, maps: Mapping[str, Tensor]
    ) -> None:
        """Compare the first maps of a network as it is now with what double precision gives."""
        seed, journal = self.of.seed, self.journal
        count, shared = min(self.of.ceiling, rows.stop), self.of.originals
        wanted = [n for n in maps if not journal.have("ceiling", stage, seed, n, rows)]
        if not (count and wanted):
            return
        x, target = self.of.x[:count], self._target(rows, stage, seed)[:count]
        methods = {name: self.of.methods[name] for name in wanted}
        at = {n: ("double", n, describe(m), *target.tolist()) for n, m in methods.items()}
        held = {} if stage is not None or shared is None else shared
        fresh = {name: method for name, method in methods.items() if at[name] not in held}
        if stage is None and fresh:
            self.bar.set_postfix_str("double precision")
        found, refused = in_double(fresh, self.of.model, x, target, self.randomizer.forget)
        held |= {at[name]: double for name, double in found.items()}
        found |= {name: held[at[name]] for name in wanted if at[name] in held}
        for name in wanted:
            if name in found:
                arrays = self._between(slice(0, count), maps[name][:count], found[name])
            else:
                arrays = _as_array(refused[name])
            journal.keep(arrays, "ceiling", stage, seed, name, rows)

    def _other_trainings(self, rows: slice, maps: Mapping[str, Tensor]) -> None:
        """Compare maps of the first group with those of the same network trained again."""
        x, target = self.of.x[rows], self.of.target[rows]
        shared = self.of.originals if self.of.originals is not None else {}
        for number, other in enumerate(self.of.trainings):
            wanted = [n for n in maps if not self.journal.have("training", None, number, n, rows)]
            if wanted and self.of.explained == "argmax":
                target = logits(other, x).argmax(1)
            for name in wanted:
                method = self.of.methods[name]
                at = id(other), name, describe(method), self.of.precision, *target.tolist()
                try:
                    if at not in shared:
                        shared[at] = check_map(name, mapped(method, other, x, target), x)
                    arrays = self._between(rows, maps[name], shared[at])
                except NotApplicable as error:
                    arrays = _as_array(str(error))
                self.journal.keep(arrays, "training", None, number, name, rows)

    def _between(self, rows: slice, one: Tensor, other: Tensor) -> Arrays:
        """How alike maps are, by metric; the others are taken in the precision of the first."""
        with arithmetic("exact", one.device):
            return {
                key: similarity_matrix(of_rows(metric, rows), one, other.to(one)).cpu().numpy()
                for key, metric in self.of.metrics.items()
            }

    def _drop(self, name: str, reason: str) -> None:
        """Leave out a method that does not apply; raises NotApplicable where none is left."""
        self.journal.refused[name] = reason
        if not self.journal.methods():
            refuse_all(self.journal.refused)

    def explain(self, rows: slice, stage: Stage | None, seed: int, name: str) -> Tensor:
        """Maps of a group; no stage is the trained network."""
        x, target = self.of.x[rows], self._target(rows, stage, seed)
        if stage is not None:
            self._randomize(stage, seed)
        found = mapped(self.of.methods[name], self.of.model, x, target)
        # In one order in memory, on which the rounding of sums depends.
        return check_map(name, found, x).contiguous()

    def _target(self, rows: slice, stage: Stage | None, seed: int) -> Tensor:
        """The classes ``[n]`` of a group that are explained; no stage is the trained network."""
        target = self.of.target[rows]
        if stage is None or self.of.explained != "argmax":
            return target
        return torch.from_numpy(self.classes(rows, stage, seed)).to(target)

    def classes(self, rows: slice, stage: Stage, seed: int) -> np.ndarray:
        """The largest logit of each picture of a group."""
        name = "classes", stage, seed, "", rows
        if not self.journal.have(*name):
            self._randomize(stage, seed)
            model, x, target = self.of.model, self.of.x[rows], self.of.target[rows]

            def found(part: Tensor, _: Tensor) -> Tensor:
                # With a graph: the gradient that follows may start from this very pass.
                try:
                    return differentiable(model, part)[1].detach()
                except NotApplicable:
                    return logits(model, part)  # there is none, and methods will say so

            with attributing(model, x, target), recording():
                largest = in_chunks(x, target, found).argmax(1).cpu().numpy()
            self.journal.keep({"largest": largest}, *name)
        return self.journal.tables[*name[:-1], "largest"][rows]

    def _randomize(self, stage: Stage, seed: int) -> None:
        """Make the network what it is at a stage."""
        if self.now != (stage, seed):
            self.replay.random(stage.blocks)
            self.randomizer.set(stage.blocks, seed)
            self.now = stage, seed

    def _trained(self) -> None:
        """Make the network what it was; what is kept of passes serves the first stage."""
        self.randomizer.set(())
        self.replay.forget()
        self.replay.random(self.journal.stages[0].blocks)
        self.now = None

    # What is read from maps, and kept.

    def _compare(self, rows: slice, stage: Stage, seed: int, name: str, found: Tensor) -> None:
        """Compare maps with the trained network's."""
        with arithmetic("exact", found.device):
            arrays = {key: self._similarities(rows, name, key, found) for key in self.of.metrics}
        arrays |= self._measured(found)
        if seed == self.of.seed:
            arrays |= self._as_pictures(rows, found)
        self.journal.keep(arrays, "maps", stage, seed, name, rows)

    def _similarities(self, rows: slice, name: str, key: str, found: Tensor) -> np.ndarray:
        metric, reference = of_rows(self.of.metrics[key], rows), self.reference[name, rows.start]
        if not isinstance(metric, Metric):
            return similarity_matrix(metric, reference, found).cpu().numpy()
        at = name, key, rows.start
        if at not in self.described:
            described = metric.descriptors(reference)
            # Where the description is larger than the map, making it again is cheap.
            if described.nbytes > reference.nbytes:
                return metric.matrix(reference, found).cpu().numpy()
            self.described[at] = described
        return metric.compare.matrix(self.described[at], metric.descriptors(found)).cpu().numpy()

    def _pair(
        self,
        rows: slice,
        before: Mapping[tuple[str, int], Tensor],
        whole: Mapping[tuple[str, int], Tensor],
        seed: int,
    ) -> None:
        """The prior of two networks drawn one after the other."""
        for name in self.of.methods:
            at, result = (name, rows.start), ("prior", None, seed - 1, name, rows)
            if at in before and at in whole and not self.journal.have(*result):
                with arithmetic("exact", whole[at].device):
                    arrays = {
                        key: similarity_matrix(of_rows(metric, rows), before[at], whole[at])
                        for key, metric in self.of.metrics.items()
                    }
                self.journal.keep(
                    {key: value.cpu().numpy() for key, value in arrays.items()}, *result
                )

    def _measured(self, found: Tensor) -> Arrays:
        with arithmetic("exact", found.device):
            return {
                f"statistic {name}": statistic(found).double().cpu().numpy()
                for name, statistic in self.of.statistics.items()
            }

    def _as_pictures(self, rows: slice, found: Tensor) -> Arrays:
        shown = found[: max(self.of.shown - rows.start, 0)]
        return packed(displayed(shown)) if len(shown) else {}

    def gathered(self) -> Outcome:
        """Everything, once all groups are measured."""
        journal, kept = self.journal, self.journal.methods()
        pairs = [(method, key) for method in kept for key in self.of.metrics]
        seeds, stages = journal.seeds, journal.stages
        first = [("original", None, self.of.seed)]
        grid = [("maps", stage, seed) for stage in stages for seed in seeds]
        chain = [("prior", None, seed) for seed in seeds[:-1]]
        drawn = [("maps", stage, self.of.seed) for stage in stages]
        shape = len(stages), len(seeds)

        def statistic(method: str, name: str) -> np.ndarray:
            key = f"statistic {name}"
            before, after = (journal.rows(which, key, method) for which in (first, grid))
            after = after.reshape(*shape, -1)
            return np.concatenate([np.broadcast_to(before, (1, *after.shape[1:])), after])

        def similarities(which: list[tuple], shape: tuple[int, ...], *pair: str) -> np.ndarray:
            images = len(self.of.x)
            if not which:
                return np.empty((0, images, min(images, self.of.group or images)))
            found = journal.rows(which, pair[1], pair[0])
            return found.reshape(*shape, *found.shape[1:])

        def pictures(method: str, kind: str) -> np.ndarray:
            return unpacked(journal.rows(first + drawn, kind, method))

        classes = [("classes", stage, seed) for stage in stages for seed in seeds]
        shown = kept if self.of.shown else []
        return Outcome(
            stages=tuple(stage.name for stage in stages),
            random={stage.name: len(stage.blocks) / len(self.blocks) for stage in stages},
            matrices={pair: similarities(grid, shape, *pair) for pair in pairs},
            priors={pair: similarities(chain, (len(chain),), *pair) for pair in pairs},
            classes=journal.rows(classes, "largest", "").reshape(*shape, -1),
            statistics={(m, n): statistic(m, n) for m in kept for n in self.of.statistics},
            pictures={m: (pictures(m, "absolute"), pictures(m, "signed")) for m in shown},
            refused=journal.refused,
            ceilings={pair: journal.ceilings(*pair) for pair in pairs},
            no_ceiling={m: why for m in kept if (why := journal.no_ceiling(m))},
            shortened=self.replay.shortened,
            whole=self.replay.whole,
            reason=self.replay.reason,
        )


class Journal:
    """What is known of an experiment, in hand or in its store.

    A result has a name: "maps", "original", "prior", "classes", "ceiling" or "training", the stage
    or None, the random network's seed or the training's number, the method (none for "classes") and
    the group's pictures. ``groups`` are all
    of these, ``refused`` the methods that turned out not to apply, with the reason, and ``made``
    and ``bytes`` count the results that were not there.
    """

    def __init__(self, experiment: Experiment, stages: tuple[Stage, ...]):
        self.of, self.stages = experiment, stages
        self.seeds = range(experiment.seed, experiment.seed + experiment.seeds)
        self.groups = groups(len(experiment.x), experiment.group)
        self.known: set[tuple] = set()
        # What is known, all groups in one array, by a result's name without them and by key.
        self.tables: dict[tuple, np.ndarray] = {}
        self.refused: dict[str, str] = {}
        self.made = self.bytes = 0
        self._bases: dict[int, dict[str, Any]] = {}
        self._others: list[list[str]] = []  # names of the other trainings

    def open(self, window: Sequence[slice]) -> None:
        """Be ready to be asked of some groups; the network must be as it was trained."""
        if self.of.store is not None:
            self._bases |= {rows.start: _base(self.of, rows) for rows in window}
            for rows in filter(self.is_first, window):
                x = self.of.x[rows]
                self._others = [subject(other, x)["model"] for other in self.of.trainings]

    def have(self, *name: Any) -> bool:
        """Whether a result is known, looking into the store once."""
        at = name_of(*name)
        if at not in self.known and self.of.store is not None:
            found = self.of.store.get(self._key(*name))
            if found is not None:
                self._note(found, *name)
        return at in self.known

    def keep(self, arrays: Arrays, *name: Any) -> None:
        """Note a result, and store it."""
        self._note(arrays, *name)
        if self.of.store is not None:
            self.of.store.put(self._key(*name), arrays)
        self.made += 1
        self.bytes += sum(array.nbytes for array in arrays.values())

    def _note(self, arrays: Arrays, *name: Any) -> None:
        *which, rows = name
        self.known.add(name_of(*name))
        for key, array in arrays.items():
            at = (*which, key)
            if which[0] in _TOPS:  # of the first group only
                self.tables[at] = array
                continue
            if at not in self.tables:
                self.tables[at] = self._empty(key, array)
            place = slice(rows.start, rows.start + len(array))
            if key in self.of.metrics:  # the last group may be smaller
                self.tables[at][place, : array.shape[1]] = array
            else:
                self.tables[at][place] = array

    def _empty(self, key: str, array: np.ndarray) -> np.ndarray:
        """Room for an array of every group; pictures are those of the first ones only."""
        count = len(self.of.x)
        if key in self.of.metrics:
            return np.full((count, self.groups[0].stop), np.nan)
        shown = key in ("absolute", "signed")
        return np.empty((self.of.shown if shown else count, *array.shape[1:]), array.dtype)

    def rows(self, which: Sequence[tuple], key: str, method: str) -> np.ndarray:
        """An array of each of some results, ``[len(which), N, …]``; it is not kept here longer."""
        return np.stack([self.tables.pop((*one, method, key)) for one in which])

    # What is missing.

    def methods(self) -> list[str]:
        """Those that apply, as far as is known."""
        return [name for name in self.of.methods if name not in self.refused]

    def unexplained(self, rows: slice) -> list[str]:
        """Methods whose maps of the trained network have still to be compared or shown."""
        at = [(stage, seed) for stage in self.stages for seed in self.seeds]
        return [
            name
            for name in self.methods()
            if not all(self.have("maps", *one, name, rows) for one in at)
            or not self.have("original", None, self.of.seed, name, rows)
            or not all(self.have(*one, name, rows) for one in self._tops(rows))
        ]

    def is_first(self, rows: slice) -> bool:
        """Whether these are the pictures of which ceilings are measured."""
        return rows.start == 0

    def _tops(self, rows: slice) -> list[tuple]:
        """What of the trained network is to be known of a ceiling."""
        exactly = [("ceiling", None, self.of.seed)] if self.of.ceiling else []
        others = [("training", None, number) for number in range(len(self.of.trainings))]
        return exactly + others if self.is_first(rows) else []

    def untopped(self, rows: slice, stage: Stage) -> list[str]:
        """Methods whose maps of a random network have still to be made in double precision."""
        if not (self.of.ceiling and self.is_first(rows)):
            return []
        at = "ceiling", stage, self.of.seed
        return [name for name in self.methods() if not self.have(*at, name, rows)]

    def ceilings(self, method: str, key: str) -> dict[str, np.ndarray]:
        """Similarities of maps between which nothing has changed, by ``CeilingKind``."""
        seed, last = self.of.seed, self.stages[-1]
        trained, random = (
            self.tables.get(("ceiling", stage, seed, method, key)) for stage in (None, last)
        )
        others = range(len(self.of.trainings))
        again = [self.tables.get(("training", None, n, method, key)) for n in others]
        found = {
            CeilingKind.ARITHMETIC: trained,
            CeilingKind.RANDOM_ARITHMETIC: random,
        }
        if again and all(one is not None for one in again):
            found[CeilingKind.SEEDS] = np.stack(again)
        return {kind.value: square for kind, square in found.items() if square is not None}

    def no_ceiling(self, method: str) -> str:
        """Why a method has none, or not of all kinds; empty where it has."""
        reasons = (
            array.tobytes().decode()
            for (what, _, _, of, key), array in self.tables.items()
            if what in _TOPS and of == method and key == _REASON
        )
        return "; ".join(dict.fromkeys(reasons))

    def missing(self, rows: slice, stage: Stage, seed: int) -> list[str]:
        """Methods whose maps have still to be compared with the trained network's."""
        return [m for m in self.methods() if not self.have("maps", stage, seed, m, rows)]

    def unpaired(self, rows: slice, seed: int) -> list[str]:
        """Methods of which a prior needs the maps of a wholly random network."""
        pairs = [at for at in (seed - 1, seed) if at in self.seeds[:-1]]
        return [
            name
            for name in self.methods()
            if not all(self.have("prior", None, at, name, rows) for at in pairs)
        ]

    def _key(
        self, what: str, stage: Stage | None, seed: int, method: str, rows: slice
    ) -> dict[str, Any]:
        key = self._bases[rows.start] | {"what": what, "seed": seed}
        if stage is not None:
            # Not the stage's name: the whole network is random in the last stage of every order.
            key |= {"random": sorted(stage.blocks)}
        if method:
            key |= {"method": named(self.of.methods[method])}
        if what == "ceiling":
            key |= {"pictures": min(self.of.ceiling, rows.stop)}
        if what == "training":
            key |= {"model": [*key["model"], *self._others[seed]]}
        if what in ("maps", "original"):
            shown = min(max(self.of.shown - rows.start, 0), rows.stop - rows.start)
            key |= {"shown": shown if seed == self.of.seed else 0}
            key |= {"statistics": {n: named(one) for n, one in self.of.statistics.items()}}
        return key


def _as_array(reason: str) -> Arrays:
    """A reason as what a store can keep."""
    return {_REASON: np.frombuffer(reason.encode(), dtype=np.uint8)}


def name_of(what: str, stage: Stage | None, seed: int, method: str, rows: slice) -> tuple:
    """A result's name as one can look it up."""
    return what, stage, seed, method, rows.start


def _base(experiment: Experiment, rows: slice) -> dict[str, Any]:
    """The part that all keys of a group share."""
    metrics = {n: named(of_rows(metric, rows)) for n, metric in experiment.metrics.items()}
    base = subject(experiment.model, experiment.x[rows]) | {
        "classes": experiment.target[rows].tolist(),
        "randomization": repr(experiment.randomization),
        "explained": experiment.explained,
        "metrics": metrics,
    }
    if experiment.randomization.batch_norm == "recalibrate":
        base |= {"calibration": digest(experiment.x[:CALIBRATION])}
    return base


@dataclass(frozen=True)
class Share:
    """What a shard has to do with an experiment: of ``groups`` it has ``own``, of so many images.

    ``made`` results were left in the store, ``bytes`` long, the others were there.
    """

    shard: Shard
    own: int
    groups: int
    images: int
    made: int
    bytes: int

    def __str__(self) -> str:
        if not self.own:
            return f"Shard {self.shard} has nothing to do; groups there are {self.groups}"
        return (
            f"Shard {self.shard}: {self.own} of {self.groups} groups, {self.images} pictures; "
            f"{self.made} results made, {self.bytes / 1e6:.1f} MB"
        )


def share(experiment: Experiment, shard: Shard | str) -> Share:
    """Measure every so many groups of pictures, and leave the similarities in the store.

    Calling the experiment puts them together, to the last bit as if there were no shards, and
    measures whatever is missing. What is in the store is not made again, so a share that was cut
    off goes on.

    Raises ValueError without a store, for a shard that does not exist, and what the experiment
    does.
    """
    shard = Shard.read(shard) if isinstance(shard, str) else shard
    if experiment.store is None:
        raise ValueError("shards need a store to leave results in: Experiment(store=Store(…))")
    run = Run(experiment)
    journal, own = run.journal, shard.of(run.journal.groups)
    if own:
        run.measure(own)
    images = sum(rows.stop - rows.start for rows in own)
    return Share(shard, len(own), len(journal.groups), images, journal.made, journal.bytes)
