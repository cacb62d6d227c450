"""Pictures by stage: what is shown is the stage that is named, and a page needs nothing else."""

import base64
import contextlib
import io
import re

import matplotlib as mpl
import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image

mpl.use("agg")
import matplotlib.pyplot as plt
from saliency_sanity.plots.maps import (
    films,
    network_grid,
    resized,
    state,
)
from saliency_sanity.plots.slider import stage_slider

STAGES = ["logits", "mixed_7c", "conv2d_1a_3x3"]
CAPTION = "Maps of one picture by two methods at the chosen stage."
PICTURE = np.random.default_rng(0).random((28, 28, 3))


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def levels(*values, size=28):
    """One flat picture a value, so that each can be told from the others."""
    return np.stack([np.full((size, size), value, dtype=np.float32) for value in values])


ABSOLUTE = {"Gradient": levels(1, 0.7, 0.4, 0.1), "Grad-CAM": levels(0.2, 0.4, 0.6, 0.8)}
SIGNED = {"Gradient": levels(1, 0.5, -0.5, -1), "Grad-CAM": levels(-0.5, 0.5, 1, 0.2)}


def decoded(address):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition("base64,")[2]))))


# ---- checks ------------------------------------------------------------------------------------


def test_pictures_that_do_not_fit_are_named():
    def show(*pictures):
        return stage_slider(*pictures, caption="c")

    with pytest.raises(ValueError, match=r"'Gradient' have shape \(2, 28, 28\); expected \[4, h"):
        show(PICTURE, {"Gradient": levels(1, 0)}, STAGES)
    with pytest.raises(ValueError, match=r"'Gradient' run from -1 to 1; expected 0 to 1"):
        show(PICTURE, {"Gradient": levels(1, 0, 0, -1)}, STAGES)
    with pytest.raises(ValueError, match="0 methods"):
        show(PICTURE, {}, STAGES)


def test_signed_pictures_may_be_negative_and_undefined_ones_pass():
    films(SIGNED, STAGES, signed=True)
    films({"a": levels(np.nan, 0, 1, np.inf)}, STAGES, signed=False)


def test_what_is_said_of_a_picture():
    assert state(np.zeros((2, 2))) == "zero"
    assert state(np.array([[0, np.nan]])) == "undefined"
    assert state(np.array([[0, -0.1]])) == ""


def test_a_smaller_picture_keeps_its_mean():
    picture = np.random.default_rng(1).random((30, 24)).astype(np.float32)
    wanted = picture.reshape(10, 3, 8, 3).mean((1, 3))
    np.testing.assert_allclose(resized(picture, 10, 8), wanted, rtol=1e-5)


# ---- networks ----------------------------------------------------------------------------------

NETWORKS = ["true labels", "permuted labels", "permuted labels, other seed"]


def by_network(signed=False, size=28):
    """Two methods, three networks, two pictures: every map flat and of its own level."""
    values = np.linspace(-1 if signed else 0.05, 1, 12).reshape(2, 3, 2, 1, 1)
    film = np.broadcast_to(values, (2, 3, 2, size, size)).astype(np.float32)
    return {"Gradient": film[0], "Grad-CAM": film[1]}


def boxes(figure, colours):
    """Axes whose image has these colours, or none, line by line over the page."""
    found = [
        axes
        for axes in figure.axes
        if [image.get_cmap().name for image in axes.images] == [colours] * bool(colours)
    ]
    places = [axes.get_position() for axes in found]
    order = np.lexsort(([one.x0 for one in places], np.round([-one.y0 for one in places], 6)))
    return [found[place] for place in order]


