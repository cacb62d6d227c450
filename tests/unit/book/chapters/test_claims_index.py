"""The ledger: every claim of every page once, under its verdict, with a link to its page."""

import pytest
from bs4 import BeautifulSoup
from made.notebooks import cases, notebook, text
from made.places import ROOT
from saliency_sanity.book.chapters.claims import VERDICTS, ClaimTable
from saliency_sanity.book.chapters.claims_index import ORDER, claims_list, page_titles
from saliency_sanity.book.runs.cases import Case, all_copies

PAGES = {"01_a": "Edges", "02_b-cnn": "Weights: CNN", "00_c": "Metrics"}


def claim(page: str, *verdicts: str) -> ClaimTable:
    table = ClaimTable(page)
    for i, verdict in enumerate(verdicts):
        table.add(
            f"{page} {i}",
            f"statement <{i}>",
            source="A paper",
            paper_said=None,
            measured=0.25 if i else "a | b",
            verdict=verdict,
            reason=f"reason {i}",
            of="products-stay",
            by="ssim",
        )
    return table


@pytest.fixture
def results(tmp_path):
    claim("02_b-cnn", "reproduced", "not reproduced").write(tmp_path)
    claim("01_a", "reproduced", "inconclusive", "reproduced").write(tmp_path)
    claim("99_other", "not reproduced").write(tmp_path)
    return tmp_path


def test_every_claim_of_the_pages_is_there_once(results):
    ledger = claims_list(results, PAGES)
    assert ledger.counts == {
        "reproduced": 3, "not reproduced": 1, "inconclusive": 1, "not tested": 0
    }  # fmt: skip
    found = [(page, one.id) for verdict in VERDICTS for page, one in ledger.of(verdict)]
    assert len(set(found)) == len(found) == 5
    assert [page for page, _ in ledger.of("reproduced")] == ["01_a", "01_a", "02_b-cnn"]


def test_verdicts_open_one_by_one_and_the_first_is_open(results):
    page = BeautifulSoup(claims_list(results, PAGES)._repr_html_(), "html.parser")
    groups = page.select("details")
    heads = [group.summary.get_text() for group in groups]
    assert heads == ["not reproduced: 1", "inconclusive: 1", "reproduced: 3"]
    assert [group.has_attr("open") for group in groups] == [True, False, False]
    for group in groups:
        rows = group.select("tbody tr")
        assert len(rows) == int(group.summary.get_text().rpartition(" ")[2])
        for row in rows:
            assert f"{row.select_one('.verdict').get_text()}: " in group.summary.get_text()
            assert row.select_one(".claim-reason").get_text().startswith("reason")
            link = row.select("td")[-1].a
            assert PAGES[link["href"].removesuffix(".html")] == link.get_text()
    assert "<0>" in page.get_text(), "texts are escaped"
    assert "0.25" in page.get_text()


def test_counts_and_pages_without_claims_are_said(results):
    ledger = claims_list(results, PAGES)
    for said in (ledger._repr_html_(), ledger._repr_markdown_()):
        assert "5 claims on 2 pages: 1 not reproduced, 1 inconclusive, 3 reproduced" in said
        assert "Without claims: Metrics." in said
    assert "99_other" not in ledger._repr_html_(), "a page that this book does not have"
    assert len(ledger._repr_markdown_().splitlines()) == 4 + 5
    assert r"a \| b" not in ledger._repr_markdown_(), "what we got is not in the short form"


def test_the_order_has_every_verdict():
    assert sorted(ORDER) == sorted(VERDICTS)


def test_no_claims_at_all(tmp_path):
    ledger = claims_list(tmp_path, PAGES)
    assert sum(ledger.counts.values()) == 0
    assert "0 claims on 0 pages" in ledger._repr_html_()
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
