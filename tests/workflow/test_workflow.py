"""The book's workflow on a small checkout: what runs, what runs again, what survives a failure."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made.checkouts import copied, library, small_checkout
from made.notebooks import cases, notebook, outputs, profile, text
from made.places import ROOT
from saliency_sanity._errors import InputError
from saliency_sanity.attribution.catalogue import CATALOGUE
from saliency_sanity.book.runs.cases import all_copies
from saliency_sanity.book.runs.parameters import read_parameters
from saliency_sanity.book.runs.profiles import (
    profile_copies,
    profile_names,
    profile_networks,
    profile_parameters,
    read_profile,
)
from saliency_sanity.subjects.training.checkpoints import read_record

CONFIG = ROOT / "config"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PREPARE, STYLE, RUNNER = "similarity/prepare", "plots/style", "book/runs/runner"
GRIDS, SITE, TRAINING = "book/grid/run", "book/site/build", "subjects/training/loop"
LIBRARY = (PREPARE, STYLE, RUNNER, GRIDS, SITE, TRAINING)

pytestmark = pytest.mark.slow


def plant(folder: Path) -> Path:
    """A repository with two small notebooks, this workflow, and a book from before."""
    # What a notebook imports counts, whether or not the line is reached.
    both = "if count < 0:\n    from saliency_sanity.similarity import prepare"
    chart = f"{both}\n    import saliency_sanity.plots.style"
    notebook(folder / "notebooks" / "one.ipynb", f"{chart}\nprint('one', count)")
    notebook(folder / "notebooks" / "two.ipynb", f"{both}\nprint('two', count)")
    profile(folder / "config", "quick", one={"count": 1}, two={"count": 2})
    small_checkout(folder, *LIBRARY)
    copied(folder, "Makefile")
    (folder / "_toc.yml").write_text("format: jb-book\nroot: book/index\n")
    (folder / "build" / "html").mkdir(parents=True)
    (folder / "build" / "html" / "index.html").write_text("the previous book")
    return folder


def snakemake(folder: Path, *words: str, profile: str = "quick") -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile"]
    command += ["--cores", "2", "--rerun-incomplete", *words, "--config", f"profile={profile}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def planned(folder: Path) -> set[str]:
    """Names of the copies and networks that a dry run would make."""
    said = snakemake(folder, "--dry-run", "notebooks")
    assert said.returncode == 0, said.stderr
    made = re.findall(r"^ +output: ([^\s,]+)", said.stdout + said.stderr, flags=re.MULTILINE)
    return {Path(path).stem for path in made}


CASED = 'count: int = 3\nname: str = "plain"\ncase: str = ""\npairs: int = 1\n'
TINY = {"images": 20, "batch": 20, "epochs": 1}


def write_cases(folder: Path, **changed) -> None:
    photos = {"title": "Photographs", "parameters": {"name": "mine.own:method"}}
    mlp = {"title": "MLP", "needs": ["mlp"], "parameters": {"name": "mlp"}}
    paper = {"title": "At full scale", "needs": ["mlp"], "profiles": ["paper"]}
    pairs = {"title": "Pairs", "needs": ["mlp", "mlp-permuted"], "replicates": "pairs"}
    three = {"mlp": mlp, "photos": photos, "paper": paper, "pairs": pairs}
    for name, entry in changed.items():
        three[name] = three[name] | entry
    cases(folder / "notebooks", all={"after": "all"}, three=three)


def write_profile(folder: Path, pairs: int = 1, one: int = 1, **recipe) -> None:
    entries = {"one": {"count": one}, "two": {"count": 2}, "three": {"count": 4}, "all": {}}
    entries["three-photos"] = {"count": 5}
    entries["three-pairs"] = {"pairs": pairs}
    networks = {"mlp": TINY, "mlp-permuted": TINY | recipe}
    profile(folder / "config", "quick", networks=networks, **entries)
    profile(folder / "config", "paper", networks=networks, one={}, two={}, three={}, all={})


def plant_cases(folder: Path) -> Path:
    """A third notebook with cases, one in paper only and two that need networks; one after all."""
    plant(folder)
    source = notebook(
        folder / "notebooks" / "three.ipynb",
        "from pathlib import Path\nmodel = Path('results/models/mlp-fashion_mnist.safetensors')",
        "print(case, name, count, model.is_file())",
        parameters=CASED,
    )
    text(source, "# Three")
    read = "from pathlib import Path\nstaged = Path('build/stage/notebooks')"
    there = "print(sorted(path.stem for path in staged.glob('*.ipynb')))"
    notebook(folder / "notebooks" / "all.ipynb", read, there)
    own = folder / "mine" / "own.py"
    own.parent.mkdir()
    own.write_text("one = 1\n")
    write_cases(folder)
    write_profile(folder)
    return folder


COPIES = ["one", "three-mlp", "three-pairs", "three-photos", "two"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """All of its networks are trained and its notebooks have run."""
    folder = plant_cases(tmp_path_factory.mktemp("tree"))
    said = snakemake(folder, "notebooks")
    assert said.returncode == 0, said.stderr
    assert "train mlp" in said.stdout + said.stderr, "nothing is seen of the training"
    return folder


def test_the_notebooks_run_in_the_profile_into_the_staged_tree(tree):
    staged = tree / "build" / "stage" / "notebooks"
    assert outputs(staged / "one.ipynb") == "one 1\n"
    assert outputs(staged / "two.ipynb") == "two 2\n"
    assert outputs(staged / "three-mlp.ipynb") == "mlp mlp 4 True\n"
    assert outputs(staged / "three-photos.ipynb").startswith("photos mine.own:method 5 ")
    assert sorted(path.stem for path in staged.glob("*.ipynb")) == sorted([*COPIES, "all"])
    assert {path.stem for path in (tree / "results" / "runs").iterdir()} == {*COPIES, "all"}


def test_what_is_after_all_others_runs_last(tree):
    assert outputs(tree / "build" / "stage" / "notebooks" / "all.ipynb") == f"{COPIES}\n"


def test_networks_are_trained_for_the_cases_that_need_them(tree):
    models = tree / "results" / "models"
    kinds = {"mlp-fashion_mnist": "true", "mlp-fashion_mnist-permuted": "permuted"}
    assert {path.stem for path in models.iterdir()} == set(kinds)
    records = {stem: read_record(models / f"{stem}.safetensors") for stem in kinds}
    for stem, labels in kinds.items():
        assert (records[stem]["labels"], records[stem]["seeds"]) == (labels, [0])
        assert records[stem]["images"] == TINY["images"]
    assert len({record["weights_hash"] for record in records.values()}) == 2
    assert "train mlp" in (tree / "build" / "logs" / "train-mlp-fashion_mnist.log").read_text()


@pytest.fixture
def changed(tree):
    """The tree, and afterwards what a test may have changed is as it was."""
    yield tree
    write_cases(tree)
    write_profile(tree)
    for module in LIBRARY:
        library(tree, module)
    (tree / "mine" / "own.py").write_text("one = 1\n")


# Each of several changes at once has its own consequence; what has none of them stays.


def test_scale_recipe_and_own_file_touch_their_copies_only(changed):
    write_profile(changed, one=5, batch=10)
    (changed / "mine" / "own.py").write_text("one = 2\n")
    for module in (GRIDS, SITE):  # how grids run and the site is drawn is no reason
        library(changed, module, "one = 2\n")
    network = {"mlp-fashion_mnist-permuted", "three-pairs"}
    assert planned(changed) == {"one", *network, "three-photos", "all"}


def test_title_values_replicates_and_a_chart_touch_their_copies_only(changed):
    library(changed, STYLE, "one = 2\n")
    write_profile(changed, pairs=2)
    write_cases(changed, photos={"parameters": {"name": "pictures"}}, mlp={"title": "Perceptron"})
    record = changed / "results" / "runs" / "two.json"
    record.rename(changed / "kept.json")
    found = planned(changed)
    (changed / "kept.json").rename(record)
    networks = {"mlp-fashion_mnist-1", "mlp-fashion_mnist-permuted-1"}
    assert found == {*networks, "three-pairs", "three-photos", "three-mlp", *("one", "two", "all")}


def test_an_edit_of_a_module_touches_what_imports_it_or_was_trained_by_it(changed):
    write_cases(changed, paper={"profiles": []})
    library(changed, PREPARE, "one = 2\n")
    library(changed, TRAINING, "one = 2\n")
    networks = {"mlp-fashion_mnist", "mlp-fashion_mnist-permuted"}
    trained = {"three-mlp", "three-pairs", "three-paper"}
    assert planned(changed) == {"one", "two", *networks, *trained, "all"}


def test_an_edit_of_the_runner_touches_every_copy_and_no_network(changed):
    write_cases(changed, paper={"profiles": []})
    library(changed, RUNNER, "one = 2\n")
    assert planned(changed) == {*COPIES, "three-paper", "all"}, "its network is there"


def test_another_copy_touches_what_is_after_all_others(tree):
    """As after a run by hand."""
    staged = tree / "build" / "stage" / "notebooks"
    before = (staged / "two.ipynb").read_text()
    (staged / "two.ipynb").write_text(before + "\n")
    assert planned(tree) == {"all"}, "and nothing else, for all is as it was"
    (staged / "two.ipynb").write_text(before)
    os.utime(staged / "all.ipynb")


def test_a_failing_notebook_is_named_and_loses_nothing(tree):
    staged = tree / "build" / "stage" / "notebooks" / "two.ipynb"
    before = staged.read_bytes()
    (tree / "results" / "runs" / "two.json").unlink()  # as before its first success
    write_profile(tree, one=5)
    notebook(tree / "notebooks" / "two.ipynb", "raise ValueError('no such thing')")
    said = snakemake(tree, "--keep-going")
    assert said.returncode != 0
    assert "two.ipynb failed in cell 2: ValueError: no such thing" in said.stderr
    assert (tree / "build" / "html" / "index.html").read_text() == "the previous book"
    assert staged.read_bytes() == before
    kept = tree / "build" / "logs" / "two.ipynb"
    assert "build/logs/two.ipynb" in said.stderr
    assert "injected-parameters" in kept.read_text()
    assert outputs(staged.with_name("one.ipynb")) == "one 5\n", "the other notebook finishes"
    assert planned(tree) == {"two", "all"}


def test_bad_input_is_told_before_anything_runs(tmp_path):
    folder = plant(tmp_path)
    said = snakemake(folder, "notebooks", profile="quikc")
    assert said.returncode != 0
    assert "error: unknown profile 'quikc'. Nearest: quick" in said.stderr
    assert "Traceback" not in said.stderr
    assert not (folder / "build" / "logs").exists()


def asked(folder: Path) -> None:
    """What the workflow asks before anything runs."""
    copies = profile_copies("quick", folder / "config", folder / "notebooks")
    profile_networks("quick", folder / "config", folder / "notebooks", copies)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: write_cases(folder, mlp={"needs": ["mpl"]}), "unknown network 'mpl'"),
        (lambda folder: write_profile(folder, epoch=1), "permuted: unknown parameter 'epoch'"),
        (lambda folder: write_profile(folder, seed=1), "permuted: 'seed' is not the profile's"),
        (lambda folder: write_profile(folder, pairs=0), "'pairs' of three takes 0 networks"),
        (lambda folder: write_cases(folder, mlp={"titel": "x"}), "unknown key 'titel'"),
    ],
)
def test_bad_cases_and_recipes_are_refused(tmp_path, change, says):
    folder = plant_cases(tmp_path)
    change(folder)
    with pytest.raises(InputError, match=says):
        asked(folder)


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
    assert said.returncode != 0
    assert "error: " in said.stderr
    assert (folder / "build" / "html" / "index.html").read_text() == "the previous book"
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


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda source: source.stem)
def test_a_notebook_run_by_hand_has_the_scale_of_minutes_of_one_of_its_cases(source):
    declared = read_parameters(source)
    scales = [
        profile_parameters("quick", CONFIG, source, case)
        for case in all_copies(ROOT / "notebooks").values()
        if case.notebook == source.stem
    ]
    own = [{name: declared[name].default for name in scale} for scale in scales]
    assert any(mine == scale for mine, scale in zip(own, scales, strict=True))


def test_full_scale_leaves_nothing_to_the_notebooks():
    """What is set for minutes is a notebook's own as well, so full scale has to set it, too."""
    for copy, case in all_copies(ROOT / "notebooks").items():
        source = ROOT / "notebooks" / f"{case.notebook}.ipynb"
        quick, full = (profile_parameters(one, CONFIG, source, case) for one in ("quick", "paper"))
        assert quick.keys() <= full.keys() | case.values(source).keys(), copy


