"""The scoreboard as a table of links: each verdict leads to the page that shows why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import pandas as pd

from saliency_sanity._markup import render
from saliency_sanity.book.scoreboard.chart import columns_of, look, looks
from saliency_sanity.book.scoreboard.columns import CHECKS, Check
from saliency_sanity.book.scoreboard.table import in_order, method_title
from saliency_sanity.verdict.wording import kappa_text, rounded

_NAMED = 4  # so many methods or checks are named where a reason is given, and more are counted
_MARKS = {"o": "●", "s": "■", "D": "◆", "X": "✖", "^": "▲", "v": "▼"}


@dataclass(frozen=True)
class Scorecard:
    """A scoreboard for display: rows methods, columns checks, cells links.

    Attributes
    ----------
    table
        As ``table.read_scoreboard`` gives it.
    checks
        The columns that there may be; ValueError where the table has another.
    blank
        Why a method has no verdict in a check, by both, as ``table.reasons`` gives it.
    """

    table: pd.DataFrame
    checks: Sequence[Check] = CHECKS
    blank: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def __post_init__(self):
        columns_of(self.table, self.checks)

    def _cells(self) -> dict[tuple[str, str], pd.Series]:
        return {(row["method"], row["check"]): row for _, row in self.table.iterrows()}

    def _repr_html_(self) -> str:
        columns, cells = columns_of(self.table, self.checks), self._cells()
        questions = groupby(columns, key=lambda check: check.question)
        methods, controls = in_order(self.table["method"])
        return render(
            "book/scoreboard/scorecard.html.j2",
            key=[
                (standing, _MARKS[mark], words) for standing, (_, mark, words) in looks(self.table)
            ],
            questions=[(question, len(list(group))) for question, group in questions],
            checks=columns,
            notes=self._notes(columns),
            bodies=[
                (kind, [(method_title(name), self._row(name, columns, cells)) for name in names])
                for kind, names in (("methods", methods), ("controls", controls))
            ],
        )

    def _row(
        self,
        name: str,
        columns: Sequence[Check],
        cells: Mapping[tuple[str, str], pd.Series],
    ) -> list[dict[str, str]]:
        """What the template shows of a method's cells."""
        return [
            _cell(cells[name, check.key], check)
            if (name, check.key) in cells
            else {"blank": self.blank.get((name, check.key), "Not measured.")}
            for check in columns
        ]

    def _repr_markdown_(self) -> str:
        columns, cells = columns_of(self.table, self.checks), self._cells()
        heads = ["Method", *map(_head, columns)]
        lines = ["| " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(columns)]
        methods, controls = in_order(self.table["method"])
        for name in (*methods, *controls):
            found = [cells.get((name, check.key)) for check in columns]
            texts = [
                "–" if cell is None else f"[{cell['words']}, {kappa_text(cell)}]({cell['link']})"
                for cell in found
            ]
            lines.append("| " + " | ".join([method_title(name), *texts]) + " |")
        for names, asked, reason in self._notes(columns):
            lines.append(f"\n{asked}, {names}: {reason}")
        return "\n".join(lines)

    def _notes(self, columns: Sequence[Check]) -> list[tuple[str, str, str]]:
        """Methods, checks and why there is no verdict, a reason each."""
        heads = {check.key: f"{check.question}: {check.title}" for check in columns}
        missing: dict[tuple[str, str], list[str]] = {}
        for (method, check), reason in self.blank.items():
            missing.setdefault((reason, check), []).append(method_title(method))
        alike: dict[tuple[str, ...], list[str]] = {}
        for (reason, check), names in missing.items():
            alike.setdefault((reason, *names), []).append(heads[check])
        return [
            (
                ", ".join(names) if len(names) <= _NAMED else f"{len(names)} methods and controls",
                ", ".join(asked) if len(asked) <= _NAMED else f"{len(asked)} checks",
                reason,
            )
            for (reason, *names), asked in alike.items()
        ]


def _head(check: Check) -> str:
    kept = f" ([batch norms kept]({check.kept}))" if check.kept else ""
    return f"{check.question}: {check.title}{kept}"


def _cell(row: pd.Series, check: Check) -> dict[str, str]:
    block = f" at {row['stage']}" if row["stage"] else ""
    value = rounded(row["kappa"])
    low, high = (rounded(row[end], row["margin"]) for end in ("low", "high"))
    return {
        "blank": "",
        "standing": row["standing"],
        "link": row["link"],
        "label": f"{method_title(row['method'])}, {check.question}, {check.title}: {row['words']}, "
        f"kappa {kappa_text(row)}{block}",
        "sign": _MARKS[look(row)[1]],
        "value": value,
        "limits": f"{low} to {high}" if value != "–" else "undefined",
    }
