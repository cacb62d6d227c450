"""Charts of input bias draw the table's numbers, and all of them."""

import itertools

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("agg")
import matplotlib.pyplot as plt
from made.figures import assert_readable
from matplotlib.text import Text
from saliency_sanity.plots.input_bias import (
    percentile_chart,
    response_chart,
    share_chart,
    value_chart,
)

METHODS = ["one", "two", "three"]
PLACES = [0.0, 0.25, 0.5]
BLIND = {"one": 0.0, "two": 0.5}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def curves(methods=METHODS, across="at"):
    rows = pd.DataFrame(itertools.product(methods, PLACES), columns=["method", across])
    rows["value"] = 0.5 + np.arange(len(rows)) / 10
    return rows.assign(low=rows["value"] - 0.2, high=rows["value"] + 0.3)


def panels(methods=METHODS):
    return pd.concat([curves(methods).assign(panel=name) for name in ("times input", "without")])


def shares(methods=METHODS, zeros=("black", "mid-grey", "white")):
    rows = pd.DataFrame(itertools.product(methods, zeros), columns=["method", "zero"])
    rows["value"] = 0.1 + np.arange(len(rows)) / 20
    rows = rows.assign(low=rows["value"] - 0.04, high=rows["value"] + 0.03)
    return rows.assign(area=0.3, area_low=0.25, area_high=0.33)


def shown(figure):
    return [axes for axes in figure.axes if axes.get_visible() and axes.get_title("left")]


def words(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def line(axes, label):
    return next(line for line in axes.lines if line.get_label() == label)


def band(axes, at):
    """Low and high of a band at places, from the outline that is drawn."""
    corners = np.concatenate([path.vertices for path in axes.collections[at].get_paths()])
    return {
        place: (ys.min(), ys.max())
        for place in PLACES
        if len(ys := corners[corners[:, 0] == place, 1])
    }


def test_a_method_has_a_panel_with_its_values():
    rows = curves([*METHODS, "four", "five"])
    figure = response_chart(rows, across="|x| in units", columns=2)
    assert [axes.get_title("left") for axes in shown(figure)] == [*METHODS, "four", "five"]
    for axes in shown(figure):
        own = rows[rows["method"] == axes.get_title("left")]
        drawn = line(axes, "mean with its interval")
        assert drawn.get_xdata().tolist() == own["at"].tolist()
        assert drawn.get_ydata().tolist() == own["value"].tolist()
        assert list(line(axes, "average of the map").get_ydata()) == [1, 1]
        expected = {at: pytest.approx((a, b)) for at, a, b in own[["at", "low", "high"]].to_numpy()}
        assert band(axes, 0) == expected
    assert len({axes.get_ylim() for axes in shown(figure)}) == 1
    assert figure.axes[0].get_ylim()[0] == 0
    assert "|x| in units" in {text.get_text() for text in figure.findobj(Text)}
    assert words(figure) == ["average of the map", "mean with its interval"]
    assert_readable(figure)


def test_the_lowest_panel_of_each_column_has_numbers():
    figure = response_chart(curves(), across="|x|", columns=2)
    figure.draw_without_rendering()
    numbered = [
        any(label.get_visible() and label.get_text() for label in axes.get_xticklabels())
        for axes in shown(figure)
    ]
    assert numbered == [False, True, True]


@pytest.mark.parametrize("methods", [["one"], METHODS, [f"method {k}" for k in range(9)]])
def test_any_number_of_methods_is_drawn_readably(methods):
    figure = response_chart(curves(methods), across="|x| in the network's units")
    assert len(shown(figure)) == len(methods)
    assert_readable(figure)


def test_without_an_interval_there_is_a_line_alone():
    rows = curves(["one"])
    rows.loc[2, ["low", "high"]] = np.nan
    axes = shown(response_chart(rows, across="|x|"))[0]
    assert list(band(axes, 0)) == PLACES[:2]
    assert len(line(axes, "mean with its interval").get_ydata()) == 3


def test_colours_have_lines_and_the_blind_one_is_marked():
    rows = panels()
    figure = value_chart(rows, BLIND)
    charts = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in charts] == ["times input", "without"]
    for axes in charts:
        own = rows[rows["panel"] == axes.get_title()]
        for method in METHODS:
            drawn = line(axes, method)
            values = own.loc[own["method"] == method, "value"]
            assert drawn.get_ydata().tolist() == values.tolist()
            assert drawn.get_xdata().tolist() == PLACES
        upright = {
            mark.get_color(): mark.get_xdata()[0]
            for mark in axes.lines
            if mark.get_linestyle() == ":" and len(mark.get_xdata())
        }
        expected = {line(axes, method).get_color(): zero for method, zero in BLIND.items()}
        assert {colour: upright.get(colour) for colour in expected} == expected
        assert axes.get_ylim()[0] == 0
    assert words(figure) == [*METHODS, "zero of the network"]
    assert_readable(figure)


def test_lines_on_each_other_all_show():
    rows = panels()
    rows["value"] = 1.0
    axes = value_chart(rows, BLIND).axes[0]
    sizes = [line(axes, method).get_markersize() for method in METHODS]
    assert sizes == sorted(set(sizes), reverse=True)
    looks = {(line(axes, m).get_color(), line(axes, m).get_marker()) for m in METHODS}
    assert len(looks) == len(METHODS)