def copies_of(entry):
    """The notebook that an entry of a profile is about."""
    return entry.partition("-")[0]


def test_profiles_change_the_scale_only():
    """Every profile has every notebook, and sets how many of something, or fewer of a list."""
    profiles = [read_profile(name, CONFIG).notebooks for name in profile_names(CONFIG)]
    copies = all_copies(ROOT / "notebooks")
    for one in profiles:
        assert set(one) >= {path.stem for path in NOTEBOOKS}
        for entry, values in one.items():
            what = copies[entry].parameters if entry in copies else {}
            assert not what.keys() & values.keys(), "what is run is the case's to say"
            counts = [value for value in values.values() if not isinstance(value, list)]
            assert all(type(count) is int and count >= 0 for count in counts)
            declared = read_parameters(ROOT / "notebooks" / f"{copies_of(entry)}.ipynb")
            for name, value in values.items():
                if isinstance(value, list) and all(isinstance(one, str) for one in value):
                    assert name in ("methods", "bases", "compared"), f"{entry} sets {name}"
                    assert set(value) <= {*declared[name].default, *CATALOGUE}
    assert any(values for one in profiles for values in one.values())
    for copy, case in copies.items():
        for name, one in zip(profile_names(CONFIG), profiles, strict=True):
            clash = case.parameters.keys() & one[case.notebook].keys()
            assert not clash, f"{name} would undo what {copy} says of {clash}"


def test_the_page_of_every_copy_is_in_the_contents():
    pages = set(re.findall(r"notebooks/([\w-]+)$", (ROOT / "_toc.yml").read_text(), re.M))
    assert pages == set(all_copies(ROOT / "notebooks"))
