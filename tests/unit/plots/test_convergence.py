import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from saliency_sanity.plots.convergence import convergence_chart, factors_chart, logits_chart
from saliency_sanity.probes.random_logit import FLIPS

TITLES = {"one": "One", "two": "Two", "three": "Three", "four": "Four", "five": "Five"}
LAYERS = ("low", "middle", "top")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def pooled():
    return pd.DataFrame(
        {
            "method": method,
            "start": start,
            "layer": LAYERS[position],
            "position": position,
            "median": 0.9 - 0.1 * position - 0.01 * number,
            "low": 0.1,
            "high": 1.0,
            "chance": 0.05 * (3 - position),
        }
        for number, method in enumerate(TITLES)
        for start in ("top", "middle")
        for position in range(LAYERS.index(start) + 1)
    )


def test_lines_run_from_their_start_down_to_the_pixels():
    rows = pooled()
    figure = convergence_chart(rows, TITLES, "what was found", converged=0.99)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == list(TITLES.values())
    assert figure.get_suptitle() == "what was found"
    lines = {line.get_label(): line for line in panels[1].lines}
    top, middle = lines["from top"], lines["from middle"]
    assert top.get_xdata().tolist() == [0, 1, 2]
    assert top.get_ydata() == pytest.approx([0.69, 0.79, 0.89])
    assert middle.get_xdata().tolist() == [1, 2]
    assert lines["chance: random vectors"].get_ydata() == pytest.approx([0.05, 0.1, 0.15])
    assert set(lines["0.99: converged"].get_ydata()) == {0.99}
    # Layers are named below every column's lowest panel.
    for axes in (panels[4], *panels[1:4]):
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["top", "middle", "low"]
        assert axes.xaxis.get_tick_params()["labelbottom"]


def test_factors_have_a_median_and_a_level_of_chance():
    cosines = {"signed": np.random.default_rng(0).uniform(size=(4, 9))}
    axes = factors_chart(cosines, 0.2, "found").axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["signed"].get_ydata() == pytest.approx(np.median(cosines["signed"], axis=1))
    assert lines["chance"].get_ydata()[0] == 0.2
    assert axes.figure.get_suptitle() == "found"


def readings():
    rows = []
    for number, method in enumerate(TITLES):
        for shift, flip in enumerate(FLIPS):
            value = 0.1 * number + 0.3 * shift
            own = {"similarity": value, "similarity_low": value - 0.2, "chance": 0.1}
            ends = {"similarity_high": value + 0.1, "chance_low": 0.0, "chance_high": 0.2}
            rows.append({"method": method, "flip": flip, **own, **ends})
    return pd.DataFrame(rows)


def test_both_flips_stand_in_a_row():
    axes = logits_chart(readings(), TITLES, "found", alike=0.9).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    plain, either = lines["the map as it is"], lines["the more alike of both signs"]
    assert plain.get_xdata() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert (either.get_xdata() - plain.get_xdata()) == pytest.approx(0.3)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == list(TITLES.values())
    assert axes.get_xlim()[0] < -0.2
    wide = readings().assign(similarity_low=-5.0)  # of two pictures, say
    assert logits_chart(wide, TITLES, "found", alike=0.9).axes[0].get_xlim()[0] >= -1.02
