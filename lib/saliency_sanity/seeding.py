"""Random generators that depend on names, never on global state or on call order."""

import hashlib

import torch


def generator(*keys: int | str) -> torch.Generator:
    """Give a CPU generator determined by ``keys`` alone, e.g. ``generator(seed, "layer1", 3)``.

    Different keys give unrelated streams, so that two layers of one shape, or two noise samples,
    never share their numbers. Draws are made on the CPU so that every device sees the same ones.
    """
    digest = hashlib.sha256(repr(keys).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
