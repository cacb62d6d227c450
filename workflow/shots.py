"""Pictures of the built site as readers see it: some pages, wide and narrow, light and dark."""

import argparse
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from saliency_sanity.book.site.build import BookError

# The landing page, a page a figure, and the scoreboard.
PAGES = (
    "book/index",
    "notebooks/01_edge_detectors",
    "notebooks/02_cascading_randomization-photographs",
    "notebooks/03_label_randomization-cnn",
    "notebooks/04_cgi_sanity-cnn",
    "notebooks/05_input_bias-photographs",
    "notebooks/06_scoreboard",
)
WIDTHS = {1280: 800, 390: 844}  # pixels, and the height of the first screen
SCHEMES = ("light", "dark")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run")
_HERO = "figure.hero"
_EDGE = 24  # pixels of white around a hero
_TALLEST = 6000  # pixels of a page that are taken


@contextmanager
def _chromium() -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        raise BookError("no Chromium here; on Debian and Ubuntu run: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise BookError("playwright is not installed; run: pip install -e '.[test]'") from None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(_FLAGS))
        yield browser
        browser.close()


def take_shots(site: Path, out: Path, pages: Iterable[str] = PAGES) -> list[Path]:
    """Take pictures of ``pages`` of the built ``site`` into ``out`` and return their paths.

    Each page in two widths and two schemes, and ``hero.jpg``, the landing page's first picture by
    itself at 1.5 times the resolution, trained and with half of its stages gone. Raises BookError
    where there is no such page or no browser, before any picture is taken.
    """
    files = {page: site / f"{page}.html" for page in pages}
    missing = [str(file) for file in files.values() if not file.is_file()]
    if missing:
        raise BookError(f"{missing[0]} is missing: run 'make book' first")
    out.mkdir(parents=True, exist_ok=True)
    with _chromium() as browser:
        taken = [
            _whole(browser, file, out / f"{Path(page).name}-{width}-{scheme}.png", width, scheme)
            for page, file in files.items()
            for width in WIDTHS
            for scheme in SCHEMES
        ]
        return [*taken, *(_hero(browser, files[page], out) for page in files if page == PAGES[0])]


def _open(browser: Any, file: Path, width: int, scheme: str, scale: float = 1) -> Any:
    page = browser.new_page(
        viewport={"width": width, "height": WIDTHS[width]},
        color_scheme=scheme,
        device_scale_factor=scale,
        reduced_motion="reduce",
    )
    page.goto(file.resolve().as_uri(), wait_until="load")
    return page


def _whole(browser: Any, file: Path, path: Path, width: int, scheme: str) -> Path:
    page = _open(browser, file, width, scheme)
    height = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": width, "height": min(height, _TALLEST)})
    page.screenshot(path=path)
    page.close()
    return path


def _hero(browser: Any, file: Path, out: Path) -> Path:
    """The trained network, and below it half of the stages gone: what stays is seen, too."""
    page = _open(browser, file, max(WIDTHS), SCHEMES[0], scale=1.5)
    hero, slider = page.locator(_HERO), page.locator(f"{_HERO} input[type=range]")
    rows = []
    half = (int(slider.get_attribute("max")) + 1) // 2
    # What it shows is said once, below both.
    for stage, part in ((0, hero.locator(".scene")), (half, hero)):
        slider.fill(str(stage))
        slider.blur()
        rows.append(Image.open(BytesIO(part.screenshot())).convert("RGB"))
    page.close()
    width, heights = rows[0].width + 2 * _EDGE, [row.height for row in rows]
    both = Image.new("RGB", (width, sum(heights) + _EDGE * (len(rows) + 1)), "white")
    for number, row in enumerate(rows):
        both.paste(row, (_EDGE, _EDGE * (number + 1) + sum(heights[:number])))
    # The README shows it: light, and with all of a photograph's colours.
    path = out / "hero.jpg"
    both.save(path, quality=72, optimize=True)
    return path


def main(arguments: list[str] | None = None) -> int:
    """Take the pictures; 1 and one line where that is not possible."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--site", type=Path, default=Path("build/html"))
    parser.add_argument("--out", type=Path, default=Path("build/shots"))
    parser.add_argument("pages", nargs="*", help="such as book/index; none: one of each kind")
    given = parser.parse_args(arguments)
    try:
        taken = take_shots(given.site, given.out, given.pages or PAGES)
    except BookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{len(taken)} pictures are in {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
