import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made.notebooks import cases, notebook, outputs, profile, text
from made.places import ROOT
from saliency_sanity.book.runs.cases import all_copies
from saliency_sanity.book.runs.parameters import check_parameters, read_parameters
from saliency_sanity.book.runs.profiles import (
    profile_copies,
    profile_names,
    profile_networks,
    read_profile,
)
from saliency_sanity.subjects.training.checkpoints import read_record

CONFIG = ROOT / "config"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

pytestmark = pytest.mark.slow


LIBRARY = ("similarity/prepare", "plots/style", "book/runs/runner", "book/grid/run")
LIBRARY += ("book/site/build", "subjects/training/loop")


def plant(folder: Path) -> Path:
    """A repository with two small notebooks, this workflow, and a book from before."""
    # What a notebook imports counts, whether or not the line is reached.
    both = "if count < 0:\n    from saliency_sanity.similarity import prepare"
    chart = f"{both}\n    import saliency_sanity.plots.style"
    notebook(folder / "notebooks" / "one.ipynb", f"{chart}\nprint('one', count)")
    notebook(folder / "notebooks" / "two.ipynb", f"{both}\nprint('two', count)")
    profile(folder / "config", "quick", one={"count": 1}, two={"count": 2})
    for name in ("Makefile", "requirements.lock"):
        shutil.copyfile(ROOT / name, folder / name)
    shutil.copytree(ROOT / "workflow", folder / "workflow")
    (folder / "_config.yml").write_text("title: small\n")
    (folder / "_toc.yml").write_text("format: jb-book\nroot: book/index\n")
    for module in LIBRARY:
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


def planned(folder: Path, goal: str = "notebooks") -> set[str]:
    """Names of the copies and networks that a dry run would make."""
    said = snakemake(folder, "--dry-run", goal)
    assert said.returncode == 0, said.stderr
    made = re.findall(r"^ +output: ([^\s,]+)", said.stdout + said.stderr, flags=re.MULTILINE)
    return {Path(path).stem for path in made}


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


@pytest.mark.parametrize(
    ("module", "rerun"),
    [
        ("similarity/prepare", {"one", "two"}),
        ("book/runs/runner", {"one", "two"}),
        ("plots/style", {"one"}),
        # How the site is drawn, how grids run and how networks are trained is no reason.
        ("book/grid/run book/site/build subjects/training/loop", set()),
    ],
)
def test_an_edit_of_a_module_reruns_the_notebooks_that_import_it(tree, module, rerun):
    files = [tree / "lib" / "saliency_sanity" / f"{name}.py" for name in module.split()]
    for file in files:
        file.write_text("one = 2\n")
    assert planned(tree) == rerun
    for file in files:
        file.write_text("one = 1\n")


def test_only_what_a_change_touches_runs_again(tree):
    profile(tree / "config", "quick", one={"count": 5}, two={"count": 2})
    assert planned(tree) == {"one"}, "its scale changed"
    profile(tree / "config", "quick", one={"count": 1}, two={"count": 2})
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


CASED = 'count: int = 3\nname: str = "plain"\ncase: str = ""\npairs: int = 1\n'
PAIRS = [f"cnn-fashion_mnist{labels}{seed}" for labels in ("", "-permuted") for seed in ("", "-1")]
TINY = {"images": 20, "batch": 20, "epochs": 1}


@pytest.fixture(scope="module")
def cased(tmp_path_factory) -> Path:
    """A third notebook with cases, one of which needs a network and one runs in paper only."""
    folder = plant(tmp_path_factory.mktemp("cased"))
    source = notebook(
        folder / "notebooks" / "three.ipynb",
        "from pathlib import Path\nmodel = Path('results/models/mlp-fashion_mnist.safetensors')",
        "print(case, name, count, model.is_file())",
        parameters=CASED,
    )
    text(source, "# Three")
    write_cases(folder)
    write_profile(folder)
    said = snakemake(folder, "notebooks")
    assert said.returncode == 0, said.stderr
    assert "train mlp" in said.stdout + said.stderr, "nothing is seen of the training"
    return folder


