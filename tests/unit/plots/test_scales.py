"""Figures on scales and rankings: what is drawn is what the tables say."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle
from saliency_sanity.plots.rankings import preparation_dots, rank_slopes, score_ranking
from saliency_sanity.plots.scales import edge_chart, scale_heatmap
from saliency_sanity.plots.stages import kappa_heatmap

METHODS = {"One": 0.3, "Noise": 0.0, "Edges": 1.0}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def scales():
    rows = []
    for order, starts in {"top_down": 1, "bottom_up": 0}.items():
        for position, stage in enumerate(("s1", "s2")):
            for place, layer in enumerate(("low", "high")):
                rows.append(
                    {
                        "order": order,
                        "stage": stage,
                        "position": position,
                        "layer": layer,
                        "place": place,
                        "random": position == 1 or place == starts,
                        "quantity": "norms",
                        "value": np.nan if (position, place) == (0, 1) else 0.9 - position,
                        "low": 0.0,
                        "high": 1.0,
                        "chance": 0.0,
                    }
                )
    return pd.DataFrame(rows)


def test_cells_are_the_values_and_random_layers_are_framed():
    rows = scales()
    figure = scale_heatmap(rows, "norms", title="so")
    assert figure._suptitle.get_text() == "so"
    for axes, order in zip(figure.axes[:2], ("top_down", "bottom_up"), strict=True):
        own = rows[rows["order"] == order]
        drawn = axes.images[0].get_array().filled(np.nan)
        expected = own.pivot(index="position", columns="place", values="value")
        np.testing.assert_array_equal(drawn, expected)
        assert axes.images[0].get_clim() == (-1, 1)
        frames = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        assert len(frames) == own["random"].sum()
        texts = [text.get_text() for text in axes.texts]
        assert sorted(texts) == sorted(["0.9"] + ["−0.1"] * 2)
    assert [t.get_text() for t in figure.axes[1].get_xticklabels()] == ["low", "high"]


def test_the_edge_has_its_lines_bands_and_chance():
    rows = pd.DataFrame(
        [
            {"quantity": q, "stage": s, "label": f"{p}0%", "position": p, "value": 0.5 - p / 10}
            | {"low": 0.2, "high": 0.8, "chance": 0.25 if q == "top" else 0.0}
            for q in ("carried", "influence", "top")
            for p, s in enumerate(("s1", "s2", "s3"))
        ]
    )
    words = {"carried": "carry", "influence": "same", "top": "large"}
    figure = edge_chart(rows, words, titles={"rank": "ranks", "share": "shares"})
    left, right = figure.axes
    lines = {line.get_label(): line for axes in figure.axes for line in axes.lines}
    for word in words.values():
        np.testing.assert_allclose(lines[word].get_ydata(), [0.5, 0.4, 0.3])
    dotted = [line for line in right.lines if line.get_linestyle() == ":" and len(line.get_xdata())]
    assert [line.get_ydata().tolist() for line in dotted] == [[0.25] * 3]
    assert (left.get_title(), right.get_title()) == ("ranks", "shares")
    assert len(left.collections) == 2


def scored(metrics=("a", "b")):
    return pd.DataFrame(
        [
            {"metric": metric, "method": method, "value": value + i / 10}
            | {"low": value - 0.1, "high": value + 0.1}
            for i, metric in enumerate(metrics)
            for method, value in METHODS.items()
        ]
    )


def test_the_lowest_score_is_on_top_and_the_control_has_a_line():
    figure = score_ranking(scored(), ["a", "b"], control="Noise", controls=["Noise", "Edges"])
    left, right = figure.axes
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names == ["Edges", "One", "Noise"]
    styles = [label.get_style() for label in left.get_yticklabels()]
    assert styles == ["italic", "normal", "italic"]
    for axes, shift in ((left, 0.0), (right, 0.1)):
        line, *points = axes.lines
        assert line.get_xdata() == [shift, shift]
        assert [point.get_xdata()[0] for point in points] == [
            METHODS[name] + shift for name in names
        ]


def test_slopes_go_from_rank_to_rank():
    ranks = {
        "first": {"One": 2, "Noise": 1, "Edges": 3, "Gone": np.nan},
        "second": {"One": 1, "Noise": 3, "Edges": 2, "Gone": 4},
    }
    figure = rank_slopes(ranks, control="Noise", controls=["Noise", "Edges"], title="so")
    (axes,) = figure.axes
    drawn = [[*line.get_ydata()] for line in axes.lines]
    assert drawn == [[2, 1], [1, 3], [3, 2]]
    assert max(line.get_linewidth() for line in axes.lines) == axes.lines[1].get_linewidth()
    assert [text.get_text() for text in axes.texts] == ["One"] * 2 + ["Noise"] * 2 + ["Edges"] * 2
    low, high = axes.get_ylim()
    assert low > high, "the first rank is on top"


def test_every_preparation_has_its_marks():
    words = {"a": "plain", "b": "scaled", "c": "cut"}
    figure = preparation_dots(scored("abc"), words, control="Noise", controls=["Noise"])
    (axes,) = figure.axes
    lines = {line.get_label(): line.get_xdata() for line in axes.lines}
    assert set(lines) == set(words.values())
    for i, label in enumerate(words.values()):
        expected = [METHODS[name] + i / 10 for name in ("Edges", "One", "Noise")]
        np.testing.assert_allclose(lines[label], expected)


def test_kappas_of_both_orders_share_their_rows():
    rows = pd.DataFrame(
        [
            {"order": order, "method": method, "stage": f"{order}{p}", "position": p}
            | {"kappa": value - p / 10, "verdict": "above" if value > 0.2 else "below"}
            for order in ("down", "up")
            for method, value in METHODS.items()
            for p in (0, 1)
        ]
    )
    rows.loc[0, "kappa"] = np.nan
    figure = kappa_heatmap(rows, controls=["Noise"], title="so")
    left, right = figure.axes[:2]
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names == ["Noise", "One", "Edges"]
    assert (left.get_title(), right.get_title()) == ("Down", "Up")
    np.testing.assert_allclose(right.images[0].get_array(), [[0, -0.1], [0.3, 0.2], [1, 0.9]])
    assert np.isnan(left.images[0].get_array().filled(np.nan)).sum() == 1
    assert len(left.texts) == 5
    weights = {text.get_text(): text.get_weight() for text in right.texts}
    assert weights["1.0"] == "bold"
    assert weights["−0.1"] == "normal"
