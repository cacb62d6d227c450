"""A grid from the file to its summary: run, resumed, cut off, and beside plain papermill."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from made.notebooks import notebook, outputs, tag
from made.places import ROOT
from saliency_sanity.book.cli import main

RUN = [sys.executable, "-m", "saliency_sanity", "grid", "grids/small.yaml", "--cores", "2"]

pytestmark = pytest.mark.slow

PARAMETERS = """\
count: int = 3  # rows
rate: float = 0.5  # scale
name: str = "plain"
results: str = "results"
"""
WRITES = """\
from pathlib import Path
import numpy as np
import pandas as pd

if name == "bad":
    raise ValueError("no such thing")
while name == "slow" and not Path("go").exists():
    time.sleep(0.1)
(Path(results) / "tables").mkdir(parents=True, exist_ok=True)
values = rate * np.random.default_rng(count).normal(size=count)
table = pd.DataFrame({"draw": range(count), "value": values})
table.to_parquet(Path(results) / "tables" / "one.parquet")
store = Path(results) / "store"
store.mkdir(exist_ok=True)
(store / name).touch()
"""
GRID = {"notebook": "one", "parameters": {"rate": 2}, "grid": {"count": [1, 2]}}


def plant(folder: Path, **content) -> Path:
    """A checkout with one notebook, a grid, and this workflow."""
    # What a notebook imports counts, whether or not the line is reached.
    first = "import time\nif count < 0:\n    import saliency_sanity.similarity.prepare"
    notebook(folder / "notebooks" / "one.ipynb", first, WRITES, parameters=PARAMETERS)
    shutil.copytree(ROOT / "workflow", folder / "workflow")
    shutil.copyfile(ROOT / "requirements.lock", folder / "requirements.lock")
    (folder / "_config.yml").write_text("title: small\n")
    library = folder / "lib" / "saliency_sanity"
    for module in ("similarity/prepare.py", "book/grid/summary.py"):
        (library / module).parent.mkdir(parents=True)
        (library / module).write_text("one = 1\n")
    (folder / "grids").mkdir()
    return write(folder, **content)


def write(folder: Path, **content) -> Path:
    (folder / "grids" / "small.yaml").write_text(yaml.safe_dump(GRID | content, sort_keys=False))
    return folder


def grid(folder: Path, *words: str) -> subprocess.CompletedProcess:
    command = [*RUN, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def planned(folder: Path) -> dict[str, str]:
    """What a dry run says of each cell."""
    said = grid(folder, "--dry-run")
    assert said.returncode == 0, said.stderr
    return dict(re.findall(r"^  (one\S*): (.+)$", said.stdout, flags=re.MULTILINE))


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
    folder = plant(tmp_path_factory.mktemp("tree"))
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
    library = tree / "lib" / "saliency_sanity"
    assert set(planned(tree).values()) == {"done"}
    assert "2 cells of one, 2 done, 0 to run" in grid(tree).stdout

    write(tree, grid={"count": [1, 4]})
    assert planned(tree) == {"one-count=1": "done", "one-count=4": "to run"}
    write(tree, cases={"far": {"rate": 9}, "near": {"rate": 2}})
    assert set(planned(tree).values()) == {"to run"}, "other names"
    write(tree, parameters={"rate": 3})
    assert set(planned(tree).values()) == {"to run again: parameters changed"}
    write(tree)
    (library / "book/grid/summary.py").write_text("one = 2\n")
    assert set(planned(tree).values()) == {"done"}, "how tables are joined is no reason"
    (library / "similarity/prepare.py").write_text("one = 2\n")
    changed = "to run again: notebook, networks, library or own files changed"
    assert set(planned(tree).values()) == {changed}
    (library / "similarity/prepare.py").write_text("one = 1\n")
    record = tree / "results/grids/small/records/one-count=2.json"
    record.rename(tree / "kept.json")
    assert planned(tree) == {"one-count=1": "done", "one-count=2": "to run"}
    (tree / "kept.json").rename(record)
    assert set(planned(tree).values()) == {"done"}


def test_the_estimate_comes_from_the_runs_that_were(tree):
    write(tree, grid={"count": [1, 4, 5]})
    said = grid(tree, "--dry-run").stdout
    write(tree)
    seconds = [
        json.loads(path.read_text())["seconds"]
        for path in (tree / "results/grids/small/records").iterdir()
    ]
    (told,) = re.findall(r"Roughly (\d+) s with 2 at a time", said)
    assert min(seconds) - 1 <= int(told) <= max(seconds) + 1


def test_a_failing_cell_is_named_and_stops_no_other(tmp_path):
    folder = plant(tmp_path, grid={"name": ["bad", "plain"]})
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_what_was_finished_when_it_was_stopped_is_kept(tmp_path, number):
    folder = plant(tmp_path, grid={"name": ["plain", "slow"]})
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
    os.killpg(first.pid, number)
    if number == signal.SIGINT:
        assert first.wait(timeout=60) == 130
    first.wait()
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


def test_plain_papermill_in_a_loop_gives_the_same_numbers(tree):
    loop = """
        for count in 1 2; do
            papermill --kernel python3 notebooks/one.ipynb loop-$count.ipynb \
                -p rate 2 -p count $count -p results loop-$count
        done
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        loop, shell=True, cwd=tree, env=os.environ | {"PATH": path}, check=True, capture_output=True
    )
    found = pd.concat(
        [pd.read_parquet(tree / f"loop-{count}" / "tables" / "one.parquet") for count in (1, 2)],
        ignore_index=True,
    )
    pd.testing.assert_frame_equal(found, summary(tree)[["draw", "value"]], check_exact=True)


