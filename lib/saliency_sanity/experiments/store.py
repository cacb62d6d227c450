"""Results of long runs, kept on disk under what they are results of.

    store = Store("results/store")
    arrays = store.compute({"method": repr(method), "stage": "mixed_7c", "seed": 0}, function)

The second time `function` is not called, whoever runs it and whatever happened in between: a run
that was killed goes on after its last result. A key must name everything that the result depends
on. Each result is a safetensors file which carries its key in clear and a checksum of itself.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
import uuid
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save
from torch import Tensor, nn

from saliency_sanity._files import ResultsError, replacing, results_folder
from saliency_sanity.experiments.keys import subject

Arrays = Mapping[str, np.ndarray]

_STALE_SECONDS = 24 * 3600  # no writer takes that long between a temporary file and its rename

_ENTRY = "saliency-sanity result 1"
_UNSIGNED = "0" * 64
# A result's bytes after the length of its header; its checksum follows.
_HEAD = f'{{"__metadata__":{{"{_ENTRY}":"{{\\"sha256\\":\\"'.encode()
_CHECKSUM = slice(8 + len(_HEAD), 8 + len(_HEAD) + len(_UNSIGNED))


class UnusableResult(UserWarning):
    """A stored result was damaged, foreign or of another key; it was set aside."""


class Store:
    """Named arrays by key, in a folder that several processes may share.

    A key is a mapping of names to text, finite numbers, True, False, None, lists and mappings; the
    order of its names does not matter, and 1, 1.0 and True differ. A result is a mapping of names
    to NumPy arrays of booleans, integers or floats up to 64 bits, and comes back bit for bit, by
    name in alphabetical order. Readers see a whole result or none; of two writers of one key the
    last one stays. Raises ResultsError where the folder cannot be used.
    """

    def __init__(self, folder: str | Path):
        self.folder = results_folder(folder)
        # What a killed writer left. A young file may belong to one that is still alive.
        for temporary in chain(self.folder.glob(".*.tmp"), self.folder.glob("[0-9a-f]?/.*.tmp")):
            with suppress(OSError):  # another run may be sweeping too
                if time.time() - temporary.stat().st_mtime > _STALE_SECONDS:
                    temporary.unlink()

    def __repr__(self) -> str:
        return f"Store({str(self.folder)!r})"

    def __contains__(self, key: Mapping[str, Any]) -> bool:
        """Whether `get` has a result; it is read and checked, not only looked for."""
        return self._read(_canonical(key)) is not None

    def get(self, key: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
        """The result of this key, or None.

        A file that is truncated, altered, foreign or of another key is renamed to end in
        `.damaged`, named in a warning (UnusableResult), and counts as none. Raises TypeError or
        ValueError for what no key can hold, with its place, and ResultsError where the file system
        refuses.
        """
        return self._read(_canonical(key))

    def put(self, key: Mapping[str, Any], arrays: Arrays) -> dict[str, np.ndarray]:
        """Keep the result of this key in place of any older one; returns what `get` will.

        Raises TypeError or ValueError for keys or arrays that cannot be kept, ResultsError where
        they cannot be written (full disk, read-only); the older result then stays.
        """
        return self._write(_canonical(key), arrays)

    def drop(self, key: Mapping[str, Any]) -> None:
        """Forget the result of this key, if there is one; raises what `put` does for keys."""
        path = self._path(_canonical(key))
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ResultsError(
                f"cannot remove the result {str(path)!r}: {error.strerror}; remove it yourself"
            ) from error

    def subject(self, model: nn.Module, x: Tensor) -> dict[str, Any]:
        """The part of a key that names a network and the pictures it sees: ``keys.subject``."""
        return subject(model, x)

    def compute(
        self, key: Mapping[str, Any], function: Callable[[], Arrays]
    ) -> dict[str, np.ndarray]:
        """The result of this key, from `function()` if there is none yet, which is then kept.

        It is the same either way, the order of its names included. Raises what `get` and `put` do.
        """
        text = _canonical(key)
        found = self._read(text)
        return self._write(text, function()) if found is None else found

    def _path(self, text: str) -> Path:
        digest = hashlib.sha256(text.encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest[2:]}.safetensors"

    def _read(self, text: str) -> dict[str, np.ndarray] | None:
        path = self._path(text)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ResultsError(
                f"cannot read the result {str(path)!r}: {error.strerror}; make it readable or "
                "remove it"
            ) from error
        try:
            return _decode(content, text)
        except _Unusable as fault:
            moved = _set_aside(path, content, str(fault))
        return None if moved else self._read(text)

    def _write(self, text: str, arrays: Arrays) -> dict[str, np.ndarray]:
        content = _encode(text, arrays)
        kept = _decode(content, text)
        with replacing(self._path(text)) as temporary:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
        return kept


class _Unusable(ValueError):  # noqa: N818
    """Why a file is not the result that it should be."""


def _set_aside(path: Path, content: bytes, fault: str) -> bool:
    """Rename an unusable file and warn; False if another process has put a new one in its place."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.damaged")
    try:
        path.rename(aside)
        if aside.read_bytes() != content:
            aside.replace(path)
            return False
    except FileNotFoundError:  # set aside by another process
        return False
    except OSError as error:
        raise ResultsError(
            f"the result {str(path)!r} is unusable ({fault}) and cannot be set aside: "
            f"{error.strerror}; remove it"
        ) from error
    warnings.warn(
        f"the result {str(path)!r} is unusable ({fault}); it was set aside as {aside.name!r} and "
        "will be recomputed",
        UnusableResult,
        stacklevel=4,  # who called get, compute or in
    )
    return True


