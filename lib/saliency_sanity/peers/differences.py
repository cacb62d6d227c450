"""What other libraries do otherwise than their names suggest, a line each."""

import tomllib
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Difference:
    """One such line; ``key`` is the name of the test that shows it, without ``test_``.

    ``version`` is what it was seen with, ``thought`` what one would think, ``does`` what happens,
    ``verdict`` what that does to a verdict.
    """

    key: str
    library: str
    version: str
    thought: str
    does: str
    verdict: str


def differences() -> tuple[Difference, ...]:
    """All of them, by library."""
    text = (resources.files("saliency_sanity.peers") / "differences.toml").read_text("utf-8")
    return tuple(Difference(key, **entry) for key, entry in tomllib.loads(text).items())
