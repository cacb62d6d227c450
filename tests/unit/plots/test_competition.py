import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made.figures import assert_readable
from saliency_sanity.plots.competition import removal_chart, sums_chart, survival_chart

METHODS = ["one", "two", "three"]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def table():
    rows = []
    for m, method in enumerate(METHODS):
        for quantity in ("survivors", "overlap"):
            for position, stage in enumerate(("original", "top", "bottom")):
                if quantity == "overlap" and not position:
                    continue
                value = 0.1 * (m + 1) + 0.01 * position
                rows.append(
                    {
                        "method": method,
                        "quantity": quantity,
                        "stage": stage,
                        "position": position,
                        "value": value,
                        "low": value - 0.05,
                        "high": value + 0.05,
                    }
                )
    return pd.DataFrame(rows)


def test_lines_are_the_values_and_chance_is_a_level():
    rows = table()
    title = "Chance is what is left"
    figure = survival_chart(rows, {"survivors": 0.2}, logarithmic=["survivors"], title=title)
    assert figure.get_suptitle() == title
    assert_readable(figure)
    first, second = figure.axes[:2]
    for axes, quantity in ((first, "survivors"), (second, "overlap")):
        lines = {line.get_label(): line for line in axes.lines}
        assert set(lines) - {"chance"} == set(METHODS)
        for method in METHODS:
            chosen = rows[(rows["method"] == method) & (rows["quantity"] == quantity)]
            assert lines[method].get_ydata().tolist() == chosen["value"].tolist()
            # Beside each other, each nearer to its own stage than to any other.
            across = [round(x) for x in lines[method].get_xdata()]
            assert across == chosen["position"].tolist()
        starts = [lines[method].get_xdata()[0] for method in METHODS]
        assert sorted(set(starts)) == starts
        assert len({(line.get_marker(), line.get_color()) for line in axes.lines}) == len(
            axes.lines
        )
    assert [line.get_ydata() for line in first.lines if line.get_label() == "chance"] == [[0.2] * 2]
    assert "chance" not in [line.get_label() for line in second.lines]
    assert (first.get_yscale(), second.get_yscale()) == ("log", "linear")
    names = [label.get_text() for label in second.get_xticklabels()]
    assert names == ["original", "top", "bottom"]


def test_a_methods_own_chance_is_a_thin_line_in_its_colour_that_the_legend_names():
    rows = table().assign(chance=lambda all: all["value"] / 2)
    rows.loc[rows["quantity"] == "survivors", "chance"] = float("nan")
    figure = survival_chart(rows, {})
    first, second = figure.axes[:2]
    assert len(first.lines) == len(METHODS)
    drawn = [line for line in second.lines if line.get_label().startswith("_")]
    named = [line for line in second.lines if line.get_label() in METHODS]
    assert [line.get_color() for line in drawn] == [line.get_color() for line in named]
    for line, whole in zip(drawn, named, strict=True):
        assert line.get_ydata() == pytest.approx(whole.get_ydata() / 2)
        assert line.get_linewidth() < whole.get_linewidth()
    (entries,) = figure.legends
    said = [text.get_text() for text in entries.get_texts()]
    assert sum("chance of a method" in text for text in said) == 1


def test_quantities_are_headed_by_their_titles():
    quantities = ["survivors", "mass_kept", "overlap", "spearman_union", "my_own"]
    one = table().query("quantity == 'survivors'")
    figure = survival_chart(pd.concat([one.assign(quantity=name) for name in quantities]), {})
    titles = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    assert titles == ["Survivors", "Mass kept", "Overlap", "Ranks where either is kept", "My_own"]


def test_more_methods_than_can_be_told_apart_are_refused():
    rows = pd.concat([table().assign(method=f"{i}") for i in range(7)])
    with pytest.raises(ValueError, match="7 lines in one panel; 6 can be told apart"):
        survival_chart(rows, {})


def test_sums_stand_against_their_logits():
    rows = pd.DataFrame({"kind": ["a", "a", "b"], "logit": [1.0, 3.0, 2.0], "sum": [2.0, 4.0, 5.0]})
    figure = sums_chart(rows, {"b": "second", "a": "first"})
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_visible()}
    assert list(panels) == ["second", "first"]
    assert figure.get_label() == "second. first."
    equal, points = panels["first"].lines
    assert np.array_equal(equal.get_xdata(), equal.get_ydata())
    assert points.get_xdata().tolist() == [1, 3]
    assert points.get_ydata().tolist() == [2, 4]


def test_both_ways_of_removal_have_a_panel():
    rows = table().query("quantity == 'survivors'").rename(columns={"position": "share"})
    both = pd.concat([rows.assign(way=way) for way in ("deleted", "inserted")])
    found = {"deleted": "the curves fall", "inserted": "the curves rise"}
    figure = removal_chart(both, found)
    assert [axes.get_title() for axes in figure.axes] == list(found.values())
    assert figure.get_label() == "the curves fall. the curves rise."
    assert_readable(figure)
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "share of the pixels deleted",
        "share of the pixels inserted",
    ]
    for axes in figure.axes:
        assert [line.get_label() for line in axes.lines] == METHODS
