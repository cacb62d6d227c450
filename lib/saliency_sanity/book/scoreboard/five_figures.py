"""The five figures that the book reruns: one word for each, from the readings of its statements."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from saliency_sanity._files import replacing
from saliency_sanity._markup import render
from saliency_sanity.book.chapters.claims import DECIDED, VERDICTS
from saliency_sanity.book.chapters.claims_index import Ledger, overall
from saliency_sanity.verdict.obstacle import OPEN

# By figure the statements, names in statements.toml, that make up what its card says of the paper.
FIVE: Mapping[str, tuple[str, ...]] = {
    "edges": ("edges-like-methods", "guided-like-edges"),
    "weights": ("weights-change", "upper-layers-leave", "lower-layers-change", "products-stay"),
    "labels": (
        *("labels-change", "labels-break-up", "labels-cover"),
        *("labels-change-visibly", "labels-keep-shape"),
    ),
    "competition": ("competition-passes-weights", "competition-passes-labels"),
    "bias": ("dark-below-average", "product-darkens", "zero-is-convention", "follows-input"),
}


@dataclass(frozen=True)
class Badge:
    """How a figure came out: a word, and how many readings stand behind it.

    Attributes
    ----------
    word
        One of ``claims_index.WORDS``.
    counts
        Readings by verdict.
    """

    word: str
    counts: Mapping[str, int]

    @property
    def said(self) -> str:
        """The counts in words."""
        tested = sum(self.counts.values()) - self.counts["not tested"]
        if not tested:
            return "No reading could be tested."
        agree, disagree = (self.counts[verdict] for verdict in DECIDED)
        near, untold = (self.counts[word] for word in OPEN)
        parts = [f"{agree} agree", f"{disagree} disagree", f"{near + untold} open"]
        why = [f"{near} too near to call"] * bool(near) + [f"{untold} cannot tell"] * bool(untold)
        return (
            f"{tested} reading{'s' * (tested != 1)}: {', '.join(parts)}"
            + f" ({', '.join(why)})" * bool(why)
            + "."
        )

    @property
    def markup(self) -> str:
        """A line of HTML."""
        return render("book/scoreboard/badge.html.j2", badge=self)


def badges(ledger: Ledger) -> dict[str, Badge]:
    """The badge of each figure, by its name in ``FIVE``."""
    found = {}
    for figure, keys in FIVE.items():
        verdicts = [
            claim.verdict for table in ledger.claims.values() for claim in table if claim.of in keys
        ]
        counts = {verdict: verdicts.count(verdict) for verdict in VERDICTS}
        found[figure] = Badge(overall(verdicts), counts)
    return found


def write_badges(ledger: Ledger, folder: Path) -> None:
    """Write each badge as ``badge-<figure>.html`` into ``folder``, for the landing page."""
    folder.mkdir(parents=True, exist_ok=True)
    for figure, badge in badges(ledger).items():
        with replacing(folder / f"badge-{figure}.html") as temporary:
            temporary.write_text(badge.markup, encoding="utf8")
