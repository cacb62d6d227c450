"""What is known beforehand of a peer's method on a network, in words."""

from torch import Tensor, nn

from saliency_sanity.attribution.base import Attribution
from saliency_sanity.peers.adapter import Adapter
from saliency_sanity.peers.trace import trace


def notes(method: Attribution, model: nn.Module, x: Tensor) -> list[str]:
    """Say what of ``method``'s maps is not what one would think, sentence by sentence.

    One pass of a picture of ``x`` ``[N, C, H, W]`` shows what the network does that the library
    has no rule for. The list is empty for methods that are no peer's.
    """
    return list(method.notes(trace(model, x))) if isinstance(method, Adapter) else []
