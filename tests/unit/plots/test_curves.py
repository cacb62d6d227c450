"""Small multiples: ours and the authors' are drawn where the table has them, and can be read."""

from itertools import combinations, pairwise

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("agg")
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.text import Text
from saliency_sanity.experiments.outcome import stage_table
from saliency_sanity.plots.curves import against_published, method_curves
from saliency_sanity.plots.style import VERDICTS
from saliency_sanity.verdict.reading import read

METRICS = ["spearman_abs", "hog"]
STAGES = [f"block_{place}" for place in range(17)]
LEFT = {"Gradient": 0.0, "Guided backpropagation": 0.9, "Competitive integrated gradients": 0.3}
CONTROL = "Sobel edges"
HEADS = [
    "Gradient", "Guided backpropagation", "Competitive\nintegrated gradients", CONTROL
]  # fmt: skip
PIXELS = 736


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def square(rng, level, images=12):
    values = 0.2 + 0.02 * rng.standard_normal((2, images, images))
    return values + level * 0.8 * np.eye(images)


@pytest.fixture(scope="module")
def readings():
    rng = np.random.default_rng(0)
    found = {
        (method, metric, stage): read(square(rng, 1 - (1 - left) * (place + 1) / len(STAGES)))
        for method, left in {CONTROL: 1.0, **LEFT}.items()
        for metric in METRICS
        for place, stage in enumerate(STAGES)
    }
    rows = stage_table(found)
    theirs = (rows["method"] == "Gradient") & (rows["position"] != 3)
    return rows.assign(published=(rows["similarity"] - 0.25).where(theirs))


def drawn(axes, label):
    handles, labels = axes.get_legend_handles_labels()
    return [handle for handle, own in zip(handles, labels, strict=True) if own == label]


def panels(figure):
    return {
        axes.get_title(loc="left").replace("\n", " "): axes
        for axes in figure.axes
        if axes.get_visible()
    }


def rows_of(readings, method, metric=METRICS[0]):
    rows = readings[(readings["method"] == method) & (readings["metric"] == metric)]
    return rows.sort_values("position")


def test_every_method_has_a_panel_the_least_changed_first_and_controls_last(readings):
    figure = method_curves(
        readings.sample(frac=1, random_state=0), METRICS[0], margin=0.1, controls=[CONTROL]
    )
    ordered = sorted(LEFT, key=LEFT.get, reverse=True)
    assert list(panels(figure)) == [*ordered, CONTROL]
    styles = [axes.title.get_style() for axes in figure.axes]
    assert set(styles) == {"normal"}  # the centred titles are empty
    for method, axes in panels(figure).items():
        rows = rows_of(readings, method)
        wanted = VERDICTS[rows["verdict"].iloc[-1]]
        (line,) = [one for one in axes.lines if len(one.get_xdata()) == len(STAGES) + 1]
        np.testing.assert_allclose(line.get_ydata(), [1, *rows["similarity"]])
        (mark,) = [one for one in axes.lines if one.get_marker() in {*"soDX"}]
        assert (mark.get_color(), mark.get_marker()) == wanted
        assert line.get_color() not in {colour for colour, _ in VERDICTS.values()}
        (band,) = drawn(axes, "interval of kappa")
        edges = band.get_paths()[0].vertices
        for place, (_, row) in enumerate(rows.iterrows(), start=1):
            own = edges[edges[:, 0] == place, 1]
            kappas = (np.array([own.min(), own.max()]) - row["chance"]) / (1 - row["chance"])
            np.testing.assert_allclose(kappas, row[["low", "high"]].tolist())


def test_the_interval_is_seen_on_the_side_of_the_margin_that_the_verdict_names():
    """Chance that differs from network to network makes the mean similarity less sure than kappa.

    An interval of the mean may lie on the margin beside a marker that says it is decided.
    """
    maps = np.random.default_rng(1).normal(0, 0.01, (5, 12, 12))
    maps += np.array([0.0, 0.15, 0.3, 0.45, 0.6])[:, None, None]
    (reading,) = stage_table({("Gradient", METRICS[0], STAGES[0]): read(maps)}).to_dict("records")
    assert reading["verdict"] == "below"
    top = reading["chance"] + 0.1 * (1 - reading["chance"])
    assert reading["similarity_high"] > top
    for joined in (True, False):
        figure = method_curves(pd.DataFrame([reading]), METRICS[0], margin=0.1, joined=joined)
        (drawn_as,) = drawn(figure.axes[0], "interval of kappa")
        ends = drawn_as.get_paths()[0].vertices[:, 1]
        assert ends.max() < top


def test_the_authors_curve_is_dashed_where_it_is_known_and_nowhere_else(readings):
    figure = method_curves(readings, METRICS[0], margin=0.1)
    for method, axes in panels(figure).items():
        lines = drawn(axes, "the authors")
        assert bool(lines) == (method == "Gradient")
    (line,) = drawn(panels(figure)["Gradient"], "the authors")
    rows = rows_of(readings, "Gradient").dropna(subset="published")
    assert line.get_linestyle() == "--"
    np.testing.assert_allclose(line.get_xdata(), rows["position"] + 1)
    np.testing.assert_allclose(line.get_ydata(), rows["published"])
    without = method_curves(readings.drop(columns="published"), METRICS[0], margin=0.1)
    assert "the authors" not in {text.get_text() for text in without.legends[0].get_texts()}


