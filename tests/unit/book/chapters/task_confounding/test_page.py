"""The page on tasks, on networks that have learned hardly anything."""

import contextlib

import numpy as np
import pytest
from made.checkouts import copied
from made.pages import page_of
from saliency_sanity.book.chapters.task_confounding.page import (
    AGAINST_OTHER,
    AGAINST_RANDOM,
    TaskConfounding,
)
from saliency_sanity.subjects.datasets import TASKS
from saliency_sanity.subjects.training.checkpoints import trained_path
from saliency_sanity.subjects.training.loop import train
from saliency_sanity.subjects.training.recipe import Recipe

METHODS = ["gradient", "gradient_x_input", "guided_backprop", "ig_smoothgrad", "sobel", "noise"]
GIVEN = {
    "image_count": 6,
    "trainings": 2,
    "methods": METHODS,
    "metrics": ["spearman_abs"],
    "ig_samples": 2,
    "ig_steps": 2,
    "shown": 2,
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A tree of its own with two networks of each task, after a few steps."""
    root = copied(tmp_path_factory.mktemp("tasks"), "config", "notebooks")
    with contextlib.chdir(root):
        for data in (*TASKS, "fashion_mnist"):
            for seed in range(2):
                recipe = Recipe("cnn", data, images=40, batch=20, epochs=1.0, seed=seed)
                train(recipe, trained_path("cnn", recipe.weights), progress=False)
        yield root


@pytest.fixture(scope="module")
def page(checkout, tmp_path_factory):
    return page_of(TaskConfounding, tmp_path_factory.mktemp("page"), **GIVEN)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"image_count": 0}, "image_count is 0; valid are 1 and more"),
        (
            {"image_count": 700},
            "image_count is 700; valid are 1 to 600, the test pictures of pairs",
        ),
        ({"shown": 7}, "shown is 7; valid are 1 to 6"),
        ({"trainings": 0}, "0 networks of each kind"),
        ({"methods": ["gradientt"]}, "unknown method 'gradientt'. Nearest: gradient"),
        ({"metrics": ["spearman"]}, "Nearest: spearman_abs"),
    ],
)
def test_bad_values_are_refused_by_name(checkout, tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        page_of(TaskConfounding, tmp_path, **GIVEN | given)


def test_networks_that_are_missing_come_with_their_commands(checkout, tmp_path):
    with pytest.raises(FileNotFoundError, match="4 of 12 networks") as caught:
        page_of(TaskConfounding, tmp_path, **GIVEN | {"trainings": 3})
    for task in TASKS:
        said = f"python -m saliency_sanity train cnn-{task} --profile quick -p seed 2"
        assert said in str(caught.value)


def test_pictures_are_test_pictures_of_every_class_and_halves_are_gone(page):
    assert set(page.scenes.labels["garment"].tolist()) == {0, 1, 2}
    assert page.cut.labels["state"].tolist() == [1] * 6
    for data in TASKS:
        assert page.x[data].shape == (6, 1, 28, 28)
    assert not page.x["halves"][:, :, 14:].any()
    assert page.trained["classes"].tolist() == [3, 2, 2, 10]


def test_tables_hold_every_method_under_every_network(page):
    assert page.refused == {}
    assert len(page.shares) == len(METHODS) * 3 * 2
    assert len(page.parts) == len(METHODS) * 2 * 3
    whole = page.parts.groupby(["method", "network"])["value"].sum()
    assert whole.to_numpy() == pytest.approx(1)
    assert page.moves["method"].tolist() == METHODS
    moves = page.moves.set_index("method")
    assert moves.loc["sobel", ["value", "low", "high"]].abs().max() < 1e-12
    sides = page.shares.set_index(["method", "task", "network"])["value"]
    own, other = (
        np.mean([sides["gradient", task, kind] for task in ("garment", "shape")])
        for kind in ("trained", "other task")
    )
    assert moves.loc["gradient", "value"] == pytest.approx(own - other)
    comparisons = {*AGAINST_RANDOM.values(), AGAINST_OTHER}
    assert set(page.readings["comparison"]) == comparisons
    metrics = {"spearman_abs", "spearman_abs_not_zero", "spearman_signed_not_zero"}
    assert set(page.readings["metric"]) == metrics
    assert len(page.readings) == len(comparisons) * len(METHODS) * len(metrics)
    sobel = page.readings[page.readings["method"] == "sobel"]
    assert sobel["kappa"].to_numpy() == pytest.approx(1)


def test_only_what_multiplies_by_the_picture_itself_is_said_to_be_zero(page):
    assert page._products == ["gradient_x_input"]


def test_figures_tables_and_claims_are_made_and_written(page):
    figures = page.pictured(), page.share_figure(), page.kappa_figure(), page.halves_figure()
    assert "of 4 methods move to the object" in figures[1].subfigs[0].get_suptitle()
    for figure in figures:
        assert figure.axes
    shown = page.beside().data
    assert len(shown) == len(METHODS)
    assert "of 4 methods move to the object" in page.summary().data
    page.write_all()
    names = {path.stem for path in (page.folder / "tables").iterdir()}
    whats = ("readings", "shares", "halves", "moves", "moved", "refused")
    assert names == {f"13_task_confounding-{what}" for what in whats}
    assert (page.folder / "claims" / "13_task_confounding.json").is_file()
    assert len(page.claims) == 22
    numbers = page.numbers()
    assert numbers["methods_compared"] == 4
    assert {f"test_{task}" for task in TASKS} < set(numbers)
