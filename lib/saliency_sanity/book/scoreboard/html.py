"""The scoreboard as a table to use: sorted, filtered, each verdict with its reason."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import pandas as pd

from saliency_sanity._markup import render
from saliency_sanity.book.chapters.measured import MOVES, RISE
from saliency_sanity.book.scoreboard.chart import columns_of, look, looks
from saliency_sanity.book.scoreboard.columns import CHECKS, Check
from saliency_sanity.book.scoreboard.table import in_order, method_title
from saliency_sanity.probes.units import MOVED
from saliency_sanity.verdict.wording import METRIC_TITLES, kappa_text, rounded

_NAMED = 4  # so many methods or checks are named where a reason is given, and more are counted
_MARKS = {"o": "●", "s": "■", "D": "◆", "X": "✖", "^": "▲", "v": "▼"}
_MEASURES = METRIC_TITLES | {
    MOVED: "the same map or not",
    RISE: "entropy of the map",
    MOVES: "share on the object",
}
# Which of several cells is the worst; one that is decided never hides one that is open.
_RANKS = {"wanted": 0, "below": 0, "open": 1, "cannot": 2, "unwanted": 3, "above": 3}


@dataclass(frozen=True)
class Scorecard:
    """A scoreboard for display: rows methods, columns checks or questions, cells verdicts.

    Without scripts it is a table with a column a check, whose cells are links. With them it has a
    column a question first, with the worst case of its checks, and can be sorted and filtered.

    Attributes
    ----------
    table
        As ``table.read_scoreboard`` gives it.
    checks
        The columns that there may be; ValueError where the table has another.
    blank
        Why a method has no verdict in a check, by both, as ``table.reasons`` gives it.
    others
        The same table with other margins, by margin, as ``table.at_margins`` gives it; ValueError
        where one has other methods or checks.
    """

    table: pd.DataFrame
    checks: Sequence[Check] = CHECKS
    blank: Mapping[tuple[str, str], str] = field(default_factory=dict)
    others: Mapping[float, pd.DataFrame] = field(default_factory=dict)

    def __post_init__(self):
        columns_of(self.table, self.checks)
        for margin, other in self.others.items():
            if set(_cells(other)) != set(_cells(self.table)):
                raise ValueError(f"with margin {margin:g} the scoreboard has other cells")

    @property
    def _boards(self) -> dict[str, pd.DataFrame]:
        """The tables by the name of their margin, the page's own first."""
        own = self.table.loc[self.table["held"] == "", "margin"].unique()
        name = " and ".join(f"{margin:g}" for margin in sorted(own))
        if not name:
            return {"": self.table}
        others = {f"{margin:g}": board for margin, board in self.others.items()}
        return {name: self.table} | {key: others[key] for key in others if key != name}

    def _repr_html_(self) -> str:
        columns = columns_of(self.table, self.checks)
        boards = self._boards
        questions = groupby(columns, key=lambda check: check.question)
        cells = {margin: _cells(board) for margin, board in boards.items()}
        bodies = [
            (kind, [(method_title(name), self._row(name, columns, cells)) for name in names])
            for kind, names in zip(
                ("methods", "controls"), in_order(self.table["method"]), strict=True
            )
        ]
        return render(
            "book/scoreboard/scorecard.html.j2",
            key=[
                (standing, _MARKS[mark], words)
                for standing, (_, mark, words) in looks(pd.concat(list(boards.values())))
            ],
            questions=[(question, len(list(group))) for question, group in questions],
            checks=columns,
            notes=self._notes(columns),
            margins=sorted(boards),
            bodies=bodies,
            choices={
                "Network": _several(check.subject for check in columns),
                "Question": _several(check.question for check in columns),
                "Similarity": _several(_measure(check) for check in columns),
            },
            data={
                "margins": list(boards),
                "columns": [
                    {
                        "question": check.question,
                        "title": check.title,
                        "network": check.subject,
                        "similarity": _measure(check),
                        "kept": check.kept,
                        "wanted": check.wanted,
                    }
                    for check in columns
                ],
                "bodies": [
                    [kind, [{"name": name, "cells": row} for name, row in rows]]
                    for kind, rows in bodies
                ],
            },
        )

    def _row(
        self,
        name: str,
        columns: Sequence[Check],
        cells: Mapping[str, Mapping[tuple[str, str], pd.Series]],
    ) -> list[list[dict]]:
        """What is shown of a method's cells, by column and margin; one that changes nothing has {}.

        What has no verdict has its reason, ``blank``, alone.
        """
        found = []
        for check in columns:
            at = name, check.key
            if at not in next(iter(cells.values())):
                found.append([{"blank": self.blank.get(at, "Not measured.")}])
                continue
            first, *others = (_cell(board[at], check) for board in cells.values())
            found.append([first, *({} if other == first else other for other in others)])
        return found

    def _repr_markdown_(self) -> str:
        columns, cells = columns_of(self.table, self.checks), _cells(self.table)
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


def _cells(table: pd.DataFrame) -> dict[tuple[str, str], pd.Series]:
    return {(row["method"], row["check"]): row for _, row in table.iterrows()}


def _several(names: Iterable[str]) -> list[str]:
    """The names, each once, if one can choose between them."""
    found = list(dict.fromkeys(names))
    return found if len(found) > 1 else []


def _measure(check: Check) -> str:
    return _MEASURES[check.metric]


def _without(missing: int) -> str:
    return f" without {missing} maps that have none" * bool(missing)


def _cell(row: pd.Series, check: Check) -> dict[str, str | float | None]:
    """What is shown of a verdict; ``rank`` and ``worse`` say what is the worst of several."""
    value = rounded(row["kappa"])
    low, high = (rounded(row[end], row["margin"]) for end in ("low", "high"))
    neutral = row["standing"] == "neutral"
    sign = -1 if check.wanted == "above" else 1
    return {
        "standing": row["standing"],
        "sign": _MARKS[look(row)[1]],
        "value": value,
        "limits": f"{low} to {high}" if value != "–" else "undefined",
        "words": row["words"],
        "kappa": kappa_text(row) + _without(row["missing"]),
        "at": row["stage"],
        "held": row["held"],
        "link": row["link"],
        "rank": _RANKS[row["verdict"] if neutral else row["standing"]],
        "worse": None if math.isnan(row["kappa"]) else round(sign * row["kappa"], 6),
    }
