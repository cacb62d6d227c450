"""Grids: what becomes a cell, under which name, and what is refused before anything runs."""

import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from made.notebooks import PARAMETERS, cases, notebook, profile
from made.places import ROOT
from saliency_sanity._errors import InputError
from saliency_sanity.book.cli import main
from saliency_sanity.book.grid.spec import FOLDER, Grid, read_grid

DECLARED = PARAMETERS + 'results: str = "results"\ncase: str = ""\n'


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A checkout with one notebook that has a case, one that cannot be a grid, and a profile."""
    notebook(tmp_path / "notebooks" / "one.ipynb", parameters=DECLARED)
    notebook(tmp_path / "notebooks" / "bare.ipynb")
    cases(
        tmp_path / "notebooks",
        one={
            "photos": {"title": "Photographs", "parameters": {"name": "photos"}},
            "pairs": {"title": "P", "needs": ["mlp", "mlp-permuted"], "replicates": "count"},
        },
    )
    entries = {"one": {"rate": 0.25}, "one-photos": {"count": 5}, "bare": {}}
    profile(tmp_path / "config", "tiny", networks={"mlp": {}, "mlp-permuted": {}}, **entries)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(**content) -> str:
    Path("small.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return "small.yaml"


def read(**content) -> Grid:
    return read_grid(write(notebook="one", **content))


def names(**content) -> list[str]:
    return [cell.name for cell in read(**content).cells]


def test_lists_of_values_are_multiplied_in_the_order_of_nested_loops(root):
    grid = read(parameters={"flag": False}, grid={"count": [1, 2], "name": ["a", "b"]})
    assert [cell.name for cell in grid.cells] == [
        *("one-count=1-name=a", "one-count=1-name=b", "one-count=2-name=a", "one-count=2-name=b")
    ]
    assert grid.cells[1].given == {"flag": False, "count": 1, "name": "b"}
    assert grid.varied == ("count", "name")
    assert (grid.profile, grid.threads) == (None, 1)
    # What nobody sets is the notebook's own.
    assert grid.cells[1].values == {
        **{"count": 1, "rate": 0.5, "name": "b", "flag": False, "sizes": [1, 2]}
    }


def test_every_case_is_crossed_with_the_lists(root):
    grid = read(
        parameters={"flag": False, "sizes": [3]},
        grid={"count": [1, 2]},
        cases={"small": {"rate": 0.1}, "large": {"rate": 9, "sizes": [9]}},
    )
    assert [cell.name for cell in grid.cells] == [
        *("one-small-count=1", "one-small-count=2", "one-large-count=1", "one-large-count=2")
    ]
    assert grid.cells[-1].given == {"flag": False, "sizes": [9], "rate": 9.0, "count": 2}
    assert grid.varied == ("count", "rate", "sizes")
    assert {cell.label for cell in grid.cells} == {"small", "large"}


@pytest.mark.parametrize("given", [["photos"], {"photos": None}])
def test_a_case_that_the_notebook_has_is_that_one(root, given):
    (cell,) = read(cases=given).cells
    assert (cell.name, cell.case.title) == ("one-photos", "Photographs")
    assert cell.given == {}
    assert cell.values["name"] == "photos"
    (cell,) = read(cases={"photos": {"rate": 2.0}}).cells
    assert (cell.case.name, cell.given, cell.values["rate"]) == ("photos", {"rate": 2.0}, 2.0)


def test_the_most_special_value_wins(root):
    """Notebook, its case, profile, parameters, cases, lists."""
    grid = read(profile="tiny", cases=["photos"], grid={"flag": [True, False]})
    assert grid.cells[1].values == {
        **{"count": 5, "rate": 0.25, "name": "photos", "flag": False, "sizes": [1, 2]}
    }
    grid = read(
        profile="tiny",
        parameters={"rate": 1.0, "count": 6, "name": "fixed"},
        cases={"photos": {"count": 7}},
    )
    (cell,) = grid.cells
    assert cell.values | {"flag": 0, "sizes": 0} == {
        **{"count": 7, "rate": 1.0, "name": "fixed", "flag": 0, "sizes": 0}
    }


def test_values_are_read_in_the_declared_type(root):
    """YAML takes 1e-3 for a text."""
    Path("small.yaml").write_text("notebook: one\ngrid: {rate: [1e-3, 1], flag: [no, on]}\n")
    grid = read_grid("small.yaml")
    assert [type(cell.given["rate"]) for cell in grid.cells] == [float] * 4
    assert grid.cells[0].name == "one-rate=0.001-flag=false"
    assert [cell.given["flag"] for cell in grid.cells] == [False, True] * 2


def test_names_are_fit_for_files_and_stay_readable(root):
    assert names(grid={"name": ["path/to/a picture", "", "é,=;$"], "sizes": [[], [3, 4]]})[::3] == [
        *("one-name=path_to_a_picture-sizes=none", "one-name=none-sizes=3+4")
    ]


def test_names_that_would_be_one_file_get_a_digest(root):
    found = names(grid={"name": ["a/b", "a b", "c"]})
    assert len({name.lower() for name in found}) == 3
    assert found[2] == "one-name=c"
    assert all(name.startswith("one-name=a_b-") for name in found[:2])
    assert found == names(grid={"name": ["a/b", "a b", "c"]}), "stable"
    assert found[0] == names(grid={"name": ["a b", "c", "a/b"]})[2], "whatever the order"
    assert len(set(map(str.lower, names(grid={"name": ["A", "a"]})))) == 2


def test_a_long_name_is_cut_and_stays_unique(root):
    found = names(grid={"sizes": [list(range(200)), [*range(199), 0]]})
    assert len(set(found)) == 2
    assert all(len(name.encode()) < 180 for name in found)


def test_everything_of_a_grid_is_in_its_folder(root):
    grid = read(grid={"count": [1]})
    name = "one-count=1"
    assert grid.folder == FOLDER / "small"
    assert grid.path("notebook", name) == FOLDER / "small" / "notebooks" / "one-count=1.ipynb"
    kinds = ("notebook", "record", "results", "log", "partial")
    assert len({grid.path(kind, name) for kind in kinds}) == len(kinds)
    assert grid.cell(name) is grid.cells[0]
    of_shards = {grid.shard_path(kind, name, shard) for kind in kinds for shard in ("1of2", "2of2")}
    assert len(of_shards) == 2 * len(kinds)
    assert {path.parent for path in of_shards} == {FOLDER / "small" / "shards" / name}
    with pytest.raises(InputError, match=r"unknown cell 'one-count=2'\. Nearest: one-count=1"):
        grid.cell("one-count=2")


def test_shards_are_of_notebooks_and_cells_that_can_be_divided(root):
    says = r"small\.yaml: 'shards' is 2, but the notebook has no parameter 'shard'"
    with pytest.raises(InputError, match=says):
        read(grid={"count": [1]}, shards=2)
    declared = DECLARED + 'shard: str = ""\ngroup: int = 32\n'
    notebook(root / "notebooks" / "one.ipynb", parameters=declared)
    says = r"is 2, but one-group=0 compares every picture with all others; leave 'group'"
    with pytest.raises(InputError, match=says):
        read(grid={"group": [4, 0]}, shards=2)
    with pytest.raises(InputError, match=r"'shard' is set for each cell by the runner"):
        read(grid={"group": [4]}, shards=2, parameters={"shard": "1/2"})
    assert read(grid={"group": [4, 2]}, shards=2).shards == 2
    whole = read(grid={"group": [4, 0]})
    assert whole.shards == 1
    assert [cell.signature for cell in read(grid={"group": [4, 2]}, shards=9).cells[:1]] == [
        cell.signature for cell in whole.cells[:1]
    ]


def train_to_be(folder: Path, *stems: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem in stems:
        (folder / f"{stem}.safetensors").touch()


def test_networks_that_a_case_needs_have_to_be_there(root):
    """A grid trains none: it would put its own in the place of the book's."""
    says = (
        r"mlp-fashion_mnist\.safetensors.*not trained yet; first: "
        r"python -m saliency_sanity train mlp --profile tiny -p seed 0 && .*train mlp-permuted"
    )
    with pytest.raises(InputError, match=says):
        read(profile="tiny", cases=["pairs"], parameters={"count": 1})
    stems = ("mlp-fashion_mnist", "mlp-fashion_mnist-permuted")
    train_to_be(root / "results" / "models", *stems)
    (cell,) = read(cases=["pairs"], parameters={"count": 1}).cells
    assert [Path(path).stem for path in cell.networks] == list(stems)
    with pytest.raises(InputError, match=r"mlp-fashion_mnist-1\.safet.*train mlp -p seed 1"):
        read(cases=["pairs"], parameters={"count": 2})


