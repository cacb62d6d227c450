"""Curves and likeness find a bias that was planted, and none where there is none."""

from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
import torch

mpl.use("agg")
import matplotlib.pyplot as plt
from made.networks import draw
from saliency_sanity.plots.ranking import kappa_ranking, similarity_beside_chance
from saliency_sanity.probes.input_size import (
    INPUT_WORDS,
    KEPT,
    LIKENESS,
    curve_table,
    input_likeness,
    likeness_table,
    response_curve,
    response_edges,
    value_curve,
)
from saliency_sanity.verdict.reading import read
from scipy.stats import spearmanr

IMAGES = 8
LEVELS = np.linspace(0, 1, 11)


@pytest.fixture(scope="module")
def x():
    return draw(IMAGES, 3, 24, 20, seed=1).double()


@pytest.fixture(scope="module")
def noise():
    return draw(IMAGES, 3, 24, 20, seed=2).double()


@pytest.fixture(scope="module")
def colours():
    grid = torch.randint(0, 11, (IMAGES, 3, 24, 20), generator=torch.Generator().manual_seed(3))
    return grid / 10


def middles(edges):
    return (edges[1:] + edges[:-1]) / 2


def reference(maps, sizes, edges):
    """Bin by bin with a mask."""
    rows = []
    for own, size in zip(abs(maps.numpy()), sizes.numpy(), strict=True):
        row = []
        for b, (low, high) in enumerate(pairwise(edges)):
            last = b == len(edges) - 2
            inside = (size >= low) & ((size <= high) if last else (size < high))
            row.append(own[inside].mean() / own.mean() if inside.any() else np.nan)
        rows.append(row)
    return np.array(rows)


def test_edges_reach_from_zero_to_the_largest_input():
    x = draw(3, 3, 8, 8).float()
    edges = response_edges(x, bins=7)
    assert edges.shape == (8,)
    assert edges[0] == 0
    assert edges[-1] == x.abs().max().item()
    assert np.diff(edges) == pytest.approx(edges[-1] / 7)


def test_edges_need_a_bin_and_an_input():
    with pytest.raises(ValueError, match="bins is 0; expected 1 or more"):
        response_edges(torch.ones(1, 1, 2, 2), bins=0)
    for value in (0, torch.nan, torch.inf):
        with pytest.raises(ValueError, match=r"largest \|x\| is"):
            response_edges(torch.full((1, 1, 2, 2), value))


def test_a_curve_is_what_masks_give(x, noise):
    edges = np.array([0.1, 0.5, 0.6, 2.0, 50.0, 60.0])
    found = response_curve(noise, x, edges)
    np.testing.assert_allclose(found, reference(noise, x.abs(), edges), rtol=1e-12)
    assert np.isnan(found[:, -1]).all()
    assert np.isfinite(found[:, :-1]).all()


def test_the_last_bin_is_closed():
    x = torch.tensor([0.0, 1.0, 2.0, 2.0]).view(1, 1, 2, 2)
    maps = torch.tensor([1.0, 2.0, 3.0, 6.0]).view(1, 1, 2, 2)
    found = response_curve(maps, x, [0, 1, 2])
    assert found.tolist() == [[1 / 3, (2 + 3 + 6) / 3 / 3]]


def test_a_map_of_one_channel_meets_the_mean_over_channels(x):
    maps = draw(IMAGES, 1, 24, 20, seed=4).double()
    edges = response_edges(x, 5)
    sizes = x.abs().mean(1, keepdim=True)
    np.testing.assert_allclose(
        response_curve(maps, x, edges), reference(maps, sizes, edges), rtol=1e-12
    )


def test_the_input_itself_gives_a_straight_line_through_zero(x):
    edges = response_edges(x, 400)
    curve = response_curve(x, x, edges)
    line = middles(edges) / x.abs().flatten(1).mean(1, keepdim=True).numpy()
    there = np.isfinite(curve)
    half_bin = (edges[1] / 2) / x.abs().flatten(1).mean(1).min().item()
    assert there.sum() > 1000
    assert abs(curve - line)[there].max() <= half_bin * (1 + 1e-9)


def test_noise_gives_a_level_line_and_its_product_with_the_input_does_not(x, noise):
    edges = np.array([0, 0.3, 0.7, 1.2, 5])
    curves = {
        "noise": response_curve(noise, x, edges),
        "product": response_curve(noise * x, x, edges),
    }
    table = curve_table(curves, middles(edges))
    means = table.set_index(["method", "at"])["value"].unstack()
    assert means.loc["noise"].to_numpy() == pytest.approx(1, abs=0.05)
    assert means.loc["product"].iloc[0] < 0.4
    assert (means.loc["product"].diff().dropna() > 0.2).all()


def test_size_and_sign_of_a_map_do_not_matter(x, noise):
    edges = response_edges(x)
    for factor in (-3, 1e-30, 1e20):
        np.testing.assert_allclose(
            response_curve(factor * noise, x, edges), response_curve(noise, x, edges), rtol=1e-9
        )


