"""Grids of tiles: each tile is the map that is named, and no script is needed to see it."""

import base64
import contextlib
import io
import re

import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image
from saliency_sanity.plots.tiles import (
    COLUMNS,
    View,
    map_tiles,
    network_tiles,
    spread,
    stage_tiles,
)

STAGES = [f"block_{n}" for n in range(10)]
CAPTION = "Maps of one picture by two methods."
FINDING = "Guided backpropagation's maps stay."
METHODS = ("Gradient", "Guided backpropagation")
RANGES = {"absolute": (0.05, 1), "signed": (-1, 1)}


def films(mode, seed=0, count=11, size=28):
    """Flat maps, each of its own level, so that each can be told from the others."""
    low, high = RANGES[mode]
    values = np.random.default_rng(seed).permutation(np.linspace(low, high, count * len(METHODS)))
    flat = np.broadcast_to(values[:, None, None], (len(values), size, size)).astype(np.float32)
    return dict(zip(METHODS, np.split(flat.copy(), len(METHODS)), strict=True))


def view(name="a boot", seed=0, **scale):
    picture = np.random.default_rng(seed).random((28, 28, 3))
    return View(name, picture, *(films(mode, seed, **scale) for mode in RANGES))


def parsed(tiles):
    return BeautifulSoup(tiles.markup, "html.parser")


def strips(node):
    """What lies behind the tiles of a row, as levels of grey, by mode and part."""
    found = re.findall(r"--(\w+)-(first|more):url\(data:image/webp;base64,([^)]+)\)", node["style"])
    return {
        (mode, part): np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))[..., 0] / 255
        for mode, part, data in found
    }


@pytest.fixture(scope="module")
def grid():
    notes = {name: ["", *(f"κ 0.{n}" for n in range(10))] for name in METHODS}
    views = [view(), view("a coat", 1)]
    tiles = stage_tiles(views, STAGES, finding=FINDING, caption=CAPTION, notes=notes)
    return views, tiles


def test_stages_shown_at_first_are_spread_from_the_first_to_the_last():
    assert spread(17) == [0, 3, 6, 10, 13, 16]
    assert spread(4) == [0, 1, 2, 3]
    assert spread(1) == [0]
    assert all(len(spread(n)) == min(n, COLUMNS) for n in range(1, 40))


@pytest.mark.parametrize("size", [28, 64])
def test_each_tile_is_the_map_of_its_method_and_stage(size):
    one = view(size=size)
    tiles = stage_tiles([one], STAGES, finding=FINDING, caption=CAPTION)
    first = [0, *(n + 1 for n in spread(len(STAGES)))]
    assert_each_tile_is_its_map(tiles, one, ["original", *STAGES], first)
    networks = [f"{labels}, {seed}" for labels in ("true", "permuted") for seed in range(6)][:11]
    first = [0, 1, 6, 7]
    tiles = network_tiles([one], networks, first, finding=FINDING, caption=CAPTION)
    assert_each_tile_is_its_map(tiles, one, networks, first)
    assert "all 11 networks" in tiles.markup


def assert_each_tile_is_its_map(tiles, one, heads, first):
    figure = parsed(tiles).figure
    more = np.array(["more" in th.get("class", []) for th in figure.select("thead th")[1:]])
    assert [th.text for th in figure.select("thead th")[1:]] == heads
    assert list(np.flatnonzero(~more)) == first
    for row, name in zip(figure.select("tbody tr"), METHODS, strict=True):
        assert row.th.text == name
        kept = strips(row)
        for mode, part in kept:
            wanted = getattr(one, mode)[name][more == (part == "more")].mean((1, 2))
            wanted = (wanted + 1) / 2 if mode == "signed" else wanted
            maps = np.stack(np.split(kept[mode, part], len(wanted), axis=1))
            np.testing.assert_allclose(maps.mean((1, 2)), wanted, atol=0.02)
            assert maps.std((1, 2)).max() < 0.02  # none runs over into the next one
        assert len(kept) == 4


