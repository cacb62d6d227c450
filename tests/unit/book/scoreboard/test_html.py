"""The scoreboard's table: a link in every cell, readable aloud, and no wider than a phone."""

import shutil

import pytest
from bs4 import BeautifulSoup
from made.boards import METHODS, board
from saliency_sanity.book.scoreboard.columns import CHECKS
from saliency_sanity.book.scoreboard.html import Scorecard
from saliency_sanity.verdict.wording import kappa_text

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    full = board(tmp_path_factory.mktemp("board"))
    gap = (full["method"] == "gradient") & (full["check"] == "labels_cnn")
    full.loc[full["check"] == "independent_cnn", "stage"] = "fc & <b>"
    return full[~gap].reset_index(drop=True)


@pytest.fixture(scope="module")
def page(table):
    blank = {("gradient", "labels_cnn"): "It has no <label>."}
    return BeautifulSoup(Scorecard(table, blank=blank)._repr_html_(), "html.parser")


def test_every_verdict_is_a_link_to_the_section_that_shows_why(page, table):
    links = page.select("td a")
    assert sorted(link["href"] for link in links) == sorted(table["link"])
    said = [link["aria-label"] for link in links]
    assert len(set(said)) == len(said)
    checks = {check.key: check for check in CHECKS}
    for row in table.to_dict("records"):
        check = checks[row["check"]]
        parts = (check.question, check.title, row["words"], kappa_text(row))
        found = [text for text in said if all(part in text for part in parts)]
        assert found, parts
    assert sum("at fc & <b>" in text for text in said) == len(METHODS)


def test_cells_stand_where_they_belong(page, table):
    rows = page.select("tbody tr")
    assert len(rows) == len(METHODS)
    assert all(len(row.select("td")) == len(CHECKS) for row in rows)
    assert [len(body.select("tr")) for body in page.select("tbody")] == [3, 2]
    heads = page.select("thead th[scope=col]")[1:]
    assert [head.find(string=True).strip() for head in heads] == [check.title for check in CHECKS]
    for head, check in zip(heads, CHECKS, strict=True):
        links = {link["href"]: link.get_text() for link in head.select("a")}
        assert links == ({check.kept: "batch norms kept"} if check.kept else {})
    spans = [int(cell["colspan"]) for cell in page.select("thead th[scope=colgroup]")]
    assert sum(spans) == len(CHECKS)
    gradient = next(row for row in rows if row.th.get_text() == "Gradient")
    gap = [check.key for check in CHECKS].index("labels_cnn")
    assert gradient.select("td")[gap].span["aria-label"] == "no verdict: It has no <label>."
    assert len(page.select('td [aria-label^="no verdict"]')) == 1
    assert [item.get_text() for item in page.select("li")] == [
        "Random labels: CNN, Gradient: It has no <label>."
    ]
    standing = {(row["method"], row["check"]): row["standing"] for row in table.to_dict("records")}
    for check, cell in zip(CHECKS, gradient.select("td"), strict=True):
        assert cell.get("class", [""])[0] == standing.get(("gradient", check.key), "")


def test_every_header_says_what_it_is_the_header_of(page):
    assert all(cell.get("scope") for cell in page.select("th"))
    box = page.select_one(".box")
    assert (box["role"], box["tabindex"]) == ("region", "0")
    assert box["aria-label"]


def test_no_text_becomes_markup(table):
    spoiled = table.assign(words='"><script>', link='x"><b>')
    page = BeautifulSoup(Scorecard(spoiled)._repr_html_(), "html.parser")
    assert not page.select("script")
    assert not page.select("td > b")


def test_markdown_has_the_same_links(table):
    text = Scorecard(table)._repr_markdown_()
    assert len(text.splitlines()) == 2 + len(METHODS)
    assert all(f"]({link})" in text for link in table["link"])


def test_a_check_that_is_not_among_the_columns_is_refused(table):
    with pytest.raises(ValueError, match="unknown check 'edges'"):
        Scorecard(table, CHECKS[1:])


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_on_a_phone_the_table_scrolls_in_its_box_and_names_stay(table):
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        phone = browser.new_page(viewport={"width": 390, "height": 844})
        phone.set_content(Scorecard(table)._repr_html_())
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390
        name, cell = phone.locator("tbody th").first, phone.locator("tbody td").first
        before = name.bounding_box()["x"], cell.bounding_box()["x"]
        phone.evaluate("document.querySelector('.box').scrollLeft = 300")
        assert name.bounding_box()["x"] == pytest.approx(before[0], abs=1)
        assert cell.bounding_box()["x"] == pytest.approx(before[1] - 300, abs=1)
        size = "nodes => nodes.map(node => parseFloat(getComputedStyle(node).fontSize))"
        assert min(phone.locator("td *, th").evaluate_all(size)) >= 8
        browser.close()