def test_the_ramp_of_colours_lies_on_the_axis():
    figure = value_chart(panels(["one"]), {"one": 0.5})
    figure.draw_without_rendering()
    strip = figure.axes[0].child_axes[0]
    image = strip.images[0]
    assert strip.get_xlim() == figure.axes[0].get_xlim()
    assert image.get_extent()[:2] == [0, 1]
    grey = image.to_rgba(image.get_array())[0, :, 0]
    assert (grey[0], grey[-1]) == (0, 1)
    assert (np.diff(grey) >= 0).all()


def test_a_method_may_lack_a_panel_and_a_value():
    rows = panels()
    rows = rows[(rows["panel"] == "without") | (rows["method"] != "two")]
    rows.loc[rows["method"] == "one", ["value", "low", "high"]] = np.nan
    figure = value_chart(rows, {})
    assert "two" not in [line.get_label() for line in figure.axes[0].lines]
    left, right = (line(axes, "three").get_markersize() for axes in figure.axes[:2])
    assert left == right > line(figure.axes[1], "two").get_markersize()


def test_a_blind_colour_belongs_to_a_line():
    with pytest.raises(ValueError, match="unknown method 'ten'"):
        value_chart(panels(), {"ten": 0.5})


def test_shares_stand_beside_the_area():
    rows = pd.concat(
        [shares().assign(panel="a"), shares().assign(panel="b", area=0.5, area_high=0.6)]
    )
    figure = share_chart(rows)
    assert [axes.get_title() for axes in figure.axes] == ["a", "b"]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == METHODS[::-1]
    for axes, area, high in zip(figure.axes, (0.3, 0.5), (0.33, 0.6), strict=True):
        assert list(line(axes, "share of the area").get_xdata()) == [area, area]
        span = next(patch for patch in axes.patches if patch.get_label() == "interval of the area")
        assert span.get_extents().transformed(axes.transData.inverted()).x1 == pytest.approx(high)
        for k, zero in enumerate(("black", "mid-grey", "white")):
            own = rows[(rows["panel"] == axes.get_title()) & (rows["zero"] == zero)][::-1]
            drawn = line(axes, f"zero is {zero}")
            assert drawn.get_xdata().tolist() == own["value"].tolist()
            assert np.round(drawn.get_ydata()).tolist() == [0, 1, 2]
            ends = [path[:, 0].tolist() for path in axes.collections[k].get_segments()]
            assert ends == own[["low", "high"]].to_numpy().tolist()
    assert words(figure)[-3:] == ["zero is black", "zero is mid-grey", "zero is white"]
    assert figure.axes[0].get_xlim()[0] == 0
    assert_readable(figure)


def test_markers_of_one_row_lie_apart_within_it():
    axes = share_chart(shares(["one"], [f"{k}" for k in range(6)])).axes[0]
    at = [line(axes, f"zero is {k}").get_ydata()[0] for k in range(6)]
    assert at == sorted(at, reverse=True)
    assert max(map(abs, at)) < 0.5
    assert min(-np.diff(at)) > 0.1


def test_shares_may_be_undefined_and_have_one_panel():
    rows = shares(["one"], ["black"])
    rows[["value", "low", "high"]] = np.nan
    figure = share_chart(rows)
    assert len(figure.axes) == 1
    assert words(figure) == ["interval of the area", "share of the area", "zero is black"]
    assert_readable(figure)


def test_markers_may_be_of_another_kind_with_a_title_and_controls():
    rows = shares(zeros=("trained", "random")).rename(columns={"zero": "network"})
    rows["high"] += 2
    figure = share_chart(
        rows, by="network", told="{} network", controls=["two"], title="2 of 3 methods move"
    )
    assert words(figure)[-2:] == ["trained network", "random network"]
    (axes,) = figure.axes
    assert figure.subfigs[0].get_suptitle() == "2 of 3 methods move"
    styles = {label.get_text(): label.get_style() for label in axes.get_yticklabels()}
    assert styles == {"one": "normal", "two": "italic", "three": "normal"}
    assert axes.get_xlim()[1] <= 1.02, "no share is above 1"
    assert_readable(figure)


def test_a_panel_has_one_area():
    rows = shares()
    rows.loc[0, "area"] = 0.4
    with pytest.raises(ValueError, match=r"panel '' has 2 shares of the area \[0.4, 0.3\]"):
        share_chart(rows)


def test_percentiles_have_lines():
    rows = curves(across="q").assign(q=lambda table: 80 + 36 * table["q"])
    figure = percentile_chart(rows)
    (axes,) = figure.axes
    for method in METHODS:
        own = rows[rows["method"] == method]
        assert line(axes, method).get_xdata().tolist() == [80, 89, 98]
        assert line(axes, method).get_ydata().tolist() == own["value"].tolist()
    assert list(line(axes, "no preference").get_ydata()) == [1, 1]
    assert words(figure) == ["no preference", *METHODS]
    assert axes.get_ylim()[0] == 0
    assert all(tick == round(tick) for tick in axes.get_xticks())
    assert_readable(figure)


def test_more_lines_than_can_be_told_apart_are_refused():
    many = [f"{k}" for k in range(7)]
    for chart in (
        lambda: value_chart(panels(many), {}),
        lambda: share_chart(shares(["one"], many)),
        lambda: percentile_chart(curves(many, "q")),
    ):
        with pytest.raises(ValueError, match="7 lines in one panel; 6 can be told apart"):
            chart()
