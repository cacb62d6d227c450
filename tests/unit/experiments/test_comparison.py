"""Comparison: explaining with many methods, and reading likeness against chance."""

import math

import numpy as np
import pytest
import torch
from made.networks import small
from saliency_sanity import resolve
from saliency_sanity.experiments.comparison import check_map, compare, explain
from saliency_sanity.experiments.outcome import cascades, stage_table
from saliency_sanity.similarity.metrics import metric
from saliency_sanity.verdict.reading import read
from saliency_sanity.verdict.wording import (
    EDGE_WORDS,
    kappa_text,
    rounded,
    summary,
    verdict_table,
)


@pytest.fixture
def pictures():
    return torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


METRICS = {"spearman_abs": metric("spearman_abs"), "ssim": metric("ssim")}


def test_a_map_that_is_the_reference_has_kappa_one_and_noise_has_none(pictures):
    other = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    readings, table = compare({"same": pictures, "other": other}, pictures, METRICS)
    rows = readings.set_index(["method", "metric"])
    for name in METRICS:
        assert rows.loc[("same", name), "kappa"] == pytest.approx(1)
        assert rows.loc[("same", name), "verdict"] == "above"
        assert rows.loc[("other", name), "verdict"] == "below"
    assert len(table) == 2 * len(METRICS) * len(pictures)


def test_measurements_average_to_the_reading(pictures):
    maps = pictures * torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    readings, table = compare({"m": maps}, pictures, METRICS)
    for name in METRICS:
        reading = readings[readings["metric"] == name].iloc[0]
        rows = table[table["metric"] == name]
        assert rows["similarity"].mean() == pytest.approx(reading["similarity"], rel=1e-9)
        assert rows["chance"].mean() == pytest.approx(reading["chance"], rel=1e-9)


def test_draws_are_counted_as_seeds_and_measured_one_by_one(pictures):
    draws = [
        torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in range(3)
    ]
    readings, table = compare({"m": draws}, pictures, METRICS)
    assert set(readings["seeds"]) == {3}
    assert table.groupby("metric")["draw"].nunique().eq(3).all()


def test_an_undefined_map_is_counted_and_left_out(pictures):
    maps = pictures.clone()
    maps[2] = 0
    readings, table = compare({"m": maps}, pictures, METRICS)
    assert set(readings["undefined_diagonal"]) == {1}
    assert readings["kappa"].to_numpy() == pytest.approx(1)
    assert table[table["image"] == 2][["similarity", "chance"]].isna().to_numpy().all()
    assert "undefined maps" in summary(readings, "ssim", words=EDGE_WORDS).to_html()


def test_explain_sets_aside_what_does_not_apply_and_leaves_the_model_alone(pictures):
    class Smooth(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 4))

        def forward(self, x):
            return self.layers(x)

    model = Smooth()
    methods = {name: resolve(name) for name in ("gradient", "guided_backprop", "grad_cam")}
    explained = explain(methods, model, pictures, torch.zeros(6, dtype=torch.int64))
    assert list(explained.maps) == ["gradient"]
    assert "rectifiers" in explained.refused["guided_backprop"]
    assert "layer" in explained.refused["grad_cam"]
    assert not model._forward_pre_hooks


def test_explain_gives_what_the_methods_give(pictures):
    model = small()
    target = torch.zeros(6, dtype=torch.int64)
    method = resolve("smoothgrad", samples=3)
    explained = explain({"smoothgrad": method}, model, pictures, target)
    assert torch.equal(explained.maps["smoothgrad"], method(model, pictures, target))


def test_explain_removes_its_counter_after_an_error(pictures):
    model = small()
    with pytest.raises(ValueError, match="out of range"):
        explain({"g": resolve("gradient")}, model, pictures, torch.full((6,), 99))
    assert not model._forward_pre_hooks


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (torch.zeros(6, 3, 31, 32), ValueError, "'mine' returned shape"),
        (torch.zeros(6, 3, 32, 32, dtype=torch.int64), TypeError, "floating point"),
        ([1, 2], TypeError, "list"),
    ],
)
def test_a_method_that_breaks_the_contract_is_named(pictures, returned, error, message):
    with pytest.raises(error, match=message):
        check_map("mine", returned, pictures)


def test_numbers_have_two_decimals_and_no_negative_zero():
    assert rounded(-0.001) == "0.00"
    assert rounded(0.126) == "0.13"
    assert rounded(math.nan) == "–"
    assert kappa_text({"kappa": 0.4, "low": -0.001, "high": 0.5}) == "0.40 (0.00 to 0.50)"


def test_where_no_method_applies_the_reasons_are_given(pictures):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 4))
    methods = {"guided_backprop": resolve("guided_backprop")}
    with pytest.raises(ValueError, match=r"none of the methods.*guided_backprop: .*rectifiers"):
        explain(methods, model, pictures, torch.zeros(6, dtype=torch.int64))


def test_the_summary_says_why_a_verdict_is_missing(pictures):
    readings, _ = compare({"few": pictures[:3]}, pictures[:3], METRICS)
    assert "inconclusive: too few images" in summary(readings, "ssim", words=EDGE_WORDS).to_html()


def stages_of(levels, prior):
    """Readings by stage: two methods, each with a level of kappa a stage, and their cascades."""
    rng = np.random.default_rng(0)
    readings = {}
    for method, own in levels.items():
        for stage, level in own.items():
            square = 0.02 * rng.standard_normal((5, 8, 8))
            for image in range(8):
                square[:, image, image] += level
            readings[method, "hog", stage] = read(square, square * prior)
    return stage_table(readings), cascades(readings)


def test_the_verdict_table_reads_the_last_stage_and_the_whole_cascade():
    levels = {
        "Gradient": {"top": 0.6, "bottom": 0.0},
        "The input": {"top": 1.0, "bottom": 0.9},
    }
    readings, areas = stages_of(levels, prior=1.0)
    shown = verdict_table(readings, "hog", areas).data.set_index("method")
    assert shown.index.tolist() == ["The input", "Gradient"]
    assert shown["verdict"].tolist() == [
        "picture-driven (prior)",
        "responds",
    ]
    assert shown["first below the margin"].tolist() == ["never", "bottom"]
    assert "kappa, upper half random" not in shown
    areas["upper"] = ["0.1", "0.9"]
    shown = verdict_table(readings, "hog", areas).data.set_index("method")
    assert shown["kappa, upper half random"].to_dict() == {"Gradient": "0.1", "The input": "0.9"}
    area = shown["area under kappa"].astype(float)
    assert area.tolist() == pytest.approx([0.95, 0.3], abs=0.02)
    last = readings[readings["stage"] == "bottom"].set_index("method")
    for method in levels:
        assert shown.loc[method, "kappa (95 % interval)"] == kappa_text(last.loc[method])
        assert shown.loc[method, "prior's kappa"] == rounded(last.loc[method, "prior_kappa"])


def test_the_verdict_table_without_stages_that_add_up_has_no_area():
    readings, _ = stages_of({"Gradient": {"one": 0.1, "other": 0.9}}, prior=0.0)
    shown = verdict_table(readings, "hog").data
    assert "area under kappa" not in shown
    assert shown["verdict"].tolist() == ["picture-driven"]
    with pytest.raises(ValueError, match=r"unknown metric 'ssim'.*hog"):
        verdict_table(readings, "ssim")
