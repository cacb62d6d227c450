"""What a stored result of maps depends on, besides the method: code, network, pictures."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from saliency_sanity._arithmetic import in_force
from saliency_sanity._attributes import HOOKS, Attributes, inside, plain, same
from saliency_sanity._hashing import LATER, bare_name, digest, source_digest, unwrapped, wrapped
from saliency_sanity.attribution.base import logits
from saliency_sanity.networks.classifier import Classifier, network_of

_LIBRARY = Path(__file__).parents[1]
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_DEPTH = 6  # deeper in attributes, only what a thing is counts


@cache
def code() -> tuple[str, str]:
    """Names the code that makes numbers: this library's up to here, and torch's version."""
    found = hashlib.sha256()
    files = {file.relative_to(_LIBRARY): file for file in _LIBRARY.rglob("*.py")}
    for place, file in sorted(files.items()):
        if place.parts[0] not in LATER:
            found.update(place.as_posix().encode() + file.read_bytes())
    return found.hexdigest()[:12], torch.__version__.partition("+")[0]


def subject(model: nn.Module, x: Tensor) -> dict[str, Any]:
    """Names a network and the pictures ``x`` it sees, as the part of a key of ``store.Store``.

    A network is its name, its modules with all they hold (weights, buffers, attributes, hooks), the
    code of their classes, where it says how it is drawn untrained the code of that, and what it
    does: its logits of the pictures, to the last bit. That takes one pass over them, and leaves the
    network as it was. What it notes at a pass counts where two passes note the same. ``arithmetic``
    is what was in force.
    """
    network, outside = network_of(model), unwrapped(model)
    with _held(model):
        before = dict(_contents(network))
        outputs = logits(model, x)
        held = dict(_contents(network))
        if held != before:
            # A cache is filled now, whoever ran the network before; a count is another each time.
            logits(model, x)
            again = dict(_contents(network))
            held = {key: value for key, value in held.items() if again.get(key) == value}
    own = [outside.scaling, outside.cam_layer] if isinstance(outside, Classifier) else []
    return {
        "model": [
            getattr(outside, "name", type(outside).__name__),
            _joined(f"{bare_name(network, n)} {digest(t)}" for n, t in network.named_parameters()),
            _joined([*_architecture(network), repr(own)]),
            _joined(f"{key} {value}" for key, value in sorted(held.items())),
            digest(outputs),
            source_digest(getattr(outside, "untrained", None)),
        ],
        "images": digest(x),
        "code": [*code(), x.device.type],
        "arithmetic": in_force(x.device),
    }


@contextmanager
def _held(model: nn.Module) -> Iterator[None]:
    """Attributes and buffers come back as they were."""
    attributes = Attributes(model, buffers=True)
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        attributes.restore()
        for buffer, value in buffers:
            if not same(buffer, value):
                buffer.data.copy_(value)


def _joined(texts: Any) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def _architecture(network: nn.Module) -> Iterator[str]:
    """What a network is made of: its modules and the code of their classes."""
    kinds: set[type] = set()
    for path, module in network.named_modules():
        if not wrapped(module):
            kinds.add(type(module))
            extra = _ADDRESS.sub("", module.extra_repr())
            yield f"{bare_name(network, path)} {_titled(type(module))} {extra}"
    yield from sorted(map(_class_digest, kinds))


@cache
def _class_digest(kind: type) -> str:
    return source_digest(kind)


def _contents(network: nn.Module) -> Iterator[tuple[str, str]]:
    """Whatever modules hold beside parameters, by name: buffers, attributes, and hooks in order."""
    known = {id(m): f"module {bare_name(network, p)}" for p, m in network.named_modules()}
    known |= {id(t): f"parameter {bare_name(network, p)}" for p, t in network.named_parameters()}
    for path, buffer in network.named_buffers():
        yield bare_name(network, path), _name(buffer, known)
    for path, module in network.named_modules():
        if wrapped(module):
            continue
        place, own = bare_name(network, path), vars(module)
        found = plain(module) | ({"forward": own["forward"]} if "forward" in own else {})
        for name, value in found.items():
            if not _ours(value):
                yield f"{place}:{name}", _name(value, known)
        for kind in HOOKS:
            hooks = [hook for hook in own[kind].values() if not _ours(hook)]
            if hooks:
                yield f"{place}:{kind}", _name(hooks, known)


def _ours(hook: object) -> bool:
    """Whether it is this library's, which puts hooks and changed methods on while it works."""
    hook = getattr(hook, "__func__", hook)
    home = hook.__module__ if isinstance(hook, FunctionType) else None
    return (home or "").partition(".")[0] == __name__.partition(".")[0]


