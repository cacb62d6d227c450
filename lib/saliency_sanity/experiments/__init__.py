"""Sanity checks: networks randomized or trained on other labels, maps made again and compared."""

import lazy_loader

from saliency_sanity._extras import need

need("an experiment", "subjects", "safetensors")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
