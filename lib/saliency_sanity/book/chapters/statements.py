"""What papers and the book say, each statement once, whatever the number of its readings.

They are read from ``statements.toml``.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from saliency_sanity._errors import known

KINDS = ("paper", "identity", "own")


@dataclass(frozen=True)
class Statement:
    """A statement by itself.

    ``kind`` is one of ``KINDS``: a paper's on what it measured, an identity, or the book's own.
    ``paper`` is a key of the bibliography, ``""`` where the book says it by itself; ``where`` the
    figure or section. In ``words``, ``{about}`` is what a claim is about, such as a method.
    ``exact`` is true where no interval decides its readings, as none decides an identity's.

    Raises ValueError for an unknown kind, an empty text, or a paper's statement without a paper.
    """

    kind: str
    where: str
    words: str
    paper: str = ""
    exact: bool = False

    def __post_init__(self):
        known("kind", self.kind, KINDS)
        if not self.where.strip() or not self.words.strip():
            raise ValueError(f"a statement has an empty text: {self}")
        if not self.paper and self.kind == "paper":
            raise ValueError(f"{self.words!r} is a paper's, and names none")

    @property
    def takes_about(self) -> bool:
        """Whether it is one statement for each thing that it is about."""
        return "{about}" in self.words

    def said(self, about: str = "") -> str:
        """The statement in words."""
        return self.words.format(about=about)


def statement(key: str) -> Statement:
    """The statement of this name; ValueError, with the nearest name, for an unknown one."""
    return statements()[known("statement", key, statements())]


@cache
def statements() -> Mapping[str, Statement]:
    """All statements by name, in their order."""
    return {key: Statement(**entry) for key, entry in _read().items() if key != "papers"}


@cache
def papers() -> Mapping[str, str]:
    """What papers are called, by key of the bibliography."""
    return _read()["papers"]


def _read() -> dict[str, dict[str, str]]:
    text = (resources.files(__package__) / "statements.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
