"""Results on disk: folders checked before the work, files replaced whole or not at all."""

from __future__ import annotations

import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FREE_BYTES = 32 * 2**20


class ResultsError(OSError):
    """A results folder or file cannot be used; the message names it and says what to do."""


def results_folder(path: str | Path, free_bytes: int = FREE_BYTES) -> Path:
    """Create a folder for results and prove that it can be written, before any long work.

    Parameters
    ----------
    path
        The folder; missing parents are made. A relative one is meant from the root of the
        checkout that the current folder lies in, so that a notebook finds it whoever runs it.
    free_bytes
        Room that must be left on its disk, in bytes.

    Raises
    ------
    ResultsError
        The folder is a file, read-only, or on a disk with too little room.
    """
    # Relative to where we are, so that no folder of the machine is written down.
    folder = Path(path)
    if not folder.is_absolute():
        folder = Path(os.path.relpath(checkout() / folder))
    if folder.exists() and not folder.is_dir():
        raise ResultsError(
            f"results folder {str(folder)!r} is a file, not a folder; choose another folder "
            "(notebook parameter 'results')"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{uuid.uuid4().hex}.tmp"
        try:
            _write_synced(probe, b"\0" * 4096)
        finally:
            probe.unlink(missing_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise _explained(error, folder, "folder") from error
    if free < free_bytes:
        raise ResultsError(
            f"results folder {str(folder)!r}: {free / 2**20:.0f} MB are free on its disk, "
            f"{free_bytes / 2**20:.0f} MB are needed; make room or choose another folder"
        )
    return folder


@contextmanager
def leaving_nothing(*folders: str | Path) -> Iterator[None]:
    """Take away what is empty of folders that were made within it, where it fails.

    Relative folders are meant as for :func:`results_folder`.
    """
    places = [checkout() / folder for folder in folders]
    missing = [[one for one in (place, *place.parents) if not one.exists()] for place in places]
    try:
        yield
    except BaseException:
        for highest in {ones[-1] for ones in missing if ones}:
            for inside, _, _ in os.walk(highest, topdown=False):
                with suppress(OSError):  # not empty
                    Path(inside).rmdir()
        raise


def checkout() -> Path:
    """The root of the checkout that the current folder lies in, else the current folder."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "_config.yml").is_file() and (folder / "notebooks").is_dir():
            return folder
    return here


def write_table(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a table as Parquet; the file is replaced whole or left as it was.

    Raises
    ------
    ResultsError
        The file cannot be written (full disk, read-only or missing folder).
    ValueError
        The name does not end in ``.parquet``.
    """
    path = Path(path)
    if path.suffix != ".parquet":
        raise ValueError(f"table {str(path)!r}: the name must end in '.parquet'")
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)
    return path


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a table that :func:`write_table` wrote.

    Raises
    ------
    FileNotFoundError
        There is no such table yet.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no table {str(path)!r}; run the notebook that writes it first")
    return pd.read_parquet(path)


def write_json(value: Any, path: str | Path) -> Path:
    """Write strict JSON; NumPy scalars and arrays become plain, what is not finite becomes null.

    Raises
    ------
    ResultsError
        The file cannot be written (full disk, read-only or missing folder).
    TypeError
        The value holds something that JSON has no word for.
    """
    path = Path(path)
    text = json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        _write_synced(temporary, text.encode())
    return path


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    FileNotFoundError
        There is no such file yet.
    ValueError
        The file is not JSON.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}; run the notebook that writes it first")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not JSON ({error}); delete and rewrite it") from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary file beside ``path`` which takes its place when the block succeeds.

    On any failure the old file stays as it was and the temporary one is removed.

    Raises
    ------
    ResultsError
        The file system refuses (full, read-only, folder missing).
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        # Some writers do not sync; a rename must never become visible before the content.
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        if isinstance(error, ResultsError):
            raise
        raise _explained(error, path, "file") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


def _explained(error: OSError, path: Path, what: str) -> ResultsError:
    if isinstance(error, ResultsError):
        return error
    reason = os.strerror(error.errno) if error.errno else str(error)
    explained = ResultsError(
        f"cannot write the results {what} {str(path)!r}: {reason}; nothing was changed. "
        "Make room or make it writable, or choose another folder "
        "(notebook parameter 'results', or --output)"
    )
    explained.errno = error.errno
    return explained


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value
