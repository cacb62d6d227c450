"""The card of a method: what a reader has to know before reading its maps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from saliency_sanity.gradient import Attribution, passes


@dataclass(frozen=True)
class Card:
    r"""What a reader has to know of a method before reading its maps.

    ``formula`` is LaTeX, with S_c the logit of the explained class, x the input in network units
    and E the map. ``defaults`` says of each parameter of ``build`` its value and whose it is.
    ``needs`` names what a network or caller must have: a key of ``pages.NEEDS``.
    ``abbreviation`` labels axes and picture grids.
    """

    name: str
    title: str
    abbreviation: str
    kind: Literal["method", "control"]
    formula: str
    summary: str
    sources: tuple[str, ...]
    build: Callable[..., Attribution]
    signed: bool = True
    needs: tuple[str, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)

    @property
    def passes(self) -> int:
        """Backward passes an image costs with the defaults; for each label if ``every_label``."""
        return passes(self.build())

    @property
    def every_label(self) -> bool:
        """Whether all labels of a network are explained, to have them compete."""
        return getattr(self.build(), "every_label", False)
