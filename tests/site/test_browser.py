"""The site as a reader meets it: every page in a headless Chromium, from disk and over http."""

import contextlib
import functools
import http.server
import re
import shutil
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from made.places import ROOT
from saliency_sanity.book.cli import main
from saliency_sanity.book.runs.cases import all_copies
from saliency_sanity.book.runs.profiles import profile_copies, profile_networks
from saliency_sanity.book.runs.runner import run_notebook
from saliency_sanity.book.site import build as book
from saliency_sanity.book.site.build import heavy_pages

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
PROFILE = "smoke"
PAGES = [*book.toc_files(book.profile_pages(ROOT, PROFILE)[0]), "genindex", "search"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="chromium is not installed (Debian, Ubuntu: apt-get install chromium)",
    ),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The book built from its notebooks, which ran in profile smoke."""
    root = tmp_path_factory.mktemp("book")
    for name in ("book", "config", "examples", "notebooks"):
        shutil.copytree(ROOT / name, root / name)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, root)
    copies = profile_copies(PROFILE, root / "config", root / "notebooks")
    needed = profile_networks(PROFILE, root / "config", root / "notebooks", copies)
    with contextlib.chdir(root):
        for recipe in needed.values():
            words = [recipe.key, "--profile", PROFILE, "-p", "seed", str(recipe.seed), "--quiet"]
            assert main(["train", *words]) == 0
        for copy, case in copies.items():
            run_notebook(
                root / "notebooks" / f"{case.notebook}.ipynb",
                root / "build/stage/notebooks" / f"{copy}.ipynb",
                profile=PROFILE,
                case=case.name or None,
                progress=False,
            )
    return book.build(profile=PROFILE, root=root).parent


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


def test_root_leads_to_the_landing_page(browser, site, served):
    for address in (f"{served}/", (site / "index.html").as_uri()):
        visit = Visit(browser, address)
        with visit as page:
            page.wait_for_url("**/book/index.html")
            assert "Saliency Sanity" in page.title()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("way", ["http", "file"])
def test_loads_without_a_failure_and_without_leaving_the_site(browser, site, served, way, name):
    start = served if way == "http" else site.as_uri()
    visit = Visit(browser, f"{start}/{name}.html")
    with visit as page:
        page.wait_for_load_state("networkidle")
        assert visit.failures == []
        assert visit.console == []
        own = (urlsplit(start).scheme, urlsplit(start).netloc)
        left = [url for url in visit.requests if urlsplit(url)[:2] not in (own, ("data", ""))]
        assert left == []
        if way == "file":
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


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_the_screen(browser, served, scheme, name):
    with Visit(browser, f"{served}/{name}.html", PHONE, scheme) as page:
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        for width in (PHONE, DESK):
            page.set_viewport_size({"width": width, "height": 844})
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


@pytest.mark.parametrize("name", [page for page in PAGES if page.startswith("notebooks/")])
def test_a_phone_shows_figures_in_letters_that_can_be_read(browser, served, name):
    with Visit(browser, f"{served}/{name}.html", PHONE) as page:
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


@pytest.mark.parametrize("name", ["book/methods", "notebooks/01_edge_detectors"])
def test_names_stay_in_view_while_a_table_scrolls(browser, served, name):
    with Visit(browser, f"{served}/{name}.html", PHONE) as page:
        places = page.evaluate(WIDE_TABLES)
        assert places
        assert all(abs(place) < 20 for place in places)


@pytest.mark.parametrize("name", ["notebooks/01_edge_detectors"])
def test_a_claim_is_a_card_on_a_phone(browser, served, name):
    with Visit(browser, f"{served}/{name}.html", PHONE) as page:
        box = page.locator(".claims-scroll")
        assert box.evaluate("node => node.scrollWidth <= node.clientWidth")
        heads = page.evaluate("""() => [3, 4, 5].map(n => getComputedStyle(
          document.querySelector(`.claims tbody td:nth-child(${n})`), '::before').content)""")
        assert heads == ['"Paper said: "', '"We got: "', '"Chance: "']


@pytest.mark.parametrize("name", PAGES[:-2])
def test_a_page_ends_in_its_verdict_and_leads_to_the_next(browser, served, name):
    with Visit(browser, f"{served}/{name}.html") as page:
        leads = page.locator(".bd-article .next-page a")
        links = [link.get_attribute("href") for link in leads.all()]
        onward = page.locator(".prev-next-footer a.right-next")
        assert links == [link.get_attribute("href") for link in onward.all()]
        assert len(links) == (name != PAGES[-3])
        if name.startswith("notebooks/"):
            assert page.locator(".bd-article h2").last.inner_text().startswith("The verdict")
            said = page.locator("section:has(> h2):last-of-type .cell_output strong").first
            assert re.search(r"\d", said.inner_text())


def test_no_page_is_too_heavy(site):
    assert heavy_pages(site, PAGES) == []


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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_figures_and_captions(browser, served, name, scheme):
    with Visit(browser, f"{served}/{name}.html", scheme=scheme) as page:
        for picture in page.locator(".bd-article img").all():
            words = (picture.get_attribute("alt") or "").strip()
            source = Path(urlsplit(picture.get_attribute("src")).path)
            assert len(words.split()) > 3, source
            assert urlsplit(picture.get_attribute("src")).scheme == "data" or (
                source.stem not in words
            )
            assert not re.search(r"\.(png|svg|jpe?g)$", words)
            assert picture.evaluate("node => node.complete && node.naturalWidth > 1"), source
            assert picture.evaluate("node => node.closest('figure figcaption, figure') !== null")
        for figure in page.locator(".bd-article figure").all():
            caption = figure.locator("figcaption .caption-text")
            assert len(caption.inner_text().split()) > 5
        readable = page.evaluate(CONTRAST, "figcaption p, figcaption span, table caption, .verdict")
        assert all(ratio >= 4.5 for ratio in readable)


def test_every_formula_is_rendered(browser, site):
    with Visit(browser, (site / "book/methods.html").as_uri()) as page:
        formulae = page.locator(".bd-article .math")
        assert formulae.count() > 10
        assert page.locator(".bd-article .math:not(:has(mjx-container))").count() == 0
        assert page.locator("mjx-merror").count() == 0
    with Visit(browser, (site / "book/verdicts.html").as_uri()) as page:
        assert page.locator(".bd-article .math:not(:has(mjx-container))").count() == 0
        assert page.locator("mjx-merror").count() == 0


@pytest.mark.parametrize("name", [page for page in PAGES if page.startswith("notebooks/")])
def test_launch_buttons_name_the_committed_source(browser, served, name):
    repository = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))["repository"]
    copies = all_copies(ROOT / "notebooks")
    source = f"notebooks/{copies[Path(name).name].notebook}.ipynb"
    path = f"{urlsplit(repository['url']).path}/blob/{repository['branch']}/{source}"
    with Visit(browser, f"{served}/{name}.html") as page:
        links = [link.get_attribute("href") for link in page.locator("header a, a.btn").all()]
    assert any(
        link and link.startswith("https://colab.research.google.com") and path in link
        for link in links
    )
    assert any(
        link and link.startswith("https://mybinder.org") and link.endswith(source) for link in links
    )
    assert (ROOT / source).is_file()


def test_the_phone_menu_opens(browser, served):
    with Visit(browser, f"{served}/book/index.html", PHONE) as page:
        page.locator("button.primary-toggle:visible, label.sidebar-toggle:visible").first.click()
        page.get_by_role("link", name="Methods", exact=True).first.click()
        page.wait_for_url("**/book/methods.html")


def test_no_machine_path_in_the_site(site):
    for path in site.rglob("*.html"):
        text = path.read_text("utf8")
        assert str(ROOT) not in text, path.name
        assert str(site.parents[1]) not in text, path.name