BAD = {
    "notebook": ({"notebook": "onne"}, "unknown notebook 'onne'. Nearest: one. Valid: bare, one."),
    "no results": ({"notebook": "bare"}, "bare.ipynb has no parameter 'results'"),
    "key": ({"axes": {}}, "small.yaml: unknown key 'axes'"),
    "profile": ({"profile": "tinny"}, "unknown profile 'tinny'. Nearest: tiny"),
    "threads": ({"threads": "two"}, "'threads' must be a whole number from 1 on, not 'two'"),
    "shards": ({"shards": 0}, "'shards' must be a whole number from 1 on, not 0"),
    "nothing varied": ({"grid": None}, "neither 'grid' (name: [values]) nor 'cases' says what"),
    "no mapping": ({"parameters": [1]}, "'parameters' must map names to values, not [1]"),
    "parameter": ({"grid": {"cuont": [1]}}, "unknown parameter 'cuont'. Nearest: count"),
    "fixed": (
        {"parameters": {"cuont": 1}},
        "parameters: unknown parameter 'cuont'. Nearest: count",
    ),
    "type": ({"grid": {"count": [1, "x"]}}, "'count' is declared as int (default 3); 'x' (str)"),
    "no list": ({"grid": {"count": 1}}, "'count' must be a list of one or more values: [a, b]"),
    "empty": ({"grid": {"count": []}}, "'count' must be a list of one or more values: [a, b]"),
    "twice set": ({"parameters": {"count": 1}}, "'count' is fixed in 'parameters' already"),
    "case too": ({"cases": {"big": {"count": 1}}}, "'count' is varied by 'grid' already"),
    "ours": ({"grid": {"results": ["a"]}}, "'results' is set for each cell by the runner"),
    "case's name": ({"cases": {"a-b": {"rate": 1}}}, "case 'a-b': a name has letters, digits"),
    "case": ({"cases": ["fotos"]}, "unknown case 'fotos'. Nearest: photos"),
    "in a case": ({"cases": {"big": {"raet": 1}}}, "case 'big': unknown parameter 'raet'"),
    "case's kind": ({"cases": {"big": 3}}, "case 'big' must map names to values, not 3"),
    "doubles": ({"grid": {"count": [1, "1"]}}, "come twice: one-count=1; leave one out"),
    "same": (
        {"cases": {"big": {"rate": 1}, "huge": {"rate": 1.0}}},
        "come twice: one-big-count=1 and one-huge-count=1",
    ),
}


