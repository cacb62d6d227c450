"""Why a cell is not done: by what its jobs, shards among them, have left."""

from dataclasses import replace
from pathlib import Path

import pytest
from made.grids import grid_here
from saliency_sanity.book.grid.failures import failure, forget
from saliency_sanity.book.grid.spec import Grid

NAME = "one-count=1.5"
SHARDS = Path("results/grids/small/shards") / NAME


@pytest.fixture
def grid(tmp_path, monkeypatch) -> Grid:
    """A grid with three shards a cell."""
    monkeypatch.chdir(tmp_path)
    return grid_here('shard: str = ""\ngroup: int = 2\n', shards=3, grid={"count": [1]})


def left(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_cell_of_which_nothing_was_started_says_so(grid):
    found = failure(grid, NAME)
    assert (found.cell, found.kept) == (NAME, None)
    assert str(found) == f"{NAME}: was not started, or ended at once; Snakemake says why above"
    for kind in ("log", "partial"):  # as Snakemake leaves them
        left(grid.path(kind, NAME))
    assert failure(grid, NAME) == found


def test_the_last_error_is_the_reason_and_the_copy_is_kept_rather_than_the_log(grid):
    log = left(grid.path("log", NAME), "error: one\nerror: two. What ran until then is here\nend\n")
    assert str(failure(grid, NAME)) == f"{NAME}: two [{log}]"
    kept = left(grid.path("partial", NAME), "{}")
    assert failure(grid, NAME).kept == kept
    log.write_text("it begins\nKilled\n\n")
    assert failure(grid, NAME).reason.endswith("or out of time or memory; its last words: Killed")
    log.write_text("")
    assert failure(grid, NAME).reason.endswith("killed, or out of time or memory")


def test_a_shard_that_is_not_done_is_the_reason_where_the_cell_did_not_start(grid):
    left(SHARDS / "1of3.json")
    left(SHARDS / "1of3.log", "error: of a warning that was survived")
    log = left(SHARDS / "2of3.log", "error: no room")
    left(SHARDS / "3of3.log", "error: no room either")
    assert str(failure(grid, NAME)) == f"{NAME}: shard 2/3: no room [{log}]"
    kept = left(SHARDS / "2of3.log.ipynb", "{}")
    assert failure(grid, NAME).kept == kept
    left(SHARDS / "2of3.json")
    assert failure(grid, NAME).reason == "shard 3/3: no room either"
    left(grid.path("log", NAME), "error: of its own")
    assert failure(grid, NAME).reason == "of its own"


def test_what_earlier_runs_have_left_is_forgotten(grid):
    logs = [left(grid.path(kind, NAME)) for kind in ("log", "partial")]
    logs += [left(SHARDS / name) for name in ("2of3.log", "2of3.log.ipynb")]
    kept = [left(SHARDS / "1of3.json"), left(grid.path("record", NAME))]
    kept.append(left(SHARDS.with_name("one-count=1") / "1of2.json"))
    others = [left(SHARDS / name) for name in ("1of2.json", "1of2.log", "4of33.json", "1of2.ipynb")]
    forget(grid, NAME)
    assert not any(path.exists() for path in [*logs, *others])
    assert all(path.exists() for path in kept)
    forget(replace(grid, shards=1), NAME)
    assert [path.exists() for path in kept] == [False, True, True]
