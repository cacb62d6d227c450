"""Bars of agreement: each length is the table's, and the text says what the rule says."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("agg")
import matplotlib.pyplot as plt
from made.figures import assert_readable
from matplotlib.colors import same_color
from saliency_sanity.plots.labels import agreement_bars
from saliency_sanity.plots.layout import WIDTH
from saliency_sanity.plots.style import CHANCE, VERDICTS
from saliency_sanity.verdict.reading import read, table
from saliency_sanity.verdict.wording import METRIC_TITLES, kappa_text

METRICS = ["spearman_abs", "spearman_signed_not_zero", "ssim"]
CONTROLS = ["Input ⊙ noise"]
MARGIN = 0.1
# Kappa of the method, and of the control: below, above it, about as much, both.
LEVELS = {
    "Gradient": (0.02, 0.6),
    "SmoothGrad": (0.1, 0.1),
    "Grad-CAM": (0.9, 0.3),
    "Gradient ⊙ input": (0.6, 0.6),
    "Input ⊙ noise": (0.6, 0.6),
}
SAID = f"x ⊙ noise: as much (±{MARGIN:g})"


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def squares(rng, level, pairs=2, images=12):
    values = 0.2 + 0.05 * rng.standard_normal((pairs, images, images))
    return values + level * (1 - 0.2) * np.eye(images)


@pytest.fixture
def readings():
    """Every method by every metric with all references; the order differs between metrics."""
    rng = np.random.default_rng(0)
    found, more = {}, []
    for shift, metric in enumerate(METRICS):
        for method, (level, noise) in LEVELS.items():
            own = squares(rng, level - 0.2 * shift * (method == "Grad-CAM"))
            found[method, metric] = read(own, margin=MARGIN)
            extra = {}
            for name, other in (("true", level + 0.1), ("permuted", level), ("noise", noise)):
                beside = read(own, squares(rng, other, pairs=1))
                extra[f"{name}_similarity"] = beside.prior_similarity
                extra[f"{name}_excess_high"] = beside.excess_high
            more.append(extra)
    return pd.concat([table(found, ("method", "metric")), pd.DataFrame(more)], axis=1)


def lengths(axes, label):
    """Row and extent of the bars of one kind, which is named in the legend."""
    bars = next(one for one in axes.containers if one.get_label() == label)
    return {round(bar.get_y() + bar.get_height() / 2): bar for bar in bars}


def names(figure):
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def row(readings, method, metric):
    chosen = (readings["method"] == method) & (readings["metric"] == metric)
    return readings[chosen].iloc[0]


def said(axes):
    """The text beside each row."""
    return {round(text.get_position()[1]): text.get_text() for text in axes.texts[1:]}


def main_bars(axes):
    """The bars of true against permuted labels: those in the verdicts' colours."""
    colours = [colour for colour, _ in VERDICTS.values()]
    return {
        round(bar.get_y() + bar.get_height() / 2): bar
        for bar in axes.patches
        if any(same_color(bar.get_facecolor(), colour) for colour in colours)
    }


def test_each_bar_ends_where_the_table_says(readings):
    figure = agreement_bars(readings, METRICS, margin=MARGIN)
    assert_readable(figure)
    order = names(figure)
    assert sorted(order) == sorted(LEVELS)
    for axes, metric in zip(figure.axes, METRICS, strict=False):
        title = METRIC_TITLES[metric]
        head, count = axes.get_title().split("\n")
        assert head == title[:1].upper() + title[1:]
        above = readings.query("metric == @metric")["verdict"].eq("above").sum()
        assert count == f"picture-driven: {above} of {len(LEVELS)} methods"
        kinds = {
            "similarity": main_bars(axes),
            "true_similarity": lengths(axes, "ceiling: two true-label networks"),
            "permuted_similarity": lengths(axes, "two permuted-label networks"),
        }
        chance = lengths(axes, "chance: other pictures")
        for place, method in enumerate(order):
            wanted = row(readings, method, metric)
            for column, bars in kinds.items():
                assert bars[place].get_x() == 0
                assert bars[place].get_width() == pytest.approx(wanted[column], rel=1e-9)
            band = chance[place]
            assert same_color(band.get_facecolor(), CHANCE)
            assert band.get_x() == pytest.approx(wanted["chance_low"], rel=1e-9)
            assert band.get_x() + band.get_width() == pytest.approx(wanted["chance_high"], rel=1e-9)
        lines = {one.get_label(): one.get_segments() for one in axes.collections}
        for place, method in enumerate(order):
            wanted = row(readings, method, metric)
            ends = np.array(lines["interval of kappa"][place])
            kappas = (ends[:, 0] - wanted["chance"]) / (1 - wanted["chance"])
            assert kappas == pytest.approx([wanted["low"], wanted["high"]])
            assert ends[:, 1] == pytest.approx([place, place])
            tick = np.array(lines[f"margin: kappa {MARGIN:g}"][place])
            kappas = (tick[:, 0] - wanted["chance"]) / (1 - wanted["chance"])
            assert kappas == pytest.approx([MARGIN] * 2)