@pytest.mark.parametrize(("signed", "cmap"), [(False, "magma"), (True, "RdBu_r")])
@pytest.mark.parametrize("colours", [(), (3,)])
def test_networks_stand_side_by_side_below_their_picture(signed, cmap, colours):
    pictures = np.random.default_rng(0).random((2, 28, 28, *colours)).astype(np.float32)
    maps = by_network(signed)
    figure = network_grid(pictures, maps, NETWORKS, signed=signed)
    shown = boxes(figure, cmap)
    wanted = [maps[name][k, i] for name in maps for i in range(2) for k in range(3)]
    for axes, one in zip(shown, wanted, strict=True):
        assert axes.images[0].get_clim() == ((-1, 1) if signed else (0, 1))
        np.testing.assert_allclose(axes.images[0].get_array(), one, atol=0.05)
    heads = boxes(figure, None)
    assert [axes.texts[0].get_text().replace("\n", " ") for axes in heads] == NETWORKS * 2
    for axes, below in zip(heads, shown[:6], strict=True):
        assert axes.get_position().x0 == pytest.approx(below.get_position().x0)
    above = [axes for axes in figure.axes if axes.images and axes not in shown]
    for axes, picture, first in zip(above, pictures, (0, 3), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), picture)
        middle = (shown[first].get_position().x0 + shown[first + 2].get_position().x1) / 2
        place = axes.get_position()
        assert (place.x0 + place.x1) / 2 == pytest.approx(middle)
        assert place.y0 >= heads[0].get_position().y1
    # Groups lie further apart than the networks within one.
    left = [axes.get_position().x0 for axes in shown[:6]]
    assert left[3] - left[2] > 1.1 * (left[1] - left[0])
    assert [shown[n].texts[0].get_text() for n in (0, 6)] == list(maps)


def test_a_full_page_of_networks_is_as_wide_as_the_page_and_its_names_fit():
    pictures = np.zeros((3, 28, 28))
    maps = {f"method {n}": np.full((4, 3, 28, 28), 0.5) for n in range(13)}
    networks = ["true labels", "true labels, other seed", *NETWORKS[1:]]
    figure = network_grid(pictures, maps, networks)
    figure.canvas.draw()
    width, _ = figure.canvas.get_width_height()
    assert width <= 760
    for axes in boxes(figure, None):
        box = axes.texts[0].get_window_extent()
        column = axes.get_window_extent()
        assert column.x0 <= box.x0
        assert box.x1 <= column.x1
        assert box.y1 <= column.y1


def test_zero_and_undefined_maps_of_networks_say_so():
    maps = {"a": np.stack([levels(value) for value in (0, np.nan, 0.5)])}
    figure = network_grid(PICTURE[None], maps, NETWORKS)
    assert [[text.get_text() for text in axes.texts] for axes in boxes(figure, "magma")] == [
        ["a", "zero"],
        ["undefined"],
        [],
    ]


def test_maps_of_networks_that_do_not_fit_are_named():
    pictures = np.zeros((2, 28, 28))
    maps = by_network()
    with pytest.raises(ValueError, match=r"shape \(3, 2, 28, 28\).* \[2, 2, h, w\]"):
        network_grid(pictures, maps, NETWORKS[:2])
    with pytest.raises(ValueError, match=r"'Gradient' have shape .* \[3, 1, h, w\]"):
        network_grid(pictures[:1], maps, NETWORKS)
    with pytest.raises(ValueError, match=r"'Gradient' run from -1 to .*; expected 0 to 1"):
        network_grid(pictures, by_network(signed=True), NETWORKS)
    with pytest.raises(ValueError, match=r"pictures have shape \(28, 28\)"):
        network_grid(pictures[0], maps, NETWORKS)
    with pytest.raises(ValueError, match=r"pictures have shape \(2, 3, 28, 28\)"):
        network_grid(np.zeros((2, 3, 28, 28)), maps, NETWORKS)
    with pytest.raises(ValueError, match=r"pictures run from -3 to -3"):
        network_grid(pictures - 3, maps, NETWORKS)
    with pytest.raises(ValueError, match="0 methods, 3 networks"):
        network_grid(pictures, {}, NETWORKS)


# ---- slider ------------------------------------------------------------------------------------


