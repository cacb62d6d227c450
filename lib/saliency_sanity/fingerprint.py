"""What a stored result of maps depends on, besides the method: code, network, pictures."""

import hashlib
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saliency_sanity.catalogue import source_digest
from saliency_sanity.classifier import digest, network_of, weights_hash

# The modules whose code decides what numbers come out; a change in one makes stored results stale.
CODE = (
    *("agreement", "blocks", "cam", "canonization", "catalogue", "classifier", "competition"),
    *("compositions", "controls", "copies", "experiment", "fingerprint", "gradient", "hog"),
    *("journal", "lrp", "maps", "methods", "models", "networks", "outcome", "per_label", "pixels"),
    *("randomization", "ranks", "replay", "rescaling", "rules", "seeding", "similarity", "ssim"),
    *("threshold", "timm_models"),
)


def code() -> list[str]:
    """Names the code that makes numbers: this library's and torch's version."""
    found = hashlib.sha256()
    for name in CODE:
        found.update((Path(__file__).parent / f"{name}.py").read_bytes())
    return [found.hexdigest()[:12], torch.__version__.partition("+")[0]]


def subject(model: nn.Module, x: Tensor) -> dict[str, Any]:
    """Names a network and the pictures ``x`` it sees, as the part of a key of ``store.Store``.

    A network is its name, weights, modules, the code of their classes, and where it says how it
    is drawn untrained, the code of that.
    """
    return {
        "model": [
            getattr(model, "name", type(model).__name__),
            weights_hash(model),
            _architecture(model),
            source_digest(getattr(model, "untrained", None)),
        ],
        "images": digest(x),
        "code": [*code(), x.device.type],
    }


def _architecture(model: nn.Module) -> str:
    """Names what a network does with its weights: its modules and the code of their classes."""
    network = network_of(model)
    kinds = {type(module) for module in network.modules()}
    modules = re.sub(" at 0x[0-9a-f]+", "", repr(network))
    text = modules + "".join(sorted(source_digest(kind) for kind in kinds))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
