"""Attribution methods, put together from small parts, and the catalogue of the named ones."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
