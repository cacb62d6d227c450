"""Batches: the cells of a grid run by Snakemake; what is left to do, and what failed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from saliency_sanity._errors import InputError
from saliency_sanity._files import results_folder, write_json
from saliency_sanity._provenance import cpu_count
from saliency_sanity.book.grid.cell import Cell
from saliency_sanity.book.grid.estimate import estimate
from saliency_sanity.book.grid.failures import Failure, failure, forget
from saliency_sanity.book.grid.spec import Grid
from saliency_sanity.book.runs.parameters import SHARD
from saliency_sanity.book.runs.runner import Run, run_notebook
from saliency_sanity.experiments.shard import Shard

WORKFLOW = Path("workflow/grid.smk")
STORE = Path("results/store")

# Why a cell has to run again: Snakemake's words, and ours.
_WORDS = {
    "ok": "unfinished, or asked for",
    "params changed": "parameters changed",
    "updated input files": "notebook, networks, library or own files changed",
    "set of input files changed": "networks or modules of the library came or went",
    "rule implementation changed": "the workflow changed",
}
# With one of these Snakemake knows by itself how much may run at a time.
_ELSEWHERE = ("--executor", "-e", "--profile", "--workflow-profile", "--jobs", "-j")
# The workflow's own settings spare a core where many cells wait, and may end ten seconds later.
# Those of a place come first.
_PLAIN, _MANY = ("--workflow-profile", "none"), 30
# Here each cell says a line when it ends; elsewhere Snakemake has to say what was started.
_QUIET = ("host", "rules", "reason", "progress")
_QUIET_ELSEWHERE = ("host", "reason")


def run_grid(
    grid: Grid, cores: int | None = None, words: Sequence[str] = (), dry_run: bool = False
) -> list[Failure]:
    """Run what is missing or outdated of a grid, join the tables, and return what failed.

    What is to be done, how long it will take, and how it ended is printed. The current folder is
    the root of the checkout.

    Parameters
    ----------
    grid
        What to run.
    cores
        Processors to use; None for all, or for as many as the executor in ``words`` has.
    words
        More for Snakemake.
    dry_run
        Only say what would run.

    Raises
    ------
    InputError
        Snakemake cannot be started so, or the grid is being run already.
    """
    elsewhere = any(word.partition("=")[0] in _ELSEWHERE for word in words)
    cores = cores if cores or elsewhere else cpu_count()
    plain = _PLAIN if elsewhere or len(grid.cells) <= _MANY else ()
    command = engine(grid, cores, [*plain, *words])
    todo = plan(grid, command)
    shards = f" in {grid.shards} shards each" if grid.shards > 1 else ""
    print(
        f"Grid {grid.file.stem}: {len(grid.cells)} cells of {grid.source.stem}{shards}, "
        f"{len(grid.cells) - len(todo)} done, {len(todo)} to run"
    )
    if dry_run:
        for cell in grid.cells:
            print(f"  {cell.name}: {_state(todo.get(cell.name))}")
    if todo:
        jobs = None if elsewhere else max(1, cores // grid.threads)
        print(estimate(grid, [cell for cell in grid.cells if cell.name in todo], jobs), flush=True)
    if dry_run:
        return []
    quiet = _QUIET_ELSEWHERE if elsewhere else _QUIET
    left = start(grid, [*command, "--quiet", *quiet], todo) if todo else []
    failed = [failure(grid, name) for name in left]
    write_json([asdict(failure) for failure in failed], grid.folder / "failures.json")
    _end(grid, failed)
    return failed


def _state(why: str | None) -> str:
    if why is None:
        return "done"
    return "to run" if why == "missing" else f"to run again: {_WORDS.get(why, why)}"


def _end(grid: Grid, failed: Sequence[Failure]) -> None:
    # Imported late: pandas is not needed for a single cell or a dry run.
    from saliency_sanity.book.grid.summary import gather, write_summary

    names = {failure.cell for failure in failed}
    done = [cell for cell in grid.cells if cell.name not in names]
    table, without = gather(grid, done)
    files = write_summary(grid, table)
    print(f"{len(done)} of {len(grid.cells)} cells done, in {grid.folder}")
    if files:
        print(f"summary, {len(table)} rows: {' and '.join(map(str, files))}")
    for name, reason in without.items():
        print(f"not in the summary: {name}: {reason}")
    if failed:
        print(
            f"error: {len(failed)} of {len(grid.cells)} cells failed; the same "
            "command runs them again:",
            file=sys.stderr,
        )
        for failure in failed:
            print(f"  {failure}", file=sys.stderr)


def run_cell(grid: Grid, cell: Cell, threads: int, shard: Shard | None = None) -> Run:
    """Run one cell, or one of its shards, here and now, as the workflow's jobs do.

    Stored results are shared with the book and with all other cells, so a cell finds what its
    shards have left, and does the rest itself.

    Raises
    ------
    InputError, ResultsError, NotebookFailedError
        As :func:`saliency_sanity.book.runs.runner.run_notebook`.
    """
    path = grid.path if shard is None else partial(grid.shard_path, shard=shard.stem)
    folder = results_folder(path("results", cell.name))
    # A notebook keeps its store in its results; a link makes all of them one.
    shared = folder / STORE.name
    shared.unlink(missing_ok=True)
    shared.symlink_to(os.path.relpath(results_folder(STORE), folder), target_is_directory=True)
    given = {} if shard is None else {SHARD: str(shard)}
    try:
        return run_notebook(
            grid.source,
            path("notebook", cell.name),
            {**cell.given, **given, "results": str(folder)},
            grid.profile,
            case=cell.case.name if cell.case else None,
            log=path("partial", cell.name),
            record=path("record", cell.name),
            threads=threads,
            progress=False,
        )
    finally:
        shared.unlink()
        if shard is not None:  # a notebook may have made folders for what it never came to
            shutil.rmtree(folder)


def engine(grid: Grid, cores: int | None, words: Sequence[str] = ()) -> list[str]:
    """Return the command that runs a grid's cells.

    Parameters
    ----------
    grid
        What to run.
    cores
        Processors to use; None leaves it to ``words``.
    words
        More for Snakemake: an executor, a profile.

    Raises
    ------
    InputError
        The workflow or Snakemake is not there.
    """
    if not WORKFLOW.is_file():
        raise InputError(f"no {WORKFLOW} here; run the command in a checkout of the repository")
    if importlib.util.find_spec("snakemake") is None:
        raise InputError("Snakemake is not installed; pip install 'saliency-sanity[workflow]'")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(WORKFLOW)]
    # One run at a time is what the lock of this grid sees to, and it ends with its process.
    command += ["--nolock", "--rerun-incomplete", "--keep-going"]
    command += ["--cores", str(cores)] if cores else []
    return [*command, *words, "--config", f"grid={grid.file}"]


def plan(grid: Grid, command: Sequence[str]) -> dict[str, str]:
    """Return why each cell has to run, by name; those that are done are not among them.

    Raises
    ------
    InputError
        Snakemake refuses the command.
    """
    said = subprocess.run([*command, "--summary"], capture_output=True, text=True, check=False)
    if said.returncode:
        lines = said.stderr.strip().splitlines() or ["no reason given"]
        raise InputError(f"Snakemake: {' '.join(line.strip() for line in lines[-3:])}")
    names = {str(grid.path("record", cell.name)): cell.name for cell in grid.cells}
    rows = (line.split("\t") for line in said.stdout.splitlines())
    found = {names[row[0]]: row for row in rows if row[0] in names}
    return {name: row[-2] for name, row in found.items() if row[-1] == "update pending"}


def start(grid: Grid, command: Sequence[str], todo: Iterable[str]) -> list[str]:
    """Run cells and return the names of those that are not done after it.

    After an interruption the cells that run come to their end, unless they were told too, as
    everything in a terminal is.

    Raises
    ------
    InputError
        The grid is being run already.
    """
    before = {name: _written(grid, name) for name in todo}
    with _alone(grid) as held:
        for name in before:
            forget(grid, name)
        # The lock stays with Snakemake where this process is killed and that one is not.
        child = subprocess.Popen(command, pass_fds=held)
        try:
            child.wait()
        except KeyboardInterrupt:
            child.terminate()  # for Snakemake: start nothing new
            child.wait()
            raise
    return [name for name in before if _written(grid, name) in (None, before[name])]


def _written(grid: Grid, name: str) -> int | None:
    record = grid.path("record", name)
    return record.stat().st_mtime_ns if record.is_file() else None


@contextmanager
def _alone(grid: Grid) -> Iterator[list[int]]:
    """Hold the lock of a grid; gives the files that a process has to inherit to hold it too."""
    held: list[int] = []
    path = results_folder(grid.folder) / ".lock"
    lock = FileLock(path, blocking=False, on_acquired=held.append)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"grid {grid.file.stem!r} is being run already; wait for it, or stop it"
        ) from None
    except OSError as error:
        print(f"warning: no lock ({error}); do not start this grid twice", file=sys.stderr)
    try:
        yield held
    finally:
        lock.release()