def test_every_stage_has_its_place_in_the_film():
    page = BeautifulSoup(
        stage_slider(PICTURE, ABSOLUTE, STAGES, signed=SIGNED, caption=CAPTION).markup,
        "html.parser",
    )
    for mode, pictures in (("absolute", ABSOLUTE), ("signed", SIGNED)):
        images = page.select(f".frame.{mode} img")
        for image, (name, film) in zip(images, pictures.items(), strict=True):
            assert image["alt"] == f"{mode} map of {name} at the chosen stage"
            strip = decoded(image["src"])[..., 0] / 255
            tiles = np.stack(np.split(strip, len(STAGES) + 1, axis=1))
            shown = tiles.mean((1, 2)) * (2 if mode == "signed" else 1) - (mode == "signed")
            np.testing.assert_allclose(shown, film.mean((1, 2)), atol=0.02)
            # No map runs over into the next one.
            assert tiles.std((1, 2)).max() < 0.02
    assert len(page.select(".screen > img")) == 1
    assert page.select_one("figcaption .caption-text").text == CAPTION
    assert all(image["alt"] for image in page.select("img"))


def test_it_needs_nothing_else_and_is_the_same_twice():
    first = stage_slider(PICTURE, ABSOLUTE, STAGES, caption=CAPTION)
    assert first.markup == stage_slider(PICTURE, ABSOLUTE, STAGES, caption=CAPTION).markup
    assert first._repr_html_() == first.markup
    rest = re.sub(r"data:image/webp;base64,[\w+/=]+", "", first.markup)
    assert not re.search(r"https?:|//|@import|<link|src=\"(?!\")", rest)
    other = stage_slider(PICTURE, ABSOLUTE, STAGES, caption=CAPTION + " Again.")
    names = [
        {tag["id"] for tag in BeautifulSoup(one.markup, "html.parser").select("[id]")}
        for one in (first, other)
    ]
    assert names[0]
    assert not names[0] & names[1]


def test_texts_are_text_not_markup():
    name = '<b>"G" & co</b>'
    said = [f"<i>{n}</i>" for n in range(4)]
    page = BeautifulSoup(
        stage_slider(
            PICTURE,
            {name: ABSOLUTE["Gradient"]},
            ["<s>", "b", "c"],
            caption="a < b",
            notes={name: said},
        ).markup,
        "html.parser",
    )
    assert not page.select("b, i, s")
    assert name in page.select(".tile")[1].text
    assert page.select_one(".note").text == "<i>0</i>"


def test_one_kind_of_map_has_no_switch():
    for absolute, signed in ((ABSOLUTE, None), (None, SIGNED)):
        markup = stage_slider(PICTURE, absolute, STAGES, signed=signed, caption=CAPTION).markup
        page = BeautifulSoup(markup, "html.parser")
        assert not page.select("input[type=radio]")
        assert page.figure["data-mode"] == ("absolute" if absolute else "signed")
        assert len(page.select(".frame")) == 2


def test_maps_that_are_not_square_keep_their_shape():
    film = np.zeros((4, 20, 40), dtype=np.float32)
    markup = stage_slider(PICTURE, {"a": film}, STAGES, caption=CAPTION).markup
    height, width, _ = decoded(BeautifulSoup(markup, "html.parser").select("img")[1]["src"]).shape
    assert width / len(film) / height == pytest.approx(2, rel=0.1)


def test_wrong_texts_and_methods_are_named():
    with pytest.raises(ValueError, match="notes of 'Gradient' are 3; give 4"):
        stage_slider(PICTURE, ABSOLUTE, STAGES, caption="c", notes={"Gradient": ["", "", ""]})
    with pytest.raises(ValueError, match=r"unknown method 'Grad'.*Gradient"):
        stage_slider(PICTURE, ABSOLUTE, STAGES, caption="c", notes={"Grad": [""] * 4})
    with pytest.raises(ValueError, match="differ in methods"):
        stage_slider(
            PICTURE, ABSOLUTE, STAGES, caption="c", signed={"Gradient": SIGNED["Gradient"]}
        )
    with pytest.raises(ValueError, match="absolute pictures, signed ones, or both"):
        stage_slider(PICTURE, None, STAGES, caption="c")


