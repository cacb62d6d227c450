"""The site as a reader meets it: every page in a headless Chromium, from disk and over http."""

import contextlib
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup
from made.places import ROOT
from made.visits import DESK, KINDS, PAGES, PHONE, STANDS, WITH_CLAIMS, WITH_FORMULAE, Visit, unfold
from saliency_sanity.book.chapters.claims_index import WORDS
from saliency_sanity.book.runs.cases import all_copies
from saliency_sanity.book.runs.launch import FOLDER
from saliency_sanity.book.site.weight import heavy_pages, heavy_pictures

FIRST_FIGURE = 700  # pixels from the top of a page, on a desk
NOTEBOOKS = [page for page in PAGES if page.startswith("notebooks/")]
WITH_WIDE_TABLES = (WITH_FORMULAE, WITH_CLAIMS)

pytestmark = pytest.mark.slow


@pytest.mark.browser
def test_root_leads_to_the_landing_page(browser, site, served):
    for address in (f"{served}/", (site / "index.html").as_uri()):
        visit = Visit(browser, address)
        with visit as page:
            page.wait_for_url("**/book/index.html")
            assert "Saliency Sanity" in page.title()


# What is asked of a page while it is open


def assert_whole(visit, start):
    """It has loaded everything, all of it from the site, and nothing was complained of."""
    visit.page.wait_for_load_state("networkidle")
    assert visit.failures == []
    assert visit.console == []
    own = (urlsplit(start).scheme, urlsplit(start).netloc)
    left = [url for url in visit.requests if urlsplit(url)[:2] not in (own, ("data", ""))]
    assert left == []
    if own[0] == "file":
        assert [url for url in visit.requests if not url.startswith((start, "data:"))] == []


