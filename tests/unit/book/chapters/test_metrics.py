"""The page on metrics: its parameters are the notebook's, and wrong ones are refused."""

from dataclasses import fields

import pytest
from made.pages import parameters
from saliency_sanity.book.chapters.metrics import Metrics


def page(folder, **given):
    small = {"results": str(folder / "results"), "size": 64, "image_count": 3, "draws": 1}
    return Metrics.of(parameters(Metrics.notebook, **(small | given)))


def test_its_parameters_are_those_of_the_notebook():
    asked = {field.name for field in fields(Metrics) if field.init} - {"case"}
    assert asked == set(parameters(Metrics.notebook))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"images": "nowhere"}, "nowhere"),
        ({"image_count": 3000}, "3000 photographs asked for"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_compared(tmp_path, given, says):
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        page(tmp_path, **given)


def test_products_with_one_picture_are_alike_but_for_their_signs(tmp_path):
    made = page(tmp_path, seeds=2)
    absolute, signed = made.examples.values()
    assert absolute.kappa > 0.1
    assert abs(signed.kappa) < 0.1
    numbers = made.example_numbers()
    assert (numbers["example_images"], numbers["example_seeds"]) == (3, 2)
    assert numbers["example_kappa"] == absolute.kappa
    assert numbers["example_signed_kappa"] == signed.kappa


def test_the_summary_counts_the_metrics_that_lie_at_zero(tmp_path):
    made = page(tmp_path)
    made.table = made.table.assign(value=0.0)
    assert "8 of 8 similarities lie within 0.05 of 0" in made.summary().data
    made.means = made.means + 0.5
    said = made.summary().data
    assert "0 of 8 similarities lie within 0.05 of 0" in said
    assert "from 0.50 to 0.50" in said
    assert said.endswith("*at 0 throughout*: none")
