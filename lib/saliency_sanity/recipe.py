"""What a training run is determined by: network, data, labels, optimizer, schedule, seed."""

import math
from dataclasses import dataclass, fields
from typing import Any

from saliency_sanity.datasets import CLASS_NAMES
from saliency_sanity.names import unknown
from saliency_sanity.networks import TRAINABLE

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

_CHOICES = {
    "dataset": tuple(CLASS_NAMES),
    "labels": ("true", "permuted"),
    "optimizer": ("adam", "adamw", "sgd"),
    "schedule": ("constant", "one-cycle"),
    "augmentation": ("none", "flip-shift"),
}

# Part of the steps in which a one-cycle schedule rises, and where it starts from.
_RISE, _START = 0.05, 0.04


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a trained network, up to rounding of the machine.

    What is left out is the network's own: the settings of [adebayo2018sanity], appendix B, and of
    [adebayo2018code] for ``cnn`` and ``mlp``. ``images`` is the number of training pictures, 0 for
    all. ``labels`` are ``true`` or ``permuted`` (once, among the training pictures). ``epochs``
    may be a fraction; training ends sooner after an epoch in which ``target_accuracy`` of the
    pictures were classified right, 0 for never. ``optimizer`` ``adam`` adds ``weight_decay``/2
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
        if self.images < 0:
            raise ValueError(f"images {self.images} must be positive, or 0 for all")
        if not 0 <= self.target_accuracy <= 1:
            raise ValueError(f"target_accuracy {self.target_accuracy} must lie in 0 to 1")

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
