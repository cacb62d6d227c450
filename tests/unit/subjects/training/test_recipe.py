"""Recipes: the papers' settings where nothing is said, and refusals."""

import math
from dataclasses import FrozenInstanceError, asdict, replace

import pytest
from saliency_sanity.subjects.datasets import TASKS
from saliency_sanity.subjects.small_networks import TRAINABLE
from saliency_sanity.subjects.training.recipe import (
    Recipe,
    network_keys,
    parse_weights,
    split_key,
    weights_name,
)


def test_what_is_left_out_is_the_papers():
    cnn, mlp = Recipe("cnn"), Recipe("mlp")
    assert (cnn.optimizer, cnn.learning_rate, cnn.batch, cnn.epochs) == ("adam", 1e-4, 50, 50.0)
    assert (cnn.weight_decay, mlp.weight_decay) == (1e-3, 0)
    assert Recipe("inception_v3").size == 75
    assert cnn.size == mlp.size == 28
    for name in TRAINABLE:
        assert None not in asdict(Recipe(name)).values()


def test_given_values_win_and_survive_replace():
    recipe = Recipe("cnn", epochs=2, weight_decay=0.0, seed=3)
    assert recipe.epochs == 2.0
    assert isinstance(recipe.epochs, float)
    assert recipe.weight_decay == 0
    assert replace(recipe, batch=7) == Recipe("cnn", epochs=2, weight_decay=0.0, seed=3, batch=7)
    with pytest.raises(FrozenInstanceError):
        recipe.batch = 8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"network": "cnnn"}, r"unknown network to train 'cnnn'. Nearest: cnn"),
        ({"dataset": "fashion"}, r"unknown dataset 'fashion'. Nearest: fashion_mnist"),
        ({"labels": "permutted"}, r"unknown labels 'permutted'. Nearest: permuted"),
        ({"optimizer": "adamm"}, r"unknown optimizer 'adamm'. Nearest: adam"),
        ({"schedule": "cycle"}, r"unknown schedule 'cycle'. Nearest: one-cycle"),
        ({"augmentation": "flip"}, r"unknown augmentation 'flip'"),
        ({"epochs": 0}, r"'epochs' must be a positive and finite number, not 0$"),
        ({"epochs": math.nan}, r"'epochs' must be a positive and finite number, not nan"),
        ({"epochs": math.inf}, r"'epochs' must be a positive and finite number, not inf"),
        ({"batch": 0}, r"'batch' must be a positive whole number, not 0"),
        ({"batch": 2.5}, r"'batch' must be a positive whole number, not 2.5"),
        ({"learning_rate": -1e-3}, r"'learning_rate' must be a positive .*, not -0.001"),
        ({"learning_rate": "1e-3"}, r"'learning_rate' must be a positive .*, not '1e-3'"),
        ({"weight_decay": -1.0}, r"'weight_decay' must be 0 or a positive and .*, not -1.0"),
        ({"images": -1}, r"'images' must be a positive whole number, or 0 for all, not -1"),
        ({"size": 0}, r"'size' must be a positive whole number, not 0"),
        ({"target_accuracy": 95.0}, r"'target_accuracy' must be a number from 0 to 1, not 95.0"),
        ({"seed": -1}, r"'seed' must be 0 or a positive whole number, not -1"),
        ({"seed": True}, r"'seed' must be 0 or a positive whole number, not True"),
    ],
)
def test_impossible_values_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**{"network": "cnn", **values})


def test_one_cycle_rises_to_the_rate_and_falls_to_nothing():
    recipe = Recipe("cnn", schedule="one-cycle", learning_rate=0.2)
    rates = [recipe.rate(step, 400) for step in range(401)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(0.2)
    assert 0 < rates[0] < 0.1 * rates[top]
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[400] == pytest.approx(0, abs=1e-12)
    constant = Recipe("cnn", schedule="constant", learning_rate=0.2)
    assert {constant.rate(step, 400) for step in range(400)} == {0.2}


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "fashion_mnist"),
        ({"seed": 1}, "fashion_mnist-1"),
        ({"labels": "permuted"}, "fashion_mnist-permuted"),
        ({"labels": "permuted", "seed": 12}, "fashion_mnist-permuted-12"),
        ({"dataset": "mnist", "labels": "permuted", "seed": 1}, "mnist-permuted-1"),
        ({"negatives": True, "seed": 2}, "fashion_mnist-negatives-2"),
        ({"dataset": "pairs_garment", "seed": 4}, "pairs_garment-4"),
        ({"dataset": "halves", "labels": "permuted"}, "halves-permuted"),
    ],
)
def test_weights_are_named_by_what_they_were_trained_on(values, name):
    recipe = Recipe("cnn", **values)
    named = weights_name(recipe.dataset, recipe.labels, recipe.seed, negatives=recipe.negatives)
    assert recipe.weights == named == name
    assert Recipe("cnn", **parse_weights(name)) == recipe


def test_one_network_has_one_name():
    """So that two files never hold the same network, and one file never two."""
    for name in (
        *("fashion_mnist-0", "fashion_mnist-01", "fashion_mnist--1", "fashion_mnist-true"),
        *("fashion_mnist-1-permuted", "fashion_mnist-permuted-0", "fashion_mnist-permutd"),
        *(
            "mnist-permuted-negatives",
            "mnist-negatives-0",
            "mnist-permuted-",
            " mnist",
            "mnist-\u0663",
            "fashion",
            "default",
            "none",
            "",
        ),
    ):
        assert parse_weights(name) is None, name


def test_keys_name_network_and_what_it_learns():
    keys = network_keys()
    assert len(keys) == len(set(keys)) == 3 * len(TRAINABLE) * (1 + len(TASKS))
    for key in keys:
        assert Recipe(**split_key(key)).key == key
    learns = {"network": "cnn", "labels": "permuted", "negatives": False}
    assert split_key("cnn-permuted") == learns
    assert split_key("cnn-halves-permuted") == learns | {"dataset": "halves"}
    assert Recipe("vit", "pairs_shape", seed=2).key == "vit-pairs_shape"
    with pytest.raises(ValueError, match="negatives go with true labels"):
        Recipe("cnn", labels="permuted", negatives=True)
    assert Recipe("mlp", seed=3).key == "mlp"
    for wrong, nearest in (("cnn-permutd", "cnn-permuted"), ("cnn-true", "cnn"), ("cnnn", "cnn")):
        with pytest.raises(ValueError, match=rf"network to train '{wrong}'. Nearest: .*{nearest}"):
            split_key(wrong)
