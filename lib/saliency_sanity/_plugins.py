"""Somebody's own function, class or object, named as ``package.module:name``."""

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


# Libraries whose methods are adapted, by the name of their package, with a part that tells them
# from somebody's own module of that name.
PEERS = {
    "captum": "attr",
    "pytorch_grad_cam": "base_cam.py",
    "saliency": "core",
    "shap": "explainers",
    "zennit": "composites.py",
}


def peer(path: str) -> Any:
    """The module that adapts the library in ``library:method``; None where it is no peer.

    It lies above what asks for it, and is found by its name as anybody's own is.
    """
    library = path.partition(":")[0]
    if library not in PEERS:
        return None
    spec = importlib.util.find_spec(library)
    if spec is not None:
        homes = spec.submodule_search_locations or ()
        if not any((Path(home) / PEERS[library]).exists() for home in homes):
            return None
    return importlib.import_module(f"saliency_sanity.peers.{library}")