def _name(value: object, known: dict[int, str]) -> str:
    """Names a value by what is in it: the same in every process, without a place in memory."""
    if isinstance(value, bool | int | float | str | None):
        return repr(value)
    found = hashlib.sha256()
    for part in _parts(value, known, ()):
        found.update(part.encode() + b"\0")
    return found.hexdigest()[:16]


def _parts(value: Any, known: dict[int, str], above: tuple[int, ...]) -> Iterator[str]:
    if id(value) in known:
        yield known[id(value)]
        return
    yield _titled(type(value))
    # The number of a hook, in its handle, is another in every process.
    if id(value) in above or len(above) >= _DEPTH or isinstance(value, RemovableHandle):
        return
    above = (*above, id(value))
    if isinstance(value, Tensor):
        yield digest(value.dequantize() if value.is_quantized else value)
    elif isinstance(value, np.ndarray | np.generic):
        # An array of objects only holds where they lie.
        array = np.asarray(value)
        yield from (
            _parts(array.tolist(), known, above)
            if array.dtype.hasobject
            else (f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}",)
        )
    elif isinstance(value, type):
        yield _titled(value)
    elif isinstance(value, BuiltinFunctionType):
        yield value.__qualname__
    elif isinstance(value, MethodType):
        yield from _parts(value.__func__, known, above)
        yield from _parts(value.__self__, known, above)
    elif isinstance(value, FunctionType):
        yield from _function(value, known, above)
    elif isinstance(value, partial):
        yield from _parts([value.func, value.args, value.keywords], known, above)
    elif isinstance(value, nn.Module):
        # One that is not registered: nobody else counts what it holds.
        yield _source_of(type(value))
        held = (value._parameters, value._buffers, value._modules, plain(value))
        yield from _parts(list(held), known, above)
    elif isinstance(value, set | frozenset):
        yield from sorted(_name(item, known) for item in value)
    elif (items := inside(value)) is not None:
        if not isinstance(value, dict | list | tuple):
            yield _source_of(type(value))
        for key, item in items.items():
            yield from _parts(key, known, above)
            yield from _parts(item, known, above)
    else:
        text = repr(value)
        # What only says where it lies is known by its type alone.
        yield "" if _ADDRESS.search(text) else text


def _function(value: FunctionType, known: dict[int, str], above: tuple[int, ...]) -> Iterator[str]:
    """Its code, what it has enclosed, and what it reads of its module where that is a value."""
    code = value.__code__
    yield from (value.__module__ or "", value.__qualname__, _source_of(value))
    yield from _bytecode(code)
    for enclosed in (value.__defaults__, value.__kwdefaults__):
        yield from _parts(enclosed, known, above)
    for cell in value.__closure__ or ():
        with suppress(ValueError):  # nothing in it yet
            yield from _parts(cell.cell_contents, known, above)
    for name in code.co_names:
        read = value.__globals__.get(name)
        if isinstance(read, bool | int | float | str | Tensor | list | tuple | dict):
            yield name
            yield from _parts(read, known, above)


def _bytecode(code: CodeType) -> Iterator[str]:
    yield f"{code.co_code.hex()} {code.co_names}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _bytecode(constant)
        else:
            yield repr(constant)


def _source_of(thing: Any) -> str:
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        return ""


def _titled(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