def test_every_image_stands_by_itself(x, noise, colours):
    edges = response_edges(x)
    together = (response_curve(noise, x, edges), value_curve(noise, colours, LEVELS))
    alone = [
        (response_curve(noise[i : i + 1], x[i : i + 1], edges), colours[i : i + 1])
        for i in range(IMAGES)
    ]
    np.testing.assert_array_equal(together[0], np.concatenate([curve for curve, _ in alone]))
    singles = [value_curve(noise[i : i + 1], own, LEVELS) for i, (_, own) in enumerate(alone)]
    np.testing.assert_array_equal(together[1], np.concatenate(singles))
    for kept in (False, True):
        whole, part = (
            input_likeness(*both, kept=kept) for both in ((noise, x), (noise[2:5], x[2:5]))
        )
        assert torch.allclose(whole[2:5, 2:5], part, rtol=1e-12, atol=1e-15)


def test_a_zero_map_has_no_curve(x, noise, colours):
    maps = noise.clone()
    maps[3] = 0
    for curve in (response_curve(maps, x, [0, 1, 2]), value_curve(maps, colours, LEVELS)):
        assert np.isnan(curve[3]).all()
        assert np.isfinite(np.delete(curve, 3, axis=0)).all()
    for kept in (False, True):
        assert torch.isnan(input_likeness(maps, x, kept=kept)[3]).all()
        assert torch.isfinite(input_likeness(maps, x, kept=kept)[4]).all()


@pytest.mark.parametrize("blind", [0, 3, 10])
def test_a_product_is_exactly_zero_at_the_blind_colour_and_the_other_factor_is_not(
    noise, colours, blind
):
    zero = LEVELS[blind]
    product = value_curve(noise * (colours - torch.tensor(blind) / 10), colours, LEVELS)
    assert (product[:, blind] == 0).all()
    assert (np.delete(product, blind, axis=1) > 0.05).all()
    away = abs(LEVELS - zero)
    assert np.corrcoef(away, product.mean(0))[0, 1] > 0.99
    assert value_curve(noise, colours, LEVELS).mean(0) == pytest.approx(1, abs=0.1)


def test_a_colour_counts_for_the_nearest_level():
    values = torch.tensor([0.0, 0.2, 0.3, 0.7, 0.8, 1.0]).view(1, 1, 2, 3)
    maps = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 9.0]).view(1, 1, 2, 3)
    found = value_curve(maps, values, [0, 0.5, 1])
    assert found[0] == pytest.approx(np.array([1.5, 3.5, 7.0]) / 4)


@pytest.mark.parametrize("levels", [[0], [0, 0.5, 0.6], [1, 0], [[0, 1]]])
def test_levels_are_equally_spaced(noise, colours, levels):
    with pytest.raises(ValueError, match="not equally spaced and increasing"):
        value_curve(noise, colours, levels)


def test_colours_are_raw(noise, colours):
    with pytest.raises(ValueError, match=r"values lie in -1 to 1; expected raw pixels"):
        value_curve(noise, 2 * colours - 1, LEVELS)


@pytest.mark.parametrize("edges", [[0, 1, 1], [1, 0], [0], [0, np.inf], [np.nan, 1], [[0, 1]]])
def test_edges_increase(x, noise, edges):
    with pytest.raises(ValueError, match="do not increase"):
        response_curve(noise, x, edges)


@pytest.mark.parametrize("shape", [(7, 3, 24, 20), (8, 2, 24, 20), (8, 3, 20, 24)])
def test_shapes_fit(x, colours, shape):
    maps = torch.ones(shape)
    for of in (
        lambda: response_curve(maps, x, [0, 1]),
        lambda: value_curve(maps, colours, LEVELS),
        lambda: input_likeness(maps, x),
    ):
        with pytest.raises(ValueError, match="maps have shape"):
            of()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_values_are_finite(x, noise, bad):
    broken = noise.clone()
    broken[5, 1, 2, 3] = bad
    with pytest.raises(ValueError, match=r"maps of images \[5\] have values that are not finite"):
        response_curve(broken, x, [0, 1])
    with pytest.raises(ValueError, match=r"x of images \[5\] have values that are not finite"):
        response_curve(noise, broken, [0, 1])


@pytest.mark.parametrize("channels", [1, 3])
def test_likeness_is_spearmans_coefficient(x, channels):
    maps = draw(IMAGES, channels, 24, 20, seed=6).double().round(decimals=1)
    sizes = x.abs().mean(1, keepdim=True) if channels == 1 else x.abs()
    found = input_likeness(maps, x)
    for i, j in ((0, 0), (0, 5), (7, 2)):
        theirs = spearmanr(maps[i].abs().flatten(), sizes[j].flatten()).statistic
        assert found[i, j].item() == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("channels", [1, 3])
