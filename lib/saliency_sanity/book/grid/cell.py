"""Cells of a grid: one run each, under a name that says what it is."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from saliency_sanity._errors import InputError
from saliency_sanity.book.runs.cases import Case

# A file name has at most 255 bytes, and a temporary one adds some.
_LONGEST = 150


@dataclass(frozen=True)
class Cell:
    """One run of a grid's notebook.

    Attributes
    ----------
    name
        Of its files, unique in the grid.
    label
        The name that the grid gives the case; empty in a grid without cases.
    case
        The notebook's own case that it is; None for the notebook itself.
    given
        What the grid sets, in the types that the notebook declares.
    values
        Every parameter with the value that it will have, but those that the runner sets.
    networks
        Files of the trained networks that its case needs.
    """

    name: str
    label: str
    case: Case | None
    given: Mapping[str, Any]
    values: Mapping[str, Any]
    networks: tuple[str, ...] = ()

    @property
    def signature(self) -> list[Any]:
        """What determines the executed copy, apart from code and networks, in plain values."""
        title = [self.case.name, self.case.title] if self.case else []
        return [*title, *map(list, sorted(self.values.items()))]


def cell_name(notebook: str, label: str, point: Mapping[str, Any]) -> str:
    """Return ``NOTEBOOK-LABEL-parameter=value-…``, fit for file names, shells and Snakemake."""
    return "-".join(filter(None, [notebook, label, *(f"{k}={_word(v)}" for k, v in point.items())]))


def distinct(cells: Sequence[Cell], where: str) -> list[Cell]:
    """Return cells whose names are unique: those too long or not unique end in a digest.

    Parameters
    ----------
    cells
        In order.
    where
        Whose they are, for the message.

    Raises
    ------
    InputError
        Two cells have the same parameters.
    """
    seen = {}
    for cell in cells:
        other = seen.setdefault(_key(cell.values), cell)
        if other is not cell:
            both = " and ".join(dict.fromkeys((other.name, cell.name)))
            raise InputError(f"{where}: the same parameters come twice: {both}; leave one out")
    # Some file systems take upper and lower case for the same.
    often = Counter(cell.name.lower() for cell in cells)
    return [
        _with_digest(cell) if len(cell.name) > _LONGEST or often[cell.name.lower()] > 1 else cell
        for cell in cells
    ]


def _with_digest(cell: Cell) -> Cell:
    digest = hashlib.sha256(_key(cell.given).encode()).hexdigest()[:8]
    return replace(cell, name=f"{cell.name[:_LONGEST]}-{digest}")


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "+".join(map(_word, value)) or "none"
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", str(value)) or "none"


def _key(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)
