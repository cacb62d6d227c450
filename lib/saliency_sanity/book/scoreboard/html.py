"""The scoreboard as a table of links: each verdict leads to the page that shows why."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import pandas as pd

from saliency_sanity.book.scoreboard.chart import STANDINGS, columns_of, look
from saliency_sanity.book.scoreboard.columns import CHECKS, Check
from saliency_sanity.book.scoreboard.table import in_order, method_title
from saliency_sanity.verdict.wording import kappa_text, rounded

_MARKS = {"o": "●", "s": "■", "D": "◆", "^": "▲", "v": "▼"}

# With the table itself, so that it is the same in a notebook and on the site.
_STYLE = """\
<style>
.scorecard .box { max-width: 100%; overflow-x: auto; }
.scorecard { --page: var(--pst-color-background, var(--jp-layout-color0, Canvas)); }
.scorecard table { border-collapse: separate; border-spacing: 0; font-size: .8rem;
  line-height: 1.25; margin: 0; width: auto; }
.scorecard :is(th, td) { background: none; border: 1px solid var(--page); padding: .15rem .35rem;
  text-align: center; vertical-align: middle; white-space: nowrap; }
.scorecard thead th { font-weight: 400; max-width: 7rem; vertical-align: bottom;
  white-space: normal; }
.scorecard thead tr:first-child th { font-weight: 700; }
.scorecard tbody th, .scorecard thead tr:first-child th:first-child {
  background: var(--page); font-weight: 400; left: 0; max-width: 9rem; min-width: 7rem;
  position: sticky; text-align: left; white-space: normal; z-index: 1; }
.scorecard .controls th { font-style: italic; }
.scorecard .controls tr:first-child > * { border-top: 1px solid currentColor; }
.scorecard td a { color: inherit; display: block; text-decoration: none; }
.scorecard td a:is(:hover, :focus-visible) { text-decoration: underline; }
.scorecard .range { display: block; font-size: .7rem; }
.scorecard .wanted { background: rgb(0 114 178 / 15%); }
.scorecard .unwanted { background: rgb(213 94 0 / 18%); }
.scorecard .open { background: rgb(118 118 118 / 18%); }
.scorecard .neutral { background: rgb(118 118 118 / 8%); }
.scorecard .wanted .sign { color: #0072b2; }
.scorecard .unwanted .sign { color: #d55e00; }
html[data-theme="dark"] .scorecard .wanted { background: rgb(86 180 233 / 22%); }
html[data-theme="dark"] .scorecard .unwanted { background: rgb(213 94 0 / 32%); }
html[data-theme="dark"] .scorecard .wanted .sign { color: #56b4e9; }
html[data-theme="dark"] .scorecard .unwanted .sign { color: #ff9a52; }
</style>"""


@dataclass(frozen=True)
class Scorecard:
    """A scoreboard for display: rows methods, columns checks, cells links.

    Attributes
    ----------
    table
        As ``scoreboard.read_scoreboard`` gives it.
    checks
        The columns that there may be; ValueError where the table has another.
    """

    table: pd.DataFrame
    checks: Sequence[Check] = CHECKS

    def __post_init__(self):
        columns_of(self.table, self.checks)

    def _cells(self) -> dict[tuple[str, str], pd.Series]:
        return {(row["method"], row["check"]): row for _, row in self.table.iterrows()}

    def _repr_html_(self) -> str:
        columns, cells = columns_of(self.table, self.checks), self._cells()
        asked = "".join(
            f'<th scope="colgroup" colspan="{len(list(group))}">{html.escape(question)}</th>'
            for question, group in groupby(columns, key=lambda check: check.question)
        )
        named = "".join(f'<th scope="col">{html.escape(check.title)}</th>' for check in columns)
        bodies = []
        methods, controls = in_order(self.table["method"])
        for kind, names in (("methods", methods), ("controls", controls)):
            rows = [
                f'<tr><th scope="row">{html.escape(method_title(name))}</th>'
                + "".join(_cell(cells.get((name, check.key)), check) for check in columns)
                + "</tr>"
                for name in names
            ]
            bodies.append("\n".join([f'<tbody class="{kind}">', *rows, "</tbody>"]))
        return "\n".join(
            [
                f'<div class="scorecard">\n{_STYLE}\n<p>{_key()}</p>',
                '<div class="box" role="region" aria-label="Scoreboard: methods by checks" '
                'tabindex="0">\n<table>',
                f'<thead><tr><th scope="col" rowspan="2">Method</th>{asked}</tr>',
                f"<tr>{named}</tr></thead>",
                *bodies,
                "</table>\n</div>\n</div>",
            ]
        )

    def _repr_markdown_(self) -> str:
        columns, cells = columns_of(self.table, self.checks), self._cells()
        heads = ["Method", *(f"{check.question}: {check.title}" for check in columns)]
        lines = ["| " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(columns)]
        methods, controls = in_order(self.table["method"])
        for name in (*methods, *controls):
            found = [cells.get((name, check.key)) for check in columns]
            texts = [
                "–" if cell is None else f"[{cell['words']}, {kappa_text(cell)}]({cell['link']})"
                for cell in found
            ]
            lines.append("| " + " | ".join([method_title(name), *texts]) + " |")
        return "\n".join(lines)


def _key() -> str:
    marks = [
        f'<span class="{standing}"><span class="sign">{_MARKS[marker]}</span> {words}</span>'
        for standing, (_, marker, words) in STANDINGS.items()
    ]
    return " · ".join([*marks, "– not measured"])


def _cell(row: pd.Series | None, check: Check) -> str:
    if row is None:
        return '<td><span aria-label="not measured" role="img">–</span></td>'
    block = f" at {row['stage']}" if row["stage"] else ""
    label = (
        f"{method_title(row['method'])}, {check.question}, {check.title}: {row['words']}, "
        f"kappa {kappa_text(row)}{block}"
    )
    value, low, high = (rounded(row[key]) for key in ("kappa", "low", "high"))
    limits = f"{low} to {high}" if value != "–" else "undefined"
    return (
        f'<td class="{row["standing"]}"><a href="{html.escape(row["link"])}" '
        f'aria-label="{html.escape(label)}" title="{html.escape(label)}">'
        f'<span class="sign">{_MARKS[look(row)[1]]}</span> <b>{value}</b>'
        f'<span class="range">{limits}</span></a></td>'
    )
