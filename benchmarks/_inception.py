"""Inception v3 made fit for comparisons: what benchmarks time and tests take as an oracle."""

import copy

import torch
from saliency_sanity._random import generator
from torch import Tensor, nn


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
    network(torch.randn(images, 3, size, size, generator=generator("test", 99)))
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
        norm.eval()
    return network
