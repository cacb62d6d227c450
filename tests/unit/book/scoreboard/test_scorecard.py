"""The scoreboard in a browser: the worst case a cell, sorted, filtered, and a reason at a click."""

import contextlib

import pytest
from bs4 import BeautifulSoup
from made.boards import MOVING, moving
from saliency_sanity.book.scoreboard.columns import CHECKS
from saliency_sanity.book.scoreboard.html import Scorecard
from saliency_sanity.book.scoreboard.table import at_margins, method_title, read_scoreboard

# Two networks of one question that differ, one without a rival, two with lines of their own.
KEYS = ("edges", "outlines", "cascade_mlp", "cascade_vit", "labels_cnn", "labels_mlp", "units_cnn")
ASKED = [check for check in CHECKS if check.key in KEYS]
QUESTIONS = list(dict.fromkeys(check.question for check in ASKED))
GAP = "It has no <label>."
HEAD = "<!doctype html><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
NAMES = {
    part: [method_title(name) for name in names]
    for part, names in {
        "methods": ("gradient", "gradient_x_input", "my_methods:blurred"),
        "controls": ("sobel", "noise"),
    }.items()
}
ROWS = """card => Object.fromEntries(['methods', 'controls'].map(part =>
  [part, [...card.querySelectorAll(`tbody.${part} th`)].map(node => node.textContent)]))"""
