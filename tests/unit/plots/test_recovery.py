import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from saliency_sanity.plots.recovery import (
    changes_chart,
    colour_picture,
    recovery_chart,
    recovery_grid,
)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_zero_is_mid_grey_and_limits_are_alike():
    maps = torch.zeros(2, 3, 4, 4)
    maps[0, 0, 0, 0], maps[0, 1, 1, 1] = 2, -2
    found = colour_picture(maps, q=100)
    assert found.shape == (2, 4, 4, 3)
    assert found[0, 0, 0].tolist() == [1, 0.5, 0.5]
    assert found[0, 1, 1].tolist() == [0.5, 0, 0.5]
    assert (found[1] == 0.5).all()


def test_the_grid_has_a_row_a_picture_and_a_column_a_map():
    pictures = torch.rand(2, 3, 5, 5)
    maps = {"one": torch.randn(2, 3, 5, 5), "two": torch.randn(2, 3, 5, 5)}
    figure = recovery_grid(pictures, maps, "found")
    assert [axes.get_title() for axes in figure.axes[:3]] == ["picture", "one", "two"]
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert len(shown) == 6
    np.testing.assert_allclose(shown[3], pictures[1].permute(1, 2, 0))
    np.testing.assert_allclose(shown[5], colour_picture(maps["two"])[1])
    assert figure.get_suptitle() == "found"


def table():
    rows = []
    for network in ("local", "dense"):
        for method in ("guided", "gradient"):
            for units in (64, 16):
                guided = method == "guided"
                value = 0.01 * units if guided else 0.02
                known = value + 0.01 if guided and network == "local" else np.nan
                rows.append((network, method, units, value, value - 0.1, value + 0.1, 0.03, known))
    columns = ["network", "method", "units", "value", "low", "high", "chance", "expected"]
    return pd.DataFrame(rows, columns=columns)


def test_lines_are_the_values_in_order_of_units_and_what_was_expected_is_dashed():
    figure = recovery_chart(table(), {"local": "Local", "dense": "Dense"}, "finding")
    local, dense = figure.axes[:2]
    assert [axes.get_title() for axes in (local, dense)] == ["Local", "Dense"]
    for axes in (local, dense):
        lines = {line.get_label(): line for line in axes.lines}
        assert lines["guided"].get_xdata().tolist() == [16, 64]
        assert lines["guided"].get_ydata().tolist() == pytest.approx([0.16, 0.64])
        assert lines["gradient"].get_ydata().tolist() == pytest.approx([0.02, 0.02])
        assert [label.get_text() for label in axes.get_xticklabels()] == ["16", "64"]
    expected = [line for line in local.lines if line.get_label().startswith("expected")]
    assert expected[0].get_ydata().tolist() == pytest.approx([0.17, 0.65])
    assert not any(line.get_label().startswith("expected") for line in dense.lines)


def test_each_cause_has_its_marker_at_its_kappa_pale_where_nothing_can_be_told():
    rows = pd.DataFrame(
        [
            (method, "spearman_abs", cause, kappa, kappa - 0.1, kappa + 0.1, "")
            for method, kappas in {"one": (0.9, 0.4), "two": (0.8, 0.7)}.items()
            for cause, kappa in zip(("noise", "attack"), kappas, strict=True)
        ],
        columns=["method", "metric", "cause", "kappa", "low", "high", "obstacle"],
    )
    rows.loc[rows["method"] == "two", "obstacle"] = "no_room"
    causes = {"noise": "some noise", "attack": "an attack"}
    figure = changes_chart(rows, ["spearman_abs"], causes, 0.5, "finding", controls=["two"])
    axes = figure.axes[0]
    points = [part for part in axes.collections if len(part.get_offsets()) == 2]
    shown = [part.get_offsets()[:, 0].tolist() for part in points]
    assert [one for one in shown if one != [0, 0]] == [[0.8, 0.9], [0.7, 0.4]]
    assert [part.get_facecolor()[:, 3].tolist() for part in points[-1:]] == [[0.25, 1]]
    labels = axes.get_legend_handles_labels()[1]
    assert {"some noise", "an attack"} <= set(labels)
    styles = {label.get_text(): label.get_style() for label in axes.get_yticklabels()}
    assert styles == {"one": "normal", "two": "italic"}
