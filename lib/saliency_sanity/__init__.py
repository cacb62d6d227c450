"""Sanity checks for saliency maps: whether they see the model, or only the picture."""

from saliency_sanity.catalogue import CATALOGUE, Card, resolve
from saliency_sanity.classifier import Classifier, Scaling, weights_hash
from saliency_sanity.gradient import Attribution, Gradient, chunk_limit
from saliency_sanity.models import load_model
from saliency_sanity.photographs import Photographs, load_photographs
from saliency_sanity.weights import WeightsUnavailable

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
