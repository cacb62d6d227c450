"""What axe-core, the checker of web pages, finds on every page: nothing serious."""

import importlib.resources
import re

import nbformat
import pytest
from made.places import ROOT
from made.site import STAGE
from made.visits import DESK, PAGES, STANDS, unfold

SERIOUS = ("serious", "critical")
# Levels A and AA of the WCAG, and what axe-core recommends beside them.
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
# All that is of colours. It takes many times what the others take together, so it is asked of a
# small page of each kind; contrast of captions is measured on every page, in test_browser.py.
COLOURS = ["color-contrast", "link-in-text-block"]
COLOURED = [
    "book/index",
    "book/numbers",  # links in tables
    "book/glossary",
    "book/code",
    "book/api-contract",
    "notebooks/12_image_recovery",
    "notebooks/06_scoreboard",
    "search",
]

FAULTS = """([options, worst]) => axe
  // Style sheets need no second look: no rule that is asked reads them.
  .run(document, {...options, resultTypes: ["violations"], preload: false})
  .then(found => found.violations.flatMap(rule => rule.nodes
    .filter(node => worst.includes(node.impact))
    .map(node => `${rule.id}: ${node.target.join(" ")}: ${node.failureSummary}`)))"""
STRUCTURE = {
    "runOnly": {"type": "tag", "values": TAGS},
    "rules": {name: {"enabled": False} for name in COLOURS},
}
APPEARANCE = {"runOnly": {"type": "rule", "values": COLOURS}}

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(scope="module")
def axe():
    """Source of axe-core."""
    package = pytest.importorskip(
        "axe_playwright_python", reason="axe-playwright-python is not installed"
    )
    return (importlib.resources.files(package) / "axe.min.js").read_text("utf8")


@pytest.fixture(scope="module")
def page(browser):
    """One for all visits, which then share what they load; pictures and formulae are not loaded."""
    context = browser.new_context(viewport={"width": DESK, "height": 844}, reduced_motion="reduce")
    context.route(re.compile(r"\.(png|webp|jpe?g)$|/mathjax/"), lambda route: route.abort())
    yield context.new_page()
    context.close()


def alternatives(notebook):
    """Alternative texts by cell, of the cells that have one and, where they ran, a picture."""
    return {
        cell.id: cell.metadata["mystnb"]["image"]["alt"]
        for cell in nbformat.read(notebook, as_version=4).cells
        if "image" in cell.metadata.get("mystnb", {})
        and (notebook.parent.parent == ROOT or any("data" in item for item in cell.outputs))
    }


@pytest.mark.usefixtures("site")
def test_a_figures_text_says_first_what_was_found():
    copies = sorted((STAGE / "notebooks").glob("*.ipynb"))
    assert len(copies) > 20
    for copy in copies:
        seen = alternatives(ROOT / "notebooks" / f"{copy.stem.partition('-')[0]}.ipynb")
        for cell, text in alternatives(copy).items():
            found = text.removesuffix(seen[cell]).strip()
            assert text.endswith(seen[cell]), (copy.name, text)
            assert found.endswith("."), (copy.name, text)
            assert len(found.split()) > 3, (copy.name, text)


def faults(page, axe, options):
    unfold(page, "details")
    page.wait_for_function(STANDS)  # colours that change slowly have theirs
    page.evaluate(axe)
    return page.evaluate(FAULTS, [options, SERIOUS])


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_serious_fault(page, served, axe, name):
    page.goto(f"{served}/{name}.html", wait_until="load")
    assert faults(page, axe, STRUCTURE) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", COLOURED)
def test_its_colours_can_be_read(page, served, axe, name, scheme):
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{served}/{name}.html", wait_until="load")
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    assert faults(page, axe, APPEARANCE) == []


def test_a_fault_is_found(page, axe):
    """A page with faults of both kinds, and one that is not serious."""
    page.set_content(
        '<html lang="en"><title>One</title><main><h1>One</h1><h3>Three</h3>'
        '<details><summary>More</summary><p style="color: #999; background: #fff">Pale</p>'
        '</details><img src="data:,"></main></html>'
    )
    for options, name in ((STRUCTURE, "image-alt"), (APPEARANCE, "color-contrast")):
        assert [line.partition(":")[0] for line in faults(page, axe, options)] == [name]
