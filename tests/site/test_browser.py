"""The site as a reader meets it: every page in a headless Chromium, from disk and over http."""

import functools
import http.server
import re
import shutil
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup
from made.places import ROOT
from made.site import PROFILE, smoke_site
from saliency_sanity.book.runs.cases import all_copies
from saliency_sanity.book.site import build as book
from saliency_sanity.book.site.weight import heavy_pages

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE, DESK = 390, 1280
PAGES = [*book.toc_files(book.profile_pages(ROOT, PROFILE)[0]), "genindex", "search"]
NOTEBOOKS = [page for page in PAGES if page.startswith("notebooks/")]
# One of each kind: with formulae, with claims and figures, by autodoc, and by Sphinx alone.
KINDS = ["book/index", "book/methods", "notebooks/01_edge_detectors", "book/api", "search"]

NOTEBOOKS = [page for page in PAGES if page.startswith("notebooks/")]
WITH_FORMULAE, WITH_CLAIMS = "book/methods", "notebooks/01_edge_detectors"
WITH_WIDE_TABLES = (WITH_FORMULAE, WITH_CLAIMS)
# One of each kind; the last two by autodoc and by Sphinx alone.
KINDS = ["book/index", WITH_FORMULAE, WITH_CLAIMS, "book/api", "search"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site():
    """The book built from its notebooks, which ran in profile smoke."""
    return smoke_site()


@pytest.fixture(scope="module")
def served(site):
    """Address of the site on a server of our own, on loopback."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (Debian, Ubuntu: apt-get install chromium)")
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


class Visit:
    """One page that has finished loading, and what was said while it did."""

    def __init__(self, browser, address, width=DESK, scheme="light"):
        self.context = browser.new_context(
            viewport={"width": width, "height": 844}, color_scheme=scheme
        )
        self.requests, self.failures, self.console = [], [], []
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("requestfailed", lambda request: self.failures.append(request.url))
        self.page.on("response", self._response)
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.on("console", self._said)
        self.page.goto(address, wait_until="load")
        if self.page.locator(".math").count():
            self.page.wait_for_function("document.querySelector('mjx-container') !== null")
            self.page.evaluate("MathJax.startup.promise.then(() => true)")

    def _response(self, response):
        if response.status >= 400:
            self.failures.append(f"{response.status} {response.url}")

    def _said(self, message):
        if message.type in ("error", "warning"):
            self.console.append(f"{message.type}: {message.text}")

    def __enter__(self):
        return self.page

    def __exit__(self, *_):
        self.context.close()


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


# The theme's sidebars slide for a moment after a change of width.
STANDS = "document.getAnimations().every(moving => !(moving instanceof CSSTransition))"


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
    source = f"notebooks/{copies[Path(name).name].notebook}.ipynb"
    path = f"{urlsplit(repository['url']).path}/blob/{repository['branch']}/{source}"
    links = [link.get("href", "") for link in article(site, name).select("header a, a.btn")]
    assert any(
        link.startswith("https://colab.research.google.com") and path in link for link in links
    )
    assert any(link.startswith("https://mybinder.org") and link.endswith(source) for link in links)
    assert (ROOT / source).is_file()


def test_no_page_is_too_heavy(site):
    # The reference of all modules is one page still, text alone.
    assert heavy_pages(site, [page for page in PAGES if page != "book/api"]) == []


def test_no_machine_path_in_the_site(site):
    for path in site.rglob("*.html"):
        text = path.read_text("utf8")
        assert str(ROOT) not in text, path.name
        assert str(site.parents[1]) not in text, path.name
