import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from generated import notebook, outputs, profile
from saliency_sanity.parameters import (
    check_parameters,
    profile_names,
    profile_parameters,
    read_parameters,
    read_profile,
)

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "config"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

pytestmark = pytest.mark.slow


def plant(folder: Path) -> Path:
    """A repository with two small notebooks, this workflow, and a book from before."""
    notebook(folder / "notebooks" / "one.ipynb", "print('one', count)")
    notebook(folder / "notebooks" / "two.ipynb", "print('two', count)")
    profile(folder / "config", "quick", one={"count": 1}, two={"count": 2})
    for name in ("Makefile", "requirements.lock"):
        shutil.copyfile(ROOT / name, folder / name)
    shutil.copytree(ROOT / "workflow", folder / "workflow")
    (folder / "_config.yml").write_text("title: small\n")
    (folder / "_toc.yml").write_text("format: jb-book\nroot: book/index\n")
    for module in ("maps", "book"):
        path = folder / "lib" / "saliency_sanity" / f"{module}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("one = 1\n")
    (folder / "build" / "html").mkdir(parents=True)
    (folder / "build" / "html" / "index.html").write_text("the previous book")
    return folder


def snakemake(folder: Path, *words: str, profile: str = "quick") -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile"]
    command += ["--cores", "2", "--rerun-incomplete", *words, "--config", f"profile={profile}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def planned(folder: Path) -> set[str]:
    """Names of the notebooks that a dry run would run."""
    said = snakemake(folder, "--dry-run", "notebooks")
    assert said.returncode == 0, said.stderr
    text = said.stdout + said.stderr
    return {name for name in ("one", "two") if f"input: notebooks/{name}.ipynb" in text}


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """Both notebooks have run, at the same time."""
    folder = plant(tmp_path_factory.mktemp("tree"))
    said = snakemake(folder, "notebooks")
    assert said.returncode == 0, said.stderr
    return folder


def test_the_notebooks_run_in_the_profile_into_the_staged_tree(tree):
    staged = tree / "build" / "stage" / "notebooks"
    assert outputs(staged / "one.ipynb") == "one 1\n"
    assert outputs(staged / "two.ipynb") == "two 2\n"
    assert (tree / "results" / "runs" / "one.json").is_file()


def test_only_what_a_change_touches_runs_again(tree):
    library = tree / "lib" / "saliency_sanity"
    profile(tree / "config", "quick", one={"count": 5}, two={"count": 2})
    (library / "book.py").write_text("one = 2\n")
    assert planned(tree) == {"one"}, "its scale changed; how the site is drawn is no reason"
    profile(tree / "config", "quick", one={"count": 1}, two={"count": 2})
    (library / "maps.py").write_text("one = 2\n")
    assert planned(tree) == {"one", "two"}
    (library / "maps.py").write_text("one = 1\n")
    record = tree / "results" / "runs" / "two.json"
    record.rename(tree / "kept.json")
    assert planned(tree) == {"two"}, "its results are gone"
    (tree / "kept.json").rename(record)
    assert planned(tree) == set()


def test_a_failing_notebook_is_named_and_loses_nothing(tmp_path):
    folder = plant(tmp_path)
    staged = folder / "build" / "stage" / "notebooks" / "two.ipynb"
    staged.parent.mkdir(parents=True)
    staged.write_text("the previous copy")
    notebook(folder / "notebooks" / "two.ipynb", "raise ValueError('no such thing')")
    said = snakemake(folder, "--keep-going")
    assert said.returncode != 0
    assert "two.ipynb failed in cell 2: ValueError: no such thing" in said.stderr
    assert (folder / "build" / "html" / "index.html").read_text() == "the previous book"
    assert staged.read_text() == "the previous copy"
    kept = folder / "build" / "logs" / "two.ipynb"
    assert "build/logs/two.ipynb" in said.stderr
    assert "injected-parameters" in kept.read_text()
    assert (staged.parent / "one.ipynb").is_file(), "the other notebook finishes"
    assert planned(folder) == {"two"}


def test_a_book_that_cannot_be_built_leaves_the_previous_one(tree):
    said = snakemake(tree, "all")
    assert said.returncode != 0
    assert "error: " in said.stderr
    assert (tree / "build" / "html" / "index.html").read_text() == "the previous book"


def test_bad_input_is_told_before_anything_runs(tmp_path):
    folder = plant(tmp_path)
    said = snakemake(folder, "notebooks", profile="quikc")
    assert said.returncode != 0
    assert "error: unknown profile 'quikc'. Nearest: quick" in said.stderr
    assert "Traceback" not in said.stderr
    assert not (folder / "build" / "logs").exists()


def test_after_a_kill_make_goes_on_with_what_is_missing(tmp_path):
    folder = plant(tmp_path)
    wait = "import time, pathlib\nwhile not pathlib.Path('go').exists(): time.sleep(0.1)"
    notebook(folder / "notebooks" / "two.ipynb", wait, "print('two', count)")
    command = ["make", "site", f"VENV={sys.prefix}", "JOBS=2"]
    first = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    one = folder / "build" / "stage" / "notebooks" / "one.ipynb"
    record = folder / "results" / "runs" / "one.json"
    unfinished = folder / ".snakemake" / "incomplete"
    deadline = time.monotonic() + 120
    while not (record.exists() and len(list(unfinished.iterdir())) == 2):
        assert first.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline, "the first notebook does not finish"
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    (folder / "go").touch()
    finished = one.stat().st_mtime_ns
    assert list((folder / ".snakemake" / "locks").iterdir()), "a killed run leaves its lock"

    said = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    # The small repository has no page to build, so the last step fails; the notebooks do not.
    assert "going on from what it had finished" in said.stdout
    assert outputs(one.with_name("two.ipynb")) == "two 2\n"
    assert one.stat().st_mtime_ns == finished, "what was finished does not run again"


def test_the_profiles_are_those_that_the_readme_names():
    assert profile_names(CONFIG) == ["paper", "quick", "smoke"]


@pytest.mark.parametrize("name", profile_names(CONFIG))
@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_profile_fits_every_notebook(name, source):
    profile_parameters(name, CONFIG, source)


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
def test_full_scale_is_the_notebooks_own(source):
    declared = read_parameters(source)
    given = check_parameters(declared, read_profile("paper", CONFIG)[source.stem], "paper")
    assert given == {name: declared[name].default for name in given}


def test_profiles_change_the_scale_only():
    """Every profile names the same notebooks, and sets nothing but how many of something."""
    profiles = [read_profile(name, CONFIG) for name in profile_names(CONFIG)]
    assert {frozenset(one) for one in profiles} == {frozenset(path.stem for path in NOTEBOOKS)}
    numbers = [value for one in profiles for values in one.values() for value in values.values()]
    assert numbers
    assert all(type(value) is int and value >= 0 for value in numbers)
