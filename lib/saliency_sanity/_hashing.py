"""What identifies weights, pictures, methods and the code behind them."""

import dataclasses
import functools
import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

# The packages above the experiments. Keys of stored results count every module but theirs, so
# that what one of them defines counts by its own file.
LATER = ("probes", "plots", "book")
# Packages that hold numbers and show progress: their versions change no map. Torch's is in every
# key.
_NEUTRAL = sys.stdlib_module_names | {"saliency_sanity", "torch", "numpy", "pandas", "tqdm"}
_COUNTED = re.compile(rf"builtins|saliency_sanity\.(?!({'|'.join(LATER)})\b)")


def wrapped(module: nn.Module) -> str:
    """The name under which DataParallel or ``torch.compile`` holds a network; "" for others."""
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return "module"
    return "_orig_mod" if "_orig_mod" in getattr(module, "_modules", ()) else ""


def unwrapped(model: nn.Module) -> nn.Module:
    """The network without what is wrapped around it; a Classifier stays one."""
    while name := wrapped(model):
        model = getattr(model, name)
    return model


def bare_name(network: nn.Module, name: str) -> str:
    """The name of a module or tensor without what wrappers inside the network add to it.

    A name keys what is drawn, and a network is the same with and without them.
    """
    parts, module = [], network
    for part in name.split("."):
        if part != wrapped(module):
            parts.append(part)
        inner = getattr(module, part, None)
        module = inner if isinstance(inner, nn.Module) else None
    return ".".join(parts)


def weights_hash(model: nn.Module) -> str:
    """Twelve hexadecimal digits that identify every parameter and buffer of ``model``."""
    digest, model = hashlib.sha256(), unwrapped(model)
    for key, value in model.state_dict().items():
        digest.update(bare_name(model, key).encode())
        digest.update(_content(value))
    return digest.hexdigest()[:12]


def _content(value: object) -> bytes | np.ndarray:
    """What an entry of a state dict holds; quantized layers keep types and packed tensors there."""
    if isinstance(value, tuple | list):
        return b"".join(bytes(_content(one)) for one in value)
    if not isinstance(value, Tensor):
        return repr(value).encode()
    value = value.dequantize() if value.is_quantized else value
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def digest(x: Tensor) -> str:
    """Twelve hexadecimal digits that identify shape, type and values of a tensor."""
    found = hashlib.sha256(f"{x.dtype} {tuple(x.shape)}".encode())
    found.update(x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()[:12]


def describe(method: object) -> str:
    """What computes a map, for the record: a composition in full, a function by its home."""
    if inspect.isfunction(method):
        return f"{method.__module__}:{method.__qualname__}"
    # Inside a composition, a function's place in memory says nothing.
    return re.sub(r"<function (\S+) at 0x[0-9a-f]+>", r"<function \1>", repr(method))


def source_digest(thing: object) -> str:
    """Twelve hexadecimal digits of the code behind somebody's own function, object or class.

    Of the whole file it stands in, for it may call what stands beside it; of a function also what
    it has enclosed, of compositions and partial functions also that of their parts. Versions of the
    other packages that the file takes things from count as well. Empty for None and, where there
    are none of these, for what this library defines, its later packages apart. Raises ValueError
    for code that cannot be read, and for enclosed values that have no name of their own.
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
        if not _COUNTED.match(home.__module__):
            yield _source(home)
        yield _peers(home.__module__).encode()
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


def _peers(home: str) -> str:
    """The packages that a module is of or takes things from, with their versions."""
    if home.partition(".")[0] in _NEUTRAL - {"saliency_sanity"} or home not in sys.modules:
        return ""
    places = [home]
    for name, value in vars(sys.modules[home]).items():
        if not name.isidentifier():  # pytest's, not the file's
            continue
        if inspect.ismodule(value):
            places.append(value.__name__)
        elif inspect.isroutine(value) or inspect.isclass(value):
            places.append(value.__module__ or "")
    tops = {place.partition(".")[0] for place in places} - _NEUTRAL
    return ", ".join(sorted(f"{top} {found}" for top in tops if (found := _version(top))))


@functools.cache
def _version(package: str) -> str:
    try:
        return getattr(sys.modules.get(package), "__version__", "") or metadata.version(package)
    except (metadata.PackageNotFoundError, ValueError):
        return ""


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
