"""Statements: each is used, is a known paper's, and says whom it is about."""

import re

import pytest
from made.places import ROOT
from saliency_sanity.book.chapters.statements import KINDS, Statement, papers, statement, statements

CLAIMS = sorted((ROOT / "lib/saliency_sanity/book/chapters").glob("*/claims.py"))


def test_every_statement_has_readings_in_a_chapter():
    code = "\n".join(path.read_text() for path in CLAIMS)
    code = code.replace("passes-{of}", "passes-weights competition-passes-labels")
    used = {key for key in statements() if re.search(rf"\b{key}\b", code)}
    assert used == set(statements())


def test_papers_are_in_the_bibliography():
    keys = set(re.findall(r"@\w+\{([\w-]+),", (ROOT / "book/references.bib").read_text()))
    assert set(papers()) <= keys
    assert {found.paper for found in statements().values()} - {""} == set(papers())


def test_every_kind_is_there_and_no_statement_twice():
    assert {found.kind for found in statements().values()} == set(KINDS)
    words = [found.words for found in statements().values()]
    assert len(set(words)) == len(words)
    assert all(text.endswith(".") for text in words)


def test_a_statement_is_said_of_what_it_is_about():
    found = Statement("own", "here", "{about} is odd.")
    assert found.takes_about
    assert found.said("LRP") == "LRP is odd."
    assert not statement("products-stay").takes_about


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("proof", "here", "x"), "unknown kind 'proof'"),
        (("own", " ", "x"), "empty text"),
        (("paper", "fig. 1", "x"), "names none"),
    ],
)
def test_what_is_no_statement_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Statement(*given)