@pytest.mark.parametrize("margin", [0.05, 0.2])
def test_the_dark_band_is_where_kappa_is_within_the_margin(readings, margin):
    figure = method_curves(readings, METRICS[0], margin=margin)
    for method, axes in panels(figure).items():
        (band,) = drawn(axes, f"margin: kappa within ±{margin:g}")
        edges = band.get_paths()[0].vertices
        for place, (_, row) in enumerate(rows_of(readings, method).iterrows(), start=1):
            own = edges[edges[:, 0] == place, 1]
            kappas = (np.array([own.min(), own.max()]) - row["chance"]) / (1 - row["chance"])
            np.testing.assert_allclose(kappas, [-margin, margin])


def test_blocks_randomized_alone_are_points_with_their_own_verdicts(readings):
    figure = method_curves(readings, METRICS[0], margin=0.1, joined=False)
    axes = panels(figure)["Gradient"]
    points = {
        x: (line.get_color(), line.get_marker())
        for line in axes.lines
        if line.get_label() in {"responds", "picture-driven", "inconclusive"}
        for x in line.get_xdata()
    }
    wanted = {row["position"] + 1: VERDICTS[row["verdict"]] for _, row in
              rows_of(readings, "Gradient").iterrows()}  # fmt: skip
    assert points == wanted
    assert len(set(wanted.values())) > 1
    (theirs,) = drawn(axes, "the authors")
    assert theirs.get_linestyle() == "None"


def letters(figure):
    """Heights of letters on a page, in pixels, and boxes of all texts that are shown."""
    figure.canvas.draw()
    scale = PIXELS / 72 / max(figure.get_figwidth(), PIXELS / 96)
    texts = [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and
        (text.axes is None or text.axes.get_visible())
    ]  # fmt: skip
    return {text: text.get_fontsize() * scale for text in texts}


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("kind", ["curves", "against"])
def test_letters_are_ten_pixels_on_a_page_and_names_apart(readings, count, kind):
    chosen = readings[readings["method"].isin([*LEFT, CONTROL][:count])]
    title = "With the whole network random, 5 of 18 methods stay picture-driven, 13 respond"
    if kind == "curves":
        figure = method_curves(chosen, METRICS[0], margin=0.1, title=title)
    else:
        figure = against_published(
            chosen.assign(published=chosen["similarity"]), METRICS, words={}, title=title
        )
    sizes = letters(figure)
    assert min(sizes.values()) >= 10
    heads = [text for text in sizes if text.get_text() in (figure.get_suptitle(), *HEADS)]
    assert len(heads) == 1 + len(panels(figure))
    boxes = [Text.get_window_extent(text) for text in heads]
    assert all(figure.bbox.x0 - 1 <= box.x0 < box.x1 <= figure.bbox.x1 + 1 for box in boxes)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    for axes in panels(figure).values():
        boxes = sorted((Text.get_window_extent(text) for text in axes.texts), key=lambda b: b.x0)
        assert all(one.x1 <= other.x0 for one, other in pairwise(boxes))
        named = [text.get_text() for text in axes.texts]
        assert not named or (named[0] == "original" and named[-1] == STAGES[-1])


def test_a_point_stands_where_both_have_it(readings):
    figure = against_published(readings, METRICS, words={"hog": "HOG"}, title="")
    assert list(panels(figure)) == ["Gradient"], "of others nothing was published"
    (axes,) = panels(figure).values()
    known = readings.dropna(subset="published")
    points = {
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]), line.get_marker())
        for line in axes.lines
        if line.get_marker() != "None"
    }
    shapes = dict(zip(METRICS, "os", strict=True))
    rows = known[["published", "similarity", "metric"]].itertuples(index=False)
    assert points == {(x, y, shapes[metric]) for x, y, metric in rows}
    spans = {
        tuple(part[:, 1])
        for lines in axes.collections
        if isinstance(lines, LineCollection)
        for part in lines.get_segments()
    }
    assert spans == set(
        known[["similarity_low", "similarity_high"]].itertuples(index=False, name=None)
    )
    (same,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    np.testing.assert_array_equal(same.get_xdata(), same.get_ydata())


def test_what_is_not_there_is_named(readings):
    with pytest.raises(ValueError, match="unknown metric 'hogg'"):
        method_curves(readings, "hogg", margin=0.1)
    with pytest.raises(ValueError, match="nothing was published"):
        against_published(readings.assign(published=np.nan), METRICS, words={})


def test_an_undefined_method_says_so(readings):
    gone = readings.copy()
    own = gone["method"] == "Gradient"
    names = ["similarity", "similarity_low", "similarity_high", "kappa"]
    gone.loc[own, names] = np.nan
    gone.loc[own, "verdict"] = "inconclusive"
    figure = method_curves(gone, METRICS[0], margin=0.1)
    texts = {axes: [text.get_text() for text in axes.texts] for axes in figure.axes}
    said = [name for name, axes in panels(figure).items() if "undefined" in texts[axes]]
    assert said == ["Gradient"]
    assert list(panels(figure))[-1] == "Gradient"
