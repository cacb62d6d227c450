"""Networks that take a moment to build, once a session; tests leave them as they were."""

import copy
import signal

import pytest
import torch
from made.networks import random_classifier, small
from saliency_sanity import Classifier, load_model

# A shell that starts the tests in the background has Ctrl-C ignored, and what they start and
# interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def small_net() -> Classifier:
    return small()


@pytest.fixture(scope="session")
def small_net_double() -> Classifier:
    return small(torch.float64)


@pytest.fixture(scope="session")
def resnet() -> Classifier:
    return random_classifier("resnet18", 64)


@pytest.fixture(scope="session")
def resnet_double(resnet) -> Classifier:
    return copy.deepcopy(resnet).double()


@pytest.fixture(scope="session")
def vgg() -> Classifier:
    return random_classifier("vgg11", 64)


@pytest.fixture(scope="session")
def efficientnet() -> Classifier:
    return load_model("efficientnet_lite0", device="cpu")


@pytest.fixture(scope="session")
def inception() -> Classifier:
    return random_classifier("inception_v3", 96)


@pytest.fixture(scope="session")
def inception_double(inception) -> Classifier:
    return copy.deepcopy(inception).double()
