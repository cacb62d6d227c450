"""The first picture: maps and kappas that stand together are of one stage, by script or without."""

import base64
import contextlib
import io
import json
import re

import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image
from saliency_sanity.plots.hero import Film, spread, stage_hero

WORDS = [("trained", "As trained."), ("half", "Half is random."), ("all", "All is random.")]
PICTURE = np.random.default_rng(0).random((28, 28, 3))
LEVELS = {"Gradient": (0.9, 0.5, 0.1), "Sobel edges": (0.3, 0.3, 0.3)}
KAPPAS = {
    "Gradient": [(0.5, 0.4, 0.6), (-0.001, -0.2, 0.1)],
    "Sobel edges": [(1.0, 1.0, 1.0), (1.0, 1.0, 1.0)],
}


def shown(kappas=KAPPAS, **changed):
    films = {
        name: np.stack([np.full((28, 28), v, dtype=np.float32) for v in values])
        for name, values in (LEVELS | changed).items()
    }
    return [Film(name, film, kappas[name]) for name, film in films.items()]


def hero(films=None, **given):
    settings = {"caption": "Two methods and one picture.", "about": "over 8 pictures"} | given
    return stage_hero(PICTURE, films or shown(), WORDS, **settings)


def soup(markup):
    return BeautifulSoup(markup, "html.parser")


def test_maps_and_kappas_of_a_stage_stand_together():
    for node, (name, values) in zip(soup(hero()).select(".map"), LEVELS.items(), strict=True):
        strip = node.select_one(".frame img")["src"].partition("base64,")[2]
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(strip))))[..., 0] / 255
        tiles = np.split(pixels, len(WORDS), axis=1)
        np.testing.assert_allclose([tile.mean() for tile in tiles], values, atol=0.02)
        stages = json.loads(node["data-stages"])
        assert node.select_one(".name").text == name
        assert [float(stage["kappa"]) for stage in stages] == [
            1, *(round(kappa, 2) for kappa, _, _ in KAPPAS[name])
        ]  # fmt: skip
        assert [text.text for text in node.select("li")] == [
            f"{brief}: {stage['kappa']} ({stage['interval']})"
            for (brief, _), stage in zip(WORDS, stages, strict=True)
        ]


def test_no_kappa_stands_without_its_interval_and_what_it_is_of():
    first, half, last = json.loads(soup(hero()).select_one(".map")["data-stages"])
    assert first["interval"] == "by definition"
    assert half["title"] == "kappa 0.50, 95 % interval 0.40 to 0.60: over 8 pictures"
    assert half["band"] == [0.4, 0.6]
    assert (last["kappa"], last["bar"]) == ("0.00", 0)
    nothing = [(np.nan, np.nan, np.nan)] * 2
    undefined = shown(KAPPAS | {"Gradient": nothing})
    assert json.loads(soup(hero(undefined)).select_one(".map")["data-stages"])[1]["kappa"] == "–"


def test_it_starts_with_the_stage_that_is_asked_for():
    page = soup(hero(start=1))
    assert page.input["value"] == "1"
    assert page.output.text == page.input["aria-valuetext"] == "Half is random."
    assert page.figure["style"] == "--stage: 1"
    assert soup(hero()).input["value"] == "0"
    with pytest.raises(ValueError, match="start is 3; valid are 0 to 2, the last stage"):
        hero(start=3)


def test_it_needs_nothing_else_is_the_same_twice_and_texts_are_no_markup():
    markup = hero(caption="<s>1 < 2</s>")
    assert markup == hero(caption="<s>1 < 2</s>")
    assert "<s>" not in markup
    rest = re.sub(r"data:image/webp;base64,[\w+/=]+", "", markup)
    assert not re.search(r"https?:|//|@import|<link|src=\"(?!\")", rest)


def test_it_is_as_short_as_asked_or_refused():
    rng = np.random.default_rng(0)
    noise = [Film(n, rng.random((3, 224, 224)), KAPPAS[n]) for n in KAPPAS]
    assert len(hero(noise).encode()) <= 300_000
    assert len(hero(noise, limit=60_000).encode()) <= 60_000
    with pytest.raises(ValueError, match="2 maps and 2 stages do not fit into 5000 bytes"):
        hero(noise, limit=5000)


def test_what_does_not_fit_is_named():
    short = [Film("Gradient", np.zeros((3, 28, 28)), [(1, 1, 1)])]
    with pytest.raises(ValueError, match=r"kappas of 'Gradient' are 1; give 2, one a stage"):
        hero(short)
    with pytest.raises(ValueError, match=r"'Gradient' have shape \(2, 28, 28\); expected \[3"):
        hero([Film("Gradient", np.zeros((2, 28, 28)), [(1, 1, 1)] * 2)])


