"""Which of several jobs this is, of those that have one work to do: ``2/8``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from saliency_sanity._errors import InputError

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Shard:
    """One of ``count`` jobs, ``number`` from 1 on; its text is ``2/8``.

    Raises InputError for a number out of range.
    """

    number: int
    count: int

    def __post_init__(self):
        if not 1 <= self.number <= self.count:
            valid = f"1/{self.count} to {self.count}/{self.count}" if self.count else "1/1 and up"
            raise InputError(f"shard '{self}' does not exist; valid are {valid}")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def read(cls, text: str) -> Shard:
        """Return the shard of a text; raises InputError for one that names none."""
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
        if match is None:
            raise InputError(f"shard {text!r} is none; write NUMBER/COUNT, as in '2/8'")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def all(cls, count: int) -> list[Shard]:
        """Return the shards of so many; none of one, which is no shard."""
        return [cls(number, count) for number in range(1, count + 1)] if count > 1 else []

    @property
    def stem(self) -> str:
        """Fit for a file's name."""
        return f"{self.number}of{self.count}"

    def of(self, items: Sequence[_Item]) -> list[_Item]:
        """Return this job's items: all jobs' together are each item once."""
        return list(items[self.number - 1 :: self.count])