def test_a_limit_is_kept_or_refused():
    rng = np.random.default_rng(0)
    noise = {name: rng.random((4, 64, 64)) for name in ABSOLUTE}
    wide = len(stage_slider(PICTURE, noise, STAGES, caption=CAPTION).markup)
    limit = wide // 2
    assert len(stage_slider(PICTURE, noise, STAGES, caption=CAPTION, limit=limit).markup) <= limit
    with pytest.raises(ValueError, match="do not fit into 5000 characters"):
        stage_slider(PICTURE, noise, STAGES, caption=CAPTION, limit=5000)


# ---- in a browser ------------------------------------------------------------------------------

SHOWN = """() => [...document.querySelectorAll('figure')].map(box => ({
  stage: getComputedStyle(box).getPropertyValue('--stage').trim(),
  at: [...box.querySelectorAll('.frame img')].map(node => getComputedStyle(node).objectPosition),
  seen: [...box.querySelectorAll('.frame')].filter(n => n.offsetWidth).map(n => n.className),
  filters: [...box.querySelectorAll('.frame')].filter(n => n.offsetWidth)
    .map(n => getComputedStyle(n).filter),
  says: box.querySelector('output').innerText,
  states: [...box.querySelectorAll('.state')].map(node => node.textContent),
  notes: [...box.querySelectorAll('.note')].map(node => node.textContent),
  still: box.querySelector('.still').offsetHeight > 0,
  controls: box.querySelector('input[type=range]').offsetHeight > 0}))"""


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """A page from disk with two sliders."""
    undefined = ABSOLUTE | {"Grad-CAM": levels(0.2, 0, np.nan, 0.8)}
    notes = {"Gradient": [f"kappa {n}" for n in range(4)]}
    first = stage_slider(PICTURE, undefined, STAGES, signed=SIGNED, caption=CAPTION, notes=notes)
    second = stage_slider(PICTURE, ABSOLUTE, STAGES, caption="The second one, of the same.")
    path = tmp_path_factory.mktemp("page") / "page.html"
    head = (
        "<!doctype html><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
    )
    path.write_text(f"{head}<title>t</title>{first.markup}{second.markup}", "utf8")
    return path


@pytest.mark.browser
def test_the_slider_moves_its_own_maps_by_keyboard(browser, page_file):
    context = browser.new_context(viewport={"width": 390, "height": 800})
    page = context.new_page()
    faults, requests = [], []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(page_file.as_uri())
    before = page.evaluate(SHOWN)
    assert [one["stage"] for one in before] == ["0", "0"]
    assert [one["still"] for one in before] == [False, False]
    assert all(one["controls"] for one in before)
    page.get_by_label("Stage").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    first, second = page.evaluate(SHOWN)
    assert second == before[1]
    assert first["says"] == "randomized down to mixed_7c (2 of 3)"
    assert page.get_by_label("Stage").first.get_attribute("aria-valuetext") == first["says"]
    places = [float(at.partition("%")[0]) for at in first["at"]]
    assert places == pytest.approx([200 / 3] * 4, rel=1e-3)
    assert first["seen"] == ["frame absolute"] * 2
    assert all("absolute" in name for name in first["filters"])
    assert first["states"] == ["", "undefined"]
    assert first["notes"] == ["kappa 2"]
    page.get_by_label("signed").check()
    first, _ = page.evaluate(SHOWN)
    assert first["seen"] == ["frame signed"] * 2
    assert first["states"] == ["", ""]
    page.keyboard.press("Tab")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert faults == []
    assert [url for url in requests if not url.startswith(("data:", page_file.as_uri()))] == []
    context.close()


