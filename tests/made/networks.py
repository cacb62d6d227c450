"""Networks and comparisons that several test files need."""

import torch
import torch.nn.functional as F
from saliency_sanity import CATALOGUE, Classifier, Scaling, load_model
from saliency_sanity._random import generator
from torch import Tensor, nn

from benchmarks._inception import calibrate

SCALING = Scaling((0.5, 0.4, 0.3), (0.5, 0.25, 0.2))


class SmallNet(nn.Module):
    """Two convolutions with batch norm, one rectified by a module, one by a function."""

    def __init__(self, classes: int = 5):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(6, 8, 3, padding=1, stride=2)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        features = F.relu(self.second(self.relu(self.norm(self.first(x)))))
        return self.head(self.drop(features.mean((2, 3))))


class ModularNet(SmallNet):
    """The same function of the same weights, with a module for each rectifier and average."""

    def __init__(self, classes: int = 5):
        super().__init__(classes)
        self.late = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.late(self.second(self.relu(self.norm(self.first(x)))))
        return self.head(self.drop(self.pool(features).flatten(1)))


class SmallTransformer(nn.Module):
    """Two blocks of attention, in two heads, over a class token and sixteen patches."""

    def __init__(self, classes: int = 5):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.places = nn.Parameter(torch.zeros(1, 17, 8))
        self.norm, self.drop = nn.LayerNorm(8), nn.Dropout(0.5)
        self.second, self.third = nn.Linear(8, 24), nn.Linear(8, 24)
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
        for layer in (self.second, self.third):
            parts = layer(self.norm(x)).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
            x = x + self.attend(*parts).transpose(1, 2).flatten(2)
        return self.head(self.drop(self.norm(x)[:, 0]))

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value)


def relative(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference in units of the largest value of ``theirs``."""
    assert ours.shape == theirs.shape
    assert torch.isfinite(ours).all()
    scale = theirs.abs().max().item()
    assert scale > 0, "an all-zero reference agrees with anything of its kind"
    return (ours - theirs).abs().max().item() / scale


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=generator("test", seed), dtype=dtype)


def seeded(network: nn.Module, seed: int = 0) -> nn.Module:
    """Redraw a small network's parameters from a generator of their own."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator(seed, name)) * 0.5)
    return network


def small(
    dtype: torch.dtype = torch.float32, seed: int = 0, kind: type[nn.Module] = SmallNet
) -> Classifier:
    network = calibrate(seeded(kind(), seed).eval(), 16).to(dtype)
    return Classifier(
        network, name="small", weights="random", scaling=SCALING, size=16, cam_layer="second"
    )


def apt(name: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> Classifier:
    """A small network to which the catalogue's method of this name applies."""
    attends = "attention" in CATALOGUE[name].needs
    return small(dtype, seed, SmallTransformer if attends else SmallNet)


def random_classifier(name: str, size: int) -> Classifier:
    return calibrate(load_model(name, "none", device="cpu"), size)


class Doubled(torch.autograd.Function):
    """A function whose backward pass is its own."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient
