"""The summary of a grid: the tables of its cells as one, with columns for what was varied."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from saliency_sanity._files import (
    read_json,
    read_table,
    replacing,
    write_table,
)
from saliency_sanity.book.grid.cell import Cell
from saliency_sanity.book.grid.spec import Grid


class NoTableError(ValueError):
    """A cell has no table that the summary could take; the message says why."""


def gather(grid: Grid, cells: Iterable[Cell]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Join the tables of cells that are done.

    Parameters
    ----------
    grid
        Whose cells they are.
    cells
        Those that are done, in the order of the rows.

    Returns
    -------
    The table, and by cell why one is not in it. Its first columns are ``cell``, ``case`` in a grid
    with cases, and each parameter that was varied; ``parameter_NAME`` where the notebook's table
    has a column of that name. Lists are written as JSON. It is empty where no cell has a table.
    """
    parts, without = [], {}
    for cell in cells:
        try:
            table = read_table(_table(grid, cell))
        except NoTableError as error:
            without[cell.name] = str(error)
        else:
            parts.append((cell, table))
    taken = {column for _, table in parts for column in table.columns}
    joined = [_headed(grid, cell, table, taken) for cell, table in parts]
    return pd.concat(joined, ignore_index=True) if joined else pd.DataFrame(), without


def write_summary(grid: Grid, table: pd.DataFrame) -> list[Path]:
    """Write the summary as Parquet and CSV and return the files; an empty one removes them."""
    parquet, text = (grid.folder / f"summary.{ending}" for ending in ("parquet", "csv"))
    if table.empty:
        for path in (parquet, text):
            path.unlink(missing_ok=True)
        return []
    write_table(table, parquet)
    with replacing(text) as temporary:
        table.to_csv(temporary, index=False)
    return [parquet, text]


def _table(grid: Grid, cell: Cell) -> Path:
    """The readings where a notebook writes some, else its only table."""
    had = read_json(grid.path("record", cell.name))["parameters"]
    if any(had.get(key) != value for key, value in cell.values.items()):
        raise NoTableError(
            "it was made with other parameters, and nobody remembers; "
            f"delete {grid.path('record', cell.name)} and run the grid again"
        )
    folder = grid.path("results", cell.name) / "tables"
    tables = sorted(folder.glob("*.parquet"))
    chosen = [path for path in tables if path.stem.endswith("-readings")] or tables
    if len(chosen) != 1:
        names = ", ".join(path.name for path in chosen) or "none"
        raise NoTableError(
            f"its tables in {folder}: {names}; one, or one that ends in -readings, is needed"
        )
    return chosen[0]


def _headed(grid: Grid, cell: Cell, table: pd.DataFrame, taken: set[str]) -> pd.DataFrame:
    head = {"cell": cell.name} | ({"case": cell.label} if cell.label else {})
    head |= {name: cell.values[name] for name in grid.varied}
    columns = {
        f"parameter_{name}" if name in taken else name: _plain(value)
        for name, value in head.items()
    }
    return pd.concat([pd.DataFrame(columns, index=table.index), table], axis=1)


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value
