"""Relevance by the composites of the literature, against zennit's where it has rules, too."""

import copy

import pytest
import torch
from made.networks import SCALING, ModularNet, calibrate, draw, random_classifier, relative, seeded
from saliency_sanity import Classifier
from saliency_sanity.attribution.lrp import COMPOSITES, composite
from saliency_sanity.networks.compat import ensure_torchvision
from saliency_sanity.subjects.small_networks import build_untrained
from torch import Tensor, nn

ensure_torchvision()

from zennit import composites, rules  # noqa: E402
from zennit.attribution import Gradient  # noqa: E402
from zennit.torchvision import ResNetCanonizer, VGGCanonizer  # noqa: E402
from zennit.types import Convolution, Linear  # noqa: E402

DOUBLE, EPSILON, TINY = torch.float64, 1e-9, 1e-9
TARGET = torch.tensor([1, 2])
NETWORKS = {"cnn": 28, "mlp": 28, "modular": 16, "vgg11_bn": 32, "resnet18": 48, "resnet50": 32}


def network_of(name: str) -> tuple[nn.Module, Tensor]:
    size = NETWORKS[name]
    x = draw(2, 1 if name in ("cnn", "mlp") else 3, size, size, dtype=DOUBLE)
    if name in ("cnn", "mlp"):
        return build_untrained(name, 0).double(), x
    if name != "modular":
        return random_classifier(name, size).double(), x
    network = calibrate(seeded(ModularNet()), size).double()
    given = {"name": name, "weights": "random", "scaling": SCALING, "size": size}
    return Classifier(network, **given), x


def theirs(name: str, model: nn.Module, x: Tensor) -> Tensor:
    """zennit's map, of a copy: it merges batch norms into the network that it is given."""
    canonizers = [ResNetCanonizer() if "resnet" in getattr(model, "name", "") else VGGCanonizer()]
    given = {"epsilon": EPSILON, "stabilizer": TINY, "canonizers": canonizers}
    if name == "epsilon":
        sums = composites.layer_map_base(TINY)
        layers = [((Convolution, Linear), rules.Epsilon(EPSILON))]
        chosen = composites.LayerMapComposite([*sums, *layers], canonizers=canonizers)
    else:
        if name == "epsilon_gamma_box":
            black = torch.zeros_like(x[:1])
            given |= {"low": model.scaling.to_network(black), "gamma": 0.25}
            given |= {"high": model.scaling.to_network(black + 1)}
        kind = "".join(part.capitalize() for part in name.split("_"))
        chosen = getattr(composites, kind)(**given)

    def start(logits: Tensor) -> Tensor:
        return torch.zeros_like(logits).scatter(1, TARGET[:, None], 1) * logits

    network = copy.deepcopy(getattr(model, "network", model))
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            # Its merged batch norms still divide by the root of 1 + eps.
            norm.running_var += norm.eps
            norm.eps = 0
    with Gradient(network, chosen) as attributor:
        return attributor(x, start)[1]


# Pixels of networks without a scaling have no range; large networks take long.
CASES = [
    (name, network)
    for name in COMPOSITES
    for network in NETWORKS
    if not (name.endswith("box") and network in ("cnn", "mlp"))
    and (name.endswith("box") or network != "vgg11_bn")
    and (name == "epsilon_alpha2_beta1_flat" or network != "resnet50")
]


@pytest.mark.parametrize(("name", "network"), CASES)
def test_composites_are_those_of_zennit(name, network):
    model, x = network_of(network)
    found = composite(name, EPSILON)(model, x, TARGET)
    assert relative(found, theirs(name, model, x)) < 1e-6
