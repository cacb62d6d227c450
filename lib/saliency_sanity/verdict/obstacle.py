"""Why a verdict is open, and what else is to be known of a reading: types, without words.

In a table both are plain ASCII text; ``wording`` has what is shown of them.
"""

from enum import StrEnum
from typing import NamedTuple, Self

from saliency_sanity._errors import known

# Verdicts that are none, each with an obstacle: more pictures or networks may help, or nothing.
INCONCLUSIVE, CANNOT_TELL = OPEN = ("inconclusive", "cannot tell")

# With fewer pictures the t quantile is 3.2 or more, and nothing tells whether their tails are long.
LEAST_IMAGES = 5


class Obstacle(StrEnum):
    """What keeps a verdict open."""

    FEW_IMAGES = "few_images"  # with a defined similarity
    CHANCE_UNDEFINED = "chance_undefined"  # by no two different images
    NO_ROOM = "no_room"  # between chance and 1: the metric cannot tell maps apart
    UNDEFINED_SIMILARITIES = "undefined_similarities"  # but for those of one network of several
    VANISHED = "vanished"  # above, but not with what has no similarity counted as changed
    MARGIN_INSIDE = "margin_inside"  # the interval holds the margin
    LINE_INSIDE = "line_inside"  # it holds the line that a check draws instead
    NOT_MEMORIZED = "not_memorized"  # the networks did not learn their permuted labels
    LOW_CEILING = "low_ceiling"  # maps differ as much where nothing has changed that matters
    SHARE_INSIDE = "share_inside"  # the interval of a share of another kappa holds the line
    UNCLEAR_CEILING = "unclear_ceiling"  # that other kappa is not clearly above the margin

    @classmethod
    def of(cls, text: str) -> Self | None:
        """The obstacle that a table names, None for no text; ValueError for an unknown one."""
        return cls(known("obstacle", text, cls)) if text else None


class CeilingKind(StrEnum):
    """What a map was compared with, though nothing had changed that should matter."""

    ARITHMETIC = "arithmetic"  # itself in double precision, one picture at a time
    RANDOM_ARITHMETIC = "random_arithmetic"  # the same, of the random network
    SEEDS = "seeds"  # the map of another training of the same network
    DETECTOR = "detector"  # edges, found by another detector


class NoteKind(StrEnum):
    """What a note is about."""

    ONE_NETWORK = "one_network"  # the interval is for this network
    OF_IMAGES = "of_images"  # so many there were, not all with a defined similarity


class Note(NamedTuple):
    """Something to be known of a reading; as text ``one_network`` or ``of_images:20``."""

    kind: NoteKind
    count: int | None = None

    def __str__(self) -> str:
        return self.kind.value if self.count is None else f"{self.kind.value}:{self.count}"


def notes_of(text: str) -> tuple[Note, ...]:
    """The notes that a table names, with spaces between; ValueError for an unknown one."""
    notes = []
    for note in text.split():
        name, _, count = note.partition(":")
        kind = NoteKind(known("note", name, NoteKind))
        if count.isdecimal() != (kind is NoteKind.OF_IMAGES):
            raise ValueError(f"note {note!r}: of_images has a count, as of_images:20, no other")
        notes.append(Note(kind, int(count) if count else None))
    return tuple(notes)
