"""What a stored result of maps depends on, besides the method: code, network, pictures."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saliency_sanity._hashing import LATER, digest, source_digest, weights_hash
from saliency_sanity.networks.classifier import network_of

_LIBRARY = Path(__file__).parents[1]


def code() -> list[str]:
    """Names the code that makes numbers: this library's up to here, and torch's version."""
    found = hashlib.sha256()
    files = {file.relative_to(_LIBRARY): file for file in _LIBRARY.rglob("*.py")}
    for place, file in sorted(files.items()):
        if place.parts[0] not in LATER:
            found.update(place.as_posix().encode() + file.read_bytes())
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
