"""What a training run is determined by: network, data, labels, optimizer, schedule, seed."""

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, Field
from torch import nn

from saliency_sanity._errors import known, unknown
from saliency_sanity._schema import Strict, checked
from saliency_sanity.subjects.datasets import CLASS_NAMES, TASKS
from saliency_sanity.subjects.small_networks import TRAINABLE

# The papers' settings, except that their Inception v3 was trained on ImageNet by others. Those of
# the transformer are ours.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "inception_v3": {
        "epochs": 30.0,
        "batch": 32,
        "learning_rate": 1e-3,
        "weight_decay": 0.05,
        "optimizer": "adamw",
        "schedule": "one-cycle",
        "augmentation": "flip-shift",
    },
    "vit": {
        "epochs": 12.0,
        "batch": 128,
        "learning_rate": 2e-3,
        "weight_decay": 0.05,
        "optimizer": "adamw",
        "schedule": "one-cycle",
        "augmentation": "none",
    },
    "cnn": {
        "epochs": 50.0,
        "batch": 50,
        "learning_rate": 1e-4,
        "weight_decay": 1e-3,
        "optimizer": "adam",
        "schedule": "constant",
        "augmentation": "none",
    },
    "mlp": {
        "epochs": 50.0,
        "batch": 50,
        "learning_rate": 1e-4,
        "weight_decay": 0.0,
        "optimizer": "adam",
        "schedule": "constant",
        "augmentation": "none",
    },
}

_PERMUTED, _NEGATIVES = "permuted", "negatives"
_LABELS = ("true", _PERMUTED)
# What may follow a network's name, and what of its recipe that says.
_KINDS: dict[str, dict[str, Any]] = {
    "": {"labels": "true", "negatives": False},
    f"-{_PERMUTED}": {"labels": _PERMUTED, "negatives": False},
    f"-{_NEGATIVES}": {"labels": "true", "negatives": True},
}
# What of a key says the task: nothing for garments or digits as they are.
_TASKS: dict[str, dict[str, Any]] = {"": {}} | {f"-{name}": {"dataset": name} for name in TASKS}

# One name for each: seed 0 is left out and no seed starts with a zero.
_WEIGHTS = re.compile(
    rf"(?P<dataset>{'|'.join(CLASS_NAMES)})(?P<kind>{'|'.join(_KINDS)})(-(?P<seed>[1-9][0-9]*))?"
)


def _one_of(kind: str, valid: Iterable[str]) -> Any:
    """The type of a text that is among the valid ones."""
    return Annotated[str, BeforeValidator(partial(known, kind, valid=tuple(valid)))]


# Nothing is bent: a text is no number, and a truth value none either.
_Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
_NotNegative = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
_From0 = Annotated[int, Field(strict=True, ge=0)]
_From1 = Annotated[int, Field(strict=True, ge=1)]
_POSITIVE, _COUNT = "be a positive and finite number", "be a positive whole number"


class _Checked(Strict):
    """What the values of a recipe have to be."""

    network: _one_of("network to train", TRAINABLE)
    dataset: _one_of("dataset", CLASS_NAMES)
    source: str = Field(description="be a text")
    images: _From0 = Field(description="be a positive whole number, or 0 for all")
    labels: _one_of("labels", _LABELS)
    negatives: Annotated[bool, Field(strict=True)] = Field(description="be true or false")
    epochs: _Positive = Field(description=_POSITIVE)
    batch: _From1 = Field(description=_COUNT)
    learning_rate: _Positive = Field(description=_POSITIVE)
    weight_decay: _NotNegative = Field(description="be 0 or a positive and finite number")
    optimizer: _one_of("optimizer", ("adam", "adamw", "sgd"))
    schedule: _one_of("schedule", ("constant", "one-cycle"))
    augmentation: _one_of("augmentation", ("none", "flip-shift"))
    size: _From1 = Field(description=_COUNT)
    target_accuracy: Annotated[float, Field(strict=True, ge=0, le=1)] = Field(
        description="be a number from 0 to 1"
    )
    seed: _From0 = Field(description="be 0 or a positive whole number")


