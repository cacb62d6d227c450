"""torchvision beside a torch build it was not compiled for.

PyPI's Linux wheels of torchvision are compiled against CUDA builds of torch. Beside a CPU-only
torch its native library does not load, and the import fails on two operators that are only ever
*declared* at import time. Declaring their schemas is enough for models, transforms and datasets.
"""

import importlib.util
from pathlib import Path

import torch

from saliency_sanity._extras import need

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")

# The registration lives as long as this object does.
_library: torch.library.Library | None = None


def ensure_torchvision() -> bool:
    """Make ``import torchvision`` possible; call it before the first such import.

    Returns True where the schemas had to be declared, False where torchvision's own library
    loads (a matching build) and nothing was touched. Detection operators such as ``ops.nms`` stay
    unusable in the first case; classifiers do not need them.

    Raises ImportError when torchvision is not installed, and names the extra that brings it.
    """
    global _library
    if _library is not None:
        return True
    need("this network", "subjects", "torchvision")
    spec = importlib.util.find_spec("torchvision")
    binaries = sorted(Path(spec.origin).parent.glob("_C*"))
    try:
        for binary in binaries:
            torch.ops.load_library(binary)
        if binaries:
            return False
    except OSError:
        pass
    _library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in _OPERATORS:
        _library.define(f"{operator}{_SCHEMA}")
    return True
