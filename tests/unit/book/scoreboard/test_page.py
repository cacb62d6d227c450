"""The page of the scoreboard: what is missing or unknown is named, with what makes it."""

import re
from dataclasses import fields
from itertools import product

import pytest
from made.boards import plant
from made.pages import parameters
from made.places import ROOT
from saliency_sanity.book.chapters.claims_index import WORDS
from saliency_sanity.book.runs.cases import all_copies
from saliency_sanity.book.scoreboard.columns import CRITICS, HALFWAY, checks_in
from saliency_sanity.book.scoreboard.page import Scoreboard
from saliency_sanity.book.scoreboard.table import MissingTablesError

COPIES = all_copies(ROOT / "notebooks")
CHECKS = checks_in(COPIES)
ASKED = checks_in(COPIES, checks=CRITICS)


@pytest.fixture
def planted(tmp_path):
    plant(tmp_path / "in", (*CHECKS, *ASKED))
    return tmp_path


def page(folder, **given):
    places = {"inputs": str(folder / "in"), "results": str(folder / "out"), "profile": "quick"}
    return Scoreboard.of(parameters(Scoreboard.notebook, **(places | given)))


def test_its_parameters_are_those_of_the_notebook():
    asked = {field.name for field in fields(Scoreboard) if field.init} - {"case"}
    assert asked == set(parameters(Scoreboard.notebook))


def test_it_stops_with_the_names_of_what_is_missing(planted):
    (planted / "in" / "tables" / "04_cgi_sanity-mlp-readings.parquet").unlink()
    with pytest.raises(MissingTablesError, match=r"^1 of [^\n]*\n.*mlp-readings") as error:
        page(planted)
    assert "run notebooks/04_cgi_sanity.ipynb --case mlp --profile quick" in str(error.value)
    assert not list((planted / "out").rglob("*.parquet"))


def test_in_another_profile_other_pages_are_asked_for(planted):
    with pytest.raises(MissingTablesError, match="02_cascading_randomization-imagenet-readings"):
        page(planted, profile="paper")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"checks": ["edgse"]}, r"unknown check 'edgse'\. Nearest: edges"),
        ({"profile": "quik"}, r"unknown profile 'quik'\. Nearest: quick"),
    ],
)
def test_an_unknown_name_is_named(planted, given, says):
    with pytest.raises(ValueError, match=says):
        page(planted, **given)


def test_of_some_checks_only_those_are_read_and_counted(planted):
    made = page(planted, checks=["edges", "labels_cnn"])
    assert [check.key for check in made.columns] == ["edges", "labels_cnn"]
    assert made.numbers()["checks"] == 2
    assert "in 1 checks" in made.summary().data, "edges speak for or against no method"


def test_counts_say_of_what_they_are_counts(planted):
    """Fewer checks compare networks than have a wanted answer; the landing page quotes those."""
    made = page(planted)
    numbers, text = made.numbers(), made.summary().data
    said = (
        f"{numbers['checks_randomized']} of these checks compare a network with one of random "
        "weights or labels (random upper halves are not counted here). Of the "
        f"{numbers['methods']} methods asked in these, {numbers['methods_unwanted']} have such a "
    )
    assert said in text
    words = ("wanted", "unwanted", "open")
    assert sum(numbers[f"methods_{word}"] for word in words) == numbers["methods"]


def test_how_noise_stands_is_counted_and_not_taken_for_granted(planted):
    made = page(planted)
    asked = made.table["check"].isin(
        [check.key for check in made.columns if check.stage != HALFWAY]
    )
    mine = made.table.index[(made.table["method"] == "noise") & asked]
    first = made.table.loc[mine, "check"] == "labels_cnn"
    made.table.loc[mine[first], "standing"] = "cannot"
    count = made.numbers()["noise_checks"]
    assert count == made.numbers()["checks_randomized"]
    assert made.noise == (
        f"Noise that knows nothing but the weights responds in {count - 1} of its {count} checks; "
        "in 1 one cannot tell."
    )


def test_the_landing_page_has_every_word_in_its_sums():
    text = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    said = set(re.findall(r"::statements_(\w+):", text))
    assert said == {word.replace(" ", "_") for word in WORDS}
    numbers = (ROOT / "book" / "numbers.md").read_text(encoding="utf-8")
    rows = [line for line in numbers.splitlines() if "::above_" in line]
    assert rows
    for row in rows:
        for word, metric in product(
            ("above", "below", "inconclusive", "cannot_tell"), ("spearman_abs", "spearman_signed")
        ):
            assert f"::{word}_{metric}:" in row


def test_what_keeps_most_of_its_map_is_counted_apart(planted):
    """An interval about the margin, 0.1, is below the line of half a network, 0.5."""
    numbers = page(planted).numbers()
    assert {key: numbers[key] for key in numbers if key.startswith("half_")} == {
        "half_methods": 3, "half_wanted": 2, "half_unwanted": 1, "half_open": 0
    }  # fmt: skip
    assert numbers["methods_open"] == 1
    assert 0 < numbers["checks_randomized"] < numbers["checks"]
