"""Randomize a network stage by stage, explain it again each time, and compare with before."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from saliency_sanity.blocks import Block, Stage, find_blocks, find_stages, spread
from saliency_sanity.catalogue import describe
from saliency_sanity.comparison import check_map, refuse_all
from saliency_sanity.gradient import Attribution, NotApplicable, attributing, in_chunks, recording
from saliency_sanity.journal import Arrays, Journal, Step
from saliency_sanity.names import unknown
from saliency_sanity.outcome import ORIGINAL, Outcome, displayed, packed, unpacked
from saliency_sanity.randomization import EXPLAINED, Randomization, Randomizer
from saliency_sanity.replay import differentiable, replaying
from saliency_sanity.similarity import Metric, Similarity, similarity_matrix
from saliency_sanity.store import Store

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
    not on which job makes the map, see ``share.share``. What shares have left in the store is not
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

    def __call__(self) -> "Outcome":
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
                    found = self._maps(name, stage, seed)
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
        # In one order in memory, on which the rounding of sums depends.
        return check_map(name, self.of.methods[name](self.of.model, x, target), x).contiguous()

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
        # With a graph: the gradient that follows may start from this very pass.
        with attributing(model, x, target), recording():
            logits = in_chunks(x, target, lambda part, _: differentiable(model, part)[1].detach())
        return logits.argmax(1).cpu().numpy()

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
