"""Weights that are computed of others: what belongs to the learned ones does not stay behind."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made.experiments import METRIC
from made.networks import draw
from saliency_sanity import Classifier, Scaling
from saliency_sanity._random import seeded
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.randomization.blocks import find_blocks
from saliency_sanity.randomization.schemes import SCHEMES, Randomization, Randomizer
from torch import nn
from torch.nn.utils import parametrizations as new
from torch.nn.utils import parametrize, prune, spectral_norm, weight_norm

X = draw(4, 3, 10, 10)
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")


class Net(nn.Module):
    def __init__(self, norm=lambda module: module):
        super().__init__()
        self.one, self.two = norm(nn.Conv2d(3, 6, 3)), norm(nn.Conv2d(6, 8, 3))
        self.three = norm(nn.Linear(8, 5))

    def forward(self, x):
        return self.three(self.two(self.one(x).relu()).relu().mean((2, 3)))


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight

    def right_inverse(self, weight):
        return weight / 2


def twice(module):
    parametrize.register_parametrization(module, "weight", Doubled())
    return new.spectral_norm(module)


def pruned(module):
    return prune.l1_unstructured(module, "weight", 0.5)


def cayley(module):
    return new.orthogonal(module, orthogonal_map="cayley", use_trivialization=False)


NORMS = {
    "spectral, old": spectral_norm, "spectral, new": new.spectral_norm, "weight, old": weight_norm,
    "weight, new": new.weight_norm, "orthogonal": new.orthogonal, "two": twice, "pruned": pruned,
    "cayley": cayley,
}  # fmt: skip


def trained(norm):
    """Far from where it started, with vectors that follow the weights."""
    with seeded(1):
        network = Net(NORMS[norm])
        for _ in range(30):
            network(X)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(2).add_(0.1 * torch.randn(parameter.shape))
        for _ in range(30):
            network(X)
    return network.eval()


def largest(matrix):
    """The largest singular value, of a whole decomposition."""
    return torch.linalg.svdvals(matrix.detach().double())[0]


def weight_by_hand(norm, module):
    """The weight a module should have, from its parameters alone."""
    own = {name.rpartition(".")[2]: p.detach().double() for name, p in module.named_parameters()}
    if norm in ("spectral, old", "spectral, new", "two"):
        weight = own.get("original", own.get("weight_orig")) * (2 if norm == "two" else 1)
        return weight / largest(weight.flatten(1))
    if norm.startswith("weight"):
        g, v = own.get("weight_g", own.get("original0")), own.get("weight_v", own.get("original1"))
        return g * v / v.flatten(1).norm(dim=1).reshape(g.shape)
    return own["weight_orig"] * module.weight_mask


def logits_by_hand(norm, network):
    one, two, three = (weight_by_hand(norm, module) for module in network.children())
    bias = [module.bias.double() for module in network.children()]
    y = F.conv2d(F.conv2d(X.double(), one, bias[0]).relu(), two, bias[1]).relu().mean((2, 3))
    return F.linear(y, three, bias[2])


def everything(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("norm", NORMS)
def test_logits_are_those_of_the_drawn_parameters(norm, scheme):
    network = trained(norm)
    before, logits, blocks = everything(network), network(X), find_blocks(network, X)
    with Randomizer(network, blocks, Randomization(scheme, std=0.1), X) as randomizer:
        if norm == "cayley" and scheme == "initializer":
            with pytest.raises(ValueError, match=r"no initialiser is known for one\.weight"):
                randomizer.set([blocks[0].name])
            return
        for chosen in (["one", "two", "three"], ["two"], ["three"]):
            randomizer.set(chosen, 3)
            found = network(X)
            if norm in ("orthogonal", "cayley"):
                for module in map(network.get_submodule, chosen):
                    weight = module.weight if module.weight.shape[-1] == 3 else module.weight.T
                    identity = weight.mT @ weight - torch.eye(weight.shape[-1])
                    assert identity.abs().max() < 1e-4
                continue
            # A trained spectral norm need not have converged.
            for module in map(network.get_submodule, chosen):
                weight = weight_by_hand(norm, module)
                assert (module.weight - weight).abs().max() <= 1e-5 * weight.abs().max()
            if len(chosen) == 3:
                right = logits_by_hand(norm, network)
                assert (found - right).abs().max() <= 1e-5 * right.abs().max()
        assert not torch.equal(found, logits)
    assert everything(network).keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in everything(network).items())
    assert torch.equal(network(X), logits)


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm not in ("orthogonal", "cayley")])
def test_the_initializer_draws_the_weights_of_the_plain_network(norm):
    drawn = {}
    for network in (trained(norm), Net().eval()):
        with Randomizer(network, find_blocks(network, X), Randomization(), X) as randomizer:
            randomizer.set(["one", "two", "three"], 4)
            randomizer.set(["one", "two", "three"], 5)
            network(X)
            drawn[network] = network.two.weight.detach().clone()
    weight, right = drawn.values()
    if norm in ("spectral, old", "spectral, new", "two"):
        right = right / largest(right.flatten(1))
    if norm == "pruned":
        weight, right = (w[weight != 0] for w in (weight, right))
    assert (weight - right).abs().max() <= 1e-5 * right.abs().max()


@pytest.mark.parametrize("norm", ["spectral, old", "spectral, new", "orthogonal"])
def test_a_builder_says_how_they_start(norm):
    def build(seed):
        with seeded(seed):
            return Net(NORMS[norm])

    scaling = Scaling((0.5,) * 3, (0.5,) * 3)
    model = Classifier(
        trained(norm), name="net", weights="", scaling=scaling, size=10, untrained=build
    )
    with Randomizer(model, find_blocks(model, X), Randomization(), X) as randomizer:
        spreads = []
        for seed in range(5):
            randomizer.set(["one", "two", "three"], seed)
            spreads.append(model(X).std().item())
    fresh = [build(seed).train() for seed in range(5)]
    for network in fresh:
        for _ in range(50):
            network(X)
    right = [network.eval()(X).std().item() for network in fresh]
    assert min(right) / 3 < min(spreads)
    assert max(spreads) < 3 * max(right)


def test_an_experiment_equals_a_plain_loop():
    network, target = trained("spectral, new").double(), torch.arange(4)
    x = X.double()
    methods = {"gradient": Gradient()}
    outcome = Experiment(
        network, x, target, methods, METRIC, order="independent", explained="fixed", seeds=1,
        randomization=Randomization("moments"),
    )()  # fmt: skip
    first = Gradient()(network, x, target)
    metric = METRIC["spearman_abs"]
    with Randomizer(network, find_blocks(network, x), Randomization("moments"), x) as randomizer:
        for stage, matrix in zip(
            outcome.stages, outcome.matrices["gradient", "spearman_abs"][:, 0], strict=True
        ):
            names = ["one", "two", "three"] if stage == "all" else [stage]
            randomizer.set(names, 0)
            for module in map(network.get_submodule, names):
                weight = weight_by_hand("spectral, new", module)
                assert (module.weight - weight).abs().max() < 1e-6
            maps = Gradient()(network, x, target)
            right = [[metric(a[None], b[None]).item() for b in maps] for a in first]
            assert np.abs(matrix - np.array(right)).max() < 1e-9
