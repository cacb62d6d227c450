"""The strict notebook runner: parameters checked first, the output replaced only on success."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat

from saliency_sanity._errors import InputError
from saliency_sanity._files import (
    ResultsError,
    checkout,
    leaving_nothing,
    replacing,
    results_folder,
    write_json,
)
from saliency_sanity._provenance import cpu_count, provenance
from saliency_sanity.book.runs.cases import (
    PARAMETER,
    PROFILE,
    Case,
    find_case,
)
from saliency_sanity.book.runs.copy_labels import marked
from saliency_sanity.book.runs.parameters import SHARD, check_parameters, read_parameters
from saliency_sanity.book.runs.profiles import profile_parameters
from saliency_sanity.book.runs.stamp import (
    METADATA_KEY,
    finish,
    last_printed,
    last_started,
    stopped,
)
from saliency_sanity.experiments.shard import Shard


def beginning(source: str | Path) -> nbformat.NotebookNode:
    """Return a notebook up to its cell tagged ``shard``, which is all that a shard runs.

    Raises InputError where there is no such cell.
    """
    notebook = nbformat.read(source, as_version=4)
    for number, cell in enumerate(notebook.cells, start=1):
        if SHARD in cell.metadata.get("tags", []):
            notebook.cells = notebook.cells[:number]
            return notebook
    raise InputError(
        f"{Path(source).name}: parameter {SHARD!r} is set, but no cell is tagged "
        f"{SHARD!r}; tag the one that makes the shard's maps (JupyterLab: property "
        "inspector, Add tag)"
    )


__all__ = ["METADATA_KEY", "NotebookFailedError", "Run", "config_folder", "run_notebook"]

# The operating systems allow 104 characters or a few more; the kernel adds two.
_SOCKET_NAME = 100


class NotebookFailedError(RuntimeError):
    """A notebook did not run to its end.

    Attributes
    ----------
    notebook
        Name of the notebook file.
    cell
        Number of the failing cell in the source, from 1; None where no cell was reached.
    executed
        The executed copy, with everything up to the failure.
    """

    def __init__(self, notebook: str, cell: int | None, reason: str, executed: Path):
        where = f"in cell {cell}" if cell else "before its first cell"
        super().__init__(
            f"notebook {notebook} failed {where}: {reason}. "
            f"What ran until then is kept in {executed}; earlier output was left as it was"
        )
        self.notebook, self.cell, self.executed = notebook, cell, executed


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes
    ----------
    output
        The executed notebook.
    parameters
        Every parameter with the value that it had.
    seconds
        How long it took.
    """

    output: Path
    parameters: dict[str, Any]
    seconds: float


