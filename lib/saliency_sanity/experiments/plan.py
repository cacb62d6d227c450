"""What an experiment takes: passes, time at a measured rate, and room for what it leaves."""

import math
import time
from dataclasses import dataclass

import torch

from saliency_sanity._arithmetic import arithmetic
from saliency_sanity._errors import NotApplicable
from saliency_sanity._groups import groups
from saliency_sanity.attribution.base import Gradient, mapped, passes
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.randomization.blocks import find_blocks

_PROBED = 8  # pictures whose passes are timed


@dataclass(frozen=True)
class Plan:
    """How much work an experiment is; numbers of things, ``seconds`` a pass of one picture.

    ``passes`` are those of all methods for one picture and network, ``elements`` the numbers in a
    map, ``seconds`` NaN where that cannot be told. A pass is one forward and backward. Those that
    start in the middle count as whole ones and similarities as nothing, so that time is rough. For
    the ceiling the trained and a random network explain ``again`` pictures once more, and each of
    ``trainings`` those of the first group.
    """

    pictures: int
    group: int
    methods: int
    passes: int
    stages: int
    networks: int
    metrics: int
    elements: int
    seconds: float
    again: int = 0
    trainings: int = 0

    @property
    def total(self) -> int:
        """Passes of all pictures, the trained network's and those for the ceiling included."""
        first = min(self.pictures, self.group or self.pictures)
        more = 2 * self.again + self.trainings * first
        return self.passes * (self.pictures * (1 + self.stages * self.networks) + more)

    @property
    def files(self) -> int:
        """Results in the store, a file each."""
        drawn = self.stages * self.networks
        each = self.methods * (1 + drawn + self.networks - 1) + drawn
        tops = self.methods * (2 * bool(self.again) + self.trainings)
        return each * len(groups(self.pictures, self.group)) + tops

    @property
    def bytes(self) -> int:
        """Room for similarities, in the store and in memory once they are put together."""
        pairs = sum((rows.stop - rows.start) ** 2 for rows in groups(self.pictures, self.group))
        squares = self.stages * self.networks + self.networks - 1
        return 8 * pairs * squares * self.methods * self.metrics

    @property
    def maps(self) -> int:
        """Room that the maps would take, in bytes; none is stored."""
        drawn = 1 + self.stages * self.networks
        return 4 * self.elements * self.methods * drawn * self.pictures

    def hours(self, jobs: int = 1) -> float:
        """Time by so many jobs at once, as far as there is a group for each."""
        most = len(groups(self.pictures, self.group))
        return self.total * self.seconds / 3600 / max(1, min(jobs, most))

    def time(self, jobs: int = 1) -> str:
        """The same in words."""
        if math.isnan(self.seconds):
            return "for which no time is known"
        of_all = f" of {jobs} jobs" if jobs > 1 else ""
        return f"roughly {_time(self.hours(jobs))}{of_all} at {self.seconds * 1000:.3g} ms a pass"

    def __str__(self) -> str:
        return (
            f"{self.pictures} pictures, {self.methods} methods, {self.stages} stages of "
            f"{self.networks} networks, {self.metrics} similarities: {self.total:.3g} passes, "
            f"{self.time()}; {rounded(self.bytes)} of similarities in {self.files} files, where "
            f"maps would take {rounded(self.maps)}"
        )


def planned(experiment: Experiment) -> Plan:
    """What an experiment takes, by a few timed passes; raises as ``find_blocks``."""
    of = experiment
    blocks = find_blocks(of.model, of.x)
    return Plan(
        pictures=len(of.x),
        group=of.group,
        methods=len(of.methods),
        passes=sum(map(passes, of.methods.values())),
        stages=len(of.stages(blocks)),
        networks=of.seeds,
        metrics=len(of.metrics),
        elements=of.x[0].numel(),
        seconds=_seconds(of),
        again=min(of.ceiling, len(of.x), of.group or len(of.x)),
        trainings=len(of.trainings),
    )


def _seconds(of: Experiment) -> float:
    x, target, took = of.x[:_PROBED], of.target[:_PROBED], []
    for _ in range(3):  # the first one warms up
        start = time.perf_counter()
        try:
            with arithmetic(of.precision, x.device):
                mapped(Gradient(), of.model, x, target)
        except NotApplicable:
            return math.nan
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        took.append(time.perf_counter() - start)
    return min(took) / len(x)


def _time(hours: float) -> str:
    if hours < 1.5:
        return f"{max(hours * 60, 0.1):.2g} min"
    return f"{hours:.3g} h" if hours < 48 else f"{hours / 24:.3g} days"


def rounded(count: int) -> str:
    """Bytes in words."""
    for power, unit in ((12, "TB"), (9, "GB"), (6, "MB")):
        if count >= 10**power:
            return f"{count / 10**power:.3g} {unit}"
    return f"{count / 1000:.3g} kB"
