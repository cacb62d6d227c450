"""What a page weighs: its HTML and each picture once, whatever it shares with the other pages."""

import pytest
from saliency_sanity.book.site.weight import LIMIT, heavy_pages, heavy_pictures, page_weight

PAGE = (
    "<script src='theme.js'></script><img src='../_images/a%20b.png?v=1#top'>"
    "<p><img src='../_images/a%20b.png'><img src='c.png'/>"
    "<img src='data:image/png;base64,AAAA'></p>"
)


@pytest.fixture
def site(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "_images").mkdir()
    (tmp_path / "notebooks/one.html").write_text(PAGE)
    (tmp_path / "notebooks/two.html").write_text("<p>A page without pictures</p>")
    (tmp_path / "_images/a b.png").write_bytes(bytes(5000))
    (tmp_path / "notebooks/c.png").write_bytes(bytes(300))
    return tmp_path


def test_each_picture_counts_once_and_the_heaviest_comes_first(site):
    found = page_weight(site / "notebooks/one.html")
    assert {path.name: size for path, size in found.items()} == {
        "a b.png": 5000,
        "c.png": 300,
        "one.html": len(PAGE),
    }
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_a_heavy_page_is_named_with_what_weighs(site):
    pages = ["notebooks/one", "notebooks/two"]
    assert heavy_pages(site, pages) == []
    assert heavy_pages(site, pages, limit=5300 + len(PAGE)) == []
    (line,) = heavy_pages(site, pages, limit=5299 + len(PAGE))
    assert line.startswith("page notebooks/one weighs 0.01 MB")
    assert line.index("a b.png") < line.index("c.png")


def test_the_limit_is_that_of_the_book(site):
    (site / "_images/a b.png").write_bytes(bytes(LIMIT))
    assert len(heavy_pages(site, ["notebooks/one"])) == 1


def test_a_picture_that_is_not_there_is_no_light_one(site):
    (site / "notebooks/c.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"c\.png"):
        page_weight(site / "notebooks/one.html")


def test_a_heavy_picture_is_named_with_its_page_and_no_page_is_one(site):
    (site / "notebooks/one.html").write_text(PAGE + " " * 400_000)
    assert heavy_pictures(site, ["notebooks/one"]) == []
    (site / "_images/a b.png").write_bytes(bytes(300_001))
    (line,) = heavy_pictures(site, ["notebooks/one", "notebooks/two"])
    assert line.startswith("picture a b.png of page notebooks/one weighs 300 kB")
