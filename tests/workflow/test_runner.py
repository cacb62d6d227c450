import contextlib
import hashlib
import io
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import nbformat
import pytest
from made.notebooks import PARAMETERS, cases, notebook, outputs, profile, tag, text
from made.places import ROOT
from saliency_sanity import _files as results
from saliency_sanity._errors import InputError
from saliency_sanity._files import ResultsError
from saliency_sanity.book.cli import main
from saliency_sanity.book.runs.runner import NotebookFailedError, config_folder, run_notebook
from saliency_sanity.book.runs.stamp import METADATA_KEY, without_machine_paths

SHOW = """\
import os, sys, warnings
from pathlib import Path
print("values", count, rate, name, flag, sizes)
print("folder", Path.cwd().name, "|", Path.cwd(), "|", Path("notebooks").is_dir())
print("threads", os.environ["OMP_NUM_THREADS"], "hash", os.environ["PYTHONHASHSEED"])
print("python", sys.executable)
print("half way", file=sys.stderr)
"""


@dataclass
class Case:
    """A repository, what a run in it returned, and what it printed."""

    folder: Path
    source: Path
    output: Path
    status: int
    said: str
    warned: str
    environment_kept: bool

    @property
    def executed(self) -> nbformat.NotebookNode:
        return nbformat.read(self.output, as_version=4)


def case(folder: Path, source: Path, *words: str) -> Case:
    said, warned, environment = io.StringIO(), io.StringIO(), dict(os.environ)
    output = folder / "out" / source.name
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(warned),
    ):
        status = main(["run", str(source), "--output", str(output), *words])
    kept = dict(os.environ) == environment
    return Case(folder, source, output, status, said.getvalue(), warned.getvalue(), kept)


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Case:
    folder = tmp_path_factory.mktemp("good")
    source = notebook(folder / "notebooks" / "one.ipynb", SHOW)
    profile(folder / "config", "tiny", one={"count": 7, "rate": "1e-3", "flag": False})
    words = ("--profile", "tiny", "--threads", "1", "-p", "count", "9", "-p", "sizes", "[4]")
    return case(folder, source, *words, "--record", str(folder / "runs" / "one.json"))


@pytest.fixture(scope="module")
def failed(tmp_path_factory) -> Case:
    folder = tmp_path_factory.mktemp("failed")
    source = notebook(
        folder / "notebooks" / "one.ipynb", "print('so far')", "1 / 0", "print('never')"
    )
    (folder / "out").mkdir()
    (folder / "out" / "one.ipynb").write_text("the previous output")
    return case(folder, source, "--quiet")


@pytest.mark.slow
def test_explicit_values_win_over_the_profile_and_that_over_the_defaults(good):
    assert good.status == 0
    assert "values 9 0.001 plain False [4]" in outputs(good.output)


@pytest.mark.slow
def test_the_notebook_runs_in_its_own_folder_with_fixed_threads(good):
    assert f"folder {good.folder.name} | . | True" in outputs(good.output)
    assert "threads 1 hash 0" in outputs(good.output)


@pytest.mark.slow
def test_the_kernels_environment_does_not_leak(good, failed):
    assert good.environment_kept
    assert failed.environment_kept


@pytest.mark.slow
def test_progress_and_what_the_kernel_prints_show_as_it_runs(good):
    assert "Executing" in good.warned
    assert "half way" in good.warned
    assert "values 9" in good.said
    assert "executed copy in" in good.said


@pytest.mark.slow
def test_the_copy_carries_what_made_it(good):
    stamp = good.executed.metadata[METADATA_KEY]
    assert stamp["profile"] == "tiny"
    assert stamp["parameters"] == {
        "count": 9,
        "rate": 0.001,
        "name": "plain",
        "flag": False,
        "sizes": [4],
    }
    assert stamp["source_sha256"] == hashlib.sha256(good.source.read_bytes()).hexdigest()
    assert stamp["threads"] == 1
    assert stamp["seconds"] > 0
    assert stamp["versions"]["torch"]
    assert "commit" in stamp
    assert json.loads((good.folder / "runs" / "one.json").read_text()) == json.loads(
        json.dumps(stamp)
    )