OVERFLOW = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  const scrolls = (node) => {
    for (let up = node.parentElement; up; up = up.parentElement)
      if (/auto|scroll|hidden/.test(getComputedStyle(up).overflowX)) return true;
    return false;
  };
  return [`page is ${document.documentElement.scrollWidth} wide`].concat(
    [...document.querySelectorAll('main *')]
      .filter(node => node.getBoundingClientRect().right > width + 1 && !scrolls(node))
      .map(node => node.outerHTML.slice(0, 120)).slice(0, 5));
}"""

CLIPPED = """() => [...document.querySelectorAll('.bd-article *')].filter(node => {
    const style = getComputedStyle(node), box = node.getBoundingClientRect();
    // MathML for screen readers is hidden from everybody else on purpose.
    return box.width > 8 && !node.matches('mjx-assistive-mml')
      && /hidden|clip/.test(style.overflowX)
      && node.scrollWidth > node.clientWidth + 1;
  }).map(node => node.outerHTML.slice(0, 120))"""


def assert_fits(page):
    page.wait_for_function(STANDS)
    assert page.evaluate(OVERFLOW) == []
    assert page.evaluate(CLIPPED) == []


# Pixels that an inch of each figure has on the screen, and where a tap on it leads.
FIGURES = """() => [...document.querySelectorAll('.bd-article figure a.image-reference img')]
  .map(node => ({inch: node.getBoundingClientRect().width / parseFloat(node.style.width),
                 wide: node.classList.contains('scrolls'),
                 scrolls: node.parentElement.scrollWidth > node.parentElement.clientWidth,
                 hint: getComputedStyle(node.closest('figure').querySelector('figcaption'),
                                        '::before').content,
                 file: node.parentElement.href, shown: node.src}))"""


def assert_letters_of_figures_can_be_read(page):
    unfold(page)
    figures = page.evaluate(FIGURES)
    assert len(figures) == page.locator(".bd-article img:not([src^=data])").count()
    for figure in figures:
        assert figure["inch"] == pytest.approx(82, abs=0.5)  # seven points: eight pixels
        assert figure["scrolls"] == figure["wide"]
        assert ("Scroll" in figure["hint"]) == figure["wide"]
        assert figure["file"] == figure["shown"]


WIDE_TABLES = """() => [...document.querySelectorAll('.bd-article table:not(.claims)')]
  .map(table => [table, table.parentElement])
  .filter(([table, box]) => box.scrollWidth > box.clientWidth + 20)
  .map(([table, box]) => {
    box.scrollLeft = box.scrollWidth;
    const name = table.querySelector(
      'tbody tr > :first-child:not([rowspan]), tbody [rowspan] + th');
    return name.getBoundingClientRect().left - box.getBoundingClientRect().left;
  })"""


def assert_names_stay_in_view_while_a_table_scrolls(page):
    places = page.evaluate(WIDE_TABLES)
    assert places
    assert all(abs(place) < 20 for place in places)


def assert_a_claim_is_a_card(page):
    box = page.locator(".claims-scroll")
    assert box.evaluate("node => node.scrollWidth <= node.clientWidth")
    heads = page.evaluate("""() => [3, 4, 5].map(n => getComputedStyle(
      document.querySelector(`.claims tbody td:nth-child(${n})`), '::before').content)""")
    assert heads == ['"Paper said: "', '"We got: "', '"Chance: "']


CONTRAST = """(selector) => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const linear = v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const part = [r, g, b].map(v => linear(v / 255));
    return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
  };
  const ground = node => {
    for (let up = node; up; up = up.parentElement) {
      const colour = rgb(getComputedStyle(up).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll(selector)].map(node => {
    const pair = [light(rgb(getComputedStyle(node).color)), light(ground(node))];
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  });
}"""


def assert_figures_and_captions(page):
    unfold(page)
    for picture in page.locator(".bd-article img").all():
        words = (picture.get_attribute("alt") or "").strip()
        source = Path(urlsplit(picture.get_attribute("src")).path)
        assert len(words.split()) > 3, source
        assert urlsplit(picture.get_attribute("src")).scheme == "data" or (source.stem not in words)
        assert not re.search(r"\.(png|svg|jpe?g)$", words)
        assert picture.evaluate("node => node.complete && node.naturalWidth > 1"), source
        assert picture.evaluate("node => node.closest('figure figcaption, figure') !== null")
    for figure in page.locator(".bd-article figure").all():
        caption = figure.locator("figcaption .caption-text")
        assert len(caption.inner_text().split()) > 5
    readable = page.evaluate(CONTRAST, "figcaption p, figcaption span, table caption, .verdict")
    assert all(ratio >= 4.5 for ratio in readable)


def assert_formulae_are_rendered(page):
    assert page.locator(".bd-article .math:not(:has(mjx-container))").count() == 0
    assert page.locator("mjx-merror").count() == 0


def assert_can_be_read(page):
    """On a phone and, last, on a desk."""
    for width in (PHONE, DESK):
        page.set_viewport_size({"width": width, "height": 844})
        assert_fits(page)
    assert_figures_and_captions(page)


# Visits


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_and_can_be_read(browser, served, name):
    visit = Visit(browser, f"{served}/{name}.html", PHONE)
    with visit as page:
        assert_whole(visit, served)
        assert page.evaluate("document.documentElement.dataset.theme") == "light"
        assert_formulae_are_rendered(page)
        if name in NOTEBOOKS:
            assert_letters_of_figures_can_be_read(page)
        if name in WITH_WIDE_TABLES:
            assert_names_stay_in_view_while_a_table_scrolls(page)
        if name == WITH_CLAIMS:
            assert_a_claim_is_a_card(page)
        if name == WITH_FORMULAE:
            assert page.locator(".bd-article .math").count() > 10
        assert_can_be_read(page)


@pytest.mark.browser
@pytest.mark.parametrize("name", KINDS)
def test_it_can_be_read_in_the_dark(browser, served, name):
    with Visit(browser, f"{served}/{name}.html", PHONE, "dark") as page:
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert_can_be_read(page)


@pytest.mark.browser
@pytest.mark.parametrize("name", KINDS)
def test_it_is_whole_from_a_disk(browser, site, name):
    visit = Visit(browser, f"{site.as_uri()}/{name}.html")
    with visit as page:
        assert_whole(visit, site.as_uri())
        assert_formulae_are_rendered(page)


@pytest.mark.browser
def test_the_phone_menu_opens(browser, served):
    with Visit(browser, f"{served}/book/index.html", PHONE) as page:
        page.locator("button.primary-toggle:visible, label.sidebar-toggle:visible").first.click()
        page.get_by_role("link", name="Methods", exact=True).first.click()
        page.wait_for_url("**/book/methods.html")


@pytest.mark.browser
@pytest.mark.parametrize("scripts", [True, False])
def test_the_first_picture_is_moved_by_keys_or_shows_every_stage(browser, site, scripts):
    settings = {"viewport": {"width": PHONE, "height": 844}, "java_script_enabled": scripts}
    with contextlib.closing(browser.new_context(**settings)) as context:
        page = context.new_page()
        page.goto(f"{site.as_uri()}/book/index.html")
        hero = page.locator("figure.hero")
        said = hero.locator(".all li" if not scripts else ".now b")
        assert all(text.is_visible() for text in said.all())
        assert hero.get_by_role("slider").is_visible() == scripts
        if scripts:
            # What was found is seen before anything is moved.
            *maps, edges = said.all_inner_texts()
            assert float(edges) == 1
            assert set(maps) != {"1"}
            hero.get_by_role("slider").press("Home")
            assert said.all_inner_texts() == ["1"] * 4
            hero.get_by_role("slider").press("End")
            *_, sobel = found = [float(text) for text in said.all_inner_texts()]
            assert sobel == 1
            assert min(found) < 1
            assert_fits(page)
        badges = page.locator(".figure-cards .badge-word").all_inner_texts()
        assert len(badges) == 5
        assert set(badges) <= set(WORDS)


# Pages as files


def article(site, name):
    return BeautifulSoup((site / f"{name}.html").read_text("utf8"), "html.parser")


@pytest.mark.parametrize("name", PAGES[:-2])
def test_a_page_ends_in_its_verdict_and_leads_to_the_next(site, name):
    page = article(site, name)
    links = [link["href"] for link in page.select(".bd-article .next-page a")]
    assert links == [link["href"] for link in page.select(".prev-next-footer a.right-next")]
    assert len(links) == (name != PAGES[-3])
    if name in NOTEBOOKS:
        assert page.select(".bd-article h2")[-1].get_text().startswith("The verdict")
        said = page.select_one("section:has(> h2):last-of-type .cell_output strong")
        assert re.search(r"\d", said.get_text())


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_launch_buttons_name_the_committed_source(site, name):
    repository = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))["repository"]
    copies = all_copies(ROOT / "notebooks")
    folder = FOLDER if copies[Path(name).name].name else "notebooks"
    source = f"{folder}/{Path(name).name}.ipynb"
    path = f"{urlsplit(repository['url']).path}/blob/{repository['branch']}/{source}"
    links = [link.get("href", "") for link in article(site, name).select("header a, a.btn")]
    assert any(
        link.startswith("https://colab.research.google.com") and path in link for link in links
    )
    assert any(link.startswith("https://mybinder.org") and link.endswith(source) for link in links)
    assert (ROOT / source).is_file()


# The scoreboard's tables come first on its page.
BEFORE_FIGURES = ("notebooks/06_",)


@pytest.mark.browser
@pytest.mark.parametrize(
    "name", [page for page in NOTEBOOKS if not page.startswith(BEFORE_FIGURES)]
)
def test_the_first_figure_is_near_the_top(browser, site, name):
    with Visit(browser, (site / f"{name}.html").as_uri()) as page:
        tops = page.locator(".bd-article figure").evaluate_all(
            "all => all.map(one => one.getBoundingClientRect()).filter(one => one.height)"
            ".map(one => one.top + scrollY)"
        )
    assert 0 < min(tops) <= FIRST_FIGURE


def test_no_bar_of_a_single_cells_source_is_left(site):
    for name in NOTEBOOKS:
        assert "Show code cell source" not in (site / f"{name}.html").read_text("utf8"), name


def test_no_page_and_no_picture_is_too_heavy(site):
    assert heavy_pages(site, PAGES) == []
    assert heavy_pictures(site, PAGES) == []


def test_no_machine_path_in_the_site(site):
    for path in site.rglob("*.html"):
        text = path.read_text("utf8")
        assert str(ROOT) not in text, path.name
        assert str(site.parents[1]) not in text, path.name
