"""Methods by name: the catalogue's, or somebody's own."""

import dataclasses
import functools
import hashlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from torch import Tensor

from saliency_sanity.cards import CARDS, Card
from saliency_sanity.classifier import digest
from saliency_sanity.gradient import Attribution
from saliency_sanity.names import unknown
from saliency_sanity.own import find

CATALOGUE: dict[str, Card] = {card.name: card for card in CARDS}

# The methods of the randomization figures of [adebayo2018sanity], and controls beside them.
SANITY_CHECKED = (
    *("gradient", "smoothgrad", "gradient_x_input", "integrated_gradients", "ig_smoothgrad"),
    *("guided_backprop", "grad_cam", "guided_grad_cam"),
    *("sobel", "input", "input_x_noise", "noise"),
)


def title(name: str, short: bool = False) -> str:
    """What figures call a method: its card's title or abbreviation, else the name itself."""
    card = CATALOGUE.get(name)
    if card is None:
        return name.rpartition(":")[2]
    return card.abbreviation if short else card.title


def titles(names: Iterable[str]) -> dict[str, str]:
    """Titles by name, all different: where two would share one, names stand for themselves."""
    found = {name: title(name) for name in names}
    shared = {text for text in found.values() if list(found.values()).count(text) > 1}
    return {name: name if text in shared else text for name, text in found.items()}


def describe(method: Attribution) -> str:
    """What computes a map, for the record: a composition in full, a function by its home."""
    if inspect.isfunction(method):
        return f"{method.__module__}:{method.__qualname__}"
    # Inside a composition, a function's place in memory says nothing.
    return re.sub(r"<function (\S+) at 0x[0-9a-f]+>", r"<function \1>", repr(method))


def source_digest(thing: object) -> str:
    """Twelve hexadecimal digits of the code behind somebody's own function, object or class.

    Of the whole file it stands in, for it may call what stands beside it; of a function also what
    it has enclosed, of compositions and partial functions also that of their parts. Empty for None
    and for what this library defines. Raises ValueError for code that cannot be read, and
    for enclosed values that have no name of their own.
    """
    parts = [part for part in _sources(thing, set()) if part]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:12] if parts else ""


def _sources(thing: object, seen: set[int]) -> Iterator[bytes]:
    if thing is None or id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, functools.partial):
        inner = [thing.func, *thing.args, *thing.keywords.values()]
        yield " ".join(thing.keywords).encode()
    elif inspect.ismethod(thing):
        inner = [thing.__func__, thing.__self__]
    else:
        home = thing if inspect.isfunction(thing) or inspect.isclass(thing) else type(thing)
        inner = []
        if not home.__module__.startswith(("saliency_sanity.", "builtins")):
            yield _source(home)
        if inspect.isfunction(thing):
            # Two functions of one name, in one file: their line and what they have enclosed.
            inner = [*(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values()]
            if "<" in thing.__qualname__:
                inner += [thing.__code__.co_firstlineno, thing.__code__.co_code.hex()]
                inner += [c for c in thing.__code__.co_consts if not inspect.iscode(c)]
                inner += [cell.cell_contents for cell in thing.__closure__ or ()]
        elif dataclasses.is_dataclass(thing) and not inspect.isclass(thing):
            fields = (getattr(thing, item.name) for item in dataclasses.fields(thing))
            inner = [value for value in fields if callable(value)]
    for value in inner:
        if callable(value):
            yield from _sources(value, seen)
        elif inspect.ismodule(value):
            yield value.__name__.encode()
        elif isinstance(value, Tensor):
            yield digest(value).encode()
        else:
            yield stable(repr(value)).encode()


def stable(name: str) -> str:
    """Give back what names something in every process; raises ValueError for a memory address."""
    if " at 0x" in name:
        raise ValueError(
            f"results of {name} cannot be kept: this says where in memory it lies, not what it "
            "is; give its class a __repr__ that shows all settings, for example as a dataclass"
        )
    return name


def named(thing: object) -> list[str]:
    """What names a method or a metric under which results are kept; raises as its two parts do."""
    return [stable(describe(thing)), source_digest(thing)]


def _source(home: Callable | type) -> bytes:
    try:
        if inspect.isclass(home) and home.__module__ == "__main__":
            # A notebook's: its functions have a source, the class has none.
            own = [value for value in vars(home).values() if inspect.isfunction(value)]
            return "".join(map(inspect.getsource, own)).encode()
        file = Path(inspect.getsourcefile(home) or "")
        return file.read_bytes() if file.is_file() else inspect.getsource(home).encode()
    except (OSError, TypeError) as error:
        raise ValueError(
            f"the source of {home.__module__}:{home.__qualname__} cannot be read ({error}), so "
            "results of other code could be taken for its own; define it in a file"
        ) from error


def is_control(name: str) -> bool:
    """Whether the verdict on the method is known beforehand."""
    return name in CATALOGUE and CATALOGUE[name].kind == "control"


def resolve(name: str, **parameters: object) -> Attribution:
    """Give the attribution of that name: one of the catalogue, or ``package.module:function``.

    ``parameters`` replace defaults of the catalogue's entry; for somebody's own object they are
    passed to it when it is a class, and refused when it is a function. Raises ValueError for an
    unknown name or parameter, with the nearest valid ones.
    """
    if ":" in name:
        found = find("method", name)
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
