"""What axe-core, the checker of web pages, finds on every page: nothing serious."""

import importlib.resources

import pytest
from made.visits import KINDS, PAGES, Visit, unfold

SERIOUS = ("serious", "critical")
# Levels A and AA of the WCAG, and what axe-core recommends beside them.
ASKED = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
# All that the colours of a page decide: nothing else differs in the dark.
COLOURS = ["color-contrast", "link-in-text-block"]

FAULTS = """([asked, worst]) => axe
  // Style sheets need no second look: no rule that is asked reads them.
  .run(document, {runOnly: asked, resultTypes: ["violations"], preload: false})
  .then(found => found.violations.flatMap(rule => rule.nodes
    .filter(node => worst.includes(node.impact))
    .map(node => `${rule.id}: ${node.target.join(" ")}: ${node.failureSummary}`)))"""

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(scope="module")
def axe():
    """Source of axe-core."""
    package = pytest.importorskip(
        "axe_playwright_python", reason="axe-playwright-python is not installed"
    )
    return (importlib.resources.files(package) / "axe.min.js").read_text("utf8")


def faults(page, kind, values):
    return page.evaluate(FAULTS, [{"type": kind, "values": values}, SERIOUS])


def opened(page, axe):
    unfold(page, "details")
    page.evaluate(axe)
    return page


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_serious_fault(browser, served, axe, name):
    with Visit(browser, f"{served}/{name}.html") as page:
        assert faults(opened(page, axe), "tag", ASKED) == []


@pytest.mark.parametrize("name", [*KINDS, "notebooks/06_scoreboard"])
def test_its_colours_can_be_read_in_the_dark(browser, served, axe, name):
    with Visit(browser, f"{served}/{name}.html", scheme="dark") as page:
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert faults(opened(page, axe), "rule", COLOURS) == []


def test_a_fault_is_found(browser, axe):
    """A page with faults of both kinds, and one that is not serious."""
    context = browser.new_context()
    page = context.new_page()
    page.set_content(
        '<html lang="en"><title>One</title><main><h1>One</h1><h3>Three</h3>'
        '<details><summary>More</summary><p style="color: #999; background: #fff">Pale</p>'
        '</details><img src="data:,"></main></html>'
    )
    found = faults(opened(page, axe), "tag", ASKED)
    assert sorted(line.partition(":")[0] for line in found) == ["color-contrast", "image-alt"]
    context.close()