def test_the_bars_of_a_row_lie_beside_each_other(readings):
    axes = agreement_bars(readings, METRICS, margin=MARGIN).axes[0]
    kinds = [
        lengths(axes, "two permuted-label networks"),
        main_bars(axes),
        lengths(axes, "ceiling: two true-label networks"),
    ]
    edges = [
        edge
        for place in range(len(LEVELS))
        for bars in kinds
        for edge in (bars[place].get_y(), bars[place].get_y() + bars[place].get_height())
    ]
    assert edges == sorted(edges)
    hollow, solid = kinds[2][0].get_facecolor(), kinds[0][0].get_facecolor()
    assert hollow[3] == 0
    assert solid[3] == 1


def test_the_first_metric_orders_the_rows_of_all_panels(readings):
    for first in METRICS:
        others = [metric for metric in METRICS if metric != first]
        order = names(agreement_bars(readings, [first, *others], margin=MARGIN))
        kappas = [row(readings, method, first)["kappa"] for method in order]
        assert kappas == sorted(kappas)
    chosen = names(
        agreement_bars(readings, METRICS, margin=MARGIN, methods=["Grad-CAM", "Gradient"])
    )
    assert chosen == ["Gradient", "Grad-CAM"]


def test_colour_and_marker_give_the_verdict(readings):
    readings = readings.copy()
    readings.loc[readings["verdict"].eq("above").idxmax(), "verdict"] = "cannot tell"
    assert set(readings["verdict"]) == set(VERDICTS)
    figure = agreement_bars(readings, METRICS, margin=MARGIN)
    for axes, metric in zip(figure.axes, METRICS, strict=False):
        markers = {
            float(y): (line.get_marker(), line.get_color(), float(x))
            for line in axes.lines
            if line.get_marker() != "None"
            for x, y in zip(*line.get_data(), strict=True)
        }
        bars = main_bars(axes)
        for place, method in enumerate(names(figure)):
            wanted = row(readings, method, metric)
            colour, marker = VERDICTS[wanted["verdict"]]
            assert same_color(bars[place].get_facecolor(), colour)
            assert markers[place][:2] == (marker, colour)
            assert markers[place][2] == pytest.approx(wanted["similarity"])


def test_the_text_gives_kappa_and_the_control_where_the_rule_holds(readings):
    figure = agreement_bars(readings, METRICS, margin=MARGIN, controls=CONTROLS)
    order = names(figure)
    seen = set()
    for axes, metric in zip(figure.axes, METRICS, strict=False):
        for place, text in said(axes).items():
            wanted = row(readings, order[place], metric)
            kappa, *rest = text.splitlines()
            assert kappa == kappa_text(wanted)
            holds = (
                wanted["verdict"] != "below"
                and wanted["noise_excess_high"] < MARGIN
                and order[place] not in CONTROLS
            )
            assert rest == ([SAID] if holds else [])
            seen.add((wanted["verdict"], bool(rest)))
    # The control does more than what responds, but that is not said there.
    assert {("below", False), ("above", True), ("above", False), ("inconclusive", True)} <= seen
    low = readings[readings["verdict"] == "below"]
    assert (low["noise_excess_high"] < MARGIN).any()
    styles = {label.get_text(): label.get_style() for label in figure.axes[0].get_yticklabels()}
    assert {name for name, style in styles.items() if style == "italic"} == set(CONTROLS)


def test_the_margin_decides_what_is_as_much(readings):
    def text(margin):
        figure = agreement_bars(readings, ["ssim"], margin=margin, methods=["Grad-CAM"])
        return said(figure.axes[0])[0]

    assert "noise: as much (±0.9)" in text(0.9)
    assert "noise" not in text(0.01)


