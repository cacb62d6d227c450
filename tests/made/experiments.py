"""Experiments on a small network, and methods that count their calls and can end a run."""

import os
import signal
from dataclasses import dataclass
from typing import ClassVar

import torch
from made.networks import draw, small
from saliency_sanity.attribution.base import Attribution, Gradient
from saliency_sanity.attribution.compose import TimesInput
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.similarity.metrics import metric

METRIC = {"spearman_abs": metric("spearman_abs")}
IMAGES = 6


@dataclass(frozen=True)
class Counted:
    """A method that counts its calls, and ends the run or the whole process at one of them."""

    method: Attribution
    label: str = "one"

    calls: ClassVar[dict[str, int]] = {}
    fuse: ClassVar[int | None] = None
    fatal: ClassVar[bool] = False

    def __call__(self, model, x, target):
        self.calls[self.label] = self.calls.get(self.label, 0) + 1
        if sum(self.calls.values()) == self.fuse:
            if self.fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt
        return self.method(model, x, target)


METHODS = {
    "gradient": Counted(Gradient(), "gradient"),
    "product": Counted(TimesInput(Gradient()), "product"),
}


def images(count=IMAGES, size=16):
    return draw(count, 3, size, size, seed=5)


def made(**changes):
    """An experiment on the small network; three stages."""
    x = changes.get("x", images())
    settings = {
        "model": small(),
        "x": x,
        "target": torch.arange(len(x)) % 5,
        "methods": METHODS,
        "metrics": METRIC,
        "shown": 2,
        "ceiling": 0,  # maps made again would count as calls
    }
    return Experiment(**settings | changes)


def arrays(outcome):
    return (
        dict(outcome.matrices)
        | {("prior", *key): value for key, value in outcome.priors.items()}
        | {("classes",): outcome.classes}
        | {
            ("picture", key, i): part
            for key, pair in outcome.pictures.items()
            for i, part in enumerate(pair)
        }
    )


def same(one, other):
    ours, theirs = arrays(one), arrays(other)
    return (
        (one.stages, one.refused) == (other.stages, other.refused)
        and ours.keys() == theirs.keys()
        and all(
            ours[key].dtype == theirs[key].dtype and ours[key].tobytes() == theirs[key].tobytes()
            for key in ours
        )
    )


def zeros(maps):
    return (maps == 0).double().flatten(1).mean(1)
