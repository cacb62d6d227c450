"""Networks, trained ones among them, and pictures to put to the test."""

import lazy_loader

from saliency_sanity._extras import need

need(
    "a network or pictures",
    "subjects",
    *("huggingface_hub", "pydantic", "safetensors", "timm", "torchvision"),
)

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