FOCUS = """() => {
  const node = document.activeElement, style = getComputedStyle(node);
  return {type: node.type, value: node.value, says: node.getAttribute('aria-valuetext'),
          outline: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2};
}"""


@pytest.mark.browser
@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_no_pointer_is_needed_and_nothing_moves_by_itself(browser, page_file, motion):
    with contextlib.closing(browser.new_context(reduced_motion=motion)) as context:
        page = context.new_page()
        page.goto(page_file.as_uri())
        page.keyboard.press("Tab")
        seen = page.evaluate(FOCUS)
        assert (seen["type"], seen["outline"]) == ("range", True)
        last = len(STAGES)
        keys = {"End": last, "ArrowLeft": last - 1, "ArrowDown": last - 2, "Home": 0}
        for key, stage in (keys | {"ArrowUp": 1, "ArrowRight": 2}).items():
            page.keyboard.press(key)
            seen, shown = page.evaluate(FOCUS), page.evaluate(SHOWN)[0]
            assert (int(seen["value"]), shown["stage"]) == (stage, str(stage)), key
            assert seen["says"] == shown["says"]
            assert (STAGES[stage - 1] if stage else "original") in seen["says"]
            assert page.evaluate("document.getAnimations().length") == 0
        page.keyboard.press("Tab")
        assert page.evaluate(FOCUS)["type"] == "radio"
        page.keyboard.press("ArrowRight")
        seen = page.evaluate(FOCUS)
        assert (seen["value"], seen["outline"]) == ("signed", True)
        assert page.evaluate(SHOWN)[0]["seen"] == ["frame signed"] * 2
        # The next stop is the second slider, and then the page's end.
        page.keyboard.press("Tab")
        assert page.evaluate(FOCUS)["type"] == "range"
        page.keyboard.press("End")
        assert [one["stage"] for one in page.evaluate(SHOWN)] == ["2", str(last)]


@pytest.mark.browser
def test_a_screen_reader_hears_each_value_once_and_whose_it_is(browser, page_file):
    with contextlib.closing(browser.new_context()) as context:
        page = context.new_page()
        page.goto(page_file.as_uri())
        for box in page.locator("figure").all():
            slider = box.get_by_role("slider", name="Stage")
            told = slider.get_attribute("aria-describedby")
            assert page.locator(f"#{told}").inner_text() == box.locator("figcaption").inner_text()
            assert box.locator("output").get_attribute("aria-live") == "off"


@pytest.mark.browser
@pytest.mark.parametrize("mode", ["absolute", "signed"])
def test_the_colours_on_screen_are_those_of_the_figures(browser, page_file, mode):
    context = browser.new_context(viewport={"width": 800, "height": 800})
    page = context.new_page()
    page.goto(page_file.as_uri())
    if mode == "signed":
        page.get_by_label("signed").check()
    film = (ABSOLUTE if mode == "absolute" else SIGNED)["Gradient"]
    colours = mpl.colormaps["magma" if mode == "absolute" else "RdBu_r"]
    for stage, picture in enumerate(film):
        page.get_by_label("Stage").first.fill(str(stage))
        tile = page.locator(f".frame.{mode}").first
        shot = np.asarray(Image.open(io.BytesIO(tile.screenshot())).convert("RGB"), dtype=float)
        value = picture.mean() if mode == "absolute" else (picture.mean() + 1) / 2
        wanted = 255 * np.array(colours(float(value))[:3])
        middle = shot[20:-20, 20:-20].mean((0, 1))
        np.testing.assert_allclose(middle, wanted, atol=8)
    context.close()


@pytest.mark.browser
def test_without_javascript_the_original_is_shown_and_a_text_says_so(browser, page_file):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    note = page.locator(".still").first
    assert note.is_visible()
    assert "needs JavaScript" in note.inner_text()
    assert not page.locator("input[type=range]").first.is_visible()
    assert page.locator(".frame.absolute").first.is_visible()
    assert page.locator("output").first.inner_text() == "original: the trained network"
    context.close()
