"""The page on image recovery: parameters that cannot be are refused, and a small run is whole."""

from dataclasses import fields

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from made.pages import page_of, parameters
from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.book.chapters.image_recovery import ImageRecovery

SMALL = {
    "model": "cnn",
    "weights": "none",
    "images": "fashion_mnist",
    "image_count": 6,
    "methods": ["gradient", "guided_backprop", "input"],
    "metrics": ["spearman_abs"],
    "bound": 60.0,
    "steps": 2,
    "size": 16,
    "random_count": 6,
    "filters": [4, 32],
    "pooled": [32],
    "pool": 5,
    "hidden": [32],
    "seeds": 2,
    "shown": 1,
}


def made(folder, **given):
    return page_of(ImageRecovery, folder, **SMALL | given)


def test_its_parameters_are_those_of_the_notebook():
    asked = {field.name for field in fields(ImageRecovery)} - {"case"}
    assert asked == set(parameters(ImageRecovery.notebook))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"methods": ["gradeint"]}, r"unknown method 'gradeint'\. Nearest: gradient"),
        ({"metrics": ["spearman"]}, "spearman_abs"),
        ({"filters": []}, "filters is empty"),
        ({"filters": [64, 16]}, r"filters is \[64, 16\]"),
        ({"pooled": [0]}, r"pooled is \[0\]"),
        ({"hidden": [4, 4]}, r"hidden is \[4, 4\]"),
        ({"kernel": 6}, "kernel is 6; give an odd number"),
        ({"pool": 2}, "pool is 2; give an odd number"),
        ({"size": 4}, "size is 4; give 8 or more"),
        ({"classes": 1}, "classes is 1; give 2 or more"),
        ({"seeds": 0}, "seeds is 0; give 1 or more"),
        ({"bound": 0.0}, "bound is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"shown": 7}, "valid are 1 to 6"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_explained(tmp_path, given, says):
    with pytest.raises(ValueError, match=says):
        made(tmp_path, **given)
    assert not list(tmp_path.rglob("*.parquet"))


def test_where_no_class_changes_that_is_said(tmp_path):
    page = made(tmp_path, bound=1e-6)
    with pytest.raises(ValueError, match="none of 6 pictures got another class; give a larger"):
        page.attack_text()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return made(tmp_path_factory.mktemp("recovery"))


def test_guided_backpropagation_recovers_more_than_the_gradient_and_more_with_more_filters(page):
    rows = page.recovery.set_index(["network", "method", "units"])["similarity"].sort_index()
    guided, plain = rows["convolution", "guided_backprop"], rows["convolution", "gradient"]
    assert (guided > plain + 0.2).all()
    assert guided[32] > guided[4] + 0.1
    assert abs(plain[32] - plain[4]) < 0.1


def test_expected_correlations_stand_beside_the_found_ones(page):
    rows = page.recovery.set_index(["network", "method", "units"])
    known = rows.dropna(subset=["expected"])
    assert {index[:2] for index in known.index} == {
        ("convolution", "guided_backprop"),
        ("dense", "guided_backprop"),
    }
    np.testing.assert_allclose(known["expected"], known["similarity"], atol=0.12)


def test_only_pictures_of_another_class_are_compared(page):
    states = page.attacked
    before = states[""][1]
    assert 1 <= len(before) <= 6
    assert torch.equal(states["class"][1], states["adversarial"][1])
    assert (states["adversarial"][1] != before).all()
    assert torch.equal(states["class"][0], states[""][0])
    assert f"{len(before)} of 6 pictures got another class" in page.attack_text()
    assert torch.equal(page.classifier.predict(states["adversarial"][0]), states["adversarial"][1])


def test_the_input_keeps_its_map_whatever_class_is_explained(page):
    rows = page.changes.set_index(["method", "cause"])["kappa"]
    assert rows["input", "class"] == pytest.approx(1)
    assert rows["gradient", "class"] < 1


def test_figures_and_tables_are_there_and_written(page):
    page.recovery_maps()
    page.recovery_figure()
    page.changes_figure()
    page.attacked_maps()
    plt.close("all")
    assert "closed form" in page.recovery_table().to_html()
    assert "noise of the same size" in page.changes_table().to_html()
    page.write_all()
    name = ImageRecovery.notebook
    recovery = pd.read_parquet(page.folder / f"tables/{name}-recovery.parquet")
    assert len(recovery) == 4 * 3, "kinds and numbers of units, methods"
    for cause in ("noise", "class", "adversarial"):
        readings = pd.read_parquet(page.folder / f"tables/{name}-{cause}.parquet")
        assert set(readings["method"]) == {"gradient", "guided_backprop", "input"}
        assert set(readings["cause"]) == {cause}
        assert readings["verdict"].isin(["below", "above", "inconclusive", "cannot tell"]).all()
    claims = ClaimTable.read(page.folder / f"claims/{name}.json")
    assert [claim.id for claim in claims] == [claim.id for claim in page.claims]
    assert {"image recovery", "foreseen without a fit"} <= {claim.id for claim in claims}
    numbers = page.numbers()
    assert numbers["class_changed"] == len(page.attacked[""][0])
    own = recovery.set_index(["network", "method"])["similarity"]
    assert (
        numbers["correlation_guided_backprop_convolution_pooled_32"]
        == own["convolution, pooled", "guided_backprop"]
    )
    assert "classes of random networks" in str(dict(page.box().rows()))


def test_the_same_twice_to_the_bit(page, tmp_path):
    again = made(tmp_path, filters=[32], pooled=[], hidden=[])
    ours, theirs = (one.runs["convolution", 32]["guided_backprop"] for one in (page, again))
    np.testing.assert_array_equal(ours.similarity, theirs.similarity)
    assert again.recovery_figure() is not None
    plt.close("all")
