"""Ceilings in figures: they stand where the table says, and one cannot tell is to be seen."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from saliency_sanity.book.scoreboard.chart import STANDINGS
from saliency_sanity.book.scoreboard.html import _MARKS
from saliency_sanity.experiments.outcome import stage_table
from saliency_sanity.plots.ranking import kappa_ranking
from saliency_sanity.plots.stages import independent_boxes, kappa_curves, similarity_curves
from saliency_sanity.plots.style import VERDICTS
from saliency_sanity.verdict.reading import by_image, read

METRIC, STAGES, IMAGES = "spearman_abs", ("head", "stem"), 8
TOPS = {"High": 0.9, "Low": 0.02}


def square(kappa, seed, images=IMAGES):
    values = 0.02 * np.random.default_rng(seed).standard_normal((2, images, images))
    values[:, np.arange(images), np.arange(images)] += kappa
    return values


@pytest.fixture(scope="module")
def squares():
    return {(m, METRIC, s): square(0.0, i) for i, m in enumerate(TOPS) for s in STAGES}


@pytest.fixture(scope="module")
def readings(squares):
    tops = {m: {"arithmetic": square(top, 9)[:1]} for m, top in TOPS.items()}
    return stage_table({key: read(one, ceiling=tops[key[0]]) for key, one in squares.items()})


def lines(axes):
    handles, labels = axes.get_legend_handles_labels()
    found = zip(handles, labels, strict=True)
    return [handle for handle, label in found if label.startswith("ceiling")]


def test_the_ceiling_of_a_panel_is_the_tables(readings):
    figure = similarity_curves(readings, [METRIC])
    for axes, (_, rows) in zip(figure.axes, readings.groupby("method", sort=False), strict=True):
        (line,) = lines(axes)
        assert set(line.get_ydata()) == set(rows["ceiling_similarity"])
        words = figure.legends[0].get_texts()
    assert {"ceiling", "cannot tell"} <= {text.get_text() for text in words}


def test_curves_have_the_highest_and_the_lowest(readings):
    axes = kappa_curves(readings, [METRIC], margin=0.1).axes[0]
    ends = {
        float(y) for line in axes.lines if line.get_linestyle() == "-." for y in line.get_ydata()
    }
    assert ends == {readings["ceiling"].min(), readings["ceiling"].max()}
    # Of controls there is nothing to be read.
    axes = kappa_curves(readings, [METRIC], margin=0.1, controls=["Low"]).axes[0]
    (line,) = lines(axes)
    assert set(line.get_ydata()) == {readings["ceiling"].max()}


def test_boxes_and_ranks_have_it_too(readings, squares):
    measured = pd.concat(
        by_image(one).assign(method=m, metric=k, stage=s, position=STAGES.index(s))
        for (m, k, s), one in squares.items()
    )
    figure = independent_boxes(measured, readings, [METRIC])
    high, low = (axes.patches for axes in figure.axes)
    assert not any(patch.get_hatch() for patch in high)
    assert any(patch.get_hatch() for patch in low), "to be told without colours"
    assert all(lines(axes) for axes in figure.axes)
    last = readings[readings["stage"] == STAGES[-1]]
    axes = kappa_ranking(last, [METRIC], margin=0.1, words={}).axes[0]
    (marks,) = lines(axes)
    assert set(marks.get_xdata()) == set(last["ceiling"])


def test_every_verdict_is_told_apart_without_colours():
    markers = [marker for _, marker in VERDICTS.values()]
    assert len(set(markers)) == len(markers)
    assert len({_MARKS[marker] for _, marker, _ in STANDINGS.values()}) == len(STANDINGS)

    def luminance(colour):
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)
        ]
        return np.dot([0.2126, 0.7152, 0.0722], linear)

    own = luminance(VERDICTS["cannot tell"][0])
    for verdict, (colour, _) in VERDICTS.items():
        ratio = (luminance(colour) + 0.05) / (own + 0.05)
        assert verdict == "cannot tell" or ratio > 1.5, "darker, too, than every other"
