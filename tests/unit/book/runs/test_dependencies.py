from pathlib import Path

import pytest
from made.notebooks import notebook
from made.places import ROOT
from saliency_sanity.book.runs.dependencies import module_files, notebook_files, own_files

LIBRARY = ROOT / "lib" / "saliency_sanity"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

FILES = {
    "__init__.py": "",
    "__init__.pyi": "from .maps.base import Map as Map\nfrom .maps import base as base\n",
    "errors.py": "",
    "maps/__init__.py": "",
    "maps/__init__.pyi": "from .base import Map as Map\nfrom .other import Map as Other\n",
    "maps/base.py": "from one.errors import Bad\n",
    "maps/other.py": "from . import base\nfrom .. import errors\nimport numpy\n",
    "maps/cards.toml": "",
    "maps/pages/card.j2": "",
    "maps/pages/__pycache__/card.pyc": "",
    "late.py": (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from one.maps.other import Map\n"
        "def f():\n    from one.maps.base import Map\n"
    ),
    "circle/a.py": "from one.circle.b import x\n",
    "circle/b.py": "from one.circle.a import y\n",
    "book/runs/runner.py": "import one.errors\n",
    "book/site/build.py": "import one.maps.other\n",
}


@pytest.fixture
def library(tmp_path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "one" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "one"


def short(found: list[str], library: Path) -> set[str]:
    """Names of the files, those of the packages themselves left out."""
    names = {Path(path).relative_to(library).as_posix() for path in found}
    return {name for name in names if not name.endswith("__init__.py")}


DATA = {"maps/cards.toml", "maps/pages/card.j2"}


@pytest.mark.parametrize(
    ("module", "files"),
    [
        ("one.maps.other", {"maps/other.py", "maps/base.py", "errors.py", *DATA}),
        ("one.late", {"late.py", "maps/base.py", "errors.py", *DATA}),
        ("one.circle.a", {"circle/a.py", "circle/b.py"}),
        ("one.errors", {"errors.py"}),
        ("one.maps", set()),
        ("one.nowhere", set()),
    ],
)
def test_a_module_depends_on_what_it_imports_all_the_way_down(library, module, files):
    assert short(module_files(module, library=library), library) == files


def test_the_packages_on_the_way_are_loaded_too(library):
    found = module_files("one.maps.base", library=library)
    assert {str(library / "__init__.py"), str(library / "maps" / "__init__.py")} <= set(found)
    assert found == sorted(found)


RUNS = {"book/runs/runner.py", "errors.py"}
BASE = {"maps/base.py", *DATA, *RUNS}


@pytest.mark.parametrize(
    ("cell", "files"),
    [
        ("print(1)", RUNS),
        ("from one import Map", BASE),
        ("from one.maps import Map", BASE),
        ("from one.maps import Other as Map", BASE | {"maps/other.py"}),
        ("from one.maps import base, nothing", BASE),
        ("from one.maps import *", BASE | {"maps/other.py"}),
        ("import one", BASE),
        ("import one.maps.other as maps", BASE | {"maps/other.py"}),
        ("if True:\n    %pip install one\nimport one.late\n!ls", BASE | {"late.py"}),
        ("from one.maps.other import Map\nthis is no Python", RUNS),
    ],
)
def test_a_notebook_depends_on_what_its_cells_import_and_on_what_runs_it(
    library, tmp_path, cell, files
):
    source = notebook(tmp_path / "a.ipynb", "import numpy", cell)
    assert short(notebook_files(source, library), library) == files


def test_own_files_are_those_in_the_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for name in ("mine/one.py", "two.py"):
        (tmp_path / name).touch()
    values = ["mine.one:method", ["two:net", "gradient"], "absent:x", 3, "two"]
    assert own_files(values) == ["mine/one.py", "two.py"]


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_notebook_depends_on_the_site_or_on_grids(source):
    found = short(notebook_files(source, LIBRARY), LIBRARY)
    assert {"book/runs/runner.py", "similarity/prepare.py", "plots/style.py"} <= found
    above = ("book/site", "book/grid", "book/cli.py", "__main__.py")
    assert [name for name in found if name.startswith(above)] == []


def test_a_chart_is_a_reason_for_the_notebooks_that_draw_it_alone():
    """Each of these is drawn by some pages, and not by all."""
    drawn = {path.stem: short(notebook_files(path, LIBRARY), LIBRARY) for path in NOTEBOOKS}
    for chart in ("slider", "stages", "labels", "competition", "input_bias"):
        those = {name for name, files in drawn.items() if f"plots/{chart}.py" in files}
        assert 0 < len(those) < len(NOTEBOOKS), chart


def test_networks_depend_on_how_they_are_trained_and_on_no_map():
    found = short(module_files("saliency_sanity.subjects.training.loop", library=LIBRARY), LIBRARY)
    assert {"subjects/training/recipe.py", "subjects/datasets.py", "_random.py"} <= found
    above = ("attribution", "similarity", "verdict", "experiments", "plots", "book")
    assert [name for name in found if name.startswith(above)] == []
