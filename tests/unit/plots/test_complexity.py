"""Figures of ranks, of rises beside noise, and of histograms."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from saliency_sanity.plots.complexity import histogram_chart, rank_chart, rise_chart
from saliency_sanity.plots.style import VERDICTS

COLUMNS = {"kappa": (True, "kappa"), "emprt": (False, "eMPRT")}


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def scores():
    return pd.DataFrame(
        {
            "method": ["one", "two", "three"],
            "verdict": ["below", "above", "inconclusive"],
            "kappa": [0.1, 0.9, 0.5],
            "emprt": [0.0, 0.4, np.nan],
            "emprt_low": [-0.1, 0.3, np.nan],
            "emprt_high": [0.1, 0.5, np.nan],
            "flip_emprt": [True, True, None],
        }
    )


def test_places_are_the_order_of_each_score():
    axes = rank_chart(scores(), COLUMNS, title="x", controls=["two"]).axes[0]
    points = [line for line in axes.lines if len(line.get_xdata()) == 1]
    found = {(line.get_xdata()[0], line.get_color()): line.get_ydata()[0] for line in points}
    colour = {verdict: style[0] for verdict, style in VERDICTS.items()}
    assert found == {
        (0, colour["below"]): 0,
        (0, colour["inconclusive"]): 1,
        (0, colour["above"]): 2,
        (1, colour["above"]): 0,
        (1, colour["below"]): 1,
    }
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["kappa", "eMPRT"]
    italics = {text.get_text() for text in axes.texts if text.get_style() == "italic"}
    assert italics == {"two"}
    thick = [line for line in axes.lines if line.get_linewidth() == 3]
    assert len(thick) == 2


def test_rises_stand_above_those_of_noise():
    null = pd.DataFrame(
        [("a", "b", 0.5, 0.4, 0.6), ("b", "a", -0.3, -0.4, -0.2), ("a", "a", 0.0, 0.0, 0.0)],
        columns=["before", "after", "value", "low", "high"],
    )
    figure = rise_chart(scores(), null, title="x", published={"two": 0.7})
    upper, lower = figure.axes
    assert [tick.get_text() for tick in lower.get_yticklabels()] == ["b → a", "a → b"]
    rings = [line for line in upper.lines if line.get_markerfacecolor() == "none"]
    assert [line.get_xdata()[0] for line in rings] == [0.7]
    assert [tick.get_text() for tick in upper.get_yticklabels()] == ["three", "one", "two"]


def test_histograms_are_shares_of_all_values():
    values = np.random.default_rng(0).normal(size=500)
    figure = histogram_chart({"x": (values, values**3, 1.0, 2.0)}, bins=20)
    (axes,) = [axes for axes in figure.axes if axes.get_visible()]
    steps = axes.patches
    assert [step.get_data().values.sum() for step in steps] == pytest.approx([1, 1])
    assert axes.get_title() == "x\nentropy 1.00, then 2.00"
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["before: trained", "after: random"]