def _encode(text: str, arrays: Arrays) -> bytes:
    if not isinstance(arrays, Mapping):
        raise TypeError(f"a result is a mapping of names to arrays, not {type(arrays).__name__}")
    plain = {_named(name): _plain(name, value) for name, value in arrays.items()}
    content = save(plain, metadata={_ENTRY: _entry(_UNSIGNED, text)})
    return content[: _CHECKSUM.start] + _checksum(content).encode() + content[_CHECKSUM.stop :]


def _decode(content: bytes, text: str) -> dict[str, np.ndarray]:
    if content[8 : _CHECKSUM.start] != _HEAD:
        raise _Unusable("it does not begin as a result does")
    checksum = _checksum(content)
    if content[_CHECKSUM] != checksum.encode():
        raise _Unusable("its checksum is wrong: it was cut short or altered")
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    if header["__metadata__"][_ENTRY] != _entry(checksum, text):
        raise _Unusable("it is the result of another key")
    # Copied, since what load returns may be a read-only view.
    return {name: array.copy() for name, array in sorted(load(content).items())}


def _checksum(content: bytes) -> str:
    """SHA-256 of a file, its own place in the file taken as zeros."""
    digest = hashlib.sha256(content[: _CHECKSUM.start])
    digest.update(_UNSIGNED.encode())
    digest.update(memoryview(content)[_CHECKSUM.stop :])
    return digest.hexdigest()


def _entry(checksum: str, text: str) -> str:
    return f'{{"sha256":"{checksum}","key":{text}}}'


def _named(name: object) -> str:
    if not isinstance(name, str) or name == "__metadata__":
        raise TypeError(f"array name {name!r} must be text other than '__metadata__'")
    return name


def _plain(name: str, value: object) -> np.ndarray:
    # A mask would be lost.
    if not isinstance(value, np.ndarray | np.generic) or isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"array {name!r} is {type(value).__name__}; expected a NumPy array: use numpy.asarray, "
            "and .cpu().numpy() for a tensor"
        )
    if value.dtype.kind not in "biuf" or value.dtype.itemsize > 8:
        raise TypeError(
            f"array {name!r} has dtype {value.dtype}; expected booleans, integers or floats of at "
            "most 64 bits: convert it with .astype"
        )
    return np.array(value, dtype=value.dtype.newbyteorder("="), order="C")


def _canonical(key: Mapping[str, Any]) -> str:
    if not isinstance(key, Mapping):
        raise TypeError(f"a key is a mapping of names to values, not {type(key).__name__}")
    return json.dumps(_checked(key, "key"), sort_keys=True, separators=(",", ":"))


def _checked(value: Any, place: str) -> Any:
    """The value as JSON has it; raises TypeError or ValueError that names the place."""
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise TypeError(f"{place} has the name {name!r}; names in a key are text")
        return {name: _checked(item, f"{place}[{name!r}]") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_checked(item, f"{place}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{place} is {value}; numbers in a key are finite: use None or text")
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(
        f"{place} is {type(value).__name__}; a key holds text, numbers, True, False, None, lists "
        "and mappings: convert a NumPy number with .item(), name a tensor by its hash and a "
        "function by its repr"
    )
