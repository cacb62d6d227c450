"""The book's style sheet and script on a small page: wide tables say so, paper gets all of them."""

import pytest
from made.places import ROOT

STATIC = ROOT / "book/_static"
PAGE = """<html data-theme="light"><head><style>{theme}{style}</style></head>
<body><article class="bd-content" style="width: 600px">
<div class="cell_output" id="wide"><table><caption>Wide.</caption>{wide}</table></div>
<div class="cell_output" id="narrow"><table>{narrow}</table></div>
<details id="fold"><summary>Code</summary>
<pre id="long" style="overflow: auto">{long}</pre><pre id="short" style="overflow: auto">1</pre>
</details>
<div class="next-page">Next</div>
<svg width="90" height="20"><title>kappa</title><text y="15">kappa</text></svg>
</article>
<script>
// What Sphinx's search has of itself.
const Search = {{ asked: null, htmlToText: (html, anchor) => (Search.asked = anchor) }};
</script>
<script>{script}</script></body></html>"""

# Of the theme: without these the style sheet's colours are none.
THEME = (
    "html { --pst-color-background: #fff; --pst-color-text-muted: #555; --pst-color-border: #999; }"
)

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(browser):
    text = PAGE.format(
        theme=THEME,
        style=(STATIC / "book.css").read_text("utf8"),
        script=(STATIC / "book.js").read_text("utf8"),
        wide=f"<tr>{'<td>word</td>' * 60}</tr>",
        narrow="<tr><td>one</td></tr>",
        long="word " * 200,
    )
    opened = browser.new_page(viewport={"width": 800, "height": 600})
    opened.set_content(text, wait_until="load")
    yield opened
    opened.close()


def hint(page, box):
    return page.evaluate(f"getComputedStyle(document.querySelector('{box}'), '::before').content")


def test_keys_scroll_wide_code_that_was_folded(page):
    page.locator("#fold summary").click()
    page.wait_for_function("document.querySelector('#long').tabIndex === 0")
    page.locator("#long").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('#long').scrollLeft > 0")
    assert page.locator("#short").get_attribute("tabindex") is None


def test_a_table_that_scrolls_says_so_and_to_keys_too(page):
    wide = page.locator("#wide")
    assert "Scroll sideways" in hint(page, "#wide")
    assert wide.get_attribute("tabindex") == "0"
    assert wide.get_attribute("aria-label").startswith("Wide. Scroll sideways")
    assert hint(page, "#narrow") == "none"
    assert page.locator("#narrow").get_attribute("tabindex") is None
    assert "local" in wide.evaluate("node => getComputedStyle(node).backgroundAttachment")
    wide.evaluate("node => { node.scrollLeft = node.scrollWidth; }")
    page.wait_for_function("document.querySelector('#wide').classList.contains('at-its-end')")
    assert "Scroll back" in hint(page, "#wide")


def test_a_search_names_the_place_and_leaves_titles_of_pictures_alone(page):
    asked = page.evaluate("Search.htmlToText('', '#saliency_sanity.plots.maps')")
    assert asked == r"#saliency_sanity\.plots\.maps"
    assert page.evaluate("Search.htmlToText('', '')") == ""
    assert page.locator("svg title").get_attribute("class") == "nohighlight"
    assert page.locator("svg text").get_attribute("class") is None


def test_paper_has_all_of_a_table_and_no_buttons(page):
    page.emulate_media(media="print")
    assert page.locator("#wide").evaluate("node => getComputedStyle(node).overflowX") == "visible"
    shown = "getComputedStyle(document.querySelector('#wide'), '::before').display"
    assert page.evaluate(shown) == "none"
    assert not page.locator(".next-page").is_visible()
    page.emulate_media(media="screen")
    assert page.locator(".next-page").is_visible()
