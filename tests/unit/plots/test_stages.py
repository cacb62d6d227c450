"""Curves and boxes: everything in the table is drawn where it belongs, and nothing else."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("agg")
import matplotlib.pyplot as plt
from made.figures import assert_readable
from matplotlib.collections import FillBetweenPolyCollection
from saliency_sanity.experiments.outcome import stage_table
from saliency_sanity.plots import stages as curves
from saliency_sanity.plots.style import VERDICTS
from saliency_sanity.verdict.reading import read

STAGES = ["top", "middle", "bottom"]
METHODS = ["Gradient", "Grad-CAM", "The input"]
METRICS = ["spearman_abs", "hog"]
IMAGES, SEEDS = 6, 2


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def square(rng, level):
    values = 0.2 + 0.05 * rng.standard_normal((SEEDS, IMAGES, IMAGES))
    own = np.arange(IMAGES)
    values[:, own, own] = level + 0.05 * rng.standard_normal((SEEDS, IMAGES))
    return values


def experiment(prior=True, undefined=None):
    """Readings and measurements of made-up similarities; the last method never responds."""
    rng = np.random.default_rng(0)
    readings, rows = {}, []
    for method in METHODS:
        for metric in METRICS:
            before = square(rng, 0.5) if prior else None
            for position, stage in enumerate(STAGES):
                level = 1.0 if method == "The input" else 0.8 - 0.3 * position
                values = square(rng, level)
                if (method, metric) == undefined and position == len(STAGES) - 1:
                    values[:] = np.nan
                readings[method, metric, stage] = read(values, before)
                rows += [
                    {
                        "method": method,
                        "metric": metric,
                        "stage": stage,
                        "position": position,
                        "seed": seed,
                        "image": image,
                        "similarity": values[seed, image, image],
                    }
                    for seed in range(SEEDS)
                    for image in range(IMAGES)
                ]
    return stage_table(readings), pd.DataFrame(rows)


@pytest.fixture(scope="module")
def tables():
    return experiment()


def labelled(axes, label):
    """What is drawn under that label in one panel."""
    handles, labels = axes.get_legend_handles_labels()
    found = [handle for handle, own in zip(handles, labels, strict=True) if own == label]
    assert len(found) == 1, (label, labels)
    return found[0]


def band(axes, label):
    """Lower and upper edge of a band, by x."""
    drawn = labelled(axes, label)
    assert isinstance(drawn, FillBetweenPolyCollection)
    points = drawn.get_paths()[0].vertices
    return {
        x: (points[points[:, 0] == x, 1].min(), points[points[:, 0] == x, 1].max())
        for x in np.unique(points[:, 0])
    }


def rows_of(readings, method, metric):
    chosen = readings[(readings["method"] == method) & (readings["metric"] == metric)]
    return chosen.sort_values("position")


def panel(figure, method, metric, metrics=METRICS, methods=METHODS):
    return figure.axes[methods.index(method) * len(metrics) + metrics.index(metric)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("metric", METRICS)
def test_a_curve_starts_at_the_original_and_follows_its_table(tables, method, metric):
    # The order of the rows is nobody's promise.
    figure = curves.similarity_curves(tables[0].sample(frac=1, random_state=1), METRICS)
    order = [axes.get_title(loc="left") for axes in figure.axes[:: len(METRICS)]]
    axes = panel(figure, method, metric, methods=order)
    rows = rows_of(tables[0], method, metric)
    line = labelled(axes, "similarity")
    np.testing.assert_allclose(line.get_xdata(), [0, 1, 2, 3])
    np.testing.assert_allclose(line.get_ydata(), [1, *rows["similarity"]])
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names in ([], ["original", *STAGES])
    points = {
        (x, y): verdict
        for verdict, (colour, marker) in VERDICTS.items()
        for drawn in axes.lines
        if drawn.get_marker() == marker and drawn.get_color() == colour
        for x, y in zip(drawn.get_xdata(), drawn.get_ydata(), strict=True)
    }
    assert [points[key] for key in sorted(points)] == rows["verdict"].tolist()
    dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert [list(line.get_xdata()) for line in dashed] == [[1, 1]]


def test_references_are_drawn_beside_every_curve(tables):
    figure = curves.similarity_curves(tables[0], METRICS)
    for method in METHODS:
        for metric in METRICS:
            axes = panel(figure, method, metric)
            rows = rows_of(tables[0], method, metric)
            for label, name in (
                ("chance", "chance_{}"),
                ("prior: two random networks", "prior_band_{}"),
                ("interval of the mean", "similarity_{}"),
            ):
                found = band(axes, label)
                for place, (_, row) in enumerate(rows.iterrows(), start=1):
                    wanted = row[name.format("low")], row[name.format("high")]
                    assert found[place] == pytest.approx(wanted, rel=1e-9)


def test_without_a_prior_none_is_drawn():
    figure = curves.similarity_curves(experiment(prior=False)[0], METRICS)
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert "chance" in labels
    assert not any("prior" in label for label in labels)


def test_one_stage_has_bands_too(tables):
    last = tables[0][tables[0]["stage"] == "bottom"].assign(position=0)
    figure = curves.similarity_curves(last, ["hog"])
    assert min(band(figure.axes[0], "chance")) < 1 < max(band(figure.axes[0], "chance"))


def test_rows_columns_and_controls(tables):
    chosen = ["The input", "Gradient"]
    figure = curves.similarity_curves(
        tables[0], ["hog"], methods=chosen, controls=["The input", "not shown"]
    )
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == chosen
    texts = {text.get_text(): text for text in figure.findobj(mpl.text.Text)}
    assert [texts[title].get_style() for title in titles] == ["italic", "normal"]
    (head,) = (text.get_text() for text in figure.axes[0].texts)
    last = tables[0].query("metric == 'hog' and method == 'Gradient'").iloc[-1]
    count = int(last["verdict"] == "above")
    assert head == f"HOG correlation\npicture-driven: {count} of 1 methods"


@pytest.mark.parametrize(
    "draw",
    [
        lambda readings, **names: curves.similarity_curves(readings, **names),
        lambda readings, **names: curves.kappa_curves(readings, margin=0.1, **names),
        lambda readings, **names: curves.independent_boxes(readings, readings, **names),
    ],
)
def test_unknown_names_are_named(tables, draw):
    with pytest.raises(ValueError, match=r"unknown metric 'hogg'.*hog"):
        draw(tables[0], metrics=["hogg"])
    with pytest.raises(ValueError, match=r"unknown method 'Grad'.*Gradient"):
        draw(tables[0], metrics=["hog"], methods=["Grad"])


def test_a_stage_with_two_positions_is_refused(tables):
    wrong = tables[0].copy()
    wrong.loc[0, "position"] = 7
    with pytest.raises(ValueError, match=r"stages stand at positions \[.*7\]"):
        curves.similarity_curves(wrong, METRICS)


def test_kappa_lines_end_at_their_names(tables):
    figure = curves.kappa_curves(tables[0], METRICS, margin=0.1, controls=["The input"])
    assert_readable(figure)
    for axes, metric in zip(figure.axes, METRICS, strict=True):
        names = {text.get_text(): text for text in axes.texts}
        assert set(names) == set(METHODS)
        for method in METHODS:
            rows = rows_of(tables[0], method, metric)
            lines = [line.get_ydata() for line in axes.lines if len(line.get_xdata()) == 4]
            assert any(np.allclose(line, [1, *rows["kappa"]]) for line in lines)
            assert names[method].xy == pytest.approx((3, rows["kappa"].iloc[-1]))
        assert names["The input"].get_style() == "italic"
        # Names stand in the order of the ends of their lines, and apart.
        ordered = sorted(names.values(), key=lambda text: text.xy[1])
        heights = [text.xyann[1] for text in ordered]
        assert np.diff(heights).min() > 0.02
        low, high = axes.get_ylim()
        assert low <= heights[0] <= heights[-1] <= high


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_the_names_of_coinciding_ends_do_not_overlap(tables, at):
    many = pd.concat([tables[0].assign(method=f"{word} {n}") for word in METHODS for n in range(4)])
    many = many.drop_duplicates(["method", "metric", "position"])
    figure = curves.kappa_curves(many.assign(kappa=at, low=at, high=at), METRICS, margin=0.1)
    figure.canvas.draw()
    for axes in figure.axes:
        # The extent of an annotation holds its leader, that of its text does not.
        boxes = sorted(
            (mpl.text.Text.get_window_extent(text) for text in axes.texts), key=lambda box: box.y0
        )
        assert len(boxes) == 12
        middles = [(box.y0 + box.y1) / 2 for box in boxes]
        assert np.diff(middles).min() > 9 / 72 * figure.dpi  # the size of the letters


def test_an_undefined_end_is_named_at_the_last_defined_stage():
    readings, _ = experiment(undefined=("Gradient", "hog"))
    figure = curves.kappa_curves(readings, ["hog"], margin=0.1)
    named = {text.get_text(): text.xy[0] for text in figure.axes[0].texts}
    assert named == {"Gradient": 2, "Grad-CAM": 3, "The input": 3}


def test_three_metrics_all_name_their_stages(tables):
    readings = tables[0]
    third = readings[readings["metric"] == "hog"].assign(metric="ssim")
    figure = curves.kappa_curves(pd.concat([readings, third]), [*METRICS, "ssim"], margin=0.1)
    figure.canvas.draw()
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 3
    below = [
        [label.get_text() for label in axes.get_xticklabels() if label.get_visible()]
        for axes in shown
    ]
    assert below[1] == below[2] == ["original", *STAGES]


def test_a_box_holds_the_quartiles_of_its_measurements(tables):
    readings, measurements = tables
    figure = curves.independent_boxes(measurements, readings, METRICS)
    for method in METHODS:
        for metric in METRICS:
            axes = panel(figure, method, metric)
            boxes = [p for p in axes.patches if isinstance(p, mpl.patches.PathPatch)]
            bars = [p for p in axes.patches if isinstance(p, mpl.patches.Rectangle)]
            rows = rows_of(readings, method, metric)
            assert len(boxes) == len(bars) == len(STAGES)
            for box, bar, (_, row) in zip(boxes, bars, rows.iterrows(), strict=True):
                own = measurements[
                    (measurements["method"] == method)
                    & (measurements["metric"] == metric)
                    & (measurements["stage"] == row["stage"])
                ]["similarity"]
                ends = box.get_path().vertices[:, 1]
                wanted = own.quantile([0.25, 0.75])
                assert (ends.min(), ends.max()) == pytest.approx(tuple(wanted), rel=1e-9)
                assert bar.get_y() == pytest.approx(row["chance_low"], rel=1e-9)
                assert bar.get_y() + bar.get_height() == pytest.approx(row["chance_high"])
                colour = mpl.colors.to_rgb(VERDICTS[row["verdict"]][0])
                assert box.get_facecolor()[:3] == pytest.approx(colour)


def test_a_block_without_a_defined_similarity_leaves_its_place_empty():
    readings, measurements = experiment(undefined=("Gradient", "hog"))
    figure = curves.independent_boxes(measurements, readings, ["hog"], methods=["Gradient"])
    figure.canvas.draw()
    axes = figure.axes[0]
    boxes = [p for p in axes.patches if isinstance(p, mpl.patches.PathPatch)]
    assert [np.isfinite(box.get_path().vertices).all() for box in boxes] == [True, True, False]
    assert [label.get_text() for label in axes.get_xticklabels()] == STAGES