def test_one_cell_can_be_run_without_snakemake(tmp_path, monkeypatch, capsys):
    folder = plant(tmp_path)
    monkeypatch.chdir(folder / "grids")
    assert main(["grid", "small.yaml", "--cell", "one-count=2", "--threads", "1"]) == 0
    assert "one-count=2: done in" in capsys.readouterr().out
    small = folder / "results" / "grids" / "small"
    assert outputs(small / "notebooks" / "one-count=2.ipynb") == ""
    assert (small / "results" / "one-count=2" / "tables" / "one.parquet").is_file()
    assert main(["grid", "small.yaml", "--cell", "one-count=3"]) == 2
    assert "unknown cell 'one-count=3'. Nearest: one-count=2" in capsys.readouterr().err


def test_more_words_reach_snakemake(tree):
    said = grid(tree, "--dry-run", "--", "--forceall")
    assert "0 done, 2 to run" in said.stdout
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


SHARDS = """\
if shard:
    if name == "bad" and shard == "2/2" and not Path("mended").exists():
        raise ValueError("no such map")
    while name == "slow" and shard == "2/2" and not Path("go").exists():
        time.sleep(0.1)
    store = Path(results) / "store"
    (store / f"{name}-{shard.replace('/', 'of')}").touch()
"""


def plant_shards(folder: Path, **content) -> Path:
    """The same with shards of each cell."""
    plant(folder, shards=2, **content)
    source = folder / "notebooks" / "one.ipynb"
    declared = PARAMETERS + 'block: int = 4\nshard: str = ""\n'
    first = "import time\nfrom pathlib import Path"
    notebook(source, first, SHARDS, WRITES.replace('"bad"', '"worse"'), parameters=declared)
    tag(source, 2, "shard")
    return folder


def test_shards_come_first_and_leave_the_cell_as_it_is(tree, tmp_path):
    folder = plant_shards(tmp_path)
    said = grid(folder)
    assert said.returncode == 0, said.stderr
    assert "2 cells of one in 2 shards each, 0 done, 2 to run" in said.stdout
    pd.testing.assert_frame_equal(summary(folder), summary(tree), check_exact=True)
    store = folder / "results" / "store"
    assert {path.name for path in store.iterdir()} == {"plain", "plain-1of2", "plain-2of2"}
    shards = folder / "results/grids/small/shards/one-count=1"
    record = json.loads((shards / "1of2.json").read_text())
    assert record["parameters"]["shard"] == "1/2"
    assert "to_parquet" not in (shards / "1of2.ipynb").read_text()
    assert not (shards / "1of2").exists()
    assert set(planned(folder).values()) == {"done"}

    write(folder, shards=2, parameters={"rate": 3})
    assert set(planned(folder).values()) == {"to run again: parameters changed"}
    write(folder, shards=2, grid={"count": [1, 4]})
    assert planned(folder) == {"one-count=1": "done", "one-count=4": "to run"}


def test_a_failing_shard_is_the_failure_of_its_cell_and_of_no_other(tmp_path):
    folder = plant_shards(tmp_path, grid={"name": ["bad", "plain"]})
    said = grid(folder)
    assert said.returncode == 1
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
    assert set(summary(folder)["name"]) == {"bad", "plain"}


def test_shards_that_were_finished_when_all_was_killed_are_kept(tmp_path):
    folder = plant_shards(tmp_path, grid={"name": ["slow"]})
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
    folder = plant_shards(tmp_path)
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
        **{"model": "cnn", "weights": "none", "images": "skimage", "image_count": 3},
        **{"stage_limit": 2, "seeds": 2, "shown": 1, "resamples": 100, "steps": 2, "block": 1},
        **{"methods": ["gradient", "grad_cam", "input"], "choices": [], "metrics": ["ssim"]},
    },
    "grid": {"scheme": ["permutation"]},
}


def test_the_cascade_in_shards_gives_the_same_tables(tmp_path):
    tables, parts = [], []
    for shards in (1, 2):
        folder = plant(tmp_path / str(shards), **REAL, shards=shards)
        shutil.copy(ROOT / "notebooks" / f"{REAL['notebook']}.ipynb", folder / "notebooks")
        said = grid(folder)
        assert said.returncode == 0, said.stderr
        files = sorted((folder / "results/grids/small/results").glob("*/tables/*.parquet"))
        assert len(files) == 2
        tables.append([summary(folder), *map(pd.read_parquet, files)])
        for path in (folder / "results/grids/small/shards").glob("*/*of2.ipynb"):
            parts.append(re.search(r"(\d) of 3 blocks", outputs(path))[1])
    for ours, theirs in zip(*tables, strict=True):
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    assert sorted(parts) == ["1", "2"]