@pytest.mark.slow
def test_the_copy_names_no_folder_of_this_machine(good):
    text = good.output.read_text()
    for folder in (good.folder, Path.cwd(), sys.prefix, Path.home()):
        assert f"{folder}/" not in text


@pytest.mark.slow
def test_the_injected_values_are_one_click_away(good):
    tags = [cell.metadata.get("tags", []) for cell in good.executed.cells]
    (injected,) = [tag for tag in tags if "injected-parameters" in tag]
    assert "hide-input" in injected


@pytest.mark.slow
def test_the_source_stays_and_nothing_else_is_left(good):
    assert nbformat.read(good.source, as_version=4).cells[0].source == PARAMETERS
    assert [path.name for path in good.output.parent.iterdir()] == ["one.ipynb"]


CASED = """\
count: int = 3
rate: float = 0.5
name: str = "plain"
size: int = 1
case: str = ""
"""


@pytest.fixture(scope="module")
def cased(tmp_path_factory) -> Case:
    """A case, where every place that sets a value sets one of its own."""
    folder = tmp_path_factory.mktemp("cased")
    source = notebook(
        folder / "notebooks" / "one.ipynb", "print(count, rate, name, size, case)", parameters=CASED
    )
    text(source, "# Title\n\n{numref}`fig`\n\n(fig)=\n")
    values = {"count": 10, "rate": 10, "name": "case", "size": 10}
    cases(source.parent, one={"photos": {"title": "Photographs", "parameters": values}})
    entries = {"one": {"count": 20, "rate": 20}, "one-photos": {"count": 30}}
    profile(folder / "config", "tiny", **entries)
    with contextlib.chdir(folder):
        words = ["--case", "photos", "--profile", "tiny", "-p", "size", "4", "--quiet"]
        status = main(["run", str(source), *words])
    output = folder / "build" / "stage" / "notebooks" / "one-photos.ipynb"
    return Case(folder, source, output, status, "", "", True)


@pytest.mark.slow
def test_each_place_wins_over_the_next(cased):
    """Command line, the profile's entry for the case, that for the notebook, the case itself."""
    assert cased.status == 0
    assert outputs(cased.output) == "30 20.0 case 4 photos\n"


@pytest.mark.slow
def test_the_copy_of_a_case_is_marked_and_says_so(cased):
    assert cased.executed.cells[0].source == (
        "# Title: Photographs\n\n{numref}`fig-photos`\n\n(fig-photos)=\n"
    )
    stamp = cased.executed.metadata[METADATA_KEY]
    assert (stamp["notebook"], stamp["case"], stamp["profile"]) == ("one.ipynb", "photos", "tiny")
    assert stamp["parameters"]["case"] == "photos"
    assert [path.name for path in cased.output.parent.iterdir()] == ["one-photos.ipynb"]


