"""The notebook of the scoreboard: planted results in, pictures, table and links out."""

import re

import nbformat
import pandas as pd
import pytest
from made.boards import METHODS, plant
from made.notebooks import outputs
from made.places import ROOT
from pandas.testing import assert_frame_equal
from saliency_sanity.book.runs.cases import all_copies
from saliency_sanity.book.runs.runner import run_notebook
from saliency_sanity.book.scoreboard.columns import CRITICS, checks_in
from saliency_sanity.book.scoreboard.table import read_scoreboard

SOURCE = ROOT / "notebooks" / "06_scoreboard.ipynb"
COPIES = all_copies(ROOT / "notebooks")
CHECKS = checks_in(COPIES)
ASKED = checks_in(COPIES, checks=CRITICS)

pytestmark = pytest.mark.slow


def run(folder, profile="quick", **parameters):
    output = folder / "executed.ipynb"
    given = {"inputs": str(folder / "in"), "results": str(folder / "out")} | parameters
    run_notebook(SOURCE, output, given, profile=profile, progress=False)
    return output


def recorded(path) -> dict[str, str]:
    """Values that other pages may show, by name."""
    found = {}
    for cell in nbformat.read(path, as_version=4).cells:
        for item in cell.get("outputs", []):
            if "scrapbook" in item.get("metadata", {}):
                (value,) = item["data"].values()
                found[item["metadata"]["scrapbook"]["name"]] = value
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scoreboard")
    plant(folder / "in", (*CHECKS, *ASKED))
    return folder, run(folder, profile="smoke")


def test_it_writes_what_it_read(page):
    folder, _ = page
    written = pd.read_parquet(folder / "out" / "tables" / "06_scoreboard.parquet")
    assert_frame_equal(written, read_scoreboard(folder / "in", CHECKS))
    answers = pd.read_parquet(folder / "out" / "tables" / "06_scoreboard-critics.parquet")
    assert_frame_equal(answers, read_scoreboard(folder / "in", ASKED))
    assert set(written["method"]) == set(METHODS)
    for name in ("scoreboard", "scoreboard-narrow"):
        picture = (folder / "out" / "figures" / f"{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")


def test_every_verdict_and_every_claim_has_its_link(page):
    _, executed = page
    said = str(nbformat.read(executed, as_version=4).cells)
    copies = {check.source.copy for check in (*CHECKS, *ASKED)}
    for check in (*CHECKS, *ASKED):
        assert f'href="{check.source.link}"' in said
    for copy in copies:
        assert f'<a href="{copy}.html">' in said
    assert "imagenet" not in said, "that page is in another profile"
    assert f"1 statement of papers: 1 mixed. {len(copies)} readings on {len(copies)} pages" in said
    assert "Without claims: Why no similarity" in said
    assert "Not among the checks" in outputs(executed) or "Not among the checks" in said


def test_it_records_what_the_landing_page_shows(page):
    _, executed = page
    found = recorded(executed)
    asked = re.findall(
        r"06_scoreboard\.ipynb::(\w+)", (ROOT / "book" / "index.md").read_text("utf8")
    )
    assert asked
    assert set(asked) <= found.keys()
    # Gradient responds, gradient x input does not, the own method is open.
    assert [found[key] for key in ("methods", "methods_wanted", "methods_unwanted")] == [
        "3", "1", "1"
    ]  # fmt: skip
    total = sum(int(value) for key, value in found.items() if key.startswith("statements_"))
    assert total == int(found["statements"]) == 1