@pytest.mark.parametrize(("count", "most"), [(3, 5), (5, 5), (18, 5), (7, 5), (6, 1)])
def test_of_many_stages_a_few_are_chosen_with_the_last(count, most):
    found = spread(count, most)
    assert found[-1] == count - 1
    assert len(set(found)) == len(found) == min(count, most)
    steps = np.diff([-1, *found])
    assert steps.max() - steps.min() <= 1


# ---- in a browser ------------------------------------------------------------------------------

SHOWN = """() => ({
  says: document.querySelector('output').innerText,
  heard: document.querySelector('.heard').textContent,
  at: [...document.querySelectorAll('.frame img')].map(n => getComputedStyle(n).objectPosition),
  kappas: [...document.querySelectorAll('.now b')].map(n => n.innerText),
  titles: [...document.querySelectorAll('.now')].map(n => n.title),
  bars: [...document.querySelectorAll('.meter i')].map(
    n => n.getBoundingClientRect().width / n.parentElement.getBoundingClientRect().width),
  strips: [...document.querySelectorAll('.all')].filter(n => n.offsetHeight).length,
  wide: document.documentElement.scrollWidth})"""


@contextlib.contextmanager
def opened(browser, tmp_path, start=0, **given):
    head = (
        "<!doctype html><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
    )
    (tmp_path / "page.html").write_text(f"{head}<title>t</title>{hero(start=start)}", "utf8")
    settings = {"viewport": {"width": 390, "height": 844}, "reduced_motion": "reduce"} | given
    with contextlib.closing(browser.new_context(**settings)) as context:
        page = context.new_page()
        faults = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto((tmp_path / "page.html").as_uri())
        yield page
        assert faults == []


@pytest.mark.browser
def test_keys_move_maps_and_kappas_together(browser, tmp_path):
    with opened(browser, tmp_path) as page:
        assert page.evaluate(SHOWN)["kappas"] == ["1", "1"]
        page.keyboard.press("Tab")
        for key, stage in {"ArrowRight": 1, "End": 2, "ArrowLeft": 1, "Home": 0}.items():
            page.keyboard.press(key)
            seen = page.evaluate(SHOWN)
            assert seen["says"] == WORDS[stage][1]
            assert [float(at.partition("%")[0]) for at in seen["at"]] == [50 * stage] * 2
            wanted = [1.0, 1.0] if not stage else [KAPPAS[n][stage - 1][0] for n in KAPPAS]
            assert [float(kappa) for kappa in seen["kappas"]] == pytest.approx(wanted, abs=0.005)
            assert seen["bars"] == pytest.approx(np.clip(wanted, 0, 1), abs=0.01)
            assert seen["heard"] == ", ".join(
                f"{name}: kappa {kappa}" for name, kappa in zip(KAPPAS, seen["kappas"], strict=True)
            )
            assert (
                page.get_by_label("Make the network").get_attribute("aria-valuetext")
                == (seen["says"])
            )
        assert seen["wide"] <= 390
        assert seen["strips"] == 0


@pytest.mark.browser
def test_maps_and_kappas_are_of_the_stage_that_it_starts_with(browser, tmp_path):
    with opened(browser, tmp_path, start=1) as page:
        seen = page.evaluate(SHOWN)
        assert (seen["says"], seen["kappas"]) == (WORDS[1][1], ["0.50", "1.00"])
        assert [float(at.partition("%")[0]) for at in seen["at"]] == [50, 50]


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_a_pointer_does_the_same(browser, tmp_path, width):
    with opened(browser, tmp_path, viewport={"width": width, "height": 844}) as page:
        box = page.get_by_role("slider").bounding_box()
        page.mouse.move(box["x"] + 8, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2, steps=4)
        page.mouse.up()
        seen = page.evaluate(SHOWN)
        assert seen["says"] == "All is random."
        assert seen["kappas"] == ["0.00", "1.00"]
        assert "95 % interval -0.20 to 0.10" in seen["titles"][0]
        assert seen["wide"] <= width


@pytest.mark.browser
def test_without_scripts_every_stage_is_shown_with_its_kappa(browser, tmp_path):
    with opened(browser, tmp_path, java_script_enabled=False) as page:
        assert not page.get_by_role("slider").is_visible()
        assert page.locator(".still").is_visible()
        for strip in page.locator(".frame img").all():
            box = strip.bounding_box()
            assert box["width"] / box["height"] == pytest.approx(len(WORDS), rel=0.1)
        texts = page.locator(".all li").all()
        assert len(texts) == len(WORDS) * len(KAPPAS)
        assert all(text.is_visible() for text in texts)
        assert page.locator(".now b").first.is_hidden()
