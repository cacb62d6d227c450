"""Where relevance goes that is not handed on, call by call."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from saliency_sanity.attribution.graph import Node
from saliency_sanity.networks.branching import tensors

Edge = tuple[Node, int]


class Ledger:
    """What each call of a pass is handed of relevance and does not hand on, summed up."""

    def __init__(self):
        self._received: dict[Edge, Tensor | float] = defaultdict(float)
        self._entries: list[tuple[str, set[Edge], list[Tensor]]] = []
        self._handles = []

    def enter(
        self, name: str, made: object, inside: Sequence[Node], known: dict[Edge, Tensor]
    ) -> None:
        """Watch the nodes of a call that takes ``known`` values."""
        given = []

        def note(edges: list[Edge], gradients: Sequence[Tensor | None], _: object) -> None:
            for edge, gradient in zip(edges, gradients, strict=True):
                if gradient is not None and edge in known:
                    # What a mask has set to infinity is handed nothing.
                    given.append(torch.where(gradient == 0, 0, known[edge] * gradient).sum())
                    self._received[edge] = self._received[edge] + given[-1]

        outputs = {edge_of(one) for one in tensors(made) if one.requires_grad} - known.keys()
        self._entries.append((name, outputs, given))
        for node in inside:
            edges = [*node.next_functions]
            if any(edge in known for edge in edges):
                self._handles.append(node.register_hook(partial(note, edges)))

    def close(self, logits: Tensor, score: Tensor) -> None:
        """Find what was ``kept`` where, after a backward pass from one of the logits."""
        self._received[edge_of(logits)] = score
        self.kept: dict[str, Tensor] = defaultdict(lambda: torch.zeros_like(score))
        for name, outputs, given in self._entries:
            received = sum(self._received[one] for one in outputs)
            self.kept[name] = self.kept[name] + received - sum(given)
        for handle in self._handles:
            handle.remove()


def edge_of(x: Tensor) -> Edge:
    """Where a tensor is in the graph."""
    return tuple(torch.autograd.graph.get_gradient_edge(x))[:2]
