"""Methods by name: the catalogue's, or somebody's own."""

import importlib
import inspect
from collections.abc import Callable

from saliency_sanity.cards import CARDS, Card
from saliency_sanity.gradient import Attribution
from saliency_sanity.names import unknown

CATALOGUE: dict[str, Card] = {card.name: card for card in CARDS}


def title(name: str, short: bool = False) -> str:
    """What figures call a method: its card's title or abbreviation, else the name itself."""
    card = CATALOGUE.get(name)
    if card is None:
        return name.rpartition(":")[2]
    return card.abbreviation if short else card.title


def describe(method: Attribution) -> str:
    """What computes a map, for the record: a composition in full, a function by its home."""
    if inspect.isfunction(method):
        return f"{method.__module__}:{method.__qualname__}"
    return repr(method)


def is_control(name: str) -> bool:
    """Whether the verdict on the method is known beforehand."""
    return name in CATALOGUE and CATALOGUE[name].kind == "control"


def _own(path: str) -> Callable:
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"method {path!r}: module {module_name!r} cannot be imported ({error}); "
            "run from its folder, install it, or put the folder on PYTHONPATH"
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        names = [name for name, value in vars(module).items() if callable(value)]
        raise ValueError(unknown(f"method in {module_name}", attribute, names))
    return found


def resolve(name: str, **parameters: object) -> Attribution:
    """Give the attribution of that name: one of the catalogue, or ``package.module:function``.

    ``parameters`` replace defaults of the catalogue's entry; for somebody's own object they are
    passed to it when it is a class, and refused when it is a function. Raises ValueError for an
    unknown name or parameter, with the nearest valid ones.
    """
    if ":" in name:
        found = _own(name)
        if inspect.isclass(found):
            return found(**parameters)
        if parameters:
            raise ValueError(f"method {name!r} is a function and takes no parameters here")
        return found
    if name not in CATALOGUE:
        raise ValueError(unknown("method", name, [*CATALOGUE, "package.module:function"]))
    build = CATALOGUE[name].build
    valid = inspect.signature(build).parameters
    for key in parameters:
        if key not in valid:
            raise ValueError(unknown(f"parameter of {name}", key, valid))
    return build(**parameters)