CELLS = """card => [...card.querySelectorAll('tbody tr')].map(row =>
  [...row.querySelectorAll('td')].map(cell => [cell.className, cell.textContent,
    cell.firstElementChild.getAttribute('aria-label')]))"""

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A page from disk with the same card twice; gradient has a gap among random labels."""
    folder = tmp_path_factory.mktemp("card")
    results = moving(folder, ASKED)
    boards = {0: read_scoreboard(results, ASKED)} | at_margins(results, ASKED)
    gap = (boards[0]["method"] == "gradient") & (boards[0]["check"] == "labels_mlp")
    table, *others = (board[~gap] for board in boards.values())
    blank = {("gradient", "labels_mlp"): GAP}
    card = Scorecard(table, ASKED, blank, dict(zip(list(boards)[1:], others, strict=True)))
    path = folder / "page.html"
    path.write_text(f"{HEAD}<title>t</title>{2 * card._repr_html_()}", encoding="utf8")
    return path


@pytest.fixture
def card(browser, file):
    """The first of the two; the second stays as it is whatever is done to it."""
    with contextlib.closing(browser.new_context(viewport={"width": 1000, "height": 900})) as made:
        page = made.new_page()
        faults = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(file.as_uri())
        first, second = page.locator(".scorecard").all()
        before = second.inner_text()
        yield first
        assert second.inner_text() == before
        assert faults == []


def row(card, method):
    place = [*NAMES["methods"], *NAMES["controls"]].index(method_title(method))
    return card.evaluate(CELLS)[place]


def test_a_cell_has_the_worst_of_its_question_and_says_of_what(card):
    heads = card.locator("thead th button").all_inner_texts()
    assert heads == ["Method", *QUESTIONS]
    # Gradient responds everywhere but with the CNN's labels; of the MLP's it has no verdict.
    cells = dict(zip(QUESTIONS, row(card, "gradient"), strict=True))
    standing, text, label = cells["Random labels"]
    assert (standing, "0.15" in text, text.endswith("CNN")) == ("unwanted", True, True)
    assert label.startswith("Gradient, Random labels, CNN: picture-driven, kappa 0.15")
    assert cells["Random weights"][0] == "wanted"
    # Where the wanted answer is "above", the lowest kappa is the worst.
    assert cells["Other units"][0] == "unwanted"
    # Of one that is open and one that is decided for it, the open one.
    cannot = dict(zip(QUESTIONS, row(card, "sobel"), strict=True))["Random labels"]
    assert cannot[0] == "unwanted", "the MLP's labels leave the edges as they are"
    assert dict(zip(QUESTIONS, row(card, "noise"), strict=True))["Random labels"][0] == "wanted"


def test_all_columns_are_one_click_away_and_say_what_the_table_without_scripts_says(card, file):
    still = BeautifulSoup(file.read_text("utf8"), "html.parser").select_one(".scorecard")
    card.get_by_label("all columns").check()
    wanted = [
        [
            (cell.get("class", [""])[0], cell.get_text(), cell.find()["aria-label"])
            for cell in line("td")
        ]
        for line in still.select("tbody tr")
    ]
    found = [[tuple(cell) for cell in line] for line in card.evaluate(CELLS)]
    strip = len("no verdict: ")
    for line, other in zip(found, wanted, strict=True):
        for cell, one in zip(line, other, strict=True):
            assert cell[:2] == one[:2]
            assert cell[2] == one[2] or cell[2].endswith(one[2][strip:])
    assert card.locator("thead th[scope=colgroup]").all_inner_texts() == QUESTIONS
    assert card.locator("thead .kept").count() == len(still.select("thead .kept"))


def test_sorting_by_keyboard_leaves_controls_below_the_line(card):
    head = card.locator("thead th", has_text="Random labels")
    button = head.get_by_role("button")
    assert head.get_attribute("aria-sort") == "none"
    button.focus()
    card.page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    # 0.8 by the MLP's, 0.4 open, 0.15: a wrong answer comes before an open one.
    first = {"methods": [1, 0, 2], "controls": [0, 1]}
    wanted = {part: [NAMES[part][n] for n in order] for part, order in first.items()}
    assert card.evaluate(ROWS) == wanted
    assert "the worst first" in card.get_by_role("status").inner_text()
    card.page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "ascending"
    assert card.evaluate(ROWS) == {part: names[::-1] for part, names in wanted.items()}
    card.page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "none"
    assert card.evaluate(ROWS) == NAMES
    assert card.page.evaluate("document.activeElement.textContent") == "Random labels"
    card.get_by_role("button", name="Method").click()
    assert card.evaluate(ROWS)["methods"] == sorted(NAMES["methods"], key=str.lower)


def test_what_has_no_verdict_stays_last_whatever_the_order(card):
    card.get_by_label("all columns").check()
    card.get_by_label("Question").select_option("Random labels")
    button = card.locator("thead").get_by_role("button", name="MLP")
    for _ in range(2):
        button.click()
        assert card.evaluate(ROWS)["methods"][-1] == "Gradient"


def test_margins_move_what_they_decide(card):
    place = QUESTIONS.index("Random labels")
    card.get_by_label("Network").select_option("CNN")
    for n, margin in enumerate(("0.05", "0.1", "0.2")):
        card.get_by_label(margin, exact=True).check()
        heads = card.locator("thead th button").all_inner_texts()[1:]
        column = heads.index(QUESTIONS[place])
        for method, (_, _, *standings) in MOVING.items():
            assert row(card, method)[column][0] == standings[n], (method, margin)
        said = card.get_by_role("status").inner_text()
        moved = sum(line[2 + n] != line[3] for line in MOVING.values())
        assert (f"With margin {margin}, {moved} of 10 verdicts differ" in said) == (margin != "0.1")


def test_filters_leave_what_is_asked_for(card):
    card.get_by_label("Similarity").select_option("HOG correlation")
    assert card.locator("thead th button").all_inner_texts() == ["Method", "Edge-like"]
    assert row(card, "gradient")[0][1].endswith("by outlines")
    card.get_by_label("Network").select_option("MLP")
    assert card.locator("thead th button").all_inner_texts() == ["Method"]
    assert card.get_by_role("status").inner_text() == "No check is all of that."
    card.get_by_label("Similarity").select_option("all")
    assert card.locator("thead th button").all_inner_texts() == [
        "Method", "Random weights", "Random labels"
    ]  # fmt: skip


def test_enter_opens_the_reason_and_escape_goes_back(card, file):
    card.get_by_label("Network").select_option("CNN")
    cell = card.locator("tbody.controls td a[href*='03_label']").first
    cell.focus()
    card.page.keyboard.press("Enter")
    reason = card.get_by_role("dialog")
    assert reason.is_visible()
    said = reason.inner_text()
    assert method_title("sobel") in said
    assert "cannot tell: the map of another training has kappa 0.08" in said
    assert "Kappa 0.01 (-0.02 to 0.04): compared with the margin 0.1." in said
    link = reason.get_by_role("link", name="The section that shows why")
    assert link.get_attribute("href") == "03_label_randomization-cnn.html#verdicts"
    assert card.page.evaluate("document.activeElement.textContent") == "The section that shows why"
    assert card.page.url == file.as_uri()
    card.page.keyboard.press("Escape")
    assert not reason.is_visible()
    assert cell.evaluate("node => node === document.activeElement")


def test_a_click_opens_all_that_the_worst_was_chosen_from_and_gaps(card):
    place = QUESTIONS.index("Random labels")
    card.locator("tbody tr").first.locator("td").nth(place).click()
    reason = card.get_by_role("dialog")
    items = reason.locator("li").all_inner_texts()
    assert len(items) == 2
    assert "CNN: picture-driven, kappa 0.15" in items[0]
    assert items[1] == f"– MLP: {GAP}"
    reason.get_by_role("button", name="Close").click()
    assert not reason.is_visible()
    card.get_by_label("Network").select_option("MLP")
    card.locator("tbody tr").first.locator("button.none").click()
    assert f"No verdict: {GAP}" in reason.inner_text()


def test_cannot_tell_is_hatched(card):
    card.get_by_label("Network").select_option("CNN")
    picture = card.locator("td.cannot").first.evaluate("n => getComputedStyle(n).backgroundImage")
    assert picture.startswith("repeating-linear-gradient")


@pytest.mark.parametrize("scripts", [True, False])
def test_on_a_phone_the_table_scrolls_in_its_box_says_so_and_names_stay(browser, file, scripts):
    phone = browser.new_context(viewport={"width": 390, "height": 844}, java_script_enabled=scripts)
    with contextlib.closing(phone) as context:
        page = context.new_page()
        page.goto(file.as_uri())
        assert page.locator(".hint").first.is_visible()
        assert page.locator(".tools").first.is_visible() == scripts
        name, cell = page.locator("tbody th").first, page.locator("tbody td").first
        before = name.bounding_box()["x"], cell.bounding_box()["x"]
        page.locator(".box").first.focus()
        page.mouse.move(200, cell.bounding_box()["y"] + 5)
        for _ in range(50):  # what is turned before the page can scroll is lost
            page.mouse.wheel(100, 0)
            page.wait_for_timeout(100)
            if cell.bounding_box()["x"] < before[1] - 20:
                break
        assert name.bounding_box()["x"] == pytest.approx(before[0], abs=1)
        assert cell.bounding_box()["x"] < before[1] - 20
        if not scripts:
            assert page.locator("tbody tr").first.locator("td a").count() == len(ASKED) - 1
            return
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        size = "nodes => nodes.map(node => parseFloat(getComputedStyle(node).fontSize))"
        assert min(page.locator("td *, th").evaluate_all(size)) >= 10
        page.locator("tbody td a").first.click()
        box = page.get_by_role("dialog").first.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
