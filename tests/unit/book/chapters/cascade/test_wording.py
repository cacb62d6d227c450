"""Words of the page on randomization."""

import pandas as pd
import pytest
import torch
from saliency_sanity import load_model
from saliency_sanity.book.chapters.cascade.wording import (
    network_differences,
    network_facts,
    published_title,
    random_networks,
    random_words,
    stage_words,
)
from saliency_sanity.networks.classifier import Classifier, Scaling


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("top_down", "randomized down to fc1"),
        ("bottom_up", "randomized up to fc1"),
        ("independent", "only fc1 randomized"),
        ("full", "only fc1 randomized"),
    ],
)
def test_a_stage_says_what_is_random(order, words):
    assert stage_words(["fc1", "all"], order) == [words, "everything randomized"]


def test_how_much_is_random_is_said_in_short_and_as_a_sentence():
    assert random_words([1 / 3, 1.0]) == [
        ("trained", "The network as it was trained."),
        ("33% random", "The upper 33% of the network's blocks are random."),
        ("all random", "All of the network is random. It has learned nothing."),
    ]


def test_one_random_network_makes_no_prior():
    assert random_networks(1) == "1; no prior, and intervals cover pictures only"
    assert random_networks(2) == "2; the prior is made of 1 pair"
    assert random_networks(3) == "3; the prior is made of 2 pairs"


def test_accuracy_is_told_where_it_is_known():
    classifier = load_model("cnn", "none", "cpu")
    predicted = torch.tensor([1, 2, 3])
    facts = network_facts(classifier, "3 of mnist", predicted, torch.tensor([1, 2, 4]))
    assert facts["of these pictures right"] == "2 of 3"
    assert facts["pictures"] == "3 of mnist, 28 px"
    assert "trained on" not in facts, "it was not trained"
    assert "of these pictures right" not in network_facts(classifier, "3", predicted, None)
    classifier.provenance = {
        "images": 60000,
        "epochs": 7.0,
        "test_accuracy": 0.9123,
        "test_count": 10000,
    }
    facts = network_facts(classifier, "3 of mnist", predicted, None)
    assert facts["trained on"] == "60,000 pictures, 7 epochs"
    assert facts["test accuracy"] == "91.2% of 10,000"


@pytest.mark.parametrize(
    ("name", "norms", "inception"),
    [("mlp", False, False), ("resnet18", True, False), ("inception_v3", True, True)],
)
def test_a_page_speaks_of_what_its_network_has(name, norms, inception):
    layers = [torch.nn.Linear(2, 2), *[torch.nn.BatchNorm1d(2)] * norms]
    half = Scaling((0.5,) * 3, (0.5,) * 3)
    network = torch.nn.Sequential(*layers)
    said = network_differences(Classifier(network, name=name, weights="none", scaling=half, size=9))
    assert ("batch norm" in " ".join(said)) == norms
    assert ("Inception v3" in " ".join(said)) == inception
    assert len(said) == norms + 3 * inception


def test_what_is_near_the_published_is_counted_and_where_the_rest_lies():
    beside = pd.DataFrame(
        {"similarity": [0.5, 0.55, 0.2, 0.9, 0.1], "published": [0.5, 0.5, 0.5, 0.5, float("nan")]}
    )
    said = "4 similarities lie within 0.1 of the authors'"
    assert published_title(beside, 0.1) == f"2 of {said}; 1 lower and 1 higher"
    assert published_title(beside.drop(index=2), 0.1).endswith("; 1 higher")
    assert published_title(beside[:2], 0.1) == f"2 of {said.replace('4', '2')}"
