"""The page on edge detectors: its parameters are the notebook's, and wrong ones are refused."""

from dataclasses import fields

import pytest
from made.pages import parameters
from saliency_sanity.book.chapters.edge_detectors.page import EdgeDetectors


def page(folder, **given):
    small = {
        "model": "resnet18",
        "weights": "none",
        "images": "fashion_mnist",
        "image_count": 6,
        "methods": ["gradient", "input", "sobel"],
        "metrics": ["spearman_abs"],
        "untrained": [],
        "device": "cpu",
        "results": str(folder / "results"),
    }
    return EdgeDetectors.of(parameters(EdgeDetectors.notebook, **(small | given)))


def test_its_parameters_are_those_of_the_notebook():
    asked = {field.name for field in fields(EdgeDetectors)} - {"case"}
    assert asked == set(parameters(EdgeDetectors.notebook))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"methods": ["gradeint"]}, r"unknown method 'gradeint'\. Nearest: gradient"),
        ({"metrics": ["hogg"]}, r"unknown metric 'hogg'\. Nearest: hog"),
        ({"preset": "papers"}, r"unknown preset 'papers'\. Nearest: paper"),
        ({"model": "resnet81"}, r"unknown model 'resnet81'\. Nearest: resnet"),
        ({"images": "nowhere"}, r"nowhere"),
        ({"explain_class": "labels"}, r"Nearest: label"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_explained(tmp_path, given, says):
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        page(tmp_path, **given)
    assert not list(tmp_path.rglob("*.parquet"))
    assert not list(tmp_path.rglob("*.png"))


def test_without_methods_a_page_has_all_that_need_no_page_of_their_own(tmp_path):
    chosen = page(tmp_path, methods=[]).chosen
    assert {"gradient", "vargrad", "grad_cam", "lrp_epsilon", "noise"} <= set(chosen)
    assert not {"cgi", "competitive_ig", "competitive_lrp"} & set(chosen)


def test_without_untrained_networks_nothing_is_shown_of_them(tmp_path):
    made = page(tmp_path, image_count=2)
    assert made.untrained_ranking() is None
    assert made.untrained_verdicts() is None
    assert made.numbers()["untrained_compared_spearman_abs"] == 0


def test_trained_and_untrained_numbers_are_of_one_network(tmp_path):
    """Here the page's network has learned nothing either, so that both are the same."""
    made = page(tmp_path, image_count=2, untrained=["resnet18"], untrained_seeds=1)
    numbers = made.numbers()
    own, bare = (numbers[f"{kind}_gradient_spearman_abs"] for kind in ("kappa", "untrained"))
    assert own == pytest.approx(bare, abs=1e-4)
    assert numbers["kappa_sobel_spearman_abs"] == 1
    made.model = "resnet34"
    assert "untrained_gradient_spearman_abs" not in made.numbers()


def test_likeness_to_edges_is_a_share_of_what_another_detector_has(tmp_path):
    """Canny's edges are what they are compared with, whether or not they are in the ranking."""
    made = page(tmp_path, images="foolbox", methods=["sobel", "canny", "input"])
    rows = made.readings.set_index("method")
    assert rows["ceiling"].nunique() == 1
    canny = rows.loc["canny"]
    assert canny["kappa"] == canny["ceiling"] == made.numbers()["canny_spearman_abs"]
    assert [canny[key] for key in ("share", "share_low", "share_high")] == pytest.approx([1] * 3)
    assert rows.loc["sobel", "share"] == pytest.approx(1 / canny["kappa"])
    assert rows.loc[["canny", "sobel"], "verdict"].tolist() == ["above", "above"]
    without = page(tmp_path, images="foolbox", methods=["input"]).readings.set_index("method")
    again = rows.loc[["input"]]
    for key in ("kappa", "share", "share_low", "share_high", "ceiling", "p"):
        assert without[key].to_numpy() == pytest.approx(again[key].to_numpy())
    assert "share" not in made._to_product[0], "of products nothing else is known"
