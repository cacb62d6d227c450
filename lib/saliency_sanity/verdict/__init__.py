"""What a similarity means beside chance, prior and ceiling: kappa, its interval, a verdict."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
