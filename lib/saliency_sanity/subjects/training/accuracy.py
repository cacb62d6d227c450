"""What trained networks have learned, and how far that is from not knowing the classes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of ``predicted`` classes ``[N]`` that are the ``labels`` ``[N]``."""
    return (predicted == labels).double().mean().item()


def chance_error(predicted: Tensor, labels: Tensor, classes: int) -> float:
    """Standard deviation of the accuracy when the classes are renamed at random.

    Whoever does not know which class is which is 1/``classes`` accurate in the mean over all
    renamings, and it is chance which of them is the true one. Not the error of a count of N
    independent pictures, which is smaller: pictures of one class are mistaken alike.
    ``predicted`` and ``labels`` are ``[N]``. [hoeffding1951combinatorial], theorem 2
    """
    counts = torch.zeros(classes, classes, dtype=torch.float64, device="cpu")
    ones = torch.ones(len(labels), dtype=torch.float64, device="cpu")
    counts.index_put_((labels.cpu(), predicted.cpu()), ones, accumulate=True)
    share = counts / len(labels)
    apart = share - share.mean(0) - share.mean(1, keepdim=True) + share.mean()
    return math.sqrt(apart.square().sum().item() / (classes - 1))


def trainings(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A row for each trained network: its labels, seed, pictures, epochs and accuracies.

    ``records`` as ``training.train`` writes them. Accuracies and the part of labels that the
    permutation changed lie in 0 to 1; ``from guessing`` is the test accuracy less that of
    guessing, in units of ``chance_error``.
    """
    return pd.DataFrame(
        [
            {
                "labels": record["labels"],
                "seed": record["parameters"]["seed"],
                "pictures": record["images"],
                "labels changed": record["labels_changed"],
                "epochs": record["epochs"],
                "training accuracy": record["train_accuracy"],
                "test accuracy": record["test_accuracy"],
                "from guessing": (record["test_accuracy"] - 1 / len(record["classes"]))
                / record["test_chance_error"],
            }
            for record in records
        ]
    )
