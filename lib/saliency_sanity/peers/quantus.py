"""Quantus' conventions, both ways: our metrics and methods there, its ``explain_func`` here.

Quantus itself is not imported; whatever follows its conventions will do. [hedstrom2023quantus]
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saliency_sanity._hashing import describe
from saliency_sanity.attribution.base import Attribution
from saliency_sanity.peers import adapter
from saliency_sanity.peers.trace import Trace
from saliency_sanity.similarity.metrics import Similarity

# How it asks for maps, and how it compares them.
ExplainFunc = Callable[..., np.ndarray]
SimilarityFunc = Callable[..., np.ndarray | float]


def similarity_func(similarity: Similarity, shape: Sequence[int]) -> SimilarityFunc:
    """A similarity as ``similarity_func``, which is given flat maps: ``shape`` is that of one.

    ``(H, W)`` or ``(C, H, W)``, as ``explain_func`` gives them. The result takes ``[F]``, or with
    ``batched`` ``[N, F]``, and gives a number or ``[N]``. Quantus has scaled maps and taken their
    absolute values before, if it was to. It raises ValueError for maps of another size.
    """
    shape = tuple(int(side) for side in shape)
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise ValueError(f"shape is {shape}; give that of one map, (H, W) or (C, H, W)")

    def compare(
        a: np.ndarray, b: np.ndarray, batched: bool = False, **_: Any
    ) -> np.ndarray | float:
        maps = []
        for given in (a, b):
            flat = np.asarray(given, dtype=np.float64)
            flat = flat.reshape(len(flat), -1) if batched else flat.reshape(1, -1)
            if flat.shape[1] != prod(shape):
                raise ValueError(
                    f"maps of {flat.shape[1]} values cannot have the shape {shape}, which has "
                    f"{prod(shape)}: Quantus repeats or sums channels as explain_func gives them"
                )
            maps.append(torch.from_numpy(flat.reshape(len(flat), *shape)))
        found = torch.as_tensor(similarity(*maps)).double().numpy()
        return found if batched else float(found[0])

    return compare


def explain_func(method: Attribution) -> ExplainFunc:
    """A method as ``explain_func``: arrays ``[N, C, H, W]`` and classes ``[N]`` in, maps out.

    Pictures go to where the model is, in its type, and what Quantus adds by name is left alone.
    """

    def explain(model: nn.Module, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
        like = next((one for one in model.parameters() if one.is_floating_point()), torch.empty(0))
        x = torch.as_tensor(inputs).to(like.device, like.dtype)
        target = torch.as_tensor(targets).to(like.device, torch.int64).reshape(-1)
        return method(model, x, target).cpu().numpy()

    return explain


def method(function: ExplainFunc, *, seed: int = 0, **parameters: Any) -> Attribution:
    """An ``explain_func`` as a method, with what it takes beside model, inputs and targets.

    ``seed`` is what the global generators are seeded with for each picture. Raises ValueError for a
    parameter of which no record could be kept.
    """
    name = describe(function)
    given = {key: adapter.plain(name, key, value) for key, value in parameters.items()}
    return Explain(name, "", tuple(given.items()), seed=seed, function=function)


@dataclass(frozen=True)
class Explain(adapter.Adapter):
    """Somebody's ``explain_func``; see ``adapter.Adapter``."""

    # A field of its own, so that keys of stored results count its code.
    function: ExplainFunc | None = None

    library = "quantus"

    def explain(self, model: nn.Module, x: Tensor, target: int) -> Tensor:
        """Explain one picture."""
        found = self.function(
            model=adapter.Logits(model, x),
            inputs=x.detach().cpu().numpy(),
            targets=np.array([target]),
            device=str(x.device),
            **{key: adapter.ready(value, x) for key, value in self.parameters},
        )
        found = torch.as_tensor(found)
        return found[:, None] if found.ndim == 3 else found

    def notes(self, seen: Trace) -> Iterator[str]:  # noqa: ARG002
        """Nothing is known of it."""
        yield from ()
