"""What one of several jobs does of an experiment: the maps of some of its pictures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from saliency_sanity.comparison import refuse_all
from saliency_sanity.experiment import Experiment, Run
from saliency_sanity.gradient import NotApplicable
from saliency_sanity.shard import Shard


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
                array = torch.as_tensor(make(rows, *at)).cpu().numpy()
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
                leave(run.explain, "maps", stage, seed, method)
    images = sum(rows.stop - rows.start for rows in own)
    return Share(shard, len(own), len(journal.parts), images, len(left), sum(left))
