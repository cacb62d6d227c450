from itertools import permutations

import numpy as np
import pytest
import torch
from saliency_sanity._random import generator
from saliency_sanity.subjects.training.accuracy import accuracy, chance_error, trainings

CLASSES = 5


def guesses(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, CLASSES, (count,), generator=generator("guesses", seed))


@pytest.mark.parametrize("count", [7, 60])
def test_the_error_is_that_over_all_renamings(count):
    labels, predicted = guesses(count, 1), guesses(count, 2)
    renamed = [
        accuracy(predicted, torch.tensor(names)[labels]) for names in permutations(range(CLASSES))
    ]
    assert np.mean(renamed) == pytest.approx(1 / CLASSES, rel=1e-12)
    assert chance_error(predicted, labels, CLASSES) == pytest.approx(np.std(renamed), rel=1e-12)


def test_mistakes_by_class_count_once_a_class():
    labels = torch.arange(CLASSES).repeat(1000)
    alike = torch.tensor([2, 0, 1, 4, 3])[labels]
    apart = guesses(len(labels))
    binomial = (0.2 * 0.8 / len(labels)) ** 0.5
    # How many of some things a random order leaves in their places has a variance of 1.
    assert chance_error(alike, labels, CLASSES) == pytest.approx(1 / CLASSES)
    assert chance_error(apart, labels, CLASSES) == pytest.approx(binomial, rel=0.5)


def test_a_network_that_knows_its_classes_is_far_from_guessing():
    record = {
        "labels": "true",
        "parameters": {"seed": 3},
        "images": 100,
        "labels_changed": 0.0,
        "epochs": 2.0,
        "train_accuracy": 0.95,
        "test_accuracy": 0.9,
        "test_chance_error": 0.1,
        "classes": list("abcde"),
    }
    row = trainings([record]).iloc[0]
    assert row["from guessing"] == pytest.approx(7)
    assert row["seed"] == 3
