"""The scoreboard's table without scripts: a link in every cell, readable aloud, data beside it."""

import json

import pytest
from bs4 import BeautifulSoup
from made.boards import METHODS, MOVING, board, moving
from saliency_sanity.book.scoreboard.columns import CHECKS
from saliency_sanity.book.scoreboard.html import Scorecard
from saliency_sanity.book.scoreboard.table import at_margins, method_title, read_scoreboard
from saliency_sanity.verdict.wording import kappa_text


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


def _data(page) -> dict:
    return json.loads(page.select_one("script.data").get_text())


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
    _, script = page.select("script")
    assert len(Scorecard(table)._repr_html_().split("<script>")) == 2
    assert not page.select("td > b")
    cells = _data(page)["bodies"][0][1][0]["cells"]
    assert cells[0][0]["words"] == '"><script>'
    assert "createElement" in script.get_text()


def test_markdown_has_the_same_links(table):
    text = Scorecard(table)._repr_markdown_()
    assert len(text.splitlines()) == 2 + len(METHODS)
    assert all(f"]({link})" in text for link in table["link"])


def test_a_check_that_is_not_among_the_columns_is_refused(table):
    with pytest.raises(ValueError, match="unknown check 'edges'"):
        Scorecard(table, CHECKS[1:])


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    results = moving(tmp_path_factory.mktemp("moving"))
    return read_scoreboard(results), at_margins(results)


def test_data_have_every_cell_with_what_other_margins_make_of_it(moved):
    table, others = moved
    data = _data(BeautifulSoup(Scorecard(table, others=others)._repr_html_(), "html.parser"))
    assert data["margins"] == ["0.1", "0.05", "0.2"]
    place = [check.key for check in CHECKS].index("labels_cnn")
    rows = {row["name"]: row["cells"] for _, rows in data["bodies"] for row in rows}
    for method, (_, _, *standings) in MOVING.items():
        own, *more = rows[method_title(method)][place]
        shown = [own["standing"], *((other or own)["standing"] for other in more)]
        assert shown == [standings[1], standings[0], standings[2]], method
    for check, cell in zip(CHECKS, rows["Gradient"], strict=True):
        assert (check.line is None) or cell[1:] == [{}, {}], "it has a line of its own"


def test_a_kappa_says_how_many_maps_have_none(moved):
    table, _ = moved
    gone = table["method"] == "gradient"
    page = BeautifulSoup(
        Scorecard(table.assign(missing=12 * gone.astype(int)))._repr_html_(), "html.parser"
    )
    for row in page.select("tbody tr"):
        name, text = row.th.get_text(strip=True), str(row)
        assert ("without 12 maps that have none" in text) == (name == "Gradient"), name


def test_a_margin_that_is_the_pages_own_is_offered_once(moved):
    table, _ = moved
    for others, wanted in (({}, ["0.1"]), ({0.1: table, 0.3: table}, ["0.1", "0.3"])):
        page = BeautifulSoup(Scorecard(table, others=others)._repr_html_(), "html.parser")
        assert _data(page)["margins"] == wanted
        offered = page.select(".margins input")
        assert [one["value"] for one in offered] == (wanted if others else [])
        assert [one["value"] for one in offered if one.has_attr("checked")] == wanted[:1] * bool(
            others
        )


def test_another_margins_table_has_the_same_cells(table):
    with pytest.raises(ValueError, match=r"with margin 0\.2 the scoreboard has other cells"):
        Scorecard(table, others={0.2: table.iloc[1:]})


def test_one_can_choose_only_where_there_is_a_choice(table, page):
    by = {box["data-by"]: [one.get_text() for one in box("option")] for box in page("select")}
    assert by["question"] == ["all", *dict.fromkeys(check.question for check in CHECKS)]
    assert "Inception v3, ImageNet" in by["network"]
    assert "by ranks" not in by["network"], "that is a similarity"
    assert "HOG correlation" in by["similarity"]
    assert page.select_one(".tools").has_attr("hidden"), "without scripts it would do nothing"
    one = table[table["check"] == "labels_cnn"]
    alone = BeautifulSoup(Scorecard(one)._repr_html_(), "html.parser")
    assert not alone.select("select, .every, .margins")
