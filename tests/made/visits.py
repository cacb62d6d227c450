"""Visits to pages of the smoke site: which pages there are, and one of them in a browser."""

from made.places import ROOT
from made.site import PROFILE
from saliency_sanity.book.site import build as book

PHONE, DESK = 390, 1280
PAGES = [*book.toc_files(book.profile_pages(ROOT, PROFILE)[0]), "genindex", "search"]
WITH_FORMULAE, WITH_CLAIMS = "book/methods", "notebooks/01_edge_detectors"
# One of each kind; the last two by autodoc and by Sphinx alone.
KINDS = ["book/index", WITH_FORMULAE, WITH_CLAIMS, "book/api-attribution", "search"]
# The theme's sidebars slide for a moment after a change of width.
STANDS = "document.getAnimations().every(moving => !(moving instanceof CSSTransition))"


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


def unfold(page, selector=".bd-article details.hide"):
    """Open what is folded: what nobody sees has no size."""
    page.evaluate(
        "all => document.querySelectorAll(all).forEach(node => { node.open = true; })", selector
    )