def test_kappa_stands_in_its_tile_and_words_are_text(grid):
    _, tiles = grid
    page = parsed(tiles)
    for row in page.select("tbody tr"):
        cells = row.select("td")
        assert [cell.text.strip() for cell in cells] == ["", *(f"κ 0.{n}" for n in range(10))]
        assert [cell.div["aria-label"] for cell in cells[1:]] == [
            f"{row.th.text}, {stage}" for stage in STAGES
        ]
    assert page.select_one(".finding").text == FINDING
    assert tiles.summary == f"{FINDING} (tiles of 2 methods, 2 pictures)"
    one = stage_tiles([view()], STAGES, finding=FINDING, caption=CAPTION)
    assert one.summary.endswith("2 methods, 1 picture)")
    assert not page.select("script")
    odd = view()
    odd = View("<b>", odd.picture, {"<i>": odd.absolute["Gradient"]})
    page = parsed(stage_tiles([odd], STAGES, finding="<s>", caption="<u>"))
    assert not page.select("table b, i, s, u")


def test_zero_and_undefined_maps_say_so_and_only_those():
    one = view()
    one.absolute["Gradient"][3] = 0
    one.signed["Gradient"][4] = np.nan
    page = parsed(stage_tiles([one], STAGES, finding=FINDING, caption=CAPTION))
    said = [(b.text, b["class"][0], b.parent["aria-label"]) for b in page.select(".tile b")]
    assert said == [
        ("zero", "absolute", "Gradient, block_2"),
        ("undefined", "signed", "Gradient, block_3"),
    ]


def test_it_needs_nothing_else_and_is_the_same_twice(grid):
    views, tiles = grid
    notes = {name: ["", *(f"κ 0.{n}" for n in range(10))] for name in METHODS}
    again = stage_tiles(views, STAGES, finding=FINDING, caption=CAPTION, notes=notes)
    assert again.markup == tiles.markup == tiles._repr_html_()
    rest = re.sub(r"data:image/webp;base64,[\w+/=]+", "", tiles.markup)
    assert not re.search(r"https?:|//|@import|<link|src=\"(?!\")", rest)


def test_noise_is_made_to_fit_or_refused():
    rng = np.random.default_rng(0)
    noise = {f"method {n}": rng.random((19, 64, 64), dtype=np.float32) for n in range(6)}
    one = View("noise", rng.random((64, 64)), noise, {k: 2 * v - 1 for k, v in noise.items()})
    many = [f"mixed_{n}" for n in range(18)]
    for limit in (290_000, 150_000):
        tiles = stage_tiles([one], many, finding=FINDING, caption=CAPTION, limit=limit)
        assert len(str(parsed(tiles).figure)) <= limit
    with pytest.raises(ValueError, match="'noise' does not fit into 5000 characters"):
        stage_tiles([one], many, finding=FINDING, caption=CAPTION, limit=5000)


def test_a_wall_has_a_tile_a_method_beside_its_picture():
    one = view(count=1)
    notes = {"Gradient": "κ 0.30"}
    page = parsed(map_tiles([one], finding=FINDING, caption=CAPTION, notes=notes))
    first, *tiles = page.select("li")
    assert "a boot" in first.img["alt"]
    for tile, name in zip(tiles, METHODS, strict=True):
        said = [name, notes[name]] if name in notes else [name]
        assert [span.text for span in tile.select("span")] == said
        for mode in RANGES:
            level = getattr(one, mode)[name].mean()
            level = (level + 1) / 2 if mode == "signed" else level
            assert strips(tile)[mode, "first"].mean() == pytest.approx(level, abs=0.02)


def test_what_does_not_fit_is_named():
    say = {"finding": FINDING, "caption": CAPTION}
    with pytest.raises(ValueError, match=r"'Gradient' have shape .*; expected \[11, h, w\]"):
        stage_tiles([view(count=4)], STAGES, **say)
    with pytest.raises(ValueError, match="4 pictures; give one to 3"):
        stage_tiles([view()] * 4, STAGES, **say)
    with pytest.raises(ValueError, match="0 pictures"):
        stage_tiles([], STAGES, **say)
    other = View("b", view().picture, {"Gradient": films("absolute")["Gradient"]})
    with pytest.raises(ValueError, match="differ in methods"):
        stage_tiles([view(), other], STAGES, **say)
    with pytest.raises(ValueError, match=r"unknown method 'Grad'.*Gradient"):
        stage_tiles([view()], STAGES, notes={"Grad": [""] * 11}, **say)
    with pytest.raises(ValueError, match="notes of 'Gradient' are 2; give 11"):
        stage_tiles([view()], STAGES, notes={"Gradient": ["", ""]}, **say)
    with pytest.raises(ValueError, match="absolute pictures, signed ones, or both"):
        stage_tiles([View("a", view().picture, None)], STAGES, **say)


