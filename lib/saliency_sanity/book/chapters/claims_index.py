"""The ledger: every statement once, by paper and figure, with how its readings came out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

import nbformat

from saliency_sanity._markup import render
from saliency_sanity.book.chapters.claims import (
    DECIDED,
    VERDICTS,
    Claim,
    ClaimTable,
    read_claims,
    shown,
)
from saliency_sanity.book.chapters.statements import Statement, papers, statements
from saliency_sanity.book.runs.cases import Case
from saliency_sanity.verdict.robustness import MARGINS, holm

# What did not hold is what a reader looks for first.
WORDS = ("not reproduced", "mixed", "cannot tell", "reproduced", "not tested")
_SHOWN = {
    "paper": "Statements of papers",
    "identity": "Identities: what follows from definitions",
    "own": "This book's own statements",
}
_OURS = "This book"


def overall(verdicts: Iterable[str]) -> str:
    """One of ``WORDS`` for a statement, from the verdicts on its readings.

    ``mixed`` where one reading reproduces it and another does not. Otherwise what more than half
    of the readings that were tested say, and ``cannot tell`` where no more than half say anything.
    """
    tested = [verdict for verdict in verdicts if verdict != "not tested"]
    decided = [verdict for verdict in tested if verdict in DECIDED]
    if not tested:
        return "not tested"
    if len(set(decided)) > 1:
        return "mixed"
    return decided[0] if 2 * len(decided) > len(tested) else "cannot tell"


@dataclass(frozen=True)
class Reread:
    """A statement and its readings, each with its page."""

    statement: Statement
    about: str
    readings: tuple[tuple[str, Claim], ...]

    @property
    def words(self) -> str:
        """The statement in words."""
        return self.statement.said(self.about)

    @property
    def counts(self) -> dict[str, int]:
        """How many readings have which verdict."""
        verdicts = [claim.verdict for _, claim in self.readings]
        return {verdict: verdicts.count(verdict) for verdict in VERDICTS}

    @property
    def word(self) -> str:
        """What its readings say together, one of ``WORDS``."""
        return overall(claim.verdict for _, claim in self.readings)

    def word_at(self, margin: float) -> str:
        """What they would say together with another margin."""
        return overall(_verdict_at(claim, margin) for _, claim in self.readings)

    @property
    def tried(self) -> list[Claim]:
        """Readings that were tried at lower levels."""
        return [claim for _, claim in self.readings if claim.level is not None]

    @property
    def stay(self) -> list[Claim]:
        """Those of them whose verdict stays when all readings of the statement are held at once."""
        tried = self.tried
        stays = holm([claim.level for claim in tried])
        return [claim for claim, kept in zip(tried, stays, strict=True) if kept]

    @property
    def said(self) -> str:
        """How its readings came out, in a line."""
        counts = self.counts
        tested = len(self.readings) - counts["not tested"]
        agree, disagree = (counts[verdict] for verdict in DECIDED)
        parts = [f"{agree} agree{'s' * (agree == 1)}"] * bool(agree)
        parts += [f"{disagree} disagree{'s' * (disagree == 1)}"] * bool(disagree)
        if silent := tested - agree - disagree:
            parts.append(f"{silent} cannot tell")
        if tested == 1:
            parts = [f"1 reading {parts[0].removeprefix('1 ')}"]
        elif tested:
            parts[0] = f"of {tested} readings {parts[0]}"
        parts += [f"{counts['not tested']} not tested"] * bool(counts["not tested"])
        text = ", ".join(parts)
        decided = [claim for claim in self.tried if claim.verdict in DECIDED]
        if decided and len(self.tried) > 1:
            stay = f"{len(self.stay)} of {len(decided)} verdicts stay"
            text += f"; {stay} when all are tested together"
        return text

    def notes(self, claim: Claim) -> str:
        """What lower levels and other margins make of one of its readings, in words."""
        texts = []
        if claim.level is not None and claim.verdict in DECIDED and len(self.tried) > 1:
            kept = any(claim is other for other in self.stay)
            texts.append(
                f"{'Stays' if kept else 'Does not stay'} when all these readings are "
                "tested together."
            )
        other = [f"{verdict} with {key}" for key, verdict in claim.margins.items()
                 if verdict != claim.verdict]  # fmt: skip
        return " ".join(texts + [f"Another margin: {', '.join(other)}."] * bool(other))


@dataclass(frozen=True)
class Ledger:
    """Claims by page, in the order of the pages.

    Attributes
    ----------
    claims
        The claims of each page, by the name of its executed copy.
    pages
        What pages are called, by the same names; those without claims too.
    """

    claims: Mapping[str, ClaimTable]
    pages: Mapping[str, str]

    @cached_property
    def reread(self) -> list[Reread]:
        """Every statement that has a reading, in the order of ``statements.toml``."""
        found: dict[tuple[str, str], list[tuple[str, Claim]]] = {}
        for page, table in self.claims.items():
            for claim in table:
                found.setdefault((claim.of, claim.about), []).append((page, claim))
        places = {key: place for place, key in enumerate(statements())}
        return [
            Reread(statements()[of], about, tuple(readings))
            for (of, about), readings in sorted(found.items(), key=lambda item: places[item[0][0]])
        ]

    def of(self, kind: str) -> list[Reread]:
        """The statements of a kind."""
        return [found for found in self.reread if found.statement.kind == kind]

    def counts(self, kind: str) -> dict[str, int]:
        """How many statements of a kind have which word."""
        words = [found.word for found in self.of(kind)]
        return {word: words.count(word) for word in WORDS}

    @property
    def readings(self) -> int:
        """How many readings all statements have."""
        return sum(len(table) for table in self.claims.values())

    def places(self, kind: str) -> list[tuple[str, list[Reread]]]:
        """The statements of a kind by paper and figure, and what that is called."""
        keyed = [((found.statement.paper, found.statement.where), found) for found in self.of(kind)]
        order = list(dict.fromkeys(key for key, _ in keyed))
        keyed.sort(key=lambda item: order.index(item[0]))
        return [
            (f"{papers().get(paper, _OURS)}, {where}", [found for _, found in group])
            for (paper, where), group in groupby(keyed, key=lambda item: item[0])
        ]

    @property
    def summary(self) -> str:
        """How many statements came out how, as a few sentences."""
        kinds = {
            "paper": ("statement of papers", "statements of papers"),
            "identity": ("identity", "identities"),
            "own": ("statement of this book's own", "statements of this book's own"),
        }
        parts = []
        for kind, (one, several) in kinds.items():
            counts = {word: count for word, count in self.counts(kind).items() if count}
            listed = ", ".join(f"{count} {word}" for word, count in counts.items())
            if total := sum(counts.values()):
                parts.append(f"{total} {one if total == 1 else several}: {listed}")
        text = f"{'; '.join(parts) or _statements(0)}. "
        text += f"{_readings(self.readings)} on {len(self.claims)} pages."
        silent = [title for page, title in self.pages.items() if page not in self.claims]
        return text + (f" Without claims: {'; '.join(silent)}." if silent else "")

    @property
    def robustness(self) -> str:
        """How many verdicts on readings stay when all count, and what other margins change."""
        tried = [claim for found in self.reread for claim in found.tried]
        decided = sum(claim.verdict in DECIDED for claim in tried)
        stay = sum(len(found.stay) for found in self.reread)
        changed = []
        for margin in MARGINS:
            readings = sum(
                _verdict_at(claim, margin) != claim.verdict
                for table in self.claims.values()
                for claim in table
            )
            words = sum(found.word_at(margin) != found.word for found in self.reread)
            if any(
                f"{margin:g}" in claim.margins for table in self.claims.values() for claim in table
            ):
                changed.append(f"{margin:g} changes {_readings(readings)} and {_statements(words)}")
        text = (
            f"{stay} of {decided} verdicts stay when all readings of a statement are tested "
            "together."
        )
        return f"{text} A margin of {'; one of '.join(changed)}." if changed else text

    def _repr_html_(self) -> str:
        kinds = [(title, places) for kind, title in _SHOWN.items() if (places := self.places(kind))]
        template = "book/chapters/claims_index.html.j2"
        return render(template, ledger=self, kinds=kinds, shown=shown, counted=_statements)

    def _repr_markdown_(self) -> str:
        lines = [self.summary, self.robustness, "", "| Source | Statement | | Readings |"]
        lines.append("| --- | --- | --- | --- |")
        for kind in _SHOWN:
            for place, found in self.places(kind):
                for one in found:
                    cells = (place, one.words, one.word, one.said)
                    lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
        return "\n".join(lines)


def _verdict_at(claim: Claim, margin: float) -> str:
    return claim.margins.get(f"{margin:g}", claim.verdict)


def _readings(count: int) -> str:
    return f"{count} reading" + "s" * (count != 1)


def _statements(count: int) -> str:
    return f"{count} statement" + "s" * (count != 1)


def claims_list(results: str | Path, pages: Mapping[str, str]) -> Ledger:
    """Return every claim in ``<results>/claims`` that stands on one of the pages.

    Parameters
    ----------
    results
        The folder that the notebooks have written to.
    pages
        What pages are called, by the names of their executed copies, in the order of the list.

    Raises
    ------
    ValueError
        A file there is not a table of claims.
    """
    found = {table.notebook: table for table in read_claims(results)}
    return Ledger({page: found[page] for page in pages if page in found}, dict(pages))


def page_titles(folder: str | Path, copies: Mapping[str, Case]) -> dict[str, str]:
    """Return what the pages of executed copies are called, ordered by notebook.

    Parameters
    ----------
    folder
        Where the notebooks are.
    copies
        As ``cases.all_copies`` gives them.

    Raises
    ------
    ValueError
        A notebook has no heading ``# …``.
    """
    titles = {}
    for copy, case in sorted(copies.items(), key=lambda item: item[1].notebook):
        cells = nbformat.read(Path(folder) / f"{case.notebook}.ipynb", as_version=4).cells
        lines = [
            line
            for cell in cells
            if cell.cell_type == "markdown"
            for line in cell.source.splitlines()
            if line.startswith("# ")
        ]
        if not lines:
            raise ValueError(f"{case.notebook}.ipynb has no heading '# …'; give it one")
        titles[copy] = lines[0][2:].strip() + (f": {case.title}" if case.title else "")
    return titles
