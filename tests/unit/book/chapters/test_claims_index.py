"""The ledger: every statement once, with its readings, each with a link to its page."""

import pytest
from bs4 import BeautifulSoup
from made.notebooks import cases, notebook, text
from made.places import ROOT
from saliency_sanity.book.chapters.claims import LEVELS, VERDICTS, Claim, ClaimTable
from saliency_sanity.book.chapters.claims_index import (
    WORDS,
    claims_list,
    overall,
    page_titles,
)
from saliency_sanity.book.runs.cases import Case, all_copies

PAGES = {"01_a": "Edges", "02_b-cnn": "Weights: CNN", "00_c": "Metrics"}
GRADIENT, GUIDED = (
    {"of": "upper-layers-leave", "about": about} for about in ("Gradient <1>", "Guided")
)
EXACT, OWN = {"of": "one-layer-closed"}, {"of": "noise-passes"}
YES, NO, OPEN, UNTOLD, NOT = VERDICTS


def made(id: str, verdict: str, of: dict, level=None, **margins: str) -> Claim:
    return Claim(
        id=id,
        statement=f"statement <{id}>",
        source="A paper",
        paper_said=None,
        measured=0.25 if verdict != NOT else "a | b",
        chance=None,
        verdict=verdict,
        reason=f"reason {id}",
        level=level,
        margins={key.replace("_", "."): value for key, value in margins.items()},
        **of,
    )


@pytest.fixture
def results(tmp_path):
    edges = [
        made("a", YES, GUIDED, 0.05, **{"0_05": OPEN, "0_2": YES}),
        made("b", OPEN, GUIDED, 1.0, **{"0_05": YES, "0_2": OPEN}),
        made("c", YES, GRADIENT, LEVELS[-1], **{"0_05": YES, "0_2": YES}),
        made("d", YES, EXACT),
    ]
    weights = [
        made("e", YES, GUIDED, LEVELS[-1], **{"0_05": YES, "0_2": NO}),
        made("f", NO, GRADIENT, LEVELS[-1], **{"0_05": NO, "0_2": NO}),
        made("g", NOT, OWN),
        made("h", NOT, GUIDED),
    ]
    ClaimTable("01_a", edges).write(tmp_path)
    ClaimTable("02_b-cnn", weights).write(tmp_path)
    ClaimTable("99_other", [made("z", NO, OWN)]).write(tmp_path)
    return tmp_path


@pytest.fixture
def page(results):
    return BeautifulSoup(claims_list(results, PAGES)._repr_html_(), "html.parser")


@pytest.mark.parametrize(
    ("verdicts", "word"),
    [
        ([YES, YES, OPEN], "reproduced"),
        ([NO, NOT], "not reproduced"),
        ([YES, NO, YES, YES], "mixed"),
        ([YES, OPEN], "cannot tell"),
        ([OPEN, NOT], "cannot tell"),
        ([YES, UNTOLD, UNTOLD], "cannot tell"),
        ([NOT, NOT], "not tested"),
        ([], "not tested"),
    ],
)
def test_the_word_of_a_statement(verdicts, word):
    assert overall(verdicts) == word
    assert word in WORDS


def test_every_statement_is_there_once_with_all_its_readings(results):
    ledger = claims_list(results, PAGES)
    found = {(one.statement.kind, one.about): one for one in ledger.reread}
    assert len(found) == len(ledger.reread) == 4
    names = {key: [claim.id for _, claim in one.readings] for key, one in found.items()}
    assert names == {
        ("paper", "Guided"): ["a", "b", "e", "h"],
        ("paper", "Gradient <1>"): ["c", "f"],
        ("identity", ""): ["d"],
        ("own", ""): ["g"],
    }
    assert ledger.readings == sum(map(len, names.values()))
    assert {key: one.word for key, one in found.items()} == {
        ("paper", "Guided"): "reproduced",
        ("paper", "Gradient <1>"): "mixed",
        ("identity", ""): "reproduced",
        ("own", ""): "not tested",
    }
    assert ledger.counts("paper") == dict.fromkeys(WORDS, 0) | {"reproduced": 1, "mixed": 1}
    assert sum(sum(ledger.counts(kind).values()) for kind in ("paper", "identity", "own")) == 4


