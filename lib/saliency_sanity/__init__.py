"""Sanity checks for saliency maps: whether they see the model, or only the picture."""

import lazy_loader

# Loaded on first use: torch, timm and torchvision take seconds that the command line and the
# workflow, which only start notebooks, need not wait for.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
