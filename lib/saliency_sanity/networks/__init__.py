"""Networks as the methods see them: with scaling, size, class names and layers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
