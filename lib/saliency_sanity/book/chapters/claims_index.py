"""The ledger: every claim of every page in one list, by verdict, with what it rests on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nbformat

from saliency_sanity._markup import render
from saliency_sanity.book.chapters.claims import (
    VERDICTS,
    Claim,
    ClaimTable,
    read_claims,
    shown,
)
from saliency_sanity.book.runs.cases import Case
from saliency_sanity.verdict.obstacle import CANNOT_TELL

# What did not hold is what a reader looks for first.
ORDER = ("not reproduced", "inconclusive", CANNOT_TELL, "reproduced", "not tested")


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

    @property
    def counts(self) -> dict[str, int]:
        """How many claims have which verdict."""
        return {verdict: len(self.of(verdict)) for verdict in VERDICTS}

    def of(self, verdict: str) -> list[tuple[str, Claim]]:
        """The claims of a verdict, each with its page."""
        return [
            (page, claim)
            for page, table in self.claims.items()
            for claim in table
            if claim.verdict == verdict
        ]

    @property
    def summary(self) -> str:
        """How many claims came out how, as one or two sentences."""
        counts = self.counts
        total = f"{sum(counts.values())} claims on {len(self.claims)} pages"
        text = f"{total}: {', '.join(f'{counts[verdict]} {verdict}' for verdict in ORDER)}."
        silent = [title for page, title in self.pages.items() if page not in self.claims]
        return text + (f" Without claims: {'; '.join(silent)}." if silent else "")

    def _repr_html_(self) -> str:
        groups = [(verdict, found) for verdict in ORDER if (found := self.of(verdict))]
        template = "book/chapters/claims_index.html.j2"
        return render(template, ledger=self, groups=groups, shown=shown)

    def _repr_markdown_(self) -> str:
        lines = [self.summary, "", "| Verdict | Page | Claim | Reason |"]
        lines.append("| --- | --- | --- | --- |")
        for verdict in ORDER:
            for page, claim in self.of(verdict):
                cells = (verdict, f"[{self.pages[page]}]({page}.html)")
                cells += (f"{claim.id}. {claim.statement}", claim.reason)
                lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        return "\n".join(lines)


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