def write_cases(folder: Path, **changed) -> None:
    photos = {"title": "Photographs", "parameters": {"name": "photos"}}
    mlp = {"title": "MLP", "needs": ["mlp"], "parameters": {"name": "mlp"}}
    paper = {"title": "At full scale", "needs": ["cnn"], "profiles": ["paper"]}
    pairs = {"title": "Pairs", "needs": ["cnn", "cnn-permuted"], "replicates": "pairs"}
    three = {"mlp": mlp, "photos": photos, "paper": paper, "pairs": pairs}
    for name, entry in changed.items():
        three[name] = three[name] | entry
    cases(folder / "notebooks", three=three)


def write_profile(folder: Path, pairs: int = 2, **recipe) -> None:
    entries = {"one": {"count": 1}, "two": {"count": 2}, "three": {"count": 4}}
    entries["three-photos"] = {"count": 5}
    entries["three-pairs"] = {"pairs": pairs}
    networks = {"mlp": TINY | recipe, "cnn": TINY, "cnn-permuted": TINY}
    profile(folder / "config", "quick", networks=networks, **entries)
    profile(folder / "config", "paper", networks=networks, one={}, two={}, three={})


def test_networks_are_trained_for_the_cases_that_need_them(cased):
    staged = cased / "build" / "stage" / "notebooks"
    assert outputs(staged / "three-mlp.ipynb") == "mlp mlp 4 True\n"
    assert outputs(staged / "three-photos.ipynb").startswith("photos photos 5 ")
    assert {path.stem for path in staged.glob("*.ipynb")} == {
        *("one", "two", "three-mlp", "three-photos", "three-pairs")
    }
    models = cased / "results" / "models"
    assert {path.name for path in models.iterdir()} == {
        f"{stem}.safetensors" for stem in ("mlp-fashion_mnist", *PAIRS)
    }
    assert read_record(models / "mlp-fashion_mnist.safetensors")["images"] == TINY["images"]
    hashes = set()
    for stem in PAIRS:
        record = read_record(models / f"{stem}.safetensors")
        labels = "permuted" if "-permuted" in stem else "true"
        assert (record["labels"], record["seeds"]) == (labels, [int(stem.endswith("-1"))])
        hashes.add(record["weights_hash"])
    assert len(hashes) == 4
    assert "train mlp" in (cased / "build" / "logs" / "train-mlp-fashion_mnist.log").read_text()
    assert (cased / "results" / "runs" / "three-mlp.json").is_file()


def test_only_the_cases_that_a_change_touches_run_again(cased):
    assert planned(cased) == set()
    training = cased / "lib" / "saliency_sanity" / "subjects" / "training" / "loop.py"
    training.write_text("one = 2\n")
    assert planned(cased) == {"mlp-fashion_mnist", *PAIRS, "three-mlp", "three-pairs"}
    training.write_text("one = 1\n")
    write_profile(cased, batch=10)
    assert planned(cased) == {"mlp-fashion_mnist", "three-mlp"}
    write_profile(cased, pairs=3)
    assert planned(cased) == {
        *("cnn-fashion_mnist-2", "cnn-fashion_mnist-permuted-2", "three-pairs")
    }
    write_profile(cased)
    write_cases(cased, photos={"parameters": {"name": "pictures"}})
    assert planned(cased) == {"three-photos"}
    write_cases(cased, mlp={"title": "Perceptron"})
    assert planned(cased) == {"three-mlp"}
    write_cases(cased, paper={"profiles": []})
    assert planned(cased) == {"three-paper"}, "it needs a network that is there"
    write_cases(cased)
    assert planned(cased) == set()