def test_kept_coordinates_are_those_where_the_map_is_not_zero(x, channels):
    maps = draw(IMAGES, channels, 24, 20, seed=7).double().round()
    maps[1:7] += 9  # those have no zero
    sizes = x.abs().mean(1, keepdim=True) if channels == 1 else x.abs()
    found = input_likeness(maps, x, kept=True)
    for i, j in ((0, 0), (0, 5), (7, 2), (3, 3)):
        there = maps[i] != 0
        assert there.all() == (i == 3)
        theirs = spearmanr(maps[i].abs()[there], sizes[j][there]).statistic
        assert found[i, j].item() == pytest.approx(theirs, rel=1e-9)


def test_a_sparse_map_follows_the_input_where_it_is_not_zero(x, noise):
    sparse = draw(IMAGES, 3, 24, 20, seed=8) > 1.3
    maps = {"product": sparse * noise * x, "noise": sparse * noise}
    table = likeness_table(maps, x).set_index(["metric", "method"])
    assert table.loc[KEPT, "verdict"].tolist() == ["above", "below"]
    assert table.loc[(KEPT, "product"), "kappa"] > 0.5
    assert table.loc[(LIKENESS, "product"), "kappa"] < 0.2  # ties hide it
    dense = input_likeness(noise, x)
    assert torch.allclose(input_likeness(noise, x, kept=True), dense, rtol=0, atol=1e-12)


def test_likeness_finds_what_was_planted(x, noise):
    products = {"x": x, "x times noise": x * (1 + 0.1 * noise), "noise": noise}
    products["constant"] = torch.ones_like(x)
    found = likeness_table(products, x)
    for metric in (LIKENESS, KEPT):
        table = found[found["metric"] == metric].set_index("method")
        assert table.loc["x", "similarity"] == pytest.approx(1)
        assert table.loc["x times noise", "kappa"] > 0.95
        assert table.loc["noise", "similarity"] == pytest.approx(0, abs=0.05)
        assert table["verdict"].tolist() == ["above", "above", "below", "inconclusive"]
        assert table["words"].tolist()[1:3] == [INPUT_WORDS["above"], INPUT_WORDS["below"]]
        assert table.loc["constant", "undefined_diagonal"] == IMAGES


def test_a_row_is_the_reading(x, noise):
    table = likeness_table({"one": noise * x}, x, margin=0.3)
    assert table["metric"].tolist() == [LIKENESS, KEPT]
    for row, kept in enumerate((False, True)):
        square = input_likeness(noise * x, x, kept=kept)
        expected = read(square, margin=0.3)
        for name, value in expected.row().items():
            assert table.loc[row, name] == pytest.approx(value, nan_ok=True)


def test_figures_take_the_table_and_their_legend_lies_inside(x, noise):
    table = likeness_table({"x times noise": x * noise, "noise": noise}, x)
    ranking = kappa_ranking(table, [LIKENESS], margin=0.1, words=INPUT_WORDS)
    beside = similarity_beside_chance(table, [LIKENESS])
    words = {text.get_text() for text in ranking.legends[0].get_texts()}
    assert set(INPUT_WORDS.values()) < words
    for figure in (ranking, beside):
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
    plt.close("all")


def test_a_table_has_a_row_where_an_image_has_a_value():
    curve = np.full((6, 4), np.nan)
    curve[:, 0] = 2
    curve[:, 1] = np.arange(6)
    curve[:4, 2] = 1
    found = curve_table({"one": curve, "none": curve * np.nan}, [0.1, 0.2, 0.3, 0.4])
    assert found["method"].tolist() == ["one"] * 3
    assert found["at"].tolist() == [0.1, 0.2, 0.3]
    assert found["value"].tolist() == pytest.approx([2, 2.5, 1])
    assert found["images"].tolist() == [6, 6, 4]
    assert found.loc[0, ["low", "high"]].tolist() == [2, 2]
    low, high = found.loc[1, ["low", "high"]]
    assert 0.5 < low < 1.8
    assert 3.2 < high < 4.5
    assert found.loc[2, ["low", "high"]].isna().all()  # of 4 images no interval
    empty = curve_table({"none": curve * np.nan}, [0.1, 0.2, 0.3, 0.4])
    assert list(empty.columns) == list(found.columns)


def test_an_interval_covers_the_mean_it_should():
    generator = np.random.default_rng(0)
    curves = {str(k): 5 + generator.standard_normal((40, 3)) for k in range(60)}
    table = curve_table(curves, [0, 1, 2])
    assert 0.85 < ((table["low"] <= 5) & (table["high"] >= 5)).mean() < 1


@pytest.mark.parametrize("shape", [(5, 3), (4,), (2, 5, 4)])
def test_curves_fit_their_places(shape):
    with pytest.raises(ValueError, match=r"curves of 'one' have shape .* expected \[N, 4\]"):
        curve_table({"one": np.ones(shape)}, range(4))


def test_nothing_is_changed(x, noise, colours):
    before = [values.clone() for values in (x, noise, colours)]
    response_curve(noise, x, [0, 1, 2])
    value_curve(noise, colours, LEVELS)
    likeness_table({"one": noise}, x)
    assert all(torch.equal(a, b) for a, b in zip(before, (x, noise, colours), strict=True))
