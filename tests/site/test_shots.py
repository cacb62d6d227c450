"""Screenshots of the site: every page in every width and scheme, or one line that says why not."""

import shutil

import numpy as np
import pytest
from PIL import Image
from saliency_sanity.book.site.build import BookError

from workflow import shots

PAGE = """<!doctype html><meta charset='utf-8'><style>body {background: #fff; margin: 0}
@media (prefers-color-scheme: dark) {body {background: #000}} figure {height: 90px; margin: 0}
</style><div style='height: 1500px'></div>"""
SLIDER = "<input type='range' min='0' max='3' value='0'>"
HERO = f"<figure class='hero'><div class='scene'>{SLIDER}</div></figure>"


@pytest.fixture
def site(tmp_path):
    for name in shots.PAGES:
        path = tmp_path / "html" / f"{name}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PAGE + (HERO if name == "book/index" else ""), "utf8")
    return tmp_path / "html"


def test_without_a_site_it_says_what_to_run(tmp_path, capsys):
    code = shots.main(["--site", str(tmp_path / "none"), "--out", str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert code == 1
    assert said.startswith("error: ")
    assert "book/index.html is missing: run 'make book' first" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_without_a_browser_it_says_what_to_install(site, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(BookError, match=r"no Chromium here; .*apt-get install chromium"):
        shots.take_shots(site, tmp_path / "out")


@pytest.mark.browser
def test_a_page_is_taken_whole_in_every_width_and_scheme(site, tmp_path):
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed (Debian, Ubuntu: apt-get install chromium)")
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    taken = shots.take_shots(site, tmp_path / "out", ["book/index"])
    assert {path.name for path in taken} == {
        *(f"index-{width}-{scheme}.png" for width in (1280, 390) for scheme in ("light", "dark")),
        "hero.jpg",
    }
    for width in (1280, 390):
        for scheme, level in (("light", 255), ("dark", 0)):
            with Image.open(tmp_path / "out" / f"index-{width}-{scheme}.png") as shot:
                assert shot.size == (width, 1590)
                assert np.asarray(shot.convert("L"))[1000, 10] == level
    with Image.open(tmp_path / "out" / "hero.jpg") as shot:
        assert shot.width == 1.5 * 1280 + 2 * 24
        assert shot.height > 1.5 * 90 + 3 * 24
        assert np.asarray(shot.convert("L"))[:22].min() > 250
