"""How long a grid will take: by the most similar run, and honest where there is none."""

from dataclasses import replace
from pathlib import Path

import pytest
from made.grids import grid_here
from saliency_sanity._files import write_json
from saliency_sanity.book.grid.estimate import Estimate, estimate
from saliency_sanity.book.grid.spec import Grid


@pytest.fixture
def grid(tmp_path, monkeypatch) -> Grid:
    monkeypatch.chdir(tmp_path)
    return grid_here(grid={"count": [1, 2], "name": ["a", "b"]})


def ran(path: str, seconds: float, notebook: str = "one.ipynb", day: int = 1, **parameters) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    started = f"2026-01-{day:02}T00:00:00+00:00"
    record = {"notebook": notebook, "started": started, "seconds": seconds}
    write_json(record | {"parameters": parameters}, path)


def test_the_most_similar_run_counts_and_of_several_the_last(grid):
    ran("results/runs/one.json", 10, day=1, count=1, name="plain")
    ran("results/runs/one-again.json", 20, day=3, count=1, name="plain")
    ran("results/runs/one-before.json", 30, day=2, count=1, name="plain")
    ran("results/grids/other/records/one-count=2.json", 40, day=1, count=2, name="a")
    ran("results/runs/two.json", 99, "two.ipynb", day=9, count=1, name="a")
    Path("results/runs/broken.json").write_text("{")
    assert estimate(grid, grid.cells, 2).seconds == (20, 20, 40, 40)
    assert estimate(grid, grid.cells[2:], 2).seconds == (40, 40)


def test_shards_count_with_their_cell_and_share_its_work(grid):
    ran("results/grids/other/records/one-rate=0.5.json", 10, count=1)
    for shard, seconds in (("1of2", 100), ("2of2", 90)):
        ran(f"results/grids/other/shards/one-rate=0.5/{shard}.json", seconds, count=1)
    ran("results/grids/other/shards/one-rate=0.75/1of2.json", 999, count=1)
    found = estimate(replace(grid, shards=4), grid.cells[:1], 8)
    assert found.seconds == (200,)
    assert str(found).startswith("Roughly 50 s with 8 at a time (roughly 3 min of work")
    assert str(replace(found, jobs=2)).startswith("Roughly 2 min with 2 at a time")


def test_without_a_run_nothing_is_made_up(grid):
    ran("results/runs/two.json", 99, "two.ipynb")
    assert "unknown, this notebook has not run here yet" in str(estimate(grid, grid.cells, 2))


@pytest.mark.parametrize(
    ("seconds", "jobs", "says"),
    [
        ((30.0, 30.0, 30.0), 1, "Roughly 2 min with 1 at a time (roughly 2 min of work"),
        ((30.0, 30.0), 4, "Roughly 30 s with 4 at a time"),
        ((10.0, 10.0, 70.0), 2, "Roughly 70 s with 2 at a time"),
        ((3600.0,) * 20, 4, "Roughly 5.0 h with 4 at a time (roughly 20.0 h of work"),
        ((30.0, 30.0), None, "Roughly 60 s of work, judged by earlier runs; how much of it at a"),
    ],
)
def test_it_is_shared_among_jobs_and_no_shorter_than_the_longest(seconds, jobs, says):
    assert str(Estimate(seconds, jobs)).startswith(says)