def test_a_copy_runs_again_when_the_file_of_the_method_that_it_names_changes(cased):
    own = cased / "mine" / "own.py"
    own.parent.mkdir()
    own.write_text("one = 1\n")
    write_cases(cased, photos={"parameters": {"name": "mine.own:method"}})
    goal = "build/stage/notebooks/three-photos.ipynb"
    assert snakemake(cased, goal).returncode == 0
    assert planned(cased) == set()
    own.write_text("one = 2\n")
    assert planned(cased) == {"three-photos"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: write_cases(folder, mlp={"needs": ["mpl"]}), "unknown network 'mpl'"),
        (lambda folder: write_profile(folder, epoch=1), "quick', mlp: unknown parameter 'epoch'"),
        (lambda folder: write_profile(folder, seed=1), "quick', mlp: 'seed' is not the profile's"),
        (lambda folder: write_profile(folder, pairs=0), "'pairs' of three takes 0 networks"),
        (lambda folder: write_cases(folder, mlp={"titel": "x"}), "unknown key 'titel'"),
    ],
)
def test_bad_cases_and_recipes_are_told_before_anything_runs(cased, change, says):
    change(cased)
    said = snakemake(cased, "--dry-run", "notebooks")
    write_cases(cased)
    write_profile(cased)
    assert said.returncode != 0
    assert says in said.stderr
    assert "Traceback" not in said.stderr


def test_what_is_after_all_others_runs_last_and_after_each_of_them(tmp_path):
    folder = plant(tmp_path)
    read = "from pathlib import Path\nstaged = Path('build/stage/notebooks')"
    there = "print(sorted(path.name for path in staged.glob('*.ipynb')))"
    notebook(folder / "notebooks" / "all.ipynb", read, there)
    (folder / "notebooks" / "cases.yaml").write_text("all: {after: all}\n")
    profile(folder / "config", "quick", all={}, one={"count": 1}, two={"count": 2})
    said = snakemake(folder, "notebooks")
    assert said.returncode == 0, said.stderr
    staged = folder / "build" / "stage" / "notebooks"
    assert outputs(staged / "all.ipynb") == "['one.ipynb', 'two.ipynb']\n"
    assert planned(folder) == set()
    before = (staged / "two.ipynb").read_text()
    (staged / "two.ipynb").write_text(before + "\n")
    assert planned(folder) == {"all"}, "another copy is there, as after a run by hand"
    (staged / "two.ipynb").write_text(before)
    os.utime(staged / "all.ipynb")
    profile(folder / "config", "quick", all={}, one={"count": 5}, two={"count": 2})
    assert planned(folder) == {"one", "all"}


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
def test_every_profile_fits_every_notebook_case_and_network(name):
    copies = profile_copies(name, CONFIG, ROOT / "notebooks")
    assert {case.notebook for case in copies.values()} == {path.stem for path in NOTEBOOKS}
    found = profile_networks(name, CONFIG, ROOT / "notebooks", copies)
    assert {one.key for one in found.values()} == {
        key for case in copies.values() for key in case.needs
    }


def test_full_scale_is_the_notebooks_own():
    """Entries for single cases apart: one default cannot be every case's."""
    profile = read_profile("paper", CONFIG).notebooks
    for source in NOTEBOOKS:
        declared = read_parameters(source)
        given = check_parameters(declared, profile[source.stem], "paper")
        assert given == {name: declared[name].default for name in given}, source.stem


def test_profiles_change_the_scale_only():
    """Every profile has every notebook, and sets nothing but how many of something."""
    profiles = [read_profile(name, CONFIG).notebooks for name in profile_names(CONFIG)]
    copies = all_copies(ROOT / "notebooks")
    for one in profiles:
        assert set(one) >= {path.stem for path in NOTEBOOKS}
        for entry, values in one.items():
            what = copies[entry].parameters if entry in copies else {}
            assert not what.keys() & values.keys(), "what is run is the case's to say"
            assert all(type(value) is int and value >= 0 for value in values.values())
    assert any(values for one in profiles for values in one.values())
    for copy, case in copies.items():
        for name, one in zip(profile_names(CONFIG), profiles, strict=True):
            clash = case.parameters.keys() & one[case.notebook].keys()
            assert not clash, f"{name} would undo what {copy} says of {clash}"


def test_the_page_of_every_copy_is_in_the_contents():
    pages = set(re.findall(r"notebooks/([\w-]+)$", (ROOT / "_toc.yml").read_text(), re.M))
    assert pages == set(all_copies(ROOT / "notebooks"))
