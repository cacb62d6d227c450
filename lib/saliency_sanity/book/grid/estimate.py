"""How long a grid will take, roughly, judged by earlier runs of its notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saliency_sanity._files import read_json
from saliency_sanity.book.grid.cell import Cell
from saliency_sanity.book.grid.spec import FOLDER, Grid

# Records of the book's notebooks, and of every grid's cells.
_RECORDS = ("results/runs/*.json", f"{FOLDER}/*/records/*.json")


@dataclass(frozen=True)
class Estimate:
    """How long cells will take.

    Attributes
    ----------
    seconds
        One for each cell, of the run most like it; empty where the notebook never ran here.
    jobs
        How many run at a time; None where an executor decides.
    shards
        Jobs that share the work of a cell.
    """

    seconds: tuple[float, ...]
    jobs: int | None
    shards: int = 1

    def __str__(self) -> str:
        if not self.seconds:
            return (
                "How long is unknown, this notebook has not run here yet; "
                "once a cell is done, --dry-run estimates the rest."
            )
        work = f"roughly {_duration(sum(self.seconds))} of work, judged by earlier runs"
        if self.jobs is None:
            return (
                f"{work[0].upper()}{work[1:]}; how much of it at a time is the executor's to say."
            )
        # As if shards did all of it; what is left for the cell is small beside that.
        most = min(self.jobs, len(self.seconds) * self.shards)
        wall = max(sum(self.seconds) / most, max(self.seconds) / self.shards)
        return f"Roughly {_duration(wall)} with {self.jobs} at a time ({work})."


def estimate(grid: Grid, cells: Sequence[Cell], jobs: int | None) -> Estimate:
    """Return how long cells of a grid will take.

    Each takes as long as the run of the same notebook that had most parameters in common with it,
    of several the last one. Scale counts like any other parameter, so this is rough.

    Parameters
    ----------
    grid
        Whose notebook it is.
    cells
        What is to run.
    jobs
        How many at a time; None where an executor decides.
    """
    runs = _runs(grid.source)
    seconds = tuple(_nearest(cell, runs) for cell in cells) if runs else ()
    return Estimate(seconds, jobs, grid.shards)


def _runs(source: Path) -> list[Mapping[str, Any]]:
    runs = []
    for path in sorted(path for pattern in _RECORDS for path in Path().glob(pattern)):
        try:
            record = read_json(path)
            shards = (path.parents[1] / "shards" / path.stem).glob("*.json")
            seconds = record["seconds"] + sum(read_json(shard)["seconds"] for shard in shards)
        except ValueError:
            continue  # a damaged record of some other run is no reason not to start this one
        if record["notebook"] == source.name:
            runs.append(record | {"seconds": seconds})
    return runs


def _nearest(cell: Cell, runs: Sequence[Mapping[str, Any]]) -> float:
    def likeness(run: Mapping[str, Any]) -> tuple[int, str]:
        had = run["parameters"]
        return sum(had.get(key) == value for key, value in cell.values.items()), run["started"]

    return max(runs, key=likeness)["seconds"]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