def test_a_statement_says_how_many_readings_agree_and_stay(results):
    ledger = claims_list(results, PAGES)
    guided, gradient, exact, own = sorted(ledger.reread, key=lambda one: one.readings[0][1].id)
    # Of three tried, 0.05 is too much for the second step: 0.05 * 2 / (6 - 1).
    assert guided.said == (
        "of 3 readings 2 agree, 1 cannot tell, 1 not tested; 1 of 2 verdicts stay when all are "
        "tested together"
    )
    assert [claim.id for claim in guided.stay] == ["e"]
    assert gradient.said == (
        "of 2 readings 1 agrees, 1 disagrees; 2 of 2 verdicts stay when all are tested together"
    )
    assert exact.said == "1 reading agrees"
    assert own.said == "1 not tested"


def test_other_margins_are_counted_by_reading_and_by_statement(results):
    ledger = claims_list(results, PAGES)
    said = ledger.robustness
    assert said.startswith(
        "3 of 4 verdicts stay when all readings of a statement are tested together."
    )
    # 0.05: a opens, b closes. 0.2: e turns round, so that guided is mixed.
    assert "0.05 changes 2 readings and 0 statements" in said
    assert "0.2 changes 1 reading and 1 statement" in said
    guided = next(one for one in ledger.reread if one.about == "Guided")
    assert [guided.word_at(margin) for margin in (0.05, 0.1, 0.2)] == [
        "reproduced", "reproduced", "mixed"
    ]  # fmt: skip
    notes = {claim.id: guided.notes(claim) for _, claim in guided.readings}
    assert notes["a"].startswith("Does not stay")
    assert "inconclusive with 0.05" in notes["a"]
    assert notes["e"].startswith("Stays")
    assert "not reproduced with 0.2" in notes["e"]
    assert notes["b"] == "Another margin: reproduced with 0.05."
    assert notes["h"] == ""


def test_statements_stand_under_their_kind_and_figure(page):
    assert [head.get_text() for head in page.select("h3")] == [
        "Statements of papers",
        "Identities: what follows from definitions",
        "This book's own statements",
    ]
    assert [head.get_text() for head in page.select("h4")] == [
        "Adebayo et al. 2018, fig. 2 and contribution 3: 2 statements",
        "Adebayo et al. 2018, section 5.3: 1 statement",
        "This book, competition: 1 statement",
    ]
    groups = page.select("details")
    assert len(groups) == 4
    assert not any(group.has_attr("open") for group in groups)
    assert "Gradient <1> keeps most of its map" in page.get_text(), "texts are escaped"


def test_each_reading_has_its_reason_and_its_page(page):
    for row in page.select("tbody tr"):
        assert row.select_one(".claim-reason").get_text().startswith("reason")
        link = row.select("td")[-1].a
        assert PAGES[link["href"].removesuffix(".html")] == link.get_text()
    assert len(page.select("tbody tr")) == 8
    assert "statement <e>" in page.get_text()
    assert "0.25" in page.get_text()


def test_counts_and_pages_without_claims_are_said(results):
    ledger = claims_list(results, PAGES)
    for said in (ledger._repr_html_(), ledger._repr_markdown_()):
        assert "2 statements of papers: 1 mixed, 1 reproduced; 1 identity: 1 reproduced" in said
        assert "8 readings on 2 pages." in said
        assert "Without claims: Metrics." in said
    assert "99_other" not in ledger._repr_html_(), "a page that this book does not have"
    lines = ledger._repr_markdown_().splitlines()
    assert len(lines) == 5 + 4
    assert {line.count("|") for line in lines[3:]} == {5}


def test_no_claims_at_all(tmp_path):
    ledger = claims_list(tmp_path, PAGES)
    assert ledger.readings == 0
    assert "0 statements. 0 readings on 0 pages" in ledger._repr_html_()
    assert "<details" not in ledger._repr_html_()


def test_pages_are_called_by_heading_and_case(tmp_path):
    for name in ("one", "two"):
        text(notebook(tmp_path / f"{name}.ipynb"), f"Words\n\n# Heading {name} \n\n## Not this")
    cases(tmp_path, two={"b": {"title": "B"}, "a": {"title": "A"}})
    assert page_titles(tmp_path, all_copies(tmp_path)) == {
        "one": "Heading one", "two-b": "Heading two: B", "two-a": "Heading two: A"
    }  # fmt: skip
    notebook(tmp_path / "bare.ipynb")
    with pytest.raises(ValueError, match=r"bare\.ipynb has no heading"):
        page_titles(tmp_path, {"bare": Case("bare")})


def test_the_books_own_pages_have_titles():
    folder = ROOT / "notebooks"
    copies = all_copies(folder)
    titles = page_titles(folder, copies)
    assert titles.keys() == copies.keys()
    assert len(set(titles.values())) == len(titles)
