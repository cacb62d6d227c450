"""What a card says of a figure comes from the readings of its statements, and of no others."""

import pytest
from saliency_sanity.book.chapters.claims import VERDICTS, ClaimTable
from saliency_sanity.book.chapters.claims_index import Ledger, overall
from saliency_sanity.book.chapters.statements import statements
from saliency_sanity.book.scoreboard.five_figures import FIVE, badges, write_badges


def ledger(*verdicts, of="edges-like-methods"):
    table = ClaimTable("page")
    for i, verdict in enumerate(verdicts):
        table.add(
            f"C{i}", "It is so.", source="fig. 1", paper_said="so", measured=1.0,
            verdict=verdict, reason="Measured.", of=of,
            about="The gradient" if statements()[of].takes_about else "",
        )  # fmt: skip
    return Ledger({"page": table}, {"page": "Page"})


def test_every_statement_behind_a_card_is_a_papers_and_stands_behind_one():
    keys = [key for keys in FIVE.values() for key in keys]
    assert len(set(keys)) == len(keys)
    for keys in FIVE.values():
        found = {statements()[key].paper for key in keys}
        assert len(found) == 1
        assert {statements()[key].kind for key in keys} == {"paper"}
    assert {statements()[keys[0]].paper for keys in FIVE.values()} == {
        "adebayo2018sanity", "gupta2019simple", "brocki2020input"
    }  # fmt: skip


@pytest.mark.parametrize(
    "verdicts",
    [
        ("reproduced", "reproduced"),
        ("reproduced", "not reproduced"),
        ("inconclusive", "cannot tell", "reproduced"),
        ("not tested",),
        (),
    ],
)
def test_the_word_and_the_counts_are_those_of_the_readings(verdicts):
    badge = badges(ledger(*verdicts))["edges"]
    assert badge.word == overall(verdicts)
    assert badge.counts == {verdict: verdicts.count(verdict) for verdict in VERDICTS}
    assert badges(ledger(*verdicts))["labels"].word == "not tested"


def test_what_was_not_tested_is_no_reading():
    said = badges(ledger("reproduced", "inconclusive", "not tested"))["edges"].said
    assert said == "2 readings: 1 agree, 0 disagree, 1 open (1 too near to call)."
    assert badges(ledger())["edges"].said == "No reading could be tested."


def test_a_file_a_figure(tmp_path):
    write_badges(ledger("not reproduced"), tmp_path / "figures")
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        f"badge-{figure}.html" for figure in FIVE
    }
    text = (tmp_path / "figures" / "badge-edges.html").read_text("utf8")
    assert 'class="badge-word verdict-not-reproduced">not reproduced<' in text
