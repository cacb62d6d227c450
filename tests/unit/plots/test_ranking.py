"""Figures: zero in the middle, one row a method, nothing drawn that is not in the table."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch

mpl.use("agg")
import matplotlib.pyplot as plt
from made.figures import assert_readable
from saliency_sanity.attribution.catalogue import CATALOGUE, title
from saliency_sanity.experiments.comparison import compare
from saliency_sanity.plots.maps import map_grid, show_map
from saliency_sanity.plots.ranking import kappa_ranking, similarity_beside_chance
from saliency_sanity.plots.style import save
from saliency_sanity.similarity.metrics import METRICS, metric
from saliency_sanity.verdict.wording import EDGE_WORDS


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def readings():
    pictures = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    metrics = {name: metric(name) for name in ("spearman_abs", "ssim")}
    return compare({"noise": noise, "same": pictures}, pictures, metrics)[0]


def test_a_signed_map_has_symmetric_limits_and_zero_in_the_middle():
    _, axes = plt.subplots()
    attribution = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0)) + 2
    attribution[:, 0, 0] = 0
    show_map(axes, attribution, signed=True)
    image = axes.images[0]
    low, high = image.get_clim()
    assert low == -high
    assert image.get_array()[0, 0] == 0
    red, green, blue, _ = image.to_rgba(np.zeros((1, 1)))[0, 0]
    assert max(red, green, blue) - min(red, green, blue) < 0.02


def test_an_unsigned_map_starts_at_zero():
    _, axes = plt.subplots()
    show_map(axes, torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)))
    assert axes.images[0].get_clim() == (0, 1)


@pytest.mark.parametrize("signed", [False, True])
def test_a_zero_map_is_shown_as_zero_and_said_to_be_so(signed):
    _, axes = plt.subplots()
    show_map(axes, torch.zeros(1, 16, 16), signed)
    assert not np.any(axes.images[0].get_array())
    assert [text.get_text() for text in axes.texts] == ["zero"]


def test_a_grid_has_a_row_a_picture_and_a_column_a_method():
    pictures = torch.rand(2, 3, 8, 8)
    maps = {"a": torch.rand(2, 3, 8, 8), "b": torch.rand(2, 1, 8, 8), "c": torch.rand(2, 3, 8, 8)}
    figure = map_grid(pictures, ["one", "two"], maps)
    assert len(figure.axes) == 2 * 4
    titles = [axes.get_title() for axes in figure.axes[:4]]
    assert titles == ["picture", "a", "b", "c"]


def test_the_ranking_puts_the_highest_kappa_on_top_and_shows_every_interval(readings):
    words = EDGE_WORDS
    figure = kappa_ranking(
        readings, ["spearman_abs", "ssim"], margin=0.1, words=words, controls=["noise"]
    )
    first = figure.axes[0]
    labels = {label.get_text(): label for label in first.get_yticklabels()}
    assert list(labels) == ["noise", "same"]
    assert labels["noise"].get_style() == "italic"
    drawn = sorted(x for line in first.lines for x in line.get_xdata() if len(line.get_xdata()) < 2)
    kappas = readings[readings["metric"] == "spearman_abs"]["kappa"]
    assert drawn == pytest.approx(sorted(kappas))
    legend = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"edge-like", "not edge-like"} <= legend


def test_similarity_is_drawn_beside_its_chance(readings):
    figure = similarity_beside_chance(readings, ["spearman_abs"])
    segments = figure.axes[0].collections[0].get_segments()
    rows = readings[readings["metric"] == "spearman_abs"].sort_values("kappa")
    assert [s[0][0] for s in segments] == pytest.approx(rows["chance_low"].tolist())
    assert [s[1][0] for s in segments] == pytest.approx(rows["chance_high"].tolist())


def test_saving_writes_a_png_in_a_new_folder(tmp_path):
    figure, _ = plt.subplots()
    path = save(figure, tmp_path / "new" / "figure.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(path.parent.iterdir()) == [path]


def test_shares_are_drawn_with_the_detectors_kappa_and_the_line():
    pictures = torch.rand(6, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    noise = torch.rand(6, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    detector = pictures + 0.5 * noise
    metrics = {"spearman_abs": metric("spearman_abs")}
    rows = compare({"noise": noise, "same": pictures}, pictures, metrics, detector=detector)[0]
    figure = kappa_ranking(rows, list(metrics), margin=0.1, words=EDGE_WORDS)
    drawn = {line.get_label(): line.get_xdata() for line in figure.axes[0].get_lines()}
    assert drawn["kappa of Canny's edges"] == pytest.approx(rows["ceiling"].to_numpy())
    assert drawn["0.5 of that kappa"] == pytest.approx(rows["ceiling"].to_numpy() / 2)
    assert "ceiling" not in drawn


@pytest.mark.parametrize("count", [1, len(METRICS)])
@pytest.mark.parametrize("lowest", [-0.1, -0.6, -3.5])
def test_nothing_runs_into_each_other_where_names_are_long(count, lowest):
    names = [title(key) for key in CATALOGUE]
    rows = pd.DataFrame(
        {
            "method": name,
            "metric": key,
            "kappa": lowest + (1 - lowest) * place / len(names),
            "low": lowest,
            "high": 1.0,
            "verdict": "above" if place > 3 else "below",
            "similarity": 0.5,
            "chance": 0.1 * place,
            "chance_low": 0.1 * place - 0.1,
            "chance_high": 0.1 * place + 0.1,
        }
        for place, name in enumerate(names)
        for key in [*METRICS][:count]
    )
    metrics, controls = [*METRICS][:count], names[-3:]
    words = {"above": "follows the size of the input", "below": "does not follow it"}
    one = "the edges themselves"
    ranking = kappa_ranking(rows, metrics, margin=0.1, words=words, controls=controls, one=one)
    beside = similarity_beside_chance(rows, metrics, controls=controls)
    for figure in (ranking, beside):
        assert_readable(figure)
    asked = len(names) - len(controls)
    above = [f"{asked - 4} of {asked} methods", f"4 of {asked} methods"]
    for figure, found in zip((ranking, beside), above, strict=True):
        for axes in figure.axes[:count]:
            assert found in axes.get_title().replace("\n", " ")


def test_a_headline_takes_the_lines_that_it_needs_and_nothing_from_the_maps():
    pictures = torch.rand(2, 3, 8, 8)
    maps = {"a": torch.rand(2, 3, 8, 8), "b": torch.rand(2, 1, 8, 8), "c": torch.rand(2, 3, 8, 8)}
    finding = "Guided Grad-CAM keeps what the picture shows, and the gradient does not " * 3
    bare, headed = (map_grid(pictures, ["one", "two"], maps, title=text) for text in ("", finding))
    assert bare.get_suptitle() == ""
    lines = headed.get_suptitle().split("\n")
    assert " ".join(lines) == finding.strip()
    assert len(lines) > 1
    assert min(map(len, lines)) > 0.7 * max(map(len, lines)), "no word stands alone"
    assert_readable(headed)
    sizes = []
    for figure in (bare, headed):
        figure.draw_without_rendering()
        sizes.append([axes.get_window_extent().height for axes in figure.axes])
    assert sizes[1] == pytest.approx(sizes[0], rel=0.03)
