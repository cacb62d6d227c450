"""What a training run is determined by: network, data, labels, optimizer, schedule, seed."""

import math
import re
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import nn

from saliency_sanity._errors import unknown
from saliency_sanity.subjects.datasets import CLASS_NAMES
from saliency_sanity.subjects.small_networks import TRAINABLE

# The papers' settings, except that their Inception v3 was trained on ImageNet by others.
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

_PERMUTED = "permuted"
_CHOICES = {
    "dataset": tuple(CLASS_NAMES),
    "labels": ("true", _PERMUTED),
    "optimizer": ("adam", "adamw", "sgd"),
    "schedule": ("constant", "one-cycle"),
    "augmentation": ("none", "flip-shift"),
}

# One name for each: seed 0 is left out and no seed starts with a zero.
_WEIGHTS = re.compile(
    rf"(?P<dataset>{'|'.join(CLASS_NAMES)})(?P<labels>-{_PERMUTED})?(-(?P<seed>[1-9][0-9]*))?"
)

# Part of the steps in which a one-cycle schedule rises, and where it starts from.
_RISE, _START = 0.05, 0.04


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a trained network, up to rounding of the machine.

    What is left out is the network's own: the settings of [adebayo2018sanity], appendix B, and of
    [adebayo2018code] for ``cnn`` and ``mlp``. ``images`` is the number of training pictures, 0 for
    all. ``labels`` are ``true`` or ``permuted`` (once, among the training pictures). ``epochs``
    may be a fraction; training ends sooner after an epoch that leaves ``target_accuracy`` of all
    training pictures classified right, 0 for never. ``optimizer`` ``adam`` adds ``weight_decay``/2
    times the squared weights to the loss, ``adamw`` and ``sgd`` (Nesterov, 0.9) do theirs; biases
    and norms never decay. ``schedule`` is ``constant`` or ``one-cycle``. ``augmentation``
    ``flip-shift`` mirrors half of the pictures and moves them by up to 2 pixels. ``size`` is in
    pixels. Raises ValueError for unknown names and impossible numbers.
    """

    network: str
    dataset: str = "fashion_mnist"
    source: str = "embedded"
    images: int = 0
    labels: str = "true"
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
        if self.network not in TRAINABLE:
            raise ValueError(unknown("network to train", self.network, TRAINABLE))
        own = {"size": TRAINABLE[self.network].size, **_DEFAULTS[self.network]}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                value = own[field.name]
            if field.type is float and type(value) is int:
                value = float(value)
            if type(value) is not field.type:
                raise ValueError(
                    f"{field.name} {value!r} of the recipe is {type(value).__name__}, "
                    f"not {field.type.__name__}"
                )
            object.__setattr__(self, field.name, value)
        for name, valid in _CHOICES.items():
            if getattr(self, name) not in valid:
                raise ValueError(unknown(name, getattr(self, name), valid))
        for name in ("epochs", "batch", "learning_rate", "size"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} {getattr(self, name)} must be positive and finite")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay {self.weight_decay} must be 0 or positive")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} must be 0 or positive")
        if self.images < 0:
            raise ValueError(f"images {self.images} must be positive, or 0 for all")
        if not 0 <= self.target_accuracy <= 1:
            raise ValueError(f"target_accuracy {self.target_accuracy} must lie in 0 to 1")

    @property
    def key(self) -> str:
        """Its name among the networks to train, such as ``cnn`` or ``cnn-permuted``."""
        return self.network + _suffix(self.labels)

    @property
    def weights(self) -> str:
        """The name that ``load_model`` knows its weights by, as :func:`weights_name` gives it."""
        return weights_name(self.dataset, self.labels, self.seed)

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
    """Names of the networks that can be trained, on true labels and on permuted ones."""
    return [name + _suffix(labels) for name in TRAINABLE for labels in _CHOICES["labels"]]


def split_key(key: str) -> dict[str, str]:
    """Split a name of :func:`network_keys` into ``network`` and ``labels`` of its recipe.

    Raises ValueError for an unknown name.
    """
    if key not in network_keys():
        raise ValueError(unknown("network to train", key, network_keys()))
    network = key.removesuffix(_suffix(_PERMUTED))
    return {"network": network, "labels": "true" if network == key else _PERMUTED}


def weights_name(dataset: str, labels: str = "true", seed: int = 0) -> str:
    """Name weights by what they were trained on: ``DATASET[-permuted][-SEED]``.

    True labels and seed 0 are left out: ``fashion_mnist``, ``fashion_mnist-permuted-1``.
    """
    return dataset + _suffix(labels) + (f"-{seed}" if seed else "")


def parse_weights(name: str) -> dict[str, Any] | None:
    """Read a name of :func:`weights_name` as ``dataset``, ``labels`` and ``seed`` of a recipe.

    None for anything else.
    """
    found = _WEIGHTS.fullmatch(name)
    if found is None:
        return None
    return {
        "dataset": found["dataset"],
        "labels": _PERMUTED if found["labels"] else "true",
        "seed": int(found["seed"] or 0),
    }


def _suffix(labels: str) -> str:
    return f"-{labels}" if labels == _PERMUTED else ""
