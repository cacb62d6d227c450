"""The picture of the packages shows those that there are, in the order that the linter holds."""

import re
import subprocess
import sys

import pytest
from bs4 import BeautifulSoup
from made.places import ROOT
from saliency_sanity.book.site.package_map import (
    LEAST_WIDTH,
    PACKAGE,
    TEXT,
    WIDTH,
    layers,
    picture,
)

LIBRARY = ROOT / "lib" / PACKAGE


@pytest.mark.parametrize("package", ["", "book"])
def test_every_package_is_in_a_layer(package):
    """But ``__main__``, which only starts the command line."""
    folder = LIBRARY / package
    there = {path.stem for path in folder.glob("*.py")} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }
    found = [name for row in layers(".".join(filter(None, [PACKAGE, package]))) for name in row]
    assert len(found) == len(set(found))
    assert set(found) == there - {"__init__", "__main__"}


def test_a_package_without_a_contract_has_no_layers():
    with pytest.raises(ValueError, match=r"saliency_sanity\.plots"):
        layers(f"{PACKAGE}.plots")


@pytest.fixture(scope="module")
def drawn():
    words = "Boxes & rows"
    page = BeautifulSoup(picture(layers(PACKAGE), layers(f"{PACKAGE}.book"), words), "html.parser")
    assert page.svg["aria-label"] == words
    return page.svg


def test_the_picture_has_every_package_from_the_top_down_and_the_core_tinted(drawn):
    order = [text.text for text in drawn.select("text.name")]
    public = [name for row in layers(PACKAGE) for name in row if name[0] != "_"]
    assert order == public
    tinted = [box.find_next_sibling("text").text for box in drawn.select("rect.core")]
    assert set(tinted) >= {"networks", "attribution", "similarity", "verdict", "randomization"}
    assert not {"subjects", "experiments", "probes", "plots", "book"} & set(tinted)


def test_nothing_leaves_its_box_and_no_letter_is_below_ten_pixels(drawn):
    assert TEXT * LEAST_WIDTH / WIDTH >= 10
    style = (ROOT / "book/_static/book.css").read_text(encoding="utf-8")
    sizes = re.findall(r"\.package-map [^{]*\{[^}]*font-size: (\d+)px", style)
    assert sizes
    assert min(map(int, sizes)) == TEXT
    _, _, width, height = map(float, drawn["viewbox"].split())
    for box in drawn.find_all("rect", recursive=False):
        x, y, wide, high = (float(box[key]) for key in ("x", "y", "width", "height"))
        assert 0 < x < x + wide <= width
        assert 0 < y < y + high <= height


SETTINGS = f"""
extensions = ["myst_parser", "{PACKAGE}.book.site.package_map"]
html_theme = "basic"
"""


def test_a_page_shows_the_picture_with_its_caption(tmp_path):
    """In a process of its own: Sphinx registers nodes and parsers for good."""
    text = "# Code\n\n```{package-map}\n:name: packages\n:alt: Rows.\n\nThe *caption*.\n```\n"
    (tmp_path / "index.md").write_text(text, encoding="utf-8")
    (tmp_path / "conf.py").write_text(SETTINGS, encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", str(tmp_path), str(tmp_path / "out")]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    page = BeautifulSoup((tmp_path / "out" / "index.html").read_text("utf-8"), "html.parser")
    figure = page.find(id="packages")
    assert figure.name == "figure"
    assert figure.svg["aria-label"] == "Rows."
    assert figure.figcaption.em.text == "caption"