def run_notebook(
    source: str | Path,
    output: str | Path,
    parameters: Mapping[str, Any] | None = None,
    profile: str | None = None,
    *,
    case: str | None = None,
    log: str | Path | None = None,
    record: str | Path | None = None,
    config: str | Path | None = None,
    threads: int | None = None,
    progress: bool = True,
    check: Callable[[Mapping[str, Any]], None] | None = None,
) -> Run:
    """Run a notebook in its own folder and write the executed copy.

    Everything that can be wrong with the call is found before the notebook starts. The copy
    carries in its metadata, under ``saliency_sanity``, what made it. Where the parameter ``shard``
    is set, the notebook ends with its cell tagged ``shard``.

    Parameters
    ----------
    source
        The notebook; it stays as it is.
    output
        Where the executed copy goes, whole or not at all.
    parameters
        Values by name; they win over the profile's, and those over the case's. Texts are read by
        the declared type.
    profile
        A profile by name; None leaves the notebook's own scale.
    case
        One of the notebook's cases by name, for a copy that stands beside the others; None runs
        the notebook with its own defaults.
    log
        Where the copy grows while the notebook runs; kept. By default beside the output, and
        kept only on failure.
    record
        Where what made the copy is written as JSON too; None writes none.
    config
        The folder of the profiles; by default the nearest ``config`` above the notebook.
    threads
        Processor threads for the kernel; by default ``OMP_NUM_THREADS``, else all processors.
    progress
        Show papermill's bar and what the kernel prints.
    check
        Called with all of the notebook's parameters before it starts, to raise what is wrong.

    Raises
    ------
    InputError
        Something about the notebook, profile, parameters or paths is wrong.
    ResultsError
        An output folder cannot be written.
    NotebookFailedError
        A cell failed or the kernel died.
    """
    source, output = Path(source), Path(output)
    chosen = None if case is None else find_case(source, case)
    values = _merged(source, parameters or {}, profile, config, chosen)
    if chosen:
        marked(nbformat.read(source, as_version=4), chosen)  # refused now rather than at the end
    if values.get(SHARD):
        Shard.read(values[SHARD])
        beginning(source)
    keep = log is not None
    log = Path(log) if keep else output.with_suffix(".log.ipynb")
    targets = [output, log] if record is None else [output, log, Path(record)]
    if len({path.resolve() for path in (source, *targets)}) <= len(targets):
        names = ", ".join(repr(str(path)) for path in (source, *targets))
        raise InputError(
            f"notebook and outputs must be different files, not {names}; "
            "choose another --output, --log or --record"
        )
    declared = {name: item.default for name, item in read_parameters(source).items()}
    here = os.path.relpath(Path.cwd(), checkout())  # which outputs are relative to, unlike results
    folders = [Path(here, path.parent) for path in targets]
    with leaving_nothing(*folders, Path({**declared, **values}.get("results", here))):
        for folder, path in zip(folders, targets, strict=True):
            results_folder(folder)
            if path.is_dir():
                raise ResultsError(f"{str(path)!r} is a folder; name a file in it")
        if check is not None:
            check({**declared, **values})
    started = datetime.now(UTC)
    _execute(source, log, values, threads or _threads(), progress)
    notebook = nbformat.read(log, as_version=4)
    stamp = provenance(
        parameters={**declared, **values},
        started=started,
        profile=profile,
        notebook=source.name,
        case=case,
        source_sha256=hashlib.sha256(source.read_bytes()).hexdigest(),
    )
    stamp["threads"] = threads or _threads()
    finish(notebook, source, stamp)
    if chosen:
        notebook = marked(notebook, chosen)
    with replacing(output) as temporary:
        nbformat.write(notebook, temporary)
    if record is not None:
        write_json(stamp, record)
    if not keep:
        log.unlink(missing_ok=True)
    return Run(output, stamp["parameters"], stamp["seconds"])


def config_folder(source: str | Path) -> Path:
    """Return the nearest folder ``config`` with profiles, from the notebook's folder upwards.

    Raises
    ------
    InputError
        There is none.
    """
    for folder in Path(source).resolve().parents:
        if any((folder / "config").glob("*.yaml")):
            return folder / "config"
    raise InputError(
        f"no folder 'config' with profiles above {str(Path(source).resolve().parent)!r}; profiles "
        "are part of a checkout: work in one, name the folder with --config, or leave --profile out"
    )


def _merged(
    source: Path,
    given: Mapping[str, Any],
    profile: str | None,
    config: str | Path | None,
    case: Case | None,
) -> dict[str, Any]:
    declared = read_parameters(source)
    values = case.values(source) if case else {}
    if case and given.get(PARAMETER, case.name) != case.name:
        raise InputError(
            f"parameter {PARAMETER!r} is {given[PARAMETER]!r}, but case {case.name!r} is run; "
            "give one of them"
        )
    if profile is not None:
        values |= profile_parameters(profile, config or config_folder(source), source, case)
        if PROFILE in declared:
            values[PROFILE] = profile
            if given.get(PROFILE, profile) != profile:
                raise InputError(f"parameter {PROFILE!r} is {given[PROFILE]!r}, not {profile!r}")
    return values | check_parameters(declared, given, source.name)


