"""The scoreboard's picture: a tile for every verdict, a dash for every gap, nothing too small."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from made.boards import METHODS, board
from matplotlib.patches import Rectangle
from saliency_sanity.book.scoreboard.chart import STANDINGS, number, scoreboard_chart
from saliency_sanity.book.scoreboard.columns import CHECKS
from saliency_sanity.book.scoreboard.table import in_order, method_title
from saliency_sanity.plots.style import use_style

PAGE, PHONE = 680, 340  # pixels of the picture on the site, at 1280 and at 390


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    use_style()
    full = board(tmp_path_factory.mktemp("board"))
    gap = (full["method"] == "gradient") & (full["check"].isin(["labels_cnn", "units_cnn"]))
    return full[~gap].reset_index(drop=True)


@pytest.fixture(params=[False, True], ids=["wide", "narrow"])
def drawn(request, table):
    figure = scoreboard_chart(table, narrow=request.param)
    yield figure, request.param
    plt.close(figure)


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_every_cell_has_a_tile_or_a_dash(drawn, table):
    figure, _ = drawn
    tiles = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert len(tiles) == len(table)
    assert texts(figure).count("–") == 2
    assert len(table) + 2 == len(METHODS) * len(CHECKS)
    corners = {(round(tile.get_x(), 3), round(tile.get_y(), 3)) for tile in tiles}
    assert len(corners) == len(tiles), "two tiles in one place"


def test_each_tile_has_the_marker_and_the_colour_of_its_verdict(drawn, table):
    figure, _ = drawn
    own = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
    # All else is the legend, without a place, and the line above the controls.
    assert sum(len(line.get_xdata()) for line in figure.axes[0].lines) == len(own) + 2
    drawn_as = sorted((line.get_color(), line.get_marker()) for line in own)
    wanted = []
    for row in table.to_dict("records"):
        name = row["verdict"] if row["standing"] == "neutral" else row["standing"]
        wanted.append(STANDINGS[name][:2])
    assert drawn_as == sorted(wanted)
    assert len({marker for _, marker, _ in STANDINGS.values()}) == len(STANDINGS)


def test_the_label_counts_how_methods_stand(drawn, table):
    figure, _ = drawn
    methods, _ = in_order(table["method"])
    rows = table[table["method"].isin(methods)]
    what, counts = figure.get_label().rstrip(".").split(" – ")
    assert what == f"{rows['method'].nunique()} methods, {rows['check'].nunique()} checks"
    told = dict(part.rsplit(": ", 1) for part in counts.split(", "))
    assert sum(map(int, told.values())) == len(rows)
    wanted = (rows["standing"] == "wanted").sum()
    assert int(told["as a map that sees the model should"]) == wanted > 0


def test_the_wide_picture_has_kappa_and_both_limits(table):
    figure = scoreboard_chart(table)
    said = texts(figure)
    for column in ("kappa", "low", "high"):
        for text, count in table[column].map(number).value_counts().items():
            assert said.count(text) >= count
    assert len([text for text in said if text[-1:].isdigit()]) == 3 * len(table)
    plt.close(figure)


def test_rows_are_methods_above_controls_in_italics(drawn, table):
    figure, _ = drawn
    methods, controls = in_order(table["method"])
    labels = figure.axes[0].get_yticklabels()
    plain = [label.get_text().replace("\n", " ").replace("\u00a0", " ") for label in labels]
    assert plain == [method_title(name) for name in (*methods, *controls)]
    italic = [label.get_style() == "italic" for label in labels]
    assert italic == [False] * len(methods) + [True] * len(controls)
    heights = figure.axes[0].get_yticks()
    assert (np.diff(heights) > 0).all()
    assert figure.axes[0].yaxis_inverted(), "the first method stands on top"


def test_everything_lies_inside_and_can_be_read(drawn):
    figure, narrow = drawn
    figure.canvas.draw()
    pixels = (PHONE if narrow else PAGE) / figure.get_figwidth() / 72
    page = figure.bbox
    axes = figure.axes[0]
    labels = [*axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels()]
    labels += figure.legends[0].get_texts()
    for label in (label for label in labels if label.get_text()):
        assert label.get_fontsize() * pixels >= 7.99, label.get_text()
        box = label.get_window_extent()
        assert box.x0 >= page.x0 - 1, label.get_text()
        assert box.x1 <= page.x1 + 1, label.get_text()
        assert box.y0 >= page.y0 - 1, label.get_text()
        assert box.y1 <= page.y1 + 1, label.get_text()


def test_no_two_texts_overlap(table):
    figure = scoreboard_chart(table.assign(kappa=-0.45, low=-0.54, high=-0.38))
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    corners = np.array([(box.x0, box.x1, box.y0, box.y1) for box in boxes])
    left, right, low, high = corners.T
    # The line box of a font is higher than its figures.
    across = np.minimum(right[:, None], right) - np.maximum(left[:, None], left)
    down = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    overlap = (across > 1) & (down > 0.35 * (high - low))
    np.fill_diagonal(overlap, False)
    assert not overlap.any()
    plt.close(figure)


def test_a_legend_has_what_occurs(table):
    wanted = table[table["standing"] == "wanted"]
    for part, kept in ((wanted, True), (wanted[wanted["check"].str.endswith("_cnn")], False)):
        figure = scoreboard_chart(part)
        said = [text.get_text() for text in figure.legends[0].get_texts()]
        assert said == [STANDINGS["wanted"][2], *["† batch norms kept"] * kept]
        heads = [label.get_text() for label in figure.axes[0].get_xticklabels()]
        assert {head.endswith(" †") for head in heads} == ({True, False} if kept else {False})
        plt.close(figure)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.844, ".84"), (-0.054, "-.05"), (-0.001, ".00"), (0.999, "1.0"), (1.0, "1.0"),
     (-1.216, "-1.2"), (0.991, ".99"), (float("nan"), "–")],
)  # fmt: skip
def test_numbers_are_short(value, text):
    assert number(value) == text


def test_what_cannot_be_drawn_is_refused(table):
    with pytest.raises(ValueError, match="the scoreboard is empty"):
        scoreboard_chart(table.iloc[:0])
    with pytest.raises(ValueError, match=r"unknown check 'labels_mlp'\. Nearest: labels_vit"):
        scoreboard_chart(table, [check for check in CHECKS if check.key != "labels_mlp"])