# Part of the steps in which a one-cycle schedule rises, and where it starts from.
_RISE, _START = 0.05, 0.04


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a trained network, up to rounding of the machine.

    What is left out is the network's own: the settings of [adebayo2018sanity], appendix B, and of
    [adebayo2018code] for ``cnn`` and ``mlp``. ``images`` is the number of training pictures, 0 for
    all. ``labels`` are ``true`` or ``permuted`` (once, among the training pictures). With
    ``negatives`` a picture comes as its negative, under the same label, in half of the epochs, by
    chance; permuted labels have none. ``epochs`` may be a fraction; training ends sooner after an
    epoch that leaves ``target_accuracy`` of all training pictures classified right, 0 for never.
    ``optimizer`` ``adam`` adds ``weight_decay``/2 times the squared weights to the loss, ``adamw``
    and ``sgd`` (Nesterov, 0.9) do theirs; biases
    and norms never decay. ``schedule`` is ``constant`` or ``one-cycle``. ``augmentation``
    ``flip-shift`` mirrors half of the pictures and moves them by up to 2 pixels. ``size`` is in
    pixels. Raises ValueError for unknown names and impossible numbers.
    """

    network: str
    dataset: str = "fashion_mnist"
    source: str = "embedded"
    images: int = 0
    labels: str = "true"
    negatives: bool = False
    # None is the network's own value, put in its place below: nobody reads a None.
    epochs: float = None  # type: ignore[assignment]
    batch: int = None  # type: ignore[assignment]
    learning_rate: float = None  # type: ignore[assignment]
    weight_decay: float = None  # type: ignore[assignment]
    optimizer: str = None  # type: ignore[assignment]
    schedule: str = None  # type: ignore[assignment]
    augmentation: str = None  # type: ignore[assignment]
    size: int = None  # type: ignore[assignment]
    target_accuracy: float = 0.0
    seed: int = 0

    def __post_init__(self):
        known("network to train", self.network, TRAINABLE)
        own = {"size": TRAINABLE[self.network].size, **_DEFAULTS[self.network]}
        given = {name: value for name, value in vars(self).items() if value is not None}
        for name, value in checked(_Checked, own | given):
            object.__setattr__(self, name, value)
        if self.negatives and self.labels != "true":
            raise ValueError("negatives go with true labels; leave one of both out")

    @property
    def key(self) -> str:
        """Its name among the networks to train, such as ``cnn-permuted`` or ``cnn-pairs_shape``."""
        task = f"-{self.dataset}" if self.dataset in TASKS else ""
        return self.network + task + _suffix(self.labels, self.negatives)

    @property
    def weights(self) -> str:
        """The name that ``load_model`` knows its weights by, as :func:`weights_name` gives it."""
        return weights_name(self.dataset, self.labels, self.seed, negatives=self.negatives)

    @property
    def parameters(self) -> dict[str, Any]:
        """Its values, as a record keeps them, without the path of a folder."""
        known = self.source in ("embedded", "debian", "download")
        return {**asdict(self), "source": self.source if known else "a folder"}

    def make_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of ``network``; its rate is set by :meth:`rate` at each step."""
        parameters = list(network.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        rate = self.learning_rate
        if self.optimizer == "sgd":
            return torch.optim.SGD(groups, rate, momentum=0.9, nesterov=True, fused=True)
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        return kind(groups, rate, fused=True)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step out of ``steps``.

        Constant, or a line up to ``learning_rate`` in the first part and a cosine down to 0.
        """
        if self.schedule == "constant":
            return self.learning_rate
        part = step / steps
        if part < _RISE:
            return self.learning_rate * (_START + (1 - _START) * part / _RISE)
        return self.learning_rate * (1 + math.cos(math.pi * (part - _RISE) / (1 - _RISE))) / 2


def network_keys() -> list[str]:
    """Names of the networks that can be trained: on true labels, on permuted, on negatives too.

    Those on garments or digits first, then those on each of the ``datasets.TASKS``.
    """
    return [name + task + kind for task in _TASKS for name in TRAINABLE for kind in _KINDS]


def split_key(key: str) -> dict[str, Any]:
    """Split a name of :func:`network_keys`: ``network``, ``labels`` and ``negatives`` of a recipe.

    And ``dataset`` where the name says a task. Raises ValueError for an unknown name.
    """
    for task, dataset in _TASKS.items():
        for kind, parts in _KINDS.items():
            network = key.removesuffix(task + kind)
            if network + task + kind == key and network in TRAINABLE:
                return {"network": network, **dataset, **parts}
    raise ValueError(unknown("network to train", key, network_keys()))


def weights_name(
    dataset: str, labels: str = "true", seed: int = 0, *, negatives: bool = False
) -> str:
    """Name weights by what they were trained on: ``DATASET[-permuted|-negatives][-SEED]``.

    True labels and seed 0 are left out: ``fashion_mnist``, ``fashion_mnist-permuted-1``.
    """
    return dataset + _suffix(labels, negatives) + (f"-{seed}" if seed else "")


def parse_weights(name: str) -> dict[str, Any] | None:
    """Read a name of :func:`weights_name` as parts of a recipe; None for anything else.

    ``dataset``, ``labels``, ``negatives`` and ``seed``.
    """
    found = _WEIGHTS.fullmatch(name)
    if found is None:
        return None
    return {
        "dataset": found["dataset"],
        **_KINDS[found["kind"]],
        "seed": int(found["seed"] or 0),
    }


def _suffix(labels: str, negatives: bool) -> str:
    return f"-{_NEGATIVES}" if negatives else f"-{labels}" if labels == _PERMUTED else ""


def unknown_weights(name: str, weights: str, others: list[str]) -> str:
    """What to say of weights that are neither trained here nor one of ``others``."""
    ours = [data + kind for data in CLASS_NAMES for kind in _KINDS]
    example = weights_name("fashion_mnist", "permuted", 1)
    return (
        unknown(f"weights of {name}", weights, [*ours, *others])
        + f" A seed other than 0 follows the name of what was trained on, as in {example!r}."
    )
