import matplotlib.pyplot as plt
import pandas as pd
import pytest
from made.figures import assert_readable
from saliency_sanity.plots.unrelated import null_figure
from saliency_sanity.probes.unrelated import (
    MAPS_TITLES,
    MARGINALS,
    NOISE,
    OTHER,
    SAME,
    null_means,
)


def planted() -> pd.DataFrame:
    """Three draws of each distribution and kind of maps, all means different."""
    rows = [
        {"metric": metric, "marginal": marginal, "maps": maps, "value": 0.01 * i + 0.1 * draw}
        for i, (metric, marginal, maps) in enumerate(
            (metric, marginal, maps)
            for metric in ("a", "b")
            for marginal in MARGINALS
            for maps in (NOISE, OTHER, SAME)
        )
        for draw in range(3)
    ]
    return pd.DataFrame(rows)


def test_figure_shows_every_mean():
    table = planted()
    figure = null_figure(table, titles={"a": "Absolute ranks"}, title="Noise is at 0.")
    means = null_means(table).rename(columns={"a": "Absolute ranks"})
    try:
        assert_readable(figure)
        assert figure.subfigs[0].get_suptitle() == "Noise is at 0."
        assert [axes.get_title() for axes in figure.axes[:2]] == ["Absolute ranks", "b"]
        for axes in figure.axes[:2]:
            shown = {line.get_label(): line.get_xdata() for line in axes.lines}
            for maps in (NOISE, OTHER, SAME):
                expected = list(means.loc[maps, axes.get_title()])
                assert list(shown[MAPS_TITLES[maps]]) == pytest.approx(expected)
    finally:
        plt.close(figure)
