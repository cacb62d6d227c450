"""The page on permuted labels: its parameters are the notebook's, and wrong ones are refused."""

import contextlib
from dataclasses import fields

import pytest
from made.pages import parameters
from saliency_sanity.book.chapters.labels.page import Labels
from saliency_sanity.subjects.training.checkpoints import trained_path
from saliency_sanity.subjects.training.loop import train
from saliency_sanity.subjects.training.recipe import Recipe


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """A folder of its own, with two networks of each kind that know nothing."""
    root = tmp_path_factory.mktemp("labels")
    with contextlib.chdir(root):
        for labels in ("true", "permuted"):
            for seed in range(2):
                recipe = Recipe("cnn", labels=labels, seed=seed, images=20, epochs=1.0, batch=20)
                train(recipe, trained_path("cnn", recipe.weights), progress=False)
        yield root


def page(folder, **given):
    small = {
        "pairs": 2,
        "image_count": 10,
        "methods": ["gradient", "noise"],
        "metrics": ["spearman_abs"],
        "device": "cpu",
        "results": str(folder / "results"),
    }
    return Labels.of(parameters(Labels.notebook, **(small | given)))


def test_its_parameters_are_those_of_the_notebook():
    assert {field.name for field in fields(Labels)} == set(parameters(Labels.notebook))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"pairs": 3}, r"train cnn --profile quick -p seed 2; .*train cnn-permuted"),
        ({"model": "mlp"}, r"train mlp "),
        (
            {"dataset": "mnist", "image_count": 0},
            r"train cnn --profile quick -p dataset mnist -p source download",
        ),
        ({"dataset": "fashion"}, r"unknown dataset 'fashion'. Nearest: fashion_mnist"),
        ({"explained_class": "fixd"}, r"Nearest: fixed"),
        ({"image_count": 3000}, r"3000 photographs asked for, fashion_mnist has 2000"),
        ({"pairs": 0}, r"pairs is 0; valid are 1 and more"),
        ({"shown": 11}, r"shown is 11; valid are 1 to 10"),
        ({"shown": 0}, r"shown is 0; valid are 1 to 10"),
        ({"methods": ["gradeint"]}, r"unknown method 'gradeint'\. Nearest: gradient"),
        ({"metrics": ["hogg"]}, r"unknown metric 'hogg'\. Nearest: hog"),
        ({"preset": "papers"}, r"unknown preset 'papers'\. Nearest: paper"),
    ],
)
def test_what_is_missing_or_wrong_is_named_before_anything_is_explained(
    networks, tmp_path, given, says
):
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        page(tmp_path, **given)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_networks_that_know_nothing_let_nothing_be_concluded(networks, tmp_path):
    made = page(tmp_path, choices=["gradient", "guided_backprop"], shown=1)
    assert not made.learned
    assert "Of 2 networks with permuted labels 2 know less than 95% of them" in (
        made.not_memorized().data
    )
    assert set(made.found["verdict"]) == {"inconclusive"}
    assert {claim.verdict for claim in made.claims} == {"not tested"}
    (heading, table) = made.by_class()
    assert heading.data == "Kappa of the rank correlation, absolute, by explained class and method:"
    assert table.data.index.tolist() == ["class: argmax", "class: fixed", "class: label"]
    assert table.data.columns.tolist() == ["Gradient"], "the other is not among the page's methods"
    assert "picture-driven: none; responds: none; open: Gradient" in made.summary().data


def test_it_says_how_many_pictures_were_learned_and_warns_where_it_was_not_as_many(
    networks, tmp_path
):
    made = page(tmp_path)
    text = made.pictures_learned().data
    assert text == "Each network, with true or with permuted labels, learned 20 pictures."
    true = made.trained["labels"] == "true"
    made.trained["pictures"] = made.trained["pictures"].mask(true, 1000)
    assert made.pictures_learned().data.startswith(
        "**Not as many pictures.** Networks with true labels learned 1,000 pictures, those with "
        "permuted labels 20."
    )


def test_what_is_known_of_labels_is_never_rounded_upward(networks, tmp_path):
    made = page(tmp_path, memorized=0.95)
    made.trained["training accuracy"] = 0.94996
    assert "less than 95% of them, one only 94.9%." in made.not_memorized().data
    assert made.numbers()["train_permuted"] == 0.949


def test_without_methods_to_compare_there_is_no_comparison(networks, tmp_path):
    assert page(tmp_path, choices=["guided_backprop"], shown=1).by_class() == []
