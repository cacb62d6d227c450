"""Somebody's own function, class or object, named as ``package.module:name``."""

import importlib
from collections.abc import Callable

from saliency_sanity._errors import unknown


def find(kind: str, path: str) -> Callable:
    """Import what ``package.module:name`` names; ``kind`` is what an error calls it.

    Raises ValueError for a module that cannot be imported, or that ends the program on the way,
    and for a name that it does not have, or that cannot be called.
    """
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"{kind} {path!r}: module {module_name!r} cannot be imported ({error}); "
            "run from its folder, install it, or put the folder on PYTHONPATH"
        ) from error
    except SystemExit as error:
        raise ValueError(
            f"{kind} {path!r}: module {module_name!r} calls sys.exit() while it is imported; "
            "put what only its command line needs under 'if __name__ == \"__main__\":'"
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        public = {name: value for name, value in vars(module).items() if name[0] != "_"}
        names = [name for name, value in public.items() if callable(value)]
        raise ValueError(unknown(f"{kind} in {module_name}", attribute, names))
    return found
