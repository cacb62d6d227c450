"""The page on competition refuses what cannot be before it explains anything."""

import pytest
from made.pages import page_of
from saliency_sanity.book.chapters.competition import Competition

GIVEN = {
    "model": "cnn",
    "weights": "none",
    "images": "fashion_mnist",
    "image_count": 8,
    "bases": ["gradient_x_input", "lrp_epsilon"],
    "metrics": ["spearman_abs"],
    "top": 0,
}


@pytest.mark.parametrize(
    ("parameters", "error", "says"),
    [
        ({"top": 11}, ValueError, "top 11 is more than the 10 labels"),
        ({"top": -1}, ValueError, "top"),
        ({"top": 1}, ValueError, "1 classes cannot compete"),
        ({"bases": ["gradient_x_inptu"]}, ValueError, "Nearest: gradient_x_input"),
        ({"metrics": ["spearman"]}, ValueError, "spearman_abs"),
        ({"pairs": 2}, FileNotFoundError, "train cnn --profile quick -p seed 1"),
        ({"pairs": -1}, ValueError, "-1 networks of each kind"),
        ({"shown": 9}, ValueError, "valid are 1 to 8"),
        ({"shares": [0.0, 1.5]}, ValueError, "of the pixels; valid are"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, monkeypatch, parameters, error, says):
    monkeypatch.chdir(tmp_path)  # where nothing is trained
    with pytest.raises(error, match=says):
        page_of(Competition, tmp_path, **GIVEN | parameters)


def test_every_base_has_a_twin_and_noise_competes_too(tmp_path):
    page = page_of(Competition, tmp_path, **GIVEN)
    assert page.twins == {
        "competitive_gradient_x_input": "gradient_x_input",
        "competitive_lrp_epsilon": "lrp_epsilon",
        "competitive_noise": "noise",
    }
    assert set(page.methods) == {*page.twins, *page.twins.values(), "input_x_noise"}
    assert set(page.titles) == set(page.methods)
    assert page.rivals == page.labels == 10
    assert set(page.measures) == {"spearman_abs", "spearman_abs_not_zero"}
