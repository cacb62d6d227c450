"""Why a cell of a grid is not done, from what its jobs have left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from saliency_sanity.book.grid.spec import Grid
from saliency_sanity.experiments.shard import Shard


@dataclass(frozen=True)
class Failure:
    """A cell that did not run to its end.

    Attributes
    ----------
    cell
        Its name.
    reason
        In one line.
    kept
        The copy with what ran until then, else the log; None where nothing was started.
    """

    cell: str
    reason: str
    kept: Path | None

    def __str__(self) -> str:
        return f"{self.cell}: {self.reason}" + (f" [{self.kept}]" if self.kept else "")


def failure(grid: Grid, name: str) -> Failure:
    """Return why a cell is not done: by its own log, else by that of its first failing shard."""
    for prefix, log, partial in _jobs(grid, name):
        # Snakemake makes an empty file of each that a job did not write.
        kept = [path for path in (partial, log) if path.is_file() and path.stat().st_size]
        if kept:
            return Failure(name, prefix + _reason(log), kept[0])
    return Failure(name, "was not started, or ended at once; Snakemake says why above", None)


def forget(grid: Grid, name: str) -> None:
    """Remove logs of a cell's jobs, and whatever shards of another number than now have left.

    An earlier failure must not be taken for the next one's, nor their time for this one's.
    """
    for _, *files in _jobs(grid, name):
        for path in files:
            path.unlink(missing_ok=True)
    now = {shard.stem for shard in Shard.all(grid.shards)}
    for path in grid.shard_path("results", name, "").glob("*of*.*"):
        if path.name.partition(".")[0] not in now:
            path.unlink()


def _jobs(grid: Grid, name: str) -> list[tuple[str, Path, Path]]:
    """What to say before a job's reason, its log and its unfinished copy, of those not done."""
    jobs = [("", grid.path("log", name), grid.path("partial", name))]
    for shard in Shard.all(grid.shards):
        record, log, partial = (
            grid.shard_path(kind, name, shard.stem) for kind in ("record", "log", "partial")
        )
        if not record.is_file():
            jobs.append((f"shard {shard}: ", log, partial))
    return jobs


def _reason(log: Path) -> str:
    text = log.read_text(errors="replace") if log.is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if errors:  # where the copy is kept the failure says itself
        return errors[-1].partition(". What ran until then")[0]
    ended = "ended without an error of its own: killed, or out of time or memory"
    return f"{ended}; its last words: {lines[-1]}" if lines else ended
