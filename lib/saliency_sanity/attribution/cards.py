"""The cards of all methods and controls, read from ``cards.toml``."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal

from saliency_sanity.attribution import named
from saliency_sanity.attribution.base import Attribution, passes


@dataclass(frozen=True)
class Card:
    r"""What a reader has to know of a method before reading its maps.

    ``formula`` is LaTeX, with S_c the logit of the explained class, x the input in network units
    and E the map. ``defaults`` says of each parameter of ``build`` its value and whose it is.
    ``needs`` names what a network or caller must have: baseline, relu, layer or attention.
    ``abbreviation`` labels axes and picture grids.
    """

    name: str
    title: str
    abbreviation: str
    kind: Literal["method", "control"]
    formula: str
    summary: str
    build: Callable[..., Attribution]
    sources: tuple[str, ...] = ()
    signed: bool = True
    needs: tuple[str, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)

    @property
    def passes(self) -> int:
        """Passes an image costs with the defaults, as ``base.passes`` counts them."""
        return passes(self.build())

    @property
    def every_label(self) -> bool:
        """Whether all labels of a network are explained, to have them compete."""
        return getattr(self.build(), "every_label", False)

    @property
    def every_channel(self) -> bool:
        """Whether each channel of a layer takes one more pass."""
        return getattr(self.build(), "every_channel", False)


def _read() -> tuple[Card, ...]:
    file = resources.files(__package__) / "cards.toml"
    content = tomllib.loads(file.read_text(encoding="utf-8"))
    texts = content.pop("texts")
    return tuple(_card(name, entry, texts) for name, entry in content.items())


def _card(name: str, entry: dict[str, Any], texts: Mapping[str, str]) -> Card:
    formula = entry["formula"]
    if isinstance(formula, list):
        entry["formula"] = "".join(texts.get(part, part) for part in formula)
    for key in ("sources", "needs"):
        entry[key] = tuple(entry.get(key, ()))
    defaults = entry.get("defaults", {})
    entry["defaults"] = {key: texts.get(value, value) for key, value in defaults.items()}
    return Card(name=name, **entry | {"build": getattr(named, entry.get("build", name))})


CARDS = _read()