def _threads() -> int:
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdigit() and int(text) > 0 else cpu_count()


def _execute(
    source: Path, log: Path, values: Mapping[str, Any], threads: int, progress: bool
) -> None:
    from papermill import execute_notebook
    from papermill.exceptions import PapermillExecutionError

    # A log of an earlier run must not be taken for this one's.
    log.unlink(missing_ok=True)
    start = source
    if values.get(SHARD):
        nbformat.write(beginning(source), log)
        start = log
    try:
        with _kernel_environment(threads), _sockets() as sockets:
            execute_notebook(
                start.resolve(),
                log.resolve(),
                parameters=dict(values),
                kernel_name="python3",
                # Paths among the parameters mean what they mean where the command is given.
                cwd=Path.cwd(),
                progress_bar=progress,
                stdout_file=sys.stdout if progress else None,
                stderr_file=sys.stderr if progress else None,
                config=sockets,
                kernel_manager_class=_this_interpreter(),
                extra_arguments=[
                    # A dying kernel shows as an exception; its own log tells of every shutdown.
                    "--IPKernelApp.log_level=50",
                    # IPython's own exit() lets cells go on until the kernel is gone.
                    "--IPKernelApp.exec_lines=from sys import exit, exit as quit",
                ],
            )
    except PapermillExecutionError as error:
        reason = f"{error.ename}: {error.evalue}" if error.evalue else error.ename
        # What is wrong with a magic IPython only prints, and this is papermill's name for it.
        if error.ename == "CellExecutionError":
            reason = last_printed(log) or reason
        raise NotebookFailedError(source.name, last_started(log), _one_line(reason), log) from None
    except OSError as error:
        raise ResultsError(f"cannot write {str(log)!r} while {source.name} ran: {error}") from error
    except Exception as error:  # a dead kernel, a time limit, a lost connection: all are failures
        cell = last_started(log)
        reason = f"{type(error).__name__}: {error}"
        if "ead" in type(error).__name__ or "died" in str(error):
            reason = (
                "the kernel died, often because memory ran out; "
                "try a smaller profile or smaller parameters"
            )
        if not log.exists():
            shutil.copyfile(source, log)
        raise NotebookFailedError(source.name, cell, _one_line(reason), log) from error
    if stopped(log):
        # papermill takes a SystemExit with status 0 for a success.
        reason = "SystemExit: the cell ends the notebook; take out sys.exit(), or raise an error"
        raise NotebookFailedError(source.name, last_started(log), reason, log)


def _this_interpreter() -> type:
    """What starts a kernel of this environment, whatever else is installed under its name."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from traitlets import default

    class Manager(AsyncKernelManager):
        @default("kernel_spec_manager")
        def _nowhere_else(self) -> KernelSpecManager:
            return KernelSpecManager(kernel_dirs=[])

    return Manager


@contextmanager
def _kernel_environment(threads: int) -> Iterator[None]:
    """Set what the kernel inherits: it can only be told through the environment."""
    quiet = "ignore:IProgress not found"  # tqdm asks for widgets, of which a page shows nothing
    wanted = {
        "PYTHONWARNINGS": ",".join(filter(None, (os.environ.get("PYTHONWARNINGS"), quiet))),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "PYTHONHASHSEED": "0",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _sockets() -> Iterator[Any]:
    """Give each kernel Unix sockets in a folder of its own.

    They need no port, which two kernels could race for. Left to themselves kernels started in
    one folder would share one socket's name, so the name is set here.
    """
    from traitlets.config import Config

    with tempfile.TemporaryDirectory(prefix="kernel-") as folder:
        name = str(Path(folder) / "socket")
        if os.name == "posix" and len(name) <= _SOCKET_NAME:
            yield Config({"KernelManager": {"transport": "ipc", "ip": name}})
        else:
            yield Config({"KernelManager": {"transport": "tcp"}})


def _one_line(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= 500 else text[:497] + "…"
