"""Random generators that depend on names, never on global state or on call order."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral

import torch
from torch import Tensor, nn


def generator(*keys: int | str) -> torch.Generator:
    """Give a CPU generator determined by ``keys`` alone, e.g. ``generator(seed, "layer1", 3)``.

    Different keys give unrelated streams, so that two layers of one shape, or two noise samples,
    never share their numbers. Draws are made on the CPU so that every device sees the same ones.
    """
    # A number of NumPy's is the same number.
    plain = tuple(int(key) if isinstance(key, Integral) else key for key in keys)
    digest = hashlib.sha256(repr(plain).encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def normal(shape: Sequence[int], key: torch.Generator) -> Tensor:
    """Standard normal numbers in float32 on the CPU, whatever torch's defaults are."""
    return torch.randn(shape, generator=key, dtype=torch.float32, device="cpu")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator for the block, and put it back afterwards.

    Tensors are float32 and lie on the CPU where nobody says otherwise, whatever the caller's
    defaults are.
    """
    kept = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # Not torch.manual_seed, which would seed every GPU's generator too and leave it so.
        torch.default_generator.manual_seed(seed)
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(kept)


def built(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a network whose constructor draws from torch's global generator, for evaluation."""
    with seeded(seed):
        return build().eval()
