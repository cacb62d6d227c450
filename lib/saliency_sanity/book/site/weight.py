"""What pages of the site weigh: how much a browser has to fetch for one of them."""

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, SoupStrainer

from saliency_sanity.book.runs.pictures import LIMIT as PICTURE_LIMIT

# Bytes of a page, and of one picture, which `book.runs.pictures` sees to.
LIMIT = 3_000_000


def page_weight(page: Path) -> dict[Path, int]:
    """Bytes of an HTML file and of each picture that it shows, by path, the heaviest first.

    Scripts and style sheets are left out: all pages share them, and a browser keeps them.
    Raises FileNotFoundError for a picture that is not there.
    """
    text = page.read_text(encoding="utf8")
    pictures = BeautifulSoup(text, "html.parser", parse_only=SoupStrainer("img"))("img")
    addresses = [urlsplit(picture["src"]) for picture in pictures]
    # One with a scheme is written out in the page.
    local = (unquote(one.path) for one in addresses if not one.scheme)
    files = {(page.parent / path).resolve() for path in local}
    weights = {file: file.stat().st_size for file in {page.resolve(), *files}}
    return dict(sorted(weights.items(), key=lambda item: (-item[1], item[0])))


def heavy_pages(site: Path, pages: Iterable[str], limit: int = LIMIT) -> list[str]:
    """A line for each of the ``pages`` of ``site`` above ``limit`` bytes, with what weighs most."""
    lines = []
    for name in pages:
        weights = page_weight(site / f"{name}.html")
        if sum(weights.values()) > limit:
            most = (f"{file.name} {size / 1e6:.2f} MB" for file, size in list(weights.items())[:3])
            lines.append(
                f"page {name} weighs {sum(weights.values()) / 1e6:.2f} MB, more than "
                f"{limit / 1e6:g} MB; the heaviest: {', '.join(most)}. Show fewer maps "
                "(parameter 'shown'), or draw them with fewer dots an inch"
            )
    return lines


def heavy_pictures(site: Path, pages: Iterable[str], limit: int = PICTURE_LIMIT) -> list[str]:
    """A line for each picture of the ``pages`` of ``site`` above ``limit`` bytes."""
    return [
        f"picture {file.name} of page {name} weighs {size / 1e3:.0f} kB, more than "
        f"{limit / 1e3:g} kB"
        for name in pages
        for file, size in page_weight(site / f"{name}.html").items()
        if size > limit and file.suffix != ".html"
    ]
