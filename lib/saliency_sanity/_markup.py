"""HTML from templates that lie beside the modules whose content they show."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

# Where a long word may be parted, and a word with a hyphen that fits into a line of a tile.
_PARTS = re.compile(r"(?<=\bback)(?=prop)|_(?=\w)")
_HYPHENED = re.compile(r"(?<!\S)(?=\S{3,12}(?!\S))(\S*-\S+)")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["by_words"] = by_words
    return environment


def by_words(name: str) -> str:
    """A text whose lines end where words do: not at the hyphen of a short one, such as LRP-ε.

    Long ones are parted after ``back`` and after underscores.
    """
    whole = r'<span style="white-space: nowrap">\1</span>'
    parted = _PARTS.sub(r"\g<0><wbr>", str(escape(name)))
    return Markup(_HYPHENED.sub(whole, parted))


def render(template: str, **values: Any) -> str:
    """Return the text of a template, every value in it escaped for HTML.

    Parameters
    ----------
    template
        Its file from the library's folder on, such as ``book/chapters/claims.html.j2``.
    values
        What it shows, by the names that it has for it; a missing one is an error.
    """
    return _environment().get_template(template).render(values)


@dataclass(frozen=True)
class Displayed:
    """What a notebook shows as it is; ``markup`` is HTML that needs nothing else."""

    markup: str
    summary: str

    def _repr_html_(self) -> str:
        return self.markup

    def __repr__(self) -> str:
        return self.summary
