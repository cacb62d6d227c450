"""Why a verdict is open, and what else is to be known of a reading: types, without words.

In a table both are plain ASCII text; ``wording`` has what is shown of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from saliency_sanity._errors import known


class Obstacle(StrEnum):
    """What keeps a verdict open."""

    FEW_IMAGES = "few_images"
    """Too few images have a defined similarity for the tails of an interval."""
    CHANCE_UNDEFINED = "chance_undefined"
    """No similarity between different images is defined."""
    NO_ROOM = "no_room"
    """Chance leaves the similarity no room, so the metric cannot tell maps apart."""
    UNDEFINED_SIMILARITIES = "undefined_similarities"
    """Too many resamples have no kappa."""
    MARGIN_INSIDE = "margin_inside"
    """The interval holds the margin."""
    LINE_INSIDE = "line_inside"
    """The interval holds the line that a check draws instead of the margin."""
    NOT_MEMORIZED = "not_memorized"
    """The networks did not learn their permuted labels."""

    @classmethod
    def of(cls, text: str) -> Self | None:
        """The obstacle that a table names, None for no text; ValueError for an unknown one."""
        return cls(known("obstacle", text, cls)) if text else None


class NoteKind(StrEnum):
    """What a note is about."""

    ONE_NETWORK = "one_network"
    """The interval covers images only."""
    OF_IMAGES = "of_images"
    """So many images there were, of which some have no defined similarity; with a count."""


@dataclass(frozen=True)
class Note:
    """Something to be known of a reading beside its obstacle, with a count where it has one.

    As text it is ``one_network`` or ``of_images:20``.
    """

    kind: NoteKind
    count: int | None = None

    def __post_init__(self):
        if (self.kind is NoteKind.OF_IMAGES) != (self.count is not None):
            raise ValueError(f"note {self}: only of_images has a count, and always")

    def __str__(self) -> str:
        return self.kind.value if self.count is None else f"{self.kind.value}:{self.count}"

    @classmethod
    def of(cls, text: str) -> Self:
        """The note that a table names; ValueError for an unknown one."""
        name, _, count = text.partition(":")
        kind = NoteKind(known("note", name, NoteKind))
        if count and not count.isdecimal():
            raise ValueError(f"note {text!r}: {count!r} is no count")
        return cls(kind, int(count) if count else None)


def notes_text(notes: Iterable[Note]) -> str:
    """Notes as a table has them: one after the other, with spaces between."""
    return " ".join(map(str, notes))


def notes_of(text: str) -> tuple[Note, ...]:
    """Undo ``notes_text``; ValueError for an unknown note."""
    return tuple(map(Note.of, text.split()))
