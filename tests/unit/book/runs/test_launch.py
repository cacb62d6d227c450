"""Notebooks to launch say what their page ran, and hold nothing else than its source."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from made.places import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pip._internal.exceptions import InstallationError
from saliency_sanity.book.runs.cases import all_copies
from saliency_sanity.book.runs.launch import FOLDER, launch_values
from saliency_sanity.book.runs.parameters import read_parameters
from saliency_sanity.book.runs.profiles import profile_parameters

CASES = {copy: case for copy, case in all_copies(ROOT / "notebooks").items() if case.name}
BINDER = ROOT / "binder"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]


def sources(path):
    """Code, and text from its second line on: the heading has the case's title in one of them."""
    return [
        cell.source.partition("\n")[2] if cell.cell_type == "markdown" else cell.source
        for cell in nbformat.read(path, as_version=4).cells
        if "parameters" not in cell.metadata.get("tags", []) and cell.id != "launch-networks"
    ]


def test_there_is_one_for_each_case():
    there = {path.stem for path in (ROOT / FOLDER).glob("*.ipynb")}
    assert there == set(CASES), "run: python -m saliency_sanity launch"


@pytest.mark.parametrize("copy", CASES)
def test_it_is_its_case(copy):
    case, path = CASES[copy], ROOT / FOLDER / f"{copy}.ipynb"
    source = ROOT / "notebooks" / f"{case.notebook}.ipynb"
    found = {name: item.default for name, item in read_parameters(path).items()}
    assert found == launch_values(source, case, ROOT / "config")
    small = profile_parameters("quick", ROOT / "config", source, case)
    for name, value in (case.values(source) | small).items():
        assert found[name] == value or (name == case.replicates and found[name] <= value)
    text = [cell.source for cell in nbformat.read(path, as_version=4).cells]
    assert f": {case.title}\n" in text[0]
    trains = "\n".join(text)
    for network in case.needs:
        assert f"saliency_sanity train {network} --profile quick -p seed 0" in trains
    assert ("launch-networks" in path.read_text("utf8")) == bool(case.needs)


@pytest.mark.parametrize("copy", CASES)
def test_its_code_is_that_of_its_source(copy):
    source = ROOT / "notebooks" / f"{CASES[copy].notebook}.ipynb"
    mine, theirs = sources(ROOT / FOLDER / f"{copy}.ipynb"), sources(source)
    assert len(mine) == len(theirs)
    for one, other in zip(mine, theirs, strict=True):
        # Labels have the case's name.
        assert one.replace(f"-{CASES[copy].name}", "") == other.replace(
            f"-{CASES[copy].name}", ""
        ), "run: python -m saliency_sanity launch"


def extras(line):
    """Extras of this package that a line installs, and those that they bring."""
    todo, found = set(re.search(r"\[([a-z,]+)\]", line).group(1).split(",")), set()
    while todo:
        extra = todo.pop()
        found.add(extra)
        for item in map(Requirement, PROJECT["optional-dependencies"][extra]):
            if item.name == PROJECT["name"]:
                todo |= item.extras - found
    return found


def installed(*names):
    """What the core and these extras install, by canonical name."""
    lines = PROJECT["dependencies"] + [
        line for name in names for line in PROJECT["optional-dependencies"][name]
    ]
    return {canonicalize_name(Requirement(line).name) for line in lines}


def read_by_pip(file):
    """Options and requirements of a file for pip, as pip itself reads it in the checkout's root.

    Constraints are searched beside the file, folders to install in the current folder.
    """
    from pip._internal.network.session import PipSession
    from pip._internal.req.req_file import parse_requirements

    return list(parse_requirements(str(file), session=PipSession()))


def test_pip_finds_what_binder_names(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = read_by_pip(BINDER / "requirements.txt")
    pins = [item.requirement for item in found if item.constraint]
    lock = (ROOT / "requirements.lock").read_text("utf8").splitlines()
    assert pins == [line for line in lock if line and not line.startswith("#")]
    (own,) = [item.requirement for item in found if item.is_editable]
    assert (Path(own.partition("[")[0]) / "pyproject.toml").resolve() == ROOT / "pyproject.toml"


def test_a_constraint_that_is_not_beside_its_file_is_noticed(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    file = tmp_path / "requirements.txt"
    file.write_text("-c requirements.lock\n-e .[book]\n", "utf8")
    with pytest.raises(InstallationError):
        read_by_pip(file)


def test_binder_gets_the_book_the_other_libraries_and_a_network():
    lines = (BINDER / "requirements.txt").read_text("utf8").splitlines()
    (own,) = [line for line in lines if line.startswith("-e ")]
    assert {"book", "notebooks", "subjects", "peers"} <= extras(own)
    assert any(line.startswith("--extra-index-url") and line.endswith("/cpu") for line in lines)
    build = (BINDER / "postBuild").read_text("utf8")
    networks = yaml.safe_load((ROOT / "config/quick.yaml").read_text("utf8"))["networks"]
    trained = [line.split()[4] for line in build.splitlines() if " train " in line]
    assert trained
    assert set(trained) <= set(networks)
    # A file that the kernel cannot start leaves an image without networks.
    assert build.startswith("#!/bin/bash\n")
    assert "\r" not in build
    assert (BINDER / "postBuild").stat().st_mode & 0o111
    assert (BINDER / "runtime.txt").read_text("utf8").strip() == "python-3.12"


def for_colab(path):
    """The line of a notebook's first cell of code that installs this package."""
    cells = nbformat.read(path, as_version=4).cells
    first = next(cell.source for cell in cells if cell.cell_type == "code")
    (line,) = [line for line in first.splitlines() if "%pip install" in line]
    return line


PAGES = sorted([*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / FOLDER).glob("*.ipynb")])
# Pages that show other libraries' methods, or are made to take them by name.
WITH_PEERS = ("07_your_own_method", "08_every_method")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_colab_gets_what_the_notebook_asks_for(path):
    text = path.read_text("utf8")
    if "git clone" not in text:
        assert path.parent.name == "notebooks"
        assert path.stem == "06_scoreboard", "it reads what all others left"
        return
    brought = extras(for_colab(path))
    assert {"notebooks", "subjects"} <= brought
    named = re.search(r"(captum|pytorch_grad_cam|saliency|shap|zennit):\w", text)
    assert "peers" in brought or not (named or path.stem.startswith(WITH_PEERS))
    # Colab's Jupyter runs already, and is older than the book's.
    jupyter = {"ipykernel", "ipython", "jupyter-book", "jupyter-client"}
    assert not installed(*brought) & jupyter


def test_the_book_imports_nothing_at_once_that_notebooks_lack():
    """What is imported in functions, or in the site's own modules, notebooks do not come to."""
    lacking = "ipykernel", "jupyter_client", "jupyter_book", "myst_nb", "sphinx", "docutils"
    # Not by None in sys.modules, where SciPy takes it for a Sphinx that runs.
    blocks = (
        "import sys\nclass Without:\n def find_spec(self, name, *_):\n"
        f"  if name.partition('.')[0] in {lacking}: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Without())\n"
    )
    modules = [
        "saliency_sanity.book.cli",
        "saliency_sanity.book.runs.provenance",
        *(
            f"saliency_sanity.{match}"
            for page in PAGES
            for match in re.findall(
                r"from saliency_sanity\.([\w.]+) import", page.read_text("utf8")
            )
        ),
    ]
    lines = "".join(f"import {module}\n" for module in dict.fromkeys(modules))
    done = subprocess.run(
        [sys.executable, "-c", blocks + lines], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
