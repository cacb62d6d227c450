"""Errors, and how they speak of names: what was asked for, what is nearest, what there is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def known(kind: str, name: object, valid: Iterable) -> object:
    """Return ``name`` if it is among the valid ones, else raise ValueError that lists them."""
    valid = list(valid)
    if name not in valid:
        raise ValueError(unknown(kind, name, valid))
    return name


def unknown(kind: str, name: object, valid: Iterable[str], most: int = 30) -> str:
    """Say that ``name`` is no known ``kind`` and list the nearest valid names, then the others."""
    valid = list(map(str, valid))
    folded = {key.lower(): key for key in valid}
    near = [
        folded[key]
        for key in difflib.get_close_matches(str(name).lower(), list(folded), n=3, cutoff=0.5)
    ]
    hint = f" Nearest: {', '.join(near)}." if near else ""
    rest = ", ".join(valid[:most]) + (f", … ({len(valid)} in all)" if len(valid) > most else "")
    return f"unknown {kind} {name!r}.{hint} Valid: {rest or 'none'}."


class NotApplicable(ValueError):  # noqa: N818
    """A method that cannot say anything about this network, with the reason."""


class InputError(ValueError):
    """Something that the caller gave is wrong; the message names it and says what is valid."""
