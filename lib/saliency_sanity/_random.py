"""Random generators that depend on names, never on global state or on call order."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


def generator(*keys: int | str) -> torch.Generator:
    """Give a CPU generator determined by ``keys`` alone, e.g. ``generator(seed, "layer1", 3)``.

    Different keys give unrelated streams, so that two layers of one shape, or two noise samples,
    never share their numbers. Draws are made on the CPU so that every device sees the same ones.
    """
    digest = hashlib.sha256(repr(keys).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator for the block, and put it back afterwards."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed every GPU's generator too and leave it so.
        torch.default_generator.manual_seed(seed)
        yield


def built(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a network whose constructor draws from torch's global generator, for evaluation."""
    with seeded(seed):
        return build().eval()
