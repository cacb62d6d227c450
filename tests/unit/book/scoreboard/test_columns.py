"""The checks of the scoreboard against the notebooks whose results they read."""

import re
from itertools import groupby
from pathlib import Path

import nbformat
import pytest
import yaml
from docutils.nodes import make_id
from made.places import ROOT
from saliency_sanity.book.runs.cases import all_copies
from saliency_sanity.book.runs.dependencies import LIBRARY, notebook_files
from saliency_sanity.book.runs.profiles import profile_copies, profile_names
from saliency_sanity.book.scoreboard.columns import (
    CHECKS,
    COMPLEXITY_WORDS,
    CRITICS,
    NOT_SCORED,
    Check,
    Source,
    checks_in,
)
from saliency_sanity.verdict.wording import EDGE_WORDS, RANDOMIZATION_WORDS

COPIES = all_copies(ROOT / "notebooks")
ALL = (*CHECKS, *CRITICS)
SOURCES = list(dict.fromkeys(check.source for check in ALL))


def test_every_copy_is_in_the_scoreboard_or_listed_as_left_out():
    scored = {source.copy for source in SOURCES}
    assert not scored & NOT_SCORED.keys()
    assert scored | NOT_SCORED.keys() == {
        copy for copy, case in COPIES.items() if not case.after_all
    }


def tables_written(notebook: Path) -> set[str]:
    """What the names of a notebook's tables say after that of the copy."""
    files = [name for name in notebook_files(notebook, ROOT / LIBRARY) if name.endswith(".py")]
    code = "\n".join(Path(name).read_text("utf8") for name in files)
    return set(re.findall(r"self\.(?:page\.)?write\(.*, \"(\w+)\"\)", code))


def test_every_table_of_readings_that_a_notebook_writes_is_read():
    """A notebook that starts to write one has to have a column, or be left out by name."""
    notebooks = (ROOT / "notebooks").glob("*.ipynb")
    written = {path.stem for path in notebooks if "readings" in tables_written(path)}
    assert {source.notebook for source in SOURCES if source.table == "readings"} <= written
    left_out = {COPIES[copy].notebook for copy in NOT_SCORED}
    assert written <= {source.notebook for source in SOURCES} | left_out


@pytest.mark.parametrize("profile", profile_names(ROOT / "config"))
def test_a_profile_has_the_checks_of_its_copies(profile):
    there = profile_copies(profile, ROOT / "config", ROOT / "notebooks")
    checks = checks_in(COPIES, profile, ALL)
    assert {check.source.copy for check in checks} == {
        copy for copy, case in there.items() if copy not in NOT_SCORED and not case.after_all
    }
    assert ("cascade_imagenet" in {check.key for check in checks}) == (profile == "paper")


def test_without_a_profile_only_what_runs_in_all_of_them():
    assert checks_in(COPIES) == checks_in(COPIES, "quick")


def test_a_copy_that_does_not_exist_is_named():
    others = {copy: case for copy, case in COPIES.items() if copy != "04_cgi_sanity-mlp"}
    with pytest.raises(ValueError, match=r"'competition_mlp': unknown copy '04_cgi_sanity-mlp'"):
        checks_in(others)
    with pytest.raises(ValueError, match="no notebooks here"):
        checks_in({})


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.file)
def test_a_link_leads_to_a_section_of_a_page(source):
    page, _, anchor = source.link.partition(".html#")
    assert f"notebooks/{page}" in re.findall(r"file: (\S+)", (ROOT / "_toc.yml").read_text())
    notebook = nbformat.read(ROOT / "notebooks" / f"{source.notebook}.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert anchor in {make_id(heading) for heading in re.findall(r"^##+ (.+)$", text, re.M)}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.file)
def test_its_notebook_writes_the_table(source):
    assert source.table in tables_written(ROOT / "notebooks" / f"{source.notebook}.ipynb")


def test_what_makes_a_table_can_be_typed():
    cases = yaml.safe_load((ROOT / "notebooks" / "cases.yaml").read_text("utf8"))
    for source in SOURCES:
        said = source.command("quick")
        assert f"run notebooks/{source.notebook}.ipynb " in said
        assert said.endswith("--profile quick")
        assert ("--case" in said) == bool(source.case)
        if source.case:
            assert source.case in cases[source.notebook]


def test_keys_are_unique_and_questions_stand_together():
    assert len({check.key for check in ALL}) == len(ALL)
    questions = [check.question for check in ALL]
    groups = [question for question, _ in groupby(questions)]
    assert len(groups) == len(set(groups)), "a question is asked in two places"
    headings = [(check.question, check.title) for check in ALL]
    assert len(set(headings)) == len(headings)


@pytest.mark.parametrize(
    ("wanted", "verdict", "standing"),
    [
        ("below", "below", "wanted"),
        ("below", "above", "unwanted"),
        ("above", "above", "wanted"),
        ("above", "below", "unwanted"),
        ("", "above", "neutral"),
        ("", "below", "neutral"),
        ("below", "inconclusive", "open"),
        ("below", "cannot tell", "cannot"),
        ("", "cannot tell", "cannot"),
        ("", "inconclusive", "open"),
    ],
)
def test_standing(wanted, verdict, standing):
    source = Source("a", "", "b")
    check = Check("k", "q", "t", (source,), RANDOMIZATION_WORDS, wanted=wanted)
    assert check.standing(verdict) == standing


def test_likeness_to_edges_and_entropy_are_no_failures_and_everything_else_can_be_one():
    for check in ALL:
        assert (check.wanted == "") == (check.words in (EDGE_WORDS, COMPLEXITY_WORDS)), check.key
