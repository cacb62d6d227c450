"""The page on scales and noise refuses what cannot be, and noise wins on it."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from made.pages import page_of
from saliency_sanity.book.chapters.scales import Scales

GIVEN = {
    "model": "cnn",
    "weights": "none",
    "images": "fashion_mnist",
    "image_count": 5,
    "methods": ["gradient", "gradient_x_input", "guided_backprop", "sobel"],
    "seeds": 2,
    "stage_limit": 3,
    "shares": [0.0, 0.3, 1.0],
    "ceiling": 0,
}


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"methods": ["gradeint"]}, "Nearest: gradient"),
        ({"methods": ["gradient", "sobel", "noise"]}, "a ranking needs three"),
        ({"shares": [0.0, 1.5]}, "of the pixels; valid are"),
        ({"shares": [0.5]}, "have no area"),
        ({"scale_stages": 1}, "scale_stages 1"),
        ({"stage_limit": 1}, "stage limit 1"),
        ({"seeds": 0}, "0 random networks"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, parameters, says):
    with pytest.raises(ValueError, match=says):
        page_of(Scales, tmp_path, **GIVEN | parameters)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return page_of(Scales, tmp_path_factory.mktemp("scales"), **GIVEN)


def test_noise_is_there_unasked_and_wins(page):
    assert [*page.chosen] == [*GIVEN["methods"], "noise"]
    assert page.left_out() == []
    for key in ("spearman_abs", "ssim"):
        rows = page.ranking_of("top_down", key).set_index("method")
        assert rows.loc["noise", "rank"] <= 2
        assert (rows["behind_high"].drop("noise") > -0.1).all()
        assert (rows.loc[rows["rank"] < rows.loc["noise", "rank"], "behind_high"] > 0).all()
        assert rows.loc["sobel", "value"] == pytest.approx(1)


def test_limits_name_what_is_left_out_and_batch_norms_only_where_there_are_some(page):
    said = page.limits().data
    assert "SmoothGrad" in said
    assert "guided backpropagation" not in said
    assert "batch norm" not in said
    page = copy.copy(page)
    page.classifier = torch.nn.BatchNorm2d(1)
    assert "batch norms" in page.limits().data


def test_both_orders_end_alike_and_the_second_moment_leaves_ranks(page):
    down, up = (page.outcomes[order].matrices for order in ("top_down", "bottom_up"))
    for key, matrices in down.items():
        np.testing.assert_allclose(matrices[-1], up[key][-1], atol=1e-12)
    assert page.outcomes["bottom_up"].stages[0] == page.outcomes["top_down"].stages[-1]
    assert page.rank_change < 1e-6
    ssim, other = (page.scores("top_down", key) for key in ("ssim", "ssim_second_moment"))
    assert abs(ssim["guided_backprop"] - other["guided_backprop"]).max() > 0.01


def test_the_score_is_the_mean_over_stages(page):
    found = page.scores("top_down", "ssim")["gradient"]
    stages = page.outcomes["top_down"].matrices["gradient", "ssim"]
    expected = sum(np.diagonal(square, axis1=1, axis2=2) for square in stages) / len(stages)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_tables_have_what_the_page_shows(page, tmp_path):
    page.write_all()
    folder = page.folder / "tables"
    kinds = ("top_down", "bottom_up", "ranking", "scales", "faithfulness", "refused")
    tables = {kind: pd.read_parquet(folder / f"{page.name}-{kind}.parquet") for kind in kinds}
    assert {"method", "metric", "stage", "kappa", "low", "high"} <= set(tables["top_down"])
    assert {"method", "metric", "order", "value", "rank"} <= set(tables["ranking"])
    assert {"method", "value", "low", "high"} <= set(tables["faithfulness"])
    assert set(tables["ranking"]["method"]) == {*page.chosen}
    assert len(page.claims) == 8
    assert page.numbers()["rank_of_noise_ssim"] <= 2


def test_every_figure_says_what_it_found(page):
    made = {
        "Noise, which explains nothing, has rank": page.ranking_figure,
        "Methods that respond to the first random block": page.orders,
        "Layers below the random ones are as they were": page.norms_figure,
        "of the large channels stay influential": page.edge_figure,
        "noise has rank": page.preparations,
        "rank correlation": page.slopes,
    }
    for finding, draw in made.items():
        assert finding in draw().get_suptitle().replace("\n", " ")
    assert page.agreement().data["methods"].tolist() == [3] * 4
