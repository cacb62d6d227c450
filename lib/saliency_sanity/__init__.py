"""Sanity checks for saliency maps: whether they see the model, or only the picture."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saliency_sanity.cards import Card
    from saliency_sanity.catalogue import CATALOGUE, resolve
    from saliency_sanity.classifier import Classifier, Scaling, weights_hash
    from saliency_sanity.gradient import Attribution, Gradient, chunk_limit
    from saliency_sanity.models import load_model
    from saliency_sanity.photographs import Photographs, load_photographs
    from saliency_sanity.weights import WeightsUnavailable

# Loaded on first use: torch, timm and torchvision take seconds that the command line and the
# workflow, which only start notebooks, need not wait for.
_HOME = {
    "CATALOGUE": "catalogue",
    "Attribution": "gradient",
    "Card": "cards",
    "Classifier": "classifier",
    "Gradient": "gradient",
    "Photographs": "photographs",
    "Scaling": "classifier",
    "WeightsUnavailable": "weights",
    "chunk_limit": "gradient",
    "load_model": "models",
    "load_photographs": "photographs",
    "resolve": "catalogue",
    "weights_hash": "classifier",
}

__all__ = [
    "CATALOGUE",
    "Attribution",
    "Card",
    "Classifier",
    "Gradient",
    "Photographs",
    "Scaling",
    "WeightsUnavailable",
    "chunk_limit",
    "load_model",
    "load_photographs",
    "resolve",
    "weights_hash",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
