"""Recipes: the papers' settings where nothing is said, and refusals."""

import math
from dataclasses import FrozenInstanceError, asdict, replace

import pytest
from saliency_sanity.networks import TRAINABLE
from saliency_sanity.recipe import Recipe


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
        ({"epochs": 0}, r"epochs 0.0 must be positive"),
        ({"epochs": math.nan}, r"epochs nan must be positive"),
        ({"epochs": math.inf}, r"epochs inf must be positive and finite"),
        ({"batch": 0}, r"batch 0 must be positive"),
        ({"batch": 2.5}, r"batch 2.5 of the recipe is float, not int"),
        ({"learning_rate": -1e-3}, r"learning_rate -0.001 must be positive"),
        ({"learning_rate": "1e-3"}, r"learning_rate '1e-3' of the recipe is str, not float"),
        ({"weight_decay": -1.0}, r"weight_decay -1.0 must be 0 or positive"),
        ({"images": -1}, r"images -1 must be positive, or 0 for all"),
        ({"size": 0}, r"size 0 must be positive"),
        ({"target_accuracy": 95.0}, r"target_accuracy 95.0 must lie in 0 to 1"),
        ({"seed": True}, r"seed True of the recipe is bool, not int"),
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