def test_references_that_are_missing_are_left_out(readings):
    absent = [name for name in readings if name.startswith(("true_", "permuted_", "noise_"))]
    figure = agreement_bars(readings.assign(**dict.fromkeys(absent, np.nan)), METRICS, margin=0.1)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert not any(text.startswith("two ") for text in legend)
    for axes in figure.axes[: len(METRICS)]:
        assert len(axes.patches) == 2 * len(LEVELS)
        assert not any(SAID in text.get_text() for text in axes.texts)
    one = (readings["method"] == "Gradient") & (readings["metric"] == "ssim")
    partly = readings.assign(true_similarity=readings["true_similarity"].mask(one))
    figure = agreement_bars(partly, ["ssim"], margin=0.1)
    there = lengths(figure.axes[0], "ceiling: two true-label networks")
    assert {names(figure)[place] for place in there} == set(LEVELS) - {"Gradient"}


def test_an_undefined_similarity_is_said(readings):
    whole = table({("Occlusion", "ssim"): read(np.full((2, 8, 8), np.nan))}, ("method", "metric"))
    both = pd.concat([readings[readings["metric"] == "ssim"], whole], ignore_index=True)
    figure = agreement_bars(both, ["ssim"], margin=MARGIN)
    assert names(figure)[0] == "Occlusion"
    axes = figure.axes[0]
    lowest = [text.get_text() for text in axes.texts if text.get_position()[1] == 0]
    assert lowest == ["undefined", "undefined"]  # kappa and similarity
    assert sorted(main_bars(axes)) == list(range(1, 1 + len(LEVELS)))


def test_everything_fits_and_no_text_is_too_small(readings):
    for metrics in (METRICS, METRICS[:1]):
        figure = agreement_bars(readings, metrics, margin=MARGIN)
        figure.canvas.draw()
        width, height = figure.canvas.get_width_height()
        assert figure.get_figwidth() <= WIDTH
        for axes in figure.axes[: len(metrics)]:
            labels = [*axes.texts, axes.title, *axes.get_xticklabels(), *axes.get_yticklabels()]
            for text in [*labels, *figure.legends[0].get_texts()]:
                if text.get_visible() and text.get_text():
                    box = text.get_window_extent()
                    assert box.x0 >= -1
                    assert box.x1 <= width + 1
                    assert box.y0 >= -1
                    assert box.y1 <= height + 1
                    assert text.get_fontsize() >= 8


def test_wrong_names_and_tables_are_named(readings):
    with pytest.raises(ValueError, match="unknown metric 'sim'"):
        agreement_bars(readings, ["sim"], margin=MARGIN)
    with pytest.raises(ValueError, match=r"unknown method 'Gradiant'.*Nearest: Gradient"):
        agreement_bars(readings, METRICS, margin=MARGIN, methods=["Gradiant"])
    with pytest.raises(ValueError, match="2 readings of 'Gradient' by 'spearman_abs'"):
        agreement_bars(pd.concat([readings, readings]), METRICS, margin=MARGIN)
    with pytest.raises(ValueError, match="0 readings of 'Gradient' by 'spearman_abs'"):
        agreement_bars(readings.iloc[1:], METRICS, margin=MARGIN)


def test_a_triangle_stands_where_others_had_it_and_the_title_says_what_was_found(readings):
    title = "Labels permuted: 2 of 4 methods stay picture-driven"
    own = readings["method"].isin(["Gradient", "Grad-CAM"])
    theirs = readings.assign(published=(readings["similarity"] - 0.3).where(own))
    figure = agreement_bars(theirs, METRICS[:1], margin=MARGIN, title=title)
    assert figure.get_suptitle() == title
    (axes,) = (axes for axes in figure.axes if axes.get_visible())
    (marks,) = (line for line in axes.lines if line.get_label().startswith("the authors"))
    rows = theirs[theirs["metric"] == METRICS[0]].set_index("method")["published"]
    names = [label.get_text() for label in axes.get_yticklabels()]
    at = dict(zip(marks.get_ydata(), marks.get_xdata(), strict=True))
    for place, name in enumerate(names):
        assert at[place] == pytest.approx(rows[name], nan_ok=True)
    bare = agreement_bars(readings, METRICS[:1], margin=MARGIN)
    words = {text.get_text() for text in bare.legends[0].get_texts()}
    assert not any("authors" in word for word in words)
