"""Notebooks to launch say what their page ran, and hold nothing else than its source."""

import nbformat
import pytest
import yaml
from made.places import ROOT
from saliency_sanity.book.runs.cases import all_copies
from saliency_sanity.book.runs.launch import FOLDER, launch_values
from saliency_sanity.book.runs.parameters import read_parameters
from saliency_sanity.book.runs.profiles import profile_parameters

CASES = {copy: case for copy, case in all_copies(ROOT / "notebooks").items() if case.name}
BINDER = ROOT / "binder"


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


def test_binder_gets_the_book_and_a_network():
    lines = (BINDER / "requirements.txt").read_text("utf8").splitlines()
    assert "-c requirements.lock" in lines
    assert "-e .[book]" in lines
    assert any(line.startswith("--extra-index-url") and line.endswith("/cpu") for line in lines)
    build = (BINDER / "postBuild").read_text("utf8")
    networks = yaml.safe_load((ROOT / "config/quick.yaml").read_text("utf8"))["networks"]
    trained = [line.split()[4] for line in build.splitlines() if " train " in line]
    assert trained
    assert set(trained) <= set(networks)
    assert (BINDER / "postBuild").stat().st_mode & 0o111
    assert (BINDER / "runtime.txt").read_text("utf8").strip() == "python-3.12"