@pytest.mark.slow
def test_a_failing_cell_is_named_with_its_error(failed):
    assert failed.status == 1
    assert "one.ipynb failed in cell 3: ZeroDivisionError: division by zero" in failed.warned
    assert len(failed.warned.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_failure_keeps_the_previous_output_and_the_executed_copy(failed):
    assert failed.output.read_text() == "the previous output"
    kept = failed.folder / "out" / "one.log.ipynb"
    assert str(kept) in failed.warned
    assert "so far" in outputs(kept)
    assert "never" not in outputs(kept)


@pytest.mark.slow
def test_a_dead_kernel_is_a_failure_of_the_cell_that_killed_it(tmp_path):
    kill = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    source = notebook(tmp_path / "n.ipynb", "print(1)", kill, "print(2)")
    with pytest.raises(NotebookFailedError, match=r"cell 3: the kernel died") as caught:
        run_notebook(source, tmp_path / "out.ipynb", progress=False)
    assert caught.value.cell == 3
    assert caught.value.executed == tmp_path / "out.log.ipynb"
    assert caught.value.executed.is_file()
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("import sys\nsys.exit()", "SystemExit: the cell ends the notebook; take out sys.exit()"),
        ("exit()", "SystemExit: the cell ends the notebook"),
        ("import sys\nprint('x', file=sys.stderr)\nassert False", "AssertionError"),
        ("%nosuchmagic", "UsageError: Line magic function `%nosuchmagic` not found"),
        ('raise ExceptionGroup("two", [KeyError(), ValueError()])', "ExceptionGroup: two (2 sub-"),
        ("%%nosuchmagic\n1", "UsageError: Cell magic `%%nosuchmagic` not found"),
    ],
)
def test_what_ends_a_notebook_without_a_message_is_named(cell, reason, tmp_path):
    source = notebook(tmp_path / "n.ipynb", "print(1)", cell, "import time\ntime.sleep(1)")
    with pytest.raises(NotebookFailedError, match="cell 3") as caught:
        run_notebook(source, tmp_path / "out.ipynb", progress=False)
    assert f"failed in cell 3: {reason}" in str(caught.value)
    assert outputs(caught.value.executed).startswith("1\n")
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.slow
def test_the_kernel_is_of_this_environment_whatever_has_its_name(tmp_path, monkeypatch):
    folder = tmp_path / "jupyter" / "kernels" / "python3"
    folder.mkdir(parents=True)
    other = {"argv": ["/usr/bin/false", "{connection_file}"], "display_name": "Other"}
    (folder / "kernel.json").write_text(json.dumps({**other, "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(folder.parent.parent))
    asks = "import sys\nprint(sys.prefix == prefix)"
    source = notebook(tmp_path / "n.ipynb", asks, parameters='prefix: str = ""')
    values = {"prefix": sys.prefix}
    ran = run_notebook(source, tmp_path / "out.ipynb", values, progress=False)
    assert outputs(ran.output) == "True\n"


@pytest.mark.slow
def test_a_disk_that_is_full_at_the_end_keeps_the_previous_output(tmp_path, monkeypatch):
    source = notebook(tmp_path / "n.ipynb")
    output = tmp_path / "out.ipynb"
    output.write_text("the previous output")

    def no_room(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("saliency_sanity.book.runs.runner.results_folder", Path)
    monkeypatch.setattr(results.os, "fsync", no_room)
    with pytest.raises(ResultsError, match="No space left"):
        run_notebook(source, output, progress=False)
    assert output.read_text() == "the previous output"


@pytest.fixture
def never(monkeypatch):
    """Bad input must be found before the notebook starts."""
    monkeypatch.setattr(
        "saliency_sanity.book.runs.runner._execute", lambda *words: pytest.fail("it started")
    )


@pytest.fixture
def tree(tmp_path, never) -> Path:
    notebook(tmp_path / "notebooks" / "one.ipynb")
    profile(tmp_path / "config", "tiny", one={"count": 7})
    return tmp_path


def test_an_output_lies_where_the_command_is_given(tree, monkeypatch):
    """Not where results lie, which are meant from the root of the checkout."""
    (tree / "_config.yml").touch()
    (tree / "mine").mkdir()
    monkeypatch.chdir(tree / "mine")
    reached = []
    monkeypatch.setattr(
        "saliency_sanity.book.runs.runner._execute", lambda *given: reached.append(given[1])
    )
    with pytest.raises(FileNotFoundError):  # nothing ran, so there is nothing to read
        run_notebook("../notebooks/one.ipynb", "out/one.ipynb", progress=False)
    assert reached == [Path("out/one.log.ipynb")]
    assert (tree / "mine" / "out").is_dir()
    assert not (tree / "out").exists()


@pytest.mark.parametrize("there", [[], ["out"], ["out/deep", "out/deep/kept.txt"]])
def test_what_is_refused_leaves_no_folder(there, tree, monkeypatch):
    monkeypatch.chdir(tree)
    for name in there:
        (tree / name).touch() if name.endswith(".txt") else (tree / name).mkdir(parents=True)
    before = set(tree.rglob("*"))

    def refuse(values):
        (tree / "out" / "deep" / "tables").mkdir(parents=True)
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        run_notebook("notebooks/one.ipynb", "out/deep/one.ipynb", check=refuse, progress=False)
    # A folder that was there is somebody's, with what is in it.
    own = {tree / "out/deep/tables"} if there[1:] else set()
    assert set(tree.rglob("*")) - before == own


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-p", "cuont", "3"], "one.ipynb: unknown parameter 'cuont'. Nearest: count"),
        (["-p", "count", "1.5"], "parameter 'count' is declared as int (default 3); '1.5' (str)"),
        (["-p", "count", "1", "-p", "count", "2"], "'count' is given twice"),
        (["--profile", "tny"], "unknown profile 'tny'. Nearest: tiny"),
        (["--config", "nowhere", "--profile", "tiny"], "unknown profile 'tiny'"),
        (["--case", "photo"], "one.ipynb: unknown case 'photo'. Nearest: photos"),
        (["--case", "photos", "-p", "case", "x"], "'case' is 'x', but case 'photos' is run"),
        (["--case", "photos"], "one.ipynb has no heading '# …'"),
        (["--profile", "tiny", "-p", "profile", "x"], "'profile' is 'x', not 'tiny'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tree, capsys, words, says):
    cases(tree / "notebooks", one={"photos": {"title": "Photographs"}})
    if "profile" in words:
        asking = PARAMETERS + 'profile: str = ""\n'
        notebook(tree / "notebooks" / "one.ipynb", parameters=asking)
    status = main(["run", str(tree / "notebooks" / "one.ipynb"), *words])
    assert status == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.strip().splitlines()) == 1
    assert not (tree / "build").exists()


@pytest.mark.parametrize("asks", [True, False])
def test_a_notebook_that_asks_is_told_the_profile(tmp_path, monkeypatch, asks):
    """It has to know which copies there are; a notebook that does not ask gets nothing more."""

    class StartedError(Exception):
        pass

    def execute(source, log, values, *_):
        told.update(values)
        raise StartedError

    told = {}
    monkeypatch.setattr("saliency_sanity.book.runs.runner._execute", execute)
    parameters = PARAMETERS + 'profile: str = ""\n' * asks
    source = notebook(tmp_path / "notebooks" / "one.ipynb", parameters=parameters)
    profile(tmp_path / "config", "tiny", one={"count": 7})
    with pytest.raises(StartedError):
        run_notebook(source, tmp_path / "out.ipynb", profile="tiny")
    assert told == {"count": 7} | ({"profile": "tiny"} if asks else {})
    told.clear()
    with pytest.raises(StartedError):
        run_notebook(source, tmp_path / "out.ipynb")
    assert told == {}, "without a profile the notebook's own value stays"


def test_a_missing_notebook_is_named_with_its_neighbours(tree, capsys):
    assert main(["run", str(tree / "notebooks" / "on.ipynb")]) == 2
    assert "Nearest: one.ipynb" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["--output", "--log", "--record"])
def test_the_source_is_never_overwritten(tree, capsys, word):
    source = tree / "notebooks" / "one.ipynb"
    before = source.read_bytes()
    assert main(["run", str(source), word, str(source)]) == 2
    assert "must be different files" in capsys.readouterr().err
    assert source.read_bytes() == before


def test_an_output_folder_that_is_a_file_is_named_before_the_run(tree):
    (tree / "out").write_text("mine")
    with pytest.raises(ResultsError, match="out"):
        run_notebook(tree / "notebooks" / "one.ipynb", tree / "out" / "one.ipynb")


def test_an_output_that_is_a_folder_is_refused(tree):
    with pytest.raises(ResultsError, match="is a folder"):
        run_notebook(tree / "notebooks" / "one.ipynb", tree)


def test_the_nearest_config_folder_is_taken(tree):
    source = tree / "notebooks" / "one.ipynb"
    assert config_folder(source) == tree / "config"
    profile(tree / "notebooks" / "config", "own", one={})
    assert config_folder(source) == tree / "notebooks" / "config"


def test_a_profile_needs_a_config_folder(tmp_path, never, monkeypatch):
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(()))
    with pytest.raises(InputError, match="--config"):
        config_folder(tmp_path / "one.ipynb")


def test_only_whole_folders_are_taken_out_of_a_text(tmp_path):
    source = tmp_path / "notebooks" / "one.ipynb"
    text = f"{tmp_path}/notebooks/a.py, '{tmp_path}/b' {tmp_path}-other {sys.prefix}/lib/x"
    assert without_machine_paths(text, source) == (
        f"notebooks/a.py, './b' {tmp_path}-other <environment>/lib/x"
    )


def test_the_parameters_are_listed_in_order(tree, capsys):
    assert main(["parameters", str(tree / "notebooks" / "one.ipynb")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[:3]] == [
        ["count", "int", "3"],
        ["rate", "float", "0.5"],
        ["name", "str", "'plain'"],
    ]
    assert lines[0].endswith("how many")


def test_the_cases_are_listed_after_the_parameters(tree, capsys):
    photos = {"title": "Photographs", "parameters": {"name": "photos", "count": 2}}
    cases(tree / "notebooks", one={"photos": photos, "all": {"title": "All"}})
    assert main(["parameters", str(tree / "notebooks" / "one.ipynb")]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "--case photos  Photographs: name = photos, count = 2",
        "--case all     All",
    ]


@pytest.fixture
def trained(monkeypatch) -> list:
    """What training was asked for, instead of it."""
    import saliency_sanity.subjects.training.loop

    asked = []

    def train(recipe, path, *, progress=True):
        asked.append((recipe, path, progress))
        target = recipe.target_accuracy
        return {
            "test_accuracy": 0.105,
            "test_count": 2000,
            "train_accuracy": 0.9731,
            "train_count": 10_000,
            "target_accuracy": target,
            "target_reached": target <= 0.9731 if target else None,
            "epochs": 20.0,
        }

    monkeypatch.setattr(saliency_sanity.subjects.training.loop, "train", train)
    return asked


def test_a_network_is_trained_by_profile_and_words(tmp_path, trained, monkeypatch, capsys):
    profile(tmp_path / "config", "tiny", networks={"cnn": {"epochs": 2, "batch": 9}})
    (tmp_path / "_config.yml").touch()
    notebook(tmp_path / "notebooks" / "one.ipynb")
    monkeypatch.chdir(tmp_path / "notebooks")
    assert main(["train", "cnn", "--profile", "tiny", "-p", "seed", "4"]) == 0
    ((recipe, path, progress),) = trained
    assert (recipe.network, recipe.epochs, recipe.batch, recipe.seed) == ("cnn", 2.0, 9, 4)
    assert path == tmp_path / "results" / "models" / "cnn-fashion_mnist-4.safetensors"
    assert progress
    assert capsys.readouterr().out.splitlines() == [
        "cnn: trained, in ../results/models/cnn-fashion_mnist-4.safetensors",
        "right: 10.50% of 2000 test pictures, 97.31% of 10000 training pictures (true labels)",
    ]


def test_a_network_is_trained_on_permuted_labels(tmp_path, trained, monkeypatch, capsys):
    networks = {"cnn": {"epochs": 2}, "cnn-permuted": {"epochs": 60, "target_accuracy": 0.97}}
    profile(tmp_path / "config", "tiny", networks=networks)
    (tmp_path / "_config.yml").touch()
    notebook(tmp_path / "notebooks" / "one.ipynb")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "cnn-permuted", "--profile", "tiny", "-p", "batch", "7"]) == 0
    ((recipe, path, _),) = trained
    assert (recipe.network, recipe.labels) == ("cnn", "permuted")
    assert (recipe.epochs, recipe.batch, recipe.target_accuracy) == (60, 7, 0.97)
    assert path == tmp_path / "results" / "models" / "cnn-fashion_mnist-permuted.safetensors"
    said = capsys.readouterr().out
    assert said.startswith("cnn-permuted: trained, in results/models/cnn-fashion_mnist-permuted.")
    assert "(permuted labels)" in said
    assert "target of 97.00% of the training pictures reached after 20 epochs" in said
    assert main(["train", "cnn", "-p", "labels", "permuted", "-p", "target_accuracy", "0.98"]) == 0
    assert trained[1][1] == path
    assert "target of 98.00% of the training pictures NOT reached" in capsys.readouterr().out


def test_training_says_what_came_of_it(tmp_path, capsys):
    """With nothing in its place: a short training on a few pictures."""
    words = ["train", "mlp-permuted", "--quiet", "--output", str(tmp_path / "m.safetensors")]
    for name, value in {"images": 20, "batch": 10, "epochs": 1, "target_accuracy": 1}.items():
        words += ["-p", name, str(value)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "of 2000 test pictures" in said
    assert "of 20 training pictures (permuted labels)" in said
    assert "NOT reached in 1.0 epochs; more epochs, fewer images" in said


def test_what_is_trained_already_is_trained_only_when_it_is_asked_for(tmp_path, capsys):
    words = ["train", "mlp", "--quiet", "--output", str(tmp_path / "m.safetensors")]
    words += ["-p", "images", "20", "-p", "batch", "10", "-p", "epochs"]
    assert main([*words, "1"]) == 0
    before = (tmp_path / "m.safetensors").stat().st_mtime_ns
    capsys.readouterr()
    assert main([*words, "1"]) == 0
    assert "trained already, by this recipe" in capsys.readouterr().out
    assert (tmp_path / "m.safetensors").stat().st_mtime_ns == before
    for other in ([*words, "2"], [*words, "2", "--again"]):
        assert main(other) == 0
        assert "test pictures" in capsys.readouterr().out
        after = (tmp_path / "m.safetensors").stat().st_mtime_ns
        assert after > before
        before = after


def test_without_a_profile_the_recipe_is_its_own(tmp_path, trained):
    from saliency_sanity.subjects.training.recipe import Recipe

    output = tmp_path / "new" / "mine.safetensors"
    assert main(["train", "mlp", "--output", str(output), "--quiet"]) == 0
    assert trained == [(Recipe(network="mlp"), output, False)]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["cmn"], "train cmn: unknown network to train 'cmn'. Nearest: cnn"),
        (["cmn", "--profile", "tiny"], "profile 'tiny': unknown network 'cmn'. Nearest: cnn"),
        (["cnn", "--profile", "tny"], "unknown profile 'tny'. Nearest: tiny"),
        (["cnn", "-p", "epoch", "1"], "train cnn: unknown parameter 'epoch'. Nearest: epochs"),
        (["cnn", "-p", "seed", "x"], "parameter 'seed' is declared as int"),
        (["cnn", "-p", "seed", "1", "-p", "seed", "2"], "'seed' is given twice"),
        (
            ["cnn", "-p", "epochs", "0"],
            "train cnn: 'epochs' must be a positive and finite number",
        ),
        (["cnn", "-p", "source", "nowhere"], "nowhere"),
        (["cnn-permutd"], "unknown network to train 'cnn-permutd'. Nearest: cnn-permuted"),
        (["cnn-permuted", "--profile", "tiny"], "unknown network 'cnn-permuted'. Valid: cnn."),
        (["cnn-permuted", "-p", "labels", "true"], "learns permuted labels; train cnn for true"),
        (["cnn", "-p", "labels", "permutd"], "unknown labels 'permutd'. Nearest: permuted"),
        (["cnn-permuted", "-p", "images", "1"], "permutation of 1 labels with seed 0 leaves all"),
        (["cnn", "-p", "images", "10001"], "10001 pictures asked for"),
        (["cnn", "-p", "dataset", "mnits"], "unknown dataset 'mnits'. Nearest: mnist"),
        (
            ["cnn", "-p", "seed", "-1"],
            "cnn: 'seed' must be 0 or a positive whole number, not -1",
        ),
        (["cnn", "-p", "source", "broken/idx"], "train-images-idx3-ubyte.gz is damaged"),
        (["cnn", "-p", "source", "empty/idx"], "has neither train-images-idx3-ubyte.gz nor"),
        (["cnn", "-p", "source", "gone/idx"], "folder gone/idx of idx files does not exist"),
        (["cnn", "--output", "cnn.pth"], "must end in '.safetensors'"),
    ],
)
def test_bad_input_for_training_is_one_line_and_status_2(
    tmp_path, monkeypatch, capsys, words, says
):
    profile(tmp_path / "config", "tiny", networks={"cnn": {}})
    (tmp_path / "_config.yml").touch()
    notebook(tmp_path / "notebooks" / "one.ipynb")
    (tmp_path / "empty" / "idx").mkdir(parents=True)
    (tmp_path / "broken" / "idx").mkdir(parents=True)
    for path in (ROOT / "data" / "fashion_mnist").glob("*.gz"):
        # The first half, as a download leaves it that was cut off.
        content = path.read_bytes()
        (tmp_path / "broken" / "idx" / path.name).write_bytes(content[: len(content) // 2])
    monkeypatch.chdir(tmp_path)
    assert main(["train", *words]) == 2
    assert not (tmp_path / "results" / "models").exists() or not list(
        (tmp_path / "results" / "models").iterdir()
    )
    said = capsys.readouterr().err
    assert says in said
    assert len(said.strip().splitlines()) == 1


def test_a_download_that_fails_is_one_line_and_status_2(tmp_path, monkeypatch, capsys):
    import torchvision

    def interrupted(folder, download):
        raise URLError("network is unreachable")

    monkeypatch.setattr(torchvision.datasets, "MNIST", interrupted)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    output = tmp_path / "cnn.safetensors"
    words = ["-p", "dataset", "mnist", "-p", "source", "download", "--output", str(output)]
    assert main(["train", "cnn-permuted", *words]) == 2
    said = capsys.readouterr().err
    assert "mnist has to be downloaded, and the download failed" in said
    assert "network is unreachable" in said
    assert len(said.strip().splitlines()) == 1
    assert not output.exists()


def test_every_method_is_listed_and_has_a_card(capsys):
    from saliency_sanity.attribution.catalogue import CATALOGUE

    assert main(["methods"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == list(CATALOGUE)
    assert main(["methods", "smoothgrad"]) == 0
    assert CATALOGUE["smoothgrad"].formula in capsys.readouterr().out


def test_an_unknown_method_is_named_with_the_nearest(capsys):
    assert main(["methods", "smothgrad"]) == 2
    assert "Nearest: smoothgrad" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [[], ["rnu"], ["run"], ["run", "n.ipynb", "--threads", "0"], ["train"]]
)
def test_a_command_line_that_makes_no_sense_shows_the_usage(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_book_that_cannot_be_built_is_one_line_and_status_1(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["book"]) == 1
    assert capsys.readouterr().err.startswith("error: ")


RESULTS = """\
from pathlib import Path
Path(results).mkdir(parents=True)
(Path(results) / "table").touch()
"""


SHARD = """\
if shard:
    print("the maps of", shard)
"""


@pytest.mark.slow
def test_a_shard_ends_with_its_cell_and_takes_no_others_place(tmp_path):
    source = notebook(
        tmp_path / "notebooks" / "one.ipynb", SHARD, "print('all of it')",
        parameters='shard: str = ""\nresults: str = "results"\n',
    )  # fmt: skip
    tag(source, 1, "shard")
    with contextlib.chdir(tmp_path):
        assert main(["run", str(source), "--quiet"]) == 0
        assert main(["run", str(source), "-p", "shard", "2/3", "--quiet"]) == 0
    whole = tmp_path / "build" / "stage" / "notebooks" / "one.ipynb"
    part = tmp_path / "build" / "shards" / "one-2of3.ipynb"
    assert outputs(whole) == "all of it\n"
    assert outputs(part) == "the maps of 2/3\n"
    cells = nbformat.read(part, as_version=4).cells
    assert len(cells) == 3  # one has the values
    assert "results =" not in cells[1].source, "maps go where the run that follows looks for them"


def test_a_shard_of_a_notebook_without_its_cell_is_refused(tree, capsys):
    source = tree / "notebooks" / "two.ipynb"
    notebook(source, SHARD, parameters='shard: str = ""\n')
    for words, says in [
        (["1/2"], "two.ipynb: parameter 'shard' is set, but no cell is tagged 'shard'; tag the"),
        (["3/2"], "shard '3/2' does not exist; valid are 1/2 to 2/2"),
        (["half"], "shard 'half' is none; write NUMBER/COUNT"),
        (["1/2", "--output", "build/x.ipynb"], "no cell is tagged 'shard'"),
    ]:
        assert main(["run", str(source), "-p", "shard", *words]) == 2
        assert says in capsys.readouterr().err
    assert main(["run", str(tree / "notebooks" / "one.ipynb"), "-p", "shard", "1/2"]) == 2
    assert "one.ipynb: unknown parameter 'shard'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_copy_of_ones_own_keeps_its_results_beside_it(tmp_path):
    source = notebook(
        tmp_path / "notebooks" / "one.ipynb", RESULTS, parameters='results: str = "results"\n'
    )
    with contextlib.chdir(tmp_path):
        assert main(["run", str(source), "--output", "build/mine.ipynb", "--quiet"]) == 0
    assert (tmp_path / "build" / "mine" / "table").exists()
    assert not (tmp_path / "results").exists()
