"""Inception v3 made fit for comparisons: what benchmarks time and tests take as an oracle."""

import copy

import torch
from saliency_sanity import load_model
from saliency_sanity._random import generator
from saliency_sanity.networks.forward import fitted
from torch import Tensor, nn

SIZE = 299


class _Rectified(nn.Module):
    """Inception's convolution block, rectified by a module that hooks can see."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.conv, self.bn, self.relu = block.conv, block.bn, nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x)))


def with_relu_modules(inception: nn.Module) -> nn.Module:
    """A copy of torchvision's Inception v3 on which Captum's hooks do what they say."""
    twin = copy.deepcopy(inception)
    for parent in list(twin.modules()):
        for name, child in parent.named_children():
            if type(child).__name__ == "BasicConv2d":
                setattr(parent, name, _Rectified(child))
    return twin


@torch.no_grad()
def calibrate(network: nn.Module, size: int, images: int = 8) -> nn.Module:
    """Give batch norms the statistics of noise images: without them gradients overflow."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    noise = torch.randn(images, 3, size, size, generator=generator("test", 99))
    network(fitted(network, noise))
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
        norm.eval()
    return network


def inception(device: str) -> nn.Module:
    """Torchvision's Inception v3, random weights and calibrated batch norms."""
    return calibrate(load_model("inception_v3", "none", device=device), SIZE, images=4)


def pictures(count: int, size: int, device: str, channels: int = 3) -> Tensor:
    """The same noise pictures ``[N, channels, size, size]`` on any device."""
    return torch.randn(count, channels, size, size, generator=generator("photographs")).to(device)