@pytest.mark.parametrize(("change", "says"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_nothing_runs(root, capsys, change, says):
    file = write(**({"notebook": "one", "grid": {"count": [1]}} | change))
    assert main(["grid", file]) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.err.count("\n") == 1
    assert not Path("results").exists()


def test_a_file_that_is_none_is_told(root, capsys):
    assert main(["grid", "smal.yaml"]) == 2
    Path("broken.yaml").write_text("notebook: [")
    assert main(["grid", "broken.yaml"]) == 2
    Path("two words.yaml").write_text("notebook: one")
    assert main(["grid", "two words.yaml"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "unknown grid 'smal.yaml'" in lines[0]
    assert "broken.yaml is not YAML" in lines[1]
    assert "use letters, digits" in lines[2]


def test_outside_of_a_checkout_the_command_says_so(root, capsys):
    assert main(["grid", write(notebook="one", grid={"count": [1]})]) == 2
    assert "no workflow/grid.smk here; run the command in a checkout" in capsys.readouterr().err


@pytest.mark.parametrize(
    "file", sorted((ROOT / "grids").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_grids_of_the_repository_fit_its_notebooks(file, monkeypatch):
    monkeypatch.chdir(ROOT)
    grid = read_grid(os.path.relpath(file))
    assert len(grid.cells) > 1


def test_the_grid_that_the_book_shows_fits_its_notebook(tmp_path, monkeypatch):
    for folder in ("notebooks", "config"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for name in ("cnn-fashion_mnist", "cnn-fashion_mnist-1"):
        train_to_be(tmp_path / "results" / "models", name)
    page = (ROOT / "book" / "run.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```yaml\n(notebook: .*?)```", page, flags=re.DOTALL)
    (tmp_path / "shown.yaml").write_text(shown)
    monkeypatch.chdir(tmp_path)
    grid = read_grid("shown.yaml")
    assert len(grid.cells) == 8
    assert f"`{grid.cells[2].name}`" in page
