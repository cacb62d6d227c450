"""Each page leads to the next one, and every figure has the size that it was drawn with."""

import base64
import io
from pathlib import Path

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from made.places import ROOT
from PIL import Image
from saliency_sanity.book.site import build as book
from saliency_sanity.book.site.sphinx_ext import (
    PHONE,
    STORY,
    lead_on,
    read_leads,
)
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

PAGES = ["book/index", "book/metrics", "notebooks/one", "notebooks/two", "book/end"]


def test_every_page_is_led_to_in_one_sentence_and_no_other_is():
    root, *pages = book.toc_files(book.read_toc(ROOT / "_toc.yml"))
    leads = read_leads(ROOT / STORY)
    assert list(leads) == pages
    assert root not in leads
    for page, sentence in leads.items():
        assert sentence.endswith((".", "?")), page
        assert len(sentence.split()) > 3, page


@pytest.mark.parametrize(
    ("page", "link"),
    [
        ("book/index", "metrics.md"),
        ("book/metrics", "../notebooks/one.ipynb"),
        ("notebooks/one", "two.ipynb"),
        ("notebooks/two", "../book/end.md"),
    ],
)
def test_a_page_leads_to_the_one_that_follows(page, link):
    leads = {"book/metrics": "And now?", "notebooks/one": "And then?"}
    end = lead_on(page, PAGES, leads)
    assert f"]({link})" in end
    assert ("[]" in end) == (link not in ("metrics.md", "../notebooks/one.ipynb"))


def test_the_last_page_and_one_out_of_order_lead_nowhere():
    assert lead_on("book/end", PAGES, {}) == ""
    assert lead_on("genindex", PAGES, {}) == ""


def picture(inches: float, dpi: int | None = 100) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (round(inches * (dpi or 96)), 20)).save(file, "PNG", **_dots(dpi))
    return file.getvalue()


def _dots(dpi):
    return {"dpi": (dpi, dpi)} if dpi else {}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Three pages, built with the extension and nothing of the book's own."""
    root = tmp_path_factory.mktemp("site")
    (root / "book").mkdir()
    (root / "notebooks").mkdir()
    toc = {
        "root": "book/index",
        "chapters": [{"file": "notebooks/one"}, {"file": "book/end"}],
    }
    (root / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False))
    (root / STORY).write_text(yaml.safe_dump({"notebooks/one": "What is in the notebook?"}))
    (root / "small.png").write_bytes(picture(2, None))
    figure = "```{figure} ../small.png\nA small one.\n```\n"
    by_width = "```{figure} ../small.png\n:figclass: by-width\nOne for each screen.\n```\n"
    tree = "```{toctree}\n../notebooks/one\nend\n```\n"
    (root / "book/index.md").write_text(f"# Start\n\n{tree}\n{figure}\n{by_width}")
    (root / "book/end.md").write_text("# The end\n\nNothing follows.")
    shown = base64.b64encode(picture(7.5)).decode()
    output = nbformat.v4.new_output("display_data", {"image/png": shown})
    cell = nbformat.v4.new_code_cell("1 + 1", execution_count=1, outputs=[output])
    cell.metadata["mystnb"] = {"figure": {"name": "wide", "caption": "A wide one."}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# One"), cell])
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    nbformat.write(notebook, root / "notebooks/one.ipynb")
    before = (root / "notebooks/one.ipynb").read_bytes()
    settings = {
        "extensions": ["myst_nb", "sphinx_design", "saliency_sanity.book.site.sphinx_ext"],
        "root_doc": "book/index",
        "nb_execution_mode": "off",
        "html_theme": "basic",
    }
    out = root / "out"
    said = io.StringIO()
    where = (root, None, out, root / "doctrees")
    # Sphinx registers its nodes for the whole process, and warns of those it finds.
    with docutils_namespace():
        Sphinx(*where, "html", settings, status=None, warning=said).build()
    assert said.getvalue() == ""
    assert (root / "notebooks/one.ipynb").read_bytes() == before
    return out


def read(site: Path, name: str) -> BeautifulSoup:
    return BeautifulSoup((site / f"{name}.html").read_text("utf8"), "html.parser").select_one(
        "div.body"
    )


def test_pages_and_notebooks_end_in_the_way_on(site):
    for name, text, link in (
        ("book/index", "What is in the notebook?", "../notebooks/one.html"),
        ("notebooks/one", "The end", "../book/end.html"),
    ):
        page = read(site, name)
        (end,) = page.select("div.next-page")
        assert end.text.split() == ["Next.", *text.split()]
        assert end.a["href"] == link
        assert page.find_all(["p", "img"])[-1].parent is end
    assert not read(site, "book/end").select("div.next-page")


def test_a_figure_is_a_link_to_its_file_and_as_wide_as_it_was_drawn(site):
    small, by_width = read(site, "book/index").select("figure")
    assert small.img["style"] == "width: 2.00in;"
    assert "scrolls" not in small.img.get("class", [])
    assert "style" not in by_width.img.attrs
    assert by_width.img.parent is by_width
    (wide,) = read(site, "notebooks/one").select("figure")
    assert wide.img["style"] == "width: 7.50in;"
    assert "scrolls" in wide.img["class"]
    assert wide.img.parent["href"] == wide.img["src"]
    assert (site / "notebooks" / wide.img["src"]).resolve().is_file()


def test_what_a_phone_shows_at_once_is_what_the_style_sheet_says():
    style = (ROOT / "book/_static/book.css").read_text("utf8")
    zoom = float(style.partition("zoom: ")[2].partition(";")[0])
    # Letters of seven points; 358 pixels are what a phone of 390 leaves.
    assert 7 / 72 * 96 * zoom >= 7.95
    assert PHONE * 96 * zoom <= 358
