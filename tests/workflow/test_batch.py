"""A grid from the file to its summary: run, resumed, cut off, and beside plain papermill."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made.checkouts import copied, library
from made.grids import NO_NUMBERS, NUMBERS, grid_checkout, shards_checkout, write_grid
from made.notebooks import outputs
from saliency_sanity.book.cli import main

WORDS = ["grid", "grids/small.yaml", "--cores", "2"]
RUN = [sys.executable, "-m", "saliency_sanity", *WORDS]

pytestmark = pytest.mark.slow


def grid(folder: Path, *words: str) -> subprocess.CompletedProcess:
    command = [*RUN, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def told(folder: Path, *words: str) -> str:
    """What a dry run prints."""
    said = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(said):
        assert main([*WORDS, "--dry-run", *words]) == 0
    return said.getvalue()


def states(said: str) -> dict[str, str]:
    """What it says of each cell."""
    return dict(re.findall(r"^  (one\S*): (.+)$", said, flags=re.MULTILINE))


def planned(folder: Path) -> dict[str, str]:
    return states(told(folder))


def noted(folder: Path, unfinished: int) -> None:
    """Wait until Snakemake has noted that all but so many of the started outputs are finished."""
    deadline = time.monotonic() + 60
    while len(list((folder / ".snakemake" / "incomplete").iterdir())) != unfinished:
        assert time.monotonic() < deadline, "Snakemake does not note what is finished"
        time.sleep(0.1)


def summary(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "results/grids/small/summary.parquet")


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    folder = grid_checkout(tmp_path_factory.mktemp("tree"))
    said = grid(folder)
    assert said.returncode == 0, said.stderr
    assert "2 of 2 cells done" in said.stdout
    return folder


def test_a_grid_leaves_notebooks_tables_and_one_summary(tree):
    small = tree / "results" / "grids" / "small"
    table = summary(tree)
    assert table["cell"].tolist() == ["one-count=1", "one-count=2", "one-count=2"]
    assert table["count"].tolist() == [1, 2, 2]
    pd.testing.assert_frame_equal(pd.read_csv(small / "summary.csv"), table, check_dtype=False)
    for name in ("one-count=1", "one-count=2"):
        assert "rate = 2.0" in (small / "notebooks" / f"{name}.ipynb").read_text()
        assert json.loads((small / "records" / f"{name}.json").read_text())["threads"] == 1
        assert (small / "results" / name / "tables" / "one.parquet").is_file()
        assert not (small / "results" / name / "store").exists()
    assert (tree / "results" / "store" / "plain").is_file(), "all cells have one store"
    assert json.loads((small / "failures.json").read_text()) == []


def test_only_what_a_change_touches_runs_again(tree):
    write_grid(tree, parameters={"rate": 3})
    assert set(planned(tree).values()) == {"to run again: parameters changed"}
    write_grid(tree)
    library(tree, NO_NUMBERS, "one = 2\n")
    record = tree / "results/grids/small/records/one-count=2.json"
    record.rename(tree / "kept.json")
    found = planned(tree)
    assert found["one-count=1"] == "done", "how tables are joined is no reason"
    assert found["one-count=2"] == "to run", "its results are gone"
    (tree / "kept.json").rename(record)
    library(tree, NUMBERS, "one = 2\n")
    changed = "to run again: notebook, networks, library or own files changed"
    assert set(planned(tree).values()) == {changed}
    library(tree, NUMBERS)
    assert "2 cells of one, 2 done, 0 to run" in grid(tree).stdout


def test_new_cells_run_beside_the_others_and_their_time_comes_from_the_runs_that_were(tree):
    write_grid(tree, grid={"count": [1, 4, 5]})
    said = told(tree)
    write_grid(tree)
    assert states(said) == {"one-count=1": "done", "one-count=4": "to run", "one-count=5": "to run"}
    seconds = [
        json.loads(path.read_text())["seconds"]
        for path in (tree / "results/grids/small/records").iterdir()
    ]
    (guess,) = re.findall(r"Roughly (\d+) s with 2 at a time", said)
    assert min(seconds) - 1 <= int(guess) <= max(seconds) + 1


def test_a_failing_cell_is_named_and_stops_no_other(tmp_path):
    folder = grid_checkout(tmp_path, grid={"name": ["bad", "plain"]})
    said = grid(folder)
    assert said.returncode == 1
    assert "unknown, this notebook has not run here yet" in said.stdout
    assert "1 of 2 cells done" in said.stdout
    last = said.stderr.strip().splitlines()[-2:]
    assert last[0].startswith("error: 1 of 2 cells failed")
    assert last[1].startswith("  one-name=bad: ")
    assert "failed in cell 3: ValueError: no such thing [results/grids/small/logs/one" in last[1]
    small = folder / "results" / "grids" / "small"
    (failure,) = json.loads((small / "failures.json").read_text())
    assert failure["cell"] == "one-name=bad"
    assert "no such thing" in Path(folder / failure["kept"]).read_text()
    assert set(summary(folder)["name"]) == {"plain"}
    assert not (small / "results" / "one-name=bad").exists()

    # The other way round: what an earlier notebook made is in no summary.
    source = folder / "notebooks" / "one.ipynb"
    source.write_text(source.read_text().replace('name == \\"bad\\"', 'name == \\"plain\\"'))
    assert grid(folder).returncode == 1
    assert set(summary(folder)["name"]) == {"bad"}
    assert [path.stem for path in (small / "records").iterdir()] == ["one-name=bad"]
    (failure,) = json.loads((small / "failures.json").read_text())
    assert failure["cell"] == "one-name=plain"


def test_what_was_finished_when_it_was_stopped_is_kept(tmp_path):
    folder = grid_checkout(tmp_path, grid={"name": ["plain", "slow"]})
    first = subprocess.Popen(
        RUN,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    records = folder / "results/grids/small/records"
    slow = folder / "results/grids/small/logs/one-name=slow.ipynb"
    deadline = time.monotonic() + 120
    while not ((records / "one-name=plain.json").exists() and slow.exists()):
        assert first.poll() is None, "it ended before it was stopped"
        assert time.monotonic() < deadline, "the first cell does not finish"
        time.sleep(0.1)
    noted(folder, 3)
    again = grid(folder)
    assert (again.returncode, "'small' is being run already" in again.stderr) == (2, True)
    os.killpg(first.pid, signal.SIGINT)
    assert first.wait(timeout=60) == 130
    finished = (records / "one-name=plain.json").stat().st_mtime_ns
    assert not (records / "one-name=slow.json").exists()

    (folder / "go").touch()
    said = grid(folder)
    assert said.returncode == 0, said.stderr
    assert "2 cells of one, 1 done, 1 to run" in said.stdout
    assert (records / "one-name=plain.json").stat().st_mtime_ns == finished
    assert (folder / "results" / "store" / "plain").is_file(), "no link was followed to delete"
    table = summary(folder)
    assert table["name"].tolist() == ["plain"] * 3 + ["slow"] * 3
    assert table["value"].iloc[:3].tolist() == table["value"].iloc[3:].tolist()


def test_plain_papermill_gives_the_same_numbers(tree):
    papermill = [sys.executable, "-m", "papermill", "--kernel", "python3"]
    values = ["-p", "rate", "2", "-p", "count", "2", "-p", "results", "plain"]
    subprocess.run(
        [*papermill, "notebooks/one.ipynb", "plain.ipynb", *values],
        cwd=tree, check=True, capture_output=True,
    )  # fmt: skip
    found = pd.read_parquet(tree / "plain" / "tables" / "one.parquet")
    rows = summary(tree).query("cell == 'one-count=2'")[["draw", "value"]].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, rows, check_exact=True)


def test_one_cell_can_be_run_without_snakemake(tmp_path, monkeypatch, capsys):
    folder = grid_checkout(tmp_path)
    monkeypatch.chdir(folder / "grids")
    assert main(["grid", "small.yaml", "--cell", "one-count=2", "--threads", "1"]) == 0
    assert "one-count=2: done in" in capsys.readouterr().out
    small = folder / "results" / "grids" / "small"
    assert outputs(small / "notebooks" / "one-count=2.ipynb") == ""
    assert (small / "results" / "one-count=2" / "tables" / "one.parquet").is_file()
    assert main(["grid", "small.yaml", "--cell", "one-count=3"]) == 2
    assert "unknown cell 'one-count=3'. Nearest: one-count=2" in capsys.readouterr().err


def test_more_words_reach_snakemake(tree):
    (tree / "place").mkdir()
    (tree / "place" / "config.yaml").write_text("cores: 2\nforceall: true\n")
    words = [*RUN[:-2], "--dry-run", "--snakemake-profile", "place"]
    said = subprocess.run(words, cwd=tree, capture_output=True, text=True, check=True)
    assert "0 done, 2 to run" in said.stdout
    assert "how much of it at a time is the executor's to say" in said.stdout
    said = grid(tree, "--", "--no-such-option")
    assert said.returncode == 2
    assert "error: Snakemake: " in said.stderr
    assert "--no-such-option" in said.stderr


def test_a_failing_shard_is_the_failure_of_its_cell_and_of_no_other(tmp_path):
    """Shards come first, what they have done is kept, and they leave the cell as it is."""
    folder = shards_checkout(tmp_path, grid={"name": ["bad", "plain"]})
    said = grid(folder)
    assert said.returncode == 1
    assert "2 cells of one in 2 shards each, 0 done, 2 to run" in said.stdout
    last = said.stderr.strip().splitlines()[-1]
    assert last.startswith("  one-name=bad: shard 2/2: notebook one.ipynb failed in cell 3: Value")
    assert "no such map [results/grids/small/shards/one-name=bad/2of2.log.ipynb]" in last
    assert set(summary(folder)["name"]) == {"plain"}
    shards = folder / "results/grids/small/shards/one-name=bad"
    done = (shards / "1of2.json").stat().st_mtime_ns
    (folder / "mended").touch()
    said = grid(folder)
    assert said.returncode == 0, said.stderr
    assert "2 cells of one in 2 shards each, 1 done, 1 to run" in said.stdout
    assert (shards / "1of2.json").stat().st_mtime_ns == done, "only what failed runs again"

    store = folder / "results" / "store"
    parts = {f"{name}-{shard}of2" for name in ("bad", "plain") for shard in (1, 2)}
    assert {path.name for path in store.iterdir()} == {"bad", "plain"} | parts
    record = json.loads((shards / "1of2.json").read_text())
    assert record["parameters"]["shard"] == "1/2"
    assert "to_parquet" not in (shards / "1of2.ipynb").read_text()
    assert not (shards / "1of2").exists()
    table = summary(folder)
    assert table["name"].tolist() == ["bad"] * 3 + ["plain"] * 3
    values = 2 * np.random.default_rng(3).normal(size=3)  # those of a cell without shards
    assert table["value"].tolist() == [*values, *values]

    write_grid(folder, shards=2, parameters={"rate": 3}, grid={"name": ["plain"]})
    assert planned(folder) == {"one-name=plain": "to run again: parameters changed"}
    write_grid(folder, shards=2, grid={"name": ["bad", "other"]})
    assert planned(folder) == {"one-name=bad": "done", "one-name=other": "to run"}


def test_shards_that_were_finished_when_all_was_killed_are_kept(tmp_path):
    folder = shards_checkout(tmp_path, grid={"name": ["slow"]})
    first = subprocess.Popen(
        RUN, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    shards = folder / "results/grids/small/shards/one-name=slow"
    deadline = time.monotonic() + 120
    while not ((shards / "1of2.json").exists() and (shards / "2of2.log.ipynb").exists()):
        assert first.poll() is None, "it ended before it was stopped"
        assert time.monotonic() < deadline, "the first shard does not finish"
        time.sleep(0.1)
    noted(folder, 1)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    finished = (shards / "1of2.json").stat().st_mtime_ns
    (folder / "go").touch()
    said = grid(folder)
    assert said.returncode == 0, said.stderr
    assert (shards / "1of2.json").stat().st_mtime_ns == finished
    assert (folder / "results" / "store" / "slow-1of2").is_file()
    assert summary(folder)["name"].tolist() == ["slow"] * 3


def test_a_shard_can_be_run_without_snakemake(tmp_path, monkeypatch, capsys):
    folder = shards_checkout(tmp_path)
    monkeypatch.chdir(folder)
    words = ["grid", "grids/small.yaml", "--shard", "2/2"]
    assert main([*words, "--cell", "one-count=2"]) == 0
    assert "one-count=2, shard 2/2: done in" in capsys.readouterr().out
    assert (folder / "results/store/plain-2of2").is_file()
    assert main(words) == 2
    assert "--shard is of one cell; name it with --cell" in capsys.readouterr().err


REAL = {
    "notebook": "02_cascading_randomization",
    "parameters": {
        **{"model": "cnn", "weights": "none", "images": "skimage", "image_count": 4},
        **{"stage_limit": 2, "seeds": 2, "shown": 1, "steps": 2, "group": 2},
        **{"methods": ["gradient", "grad_cam", "input"], "choices": [], "metrics": ["ssim"]},
    },
    "grid": {"scheme": ["permutation"]},
}


def test_the_cascade_in_shards_gives_the_same_tables(tmp_path):
    tables, parts = [], []
    for shards in (1, 2):
        folder = grid_checkout(tmp_path / str(shards), **REAL, shards=shards)
        copied(folder, f"notebooks/{REAL['notebook']}.ipynb")
        said = grid(folder)
        assert said.returncode == 0, said.stderr
        files = sorted((folder / "results/grids/small/results").glob("*/tables/*.parquet"))
        assert len(files) == 3
        tables.append([summary(folder), *map(pd.read_parquet, files)])
        for path in (folder / "results/grids/small/shards").glob("*/*of2.ipynb"):
            parts.append(re.search(r"(\d) of 2 groups", outputs(path))[1])
    for ours, theirs in zip(*tables, strict=True):
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    assert sorted(parts) == ["1", "1"]