# ---- in a browser, which runs no script --------------------------------------------------------

SEEN = """() => ({
  page: document.documentElement.scrollWidth,
  figures: [...document.querySelectorAll('figure')].filter(n => n.offsetHeight).length,
  columns: [...document.querySelectorAll('figure.at-0 thead th')].filter(n => n.offsetWidth).length,
  width: Math.min(...[...document.querySelectorAll('.tile')]
    .filter(n => n.offsetWidth).map(n => n.getBoundingClientRect().width)),
  filters: [...new Set([...document.querySelectorAll('.tile')].filter(n => n.offsetWidth)
    .map(n => getComputedStyle(n, '::before').filter.replace(/.*-(\\w+)"\\)/, '$1')))],
  behind: getComputedStyle(document.querySelector('figure.at-0 td .tile'), '::before')
    .backgroundImage.length,
  hint: document.querySelector('.hint').offsetHeight > 0,
  letters: Math.min(...[...document.querySelectorAll('.map-tiles *')]
    .filter(n => n.offsetWidth).map(n => parseFloat(getComputedStyle(n).fontSize))),
  scrolls: [...document.querySelectorAll('.scroll')].some(n => n.scrollWidth > n.clientWidth)})"""


@pytest.mark.browser
def test_tabs_and_all_stages_need_no_script(browser, grid, tmp_path):
    path = tmp_path / "page.html"
    head = (
        "<!doctype html><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
    )
    head += "<style>figure { padding: 8px }</style>"  # as a page's theme has it
    path.write_text(f"{head}<body style='margin:0'>{grid[1].markup}", "utf8")
    with contextlib.closing(browser.new_context(viewport={"width": 736, "height": 800})) as context:
        page = context.new_page()
        page.goto(path.as_uri())
        seen = page.evaluate(SEEN)
        assert (seen["page"], seen["figures"], seen["columns"]) == (736, 1, 8)
        assert seen["filters"] == ["absolute"]
        assert seen["width"] >= 80
        assert seen["letters"] >= 10
        assert seen["behind"] > 100  # the map's own address
        assert not seen["scrolls"]
        assert not seen["hint"]
        page.get_by_label("signed").check()
        assert page.evaluate(SEEN)["filters"] == ["signed"]
        page.get_by_label("all 10 stages").check()
        seen = page.evaluate(SEEN)
        assert (seen["page"], seen["columns"], seen["hint"], seen["scrolls"]) == (
            736,
            12,
            True,
            True,
        )
        assert seen["width"] >= 80
        page.get_by_label("a coat", exact=True).check()
        assert page.locator("figure.at-1").is_visible()
        assert not page.locator("figure.at-0").is_visible()
        page.emulate_media(media="print")
        seen = page.evaluate(SEEN)
        assert (seen["figures"], seen["filters"]) == (1, ["absolute"])
        assert page.locator("figure.at-0").is_visible()
        page.emulate_media(media="screen")
        page.get_by_label("a boot", exact=True).check()
        page.get_by_label("all 10 stages").uncheck()
        # The column that a page leaves beside its lists, at 1280 px: seven tiles and their names.
        page.set_viewport_size({"width": 688, "height": 800})
        seen = page.evaluate(SEEN)
        assert (seen["columns"], seen["hint"], seen["scrolls"]) == (8, False, False)
        assert seen["width"] >= 80
        page.set_viewport_size({"width": 390, "height": 800})
        seen = page.evaluate(SEEN)
        assert (seen["page"], seen["hint"], seen["scrolls"]) == (390, True, True)
        assert seen["width"] >= 80
