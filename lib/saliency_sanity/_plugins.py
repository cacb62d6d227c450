"""Somebody's own function, class or object, named as ``package.module:name``."""

import importlib
import importlib.util
import traceback
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
    except Exception as error:
        raise ValueError(
            f"{kind} {path!r}: module {module_name!r} raised {raised(error, __file__)}"
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        public = {name: value for name, value in vars(module).items() if name[0] != "_"}
        names = [name for name, value in public.items() if callable(value)]
        raise ValueError(unknown(f"{kind} in {module_name}", attribute, names))
    return found


def is_module(name: str) -> bool:
    """Whether there is a module of that name to import."""
    return name.isidentifier() and importlib.util.find_spec(name) is not None


def raised(error: BaseException, caller: str) -> str:
    """What an exception is, and the last line of somebody's own file that led to it.

    ``caller`` is the file that called it. Without such a line, what the exception says.
    """
    # Between the call and the file there may be what imports it, or a decorator of torch.
    torch = importlib.util.find_spec("torch")
    between = (caller, importlib.__file__, "<frozen ", str(Path(torch.origin).parent))
    frames = traceback.extract_tb(error.__traceback__)
    home = next(
        (frame.filename for frame in frames if not frame.filename.startswith(between)), None
    )
    inside = [frame for frame in frames if frame.filename == home]
    kind, said = type(error).__name__, sentence(error)
    if not inside:
        return f"{kind}: {said}"
    last = inside[-1]
    return f"{kind} in {Path(last.filename).name}, line {last.lineno}: {last.line or '…'}: {said}"


def sentence(error: BaseException) -> str:
    """What an exception says, on one line and with a full stop."""
    text = " ".join(str(error).split()) or "without a message"
    return text if text.endswith(".") else f"{text}."


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
