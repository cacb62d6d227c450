"""What is known of an experiment, under which keys it is kept, and what is missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

import numpy as np

from saliency_sanity.blocks import Stage
from saliency_sanity.catalogue import named
from saliency_sanity.fingerprint import subject

if TYPE_CHECKING:
    from saliency_sanity.experiment import Experiment

Arrays = dict[str, np.ndarray]
# A stage, the seed of a random network, methods whose maps are missing, and those a prior needs.
Step = tuple[Stage, int, list[str], list[str]]


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
