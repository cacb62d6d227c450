"""Claims: what a paper said, what we got, what chance gives, and the verdict.

A claim is one reading of a statement: by one page, so of one network and its pictures, and mostly
by one similarity.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from saliency_sanity._errors import unknown
from saliency_sanity._files import read_json, results_folder, write_json
from saliency_sanity._markup import render
from saliency_sanity.book.chapters.statements import Statement, statement
from saliency_sanity.verdict.obstacle import CANNOT_TELL
from saliency_sanity.verdict.robustness import MARGINS

VERDICTS = ("reproduced", "not reproduced", "inconclusive", CANNOT_TELL, "not tested")
DECIDED = ("reproduced", "not reproduced")
# At which levels claims are tried; what one statement's readings need together lies among them.
LEVELS = tuple(0.05 / readings for readings in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32))

Value = float | int | str | None


@dataclass(frozen=True)
class Claim:
    """One reading of a statement beside our measurement.

    Attributes
    ----------
    id
        Short name, unique in its table, e.g. ``"C5"``.
    statement
        The claim in one sentence, as its page says it.
    source
        Where the paper says it.
    paper_said
        The paper's number, or its words where it gives none.
    measured
        What we got.
    chance
        What unrelated pictures give, on the same scale; None where there is no such thing.
    verdict
        One of ``VERDICTS``.
    reason
        Why this verdict, in one sentence.
    of
        The statement that it is a reading of, a name in ``statements.toml``.
    about
        What the statement is about, such as a method's title; empty where it names all itself.
    by
        The similarity that decides, by the catalogue's name; empty where there is none or several.
    level
        The least of ``LEVELS`` at which the verdict is the same, so that intervals of confidence
        1 - level decide as these do; 1 where it is open. None where no interval decides, or none
        was tried.
    margins
        The verdict that another margin would have given, by the margin as text.

    Raises
    ------
    ValueError
        The verdict is not one of ``VERDICTS``, a text is empty, a claim is decided on a number that
        is not finite, or there is no such statement, or not about such a thing.
    """

    id: str
    statement: str
    source: str
    paper_said: Value
    measured: Value
    chance: Value
    verdict: str
    reason: str
    of: str
    about: str = ""
    by: str = ""
    level: float | None = None
    margins: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        if self.verdict not in VERDICTS:
            raise ValueError(f"claim {self.id!r}: {unknown('verdict', self.verdict, VERDICTS)}")
        for name in ("id", "statement", "source", "reason"):
            if not str(getattr(self, name)).strip():
                raise ValueError(f"claim {self.id!r}: {name!r} is empty; say it in one sentence")
        if self.meant.takes_about != bool(self.about):
            needs = "needs" if self.meant.takes_about else "takes no"
            raise ValueError(f"claim {self.id!r}: statement {self.of!r} {needs} 'about'")
        for name in ("measured", "chance"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                value = float(value)
                object.__setattr__(self, name, value)
            decided = self.verdict in DECIDED
            undefined = value is None if name == "measured" else False
            undefined = undefined or (isinstance(value, float) and not math.isfinite(value))
            if decided and undefined:
                raise ValueError(
                    f"claim {self.id!r}: {self.verdict!r} cannot rest on {name} = {value}; "
                    "give a finite value, or the verdict 'inconclusive' or 'not tested'"
                )

    @property
    def meant(self) -> Statement:
        """The statement that it is a reading of."""
        return statement(self.of)


@dataclass
class ClaimTable:
    """The claims of one notebook, in the order of the page.

    Attributes
    ----------
    notebook
        Name of the notebook without its ending, e.g. ``"01_edge_detectors"``.
    claims
        The claims so far.
    """

    notebook: str
    claims: list[Claim] = field(default_factory=list)

    def __iter__(self) -> Iterator[Claim]:
        return iter(self.claims)

    def __len__(self) -> int:
        return len(self.claims)

    def add(
        self,
        id: str,
        statement: str,
        *,
        source: str,
        paper_said: Value,
        measured: Value,
        verdict: str,
        reason: str,
        of: str,
        chance: Value = None,
        about: str = "",
        by: str = "",
    ) -> Claim:
        """Append a claim; the arguments are those of :class:`Claim`.

        Raises
        ------
        ValueError
            The claim is invalid, or its name is taken.
        """
        texts = (id, statement, source, paper_said, measured, chance, verdict, reason)
        return self._put(Claim(*texts, of=of, about=about, by=by))

    def try_claims(
        self, make: Callable[[ClaimTable, float, float], object], margin: float
    ) -> list[Claim]:
        """Append the claims that ``make(table, margin, level)`` adds to a table; see ``tried``."""

        def alone(margin: float, level: float) -> ClaimTable:
            table = ClaimTable(self.notebook)
            make(table, margin, level)
            return table

        return [self._put(claim) for claim in tried(alone, margin)]

    def _put(self, claim: Claim) -> Claim:
        if any(other.id == claim.id for other in self.claims):
            taken = f"there is a claim {claim.id!r} already; ids are unique"
            raise ValueError(f"{self.notebook}: {taken}")
        self.claims.append(claim)
        return claim

    def write(self, folder: str | Path) -> Path:
        """Write ``<folder>/claims/<notebook>.json`` in one step and return its path.

        Raises
        ------
        ResultsError
            The folder cannot be written.
        ValueError
            There is no claim in the table.
        """
        if not self.claims:
            raise ValueError(f"{self.notebook}: the claim table is empty; add a claim first")
        target = results_folder(Path(folder) / "claims") / f"{self.notebook}.json"
        content = {"notebook": self.notebook, "claims": [asdict(claim) for claim in self.claims]}
        return write_json(content, target)

    @classmethod
    def read(cls, path: str | Path) -> ClaimTable:
        """Read a table that :meth:`write` wrote.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        ValueError
            The file holds something else.
        """
        content = read_json(path)
        names = {item.name for item in fields(Claim)}
        try:
            claims = [Claim(**{name: claim[name] for name in names}) for claim in content["claims"]]
            return cls(content["notebook"], claims)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{str(path)!r} is not a table of claims: {error!r}") from error

    def show(self) -> ClaimTable:
        """Return the table for display as the last expression of a cell."""
        return self

    @property
    def summary(self) -> str:
        """How the claims came out, as Markdown, with counts first and then names by verdict."""
        if not self.claims:
            return "No claim of a paper is about what was run here."
        names = {}
        for verdict in VERDICTS:
            if ids := [_plain(claim.id) for claim in self if claim.verdict == verdict]:
                names[verdict] = ids
        counts = ", ".join(f"{len(ids)} {verdict}" for verdict, ids in names.items())
        lines = (f"* *{verdict}*: {' · '.join(ids)}" for verdict, ids in names.items())
        head = f"**{len(self)} claim{'s' * (len(self) > 1)}: {counts}.**"
        tried = [claim for claim in self if claim.margins]
        others = [
            f"{sum(claim.margins[margin] != claim.verdict for claim in tried)} with {margin}"
            for margin in (tried[0].margins if tried else ())
        ]
        if others:
            head += f" Verdicts that another margin would change: {' and '.join(others)}."
        return "\n".join([head, "", *lines])

    def _repr_html_(self) -> str:
        return render("book/chapters/claims.html.j2", claims=self.claims, shown=shown)

    def _repr_markdown_(self) -> str:
        rows = [
            "| Claim | Verdict | Paper said | We got | Chance |",
            "| --- | --- | --- | --- | --- |",
        ]
        for claim in self.claims:
            cells = (
                f"{claim.id}. {claim.statement} ({claim.source})",
                f"**{claim.verdict}**: {claim.reason}",
                shown(claim.paper_said),
                shown(claim.measured),
                shown(claim.chance),
            )
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        return "\n".join(rows)


def tried(make: Callable[[float, float], ClaimTable], margin: float) -> ClaimTable:
    """A page's claims, each with what other margins and lower levels make of its verdict.

    ``make(margin, level)`` gives the claims of the same readings held against a margin by intervals
    of confidence 1 - ``level``. Claims that some settings do not have are as open there.
    """
    table = make(margin, LEVELS[0])

    def verdicts(margin: float, level: float) -> dict[str, str]:
        return {claim.id: claim.verdict for claim in make(margin, level)}

    margins = {f"{other:g}": verdicts(other, LEVELS[0]) for other in MARGINS if other != margin}
    levels = {level: verdicts(margin, level) for level in LEVELS[1:]}
    for place, claim in enumerate(table.claims):
        others = {name: found.get(claim.id, "inconclusive") for name, found in margins.items()}
        table.claims[place] = replace(claim, level=_least(claim, levels), margins=others)
    return table


def _least(claim: Claim, levels: Mapping[float, Mapping[str, str]]) -> float | None:
    if claim.meant.exact or claim.verdict == "not tested":
        return None
    if claim.verdict not in DECIDED:
        return 1.0
    least = LEVELS[0]
    for level, verdicts in levels.items():
        if verdicts.get(claim.id) != claim.verdict:
            break
        least = level
    return least


def read_claims(folder: str | Path) -> list[ClaimTable]:
    """Read every table in ``<folder>/claims``, ordered by notebook; none gives an empty list.

    Raises
    ------
    ValueError
        A file there is not a table of claims.
    """
    return [ClaimTable.read(path) for path in sorted((Path(folder) / "claims").glob("*.json"))]


def _plain(text: str) -> str:
    """A text that Markdown leaves as it is."""
    return re.sub(r"([\\`*_\[\]<>$])", r"\\\1", text)


def shown(value: Value) -> str:
    """What a claim rests on as text: numbers to three digits, a dash for what there is not."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return value if isinstance(value, str) else f"{value:.3g}".replace("-", "−")


def judge(verdicts: Iterable[str], wanted: str = "above") -> str:
    """The verdict on a claim that every reading (``below``, ``above``, …) should be ``wanted``.

    ``reproduced`` where all are, ``not reproduced`` where all are decided otherwise, and
    ``inconclusive`` where readings disagree, are themselves inconclusive, or are none. Where one of
    them cannot tell, neither can the claim.
    """
    verdicts = list(verdicts)
    if CANNOT_TELL in verdicts:
        return CANNOT_TELL
    if not verdicts or "inconclusive" in verdicts:
        return "inconclusive"
    hits = [verdict == wanted for verdict in verdicts]
    return "reproduced" if all(hits) else "inconclusive" if any(hits) else "not reproduced"


def resting(verdict: str, readings: Iterable[str]) -> str:
    """The verdict on a claim that rests on readings: where one of them cannot tell, it can't."""
    return CANNOT_TELL if CANNOT_TELL in readings else verdict
