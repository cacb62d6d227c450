"""The page of the scoreboard: every method's verdicts and every claim of the book."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure

from saliency_sanity._errors import known
from saliency_sanity._files import checkout, results_folder
from saliency_sanity.book.chapters.claims_index import Ledger, claims_list, page_titles
from saliency_sanity.book.chapters.page import Page
from saliency_sanity.book.runs.cases import all_copies
from saliency_sanity.book.runs.profiles import profile_names
from saliency_sanity.book.runs.provenance import ProvenanceBox
from saliency_sanity.book.scoreboard.chart import scoreboard_chart
from saliency_sanity.book.scoreboard.columns import (
    CHECKS,
    CRITICS,
    HALFWAY,
    NOT_SCORED,
    Check,
    checks_in,
)
from saliency_sanity.book.scoreboard.five_figures import FIVE, write_badges
from saliency_sanity.book.scoreboard.html import Scorecard
from saliency_sanity.book.scoreboard.table import at_margins, read_scoreboard, reasons, tally
from saliency_sanity.plots.style import save
from saliency_sanity.verdict.wording import RANDOMIZATION_WORDS


@dataclass(kw_only=True)
class Scoreboard(Page):
    """One run of the notebook that reads what the others wrote; its parameters are described there.

    ``columns`` are the checks that are shown, ``table`` their verdicts as ``read_scoreboard`` gives
    them; ``asked`` and ``answers`` the same of what critics ask.

    Raises ValueError for an unknown check or profile, MissingTablesError for tables that are not
    there, before anything is drawn.
    """

    notebook: ClassVar[str] = "06_scoreboard"

    checks: list[str]
    inputs: str
    profile: str
    # Nothing is computed on this page, so nothing is drawn at random.
    margin: float = field(init=False, default=0.1)
    seed: int = field(init=False, default=0)
    device: str = field(init=False, default="cpu")
    precision: str = field(init=False, default="exact")

    def __post_init__(self):
        super().__post_init__()
        root = checkout()
        if self.profile:
            known("profile", self.profile, profile_names(root / "config"))
        self.copies = all_copies(root / "notebooks")
        groups = [checks_in(self.copies, self.profile, group) for group in (CHECKS, CRITICS)]
        for key in self.checks:
            known("check", key, [check.key for group in groups for check in group])
        self.columns, self.asked = (
            [check for check in group if check.key in self.checks or not self.checks]
            for group in groups
        )
        self.read = results_folder(self.inputs)
        self.table, self.answers = (
            read_scoreboard(self.read, columns, self.profile or "quick")
            for columns in (self.columns, self.asked)
        )
        self.titles = page_titles(root / "notebooks", self.copies)

    def chart(self) -> Figure | None:
        """All verdicts as a picture; it is kept, and a narrow one for the landing page.

        None where no check is among the columns.
        """
        if self.table.empty:
            return None
        narrow = scoreboard_chart(self.table, self.columns, narrow=True)
        save(narrow, self.folder / "figures" / "scoreboard-narrow.png")
        plt.close(narrow)
        figure = scoreboard_chart(self.table, self.columns)
        save(figure, self.folder / "figures" / "scoreboard.png")
        return figure

    def card(self) -> Scorecard | None:
        """All verdicts, by question or by check; each opens on its reason."""
        return self._card(self.table, self.columns)

    def critics(self) -> Scorecard | None:
        """What comes of the critics' questions, alike; None where none is a column."""
        return self._card(self.answers, self.asked)

    def _card(self, table: pd.DataFrame, columns: list[Check]) -> Scorecard | None:
        if table.empty:
            return None
        others = at_margins(self.read, columns, self.profile or "quick")
        return Scorecard(table, columns, reasons(table, self.read, columns), others)

    def not_scored(self) -> list[Markdown]:
        """Pages whose results are in no column, and why."""
        return [
            Markdown(f"Not among the checks: [{self.titles[copy]}]({copy}.html), which {reason}.")
            for copy, reason in NOT_SCORED.items()
        ]

    @cached_property
    def ledger(self) -> Ledger:
        """The claims of all pages."""
        pages = {
            copy: title
            for copy, title in self.titles.items()
            if self.copies[copy].runs_in(self.profile) and not self.copies[copy].after_all
        }
        return claims_list(self.read, pages)

    def finding(self) -> Markdown:
        """How many methods show the picture where they should show the network."""
        counts = self._moved
        return Markdown(
            f"**With random weights or random labels, {counts['unwanted']} of {counts['methods']} "
            f"methods go on showing the picture in at least one check. {counts['wanted']} change "
            f"in every check, {counts['open']} leave something open. {self.noise}**"
        )

    def summary(self) -> Markdown:
        """How many methods and claims came out how."""
        counts = tally(self.table, self.columns)
        asked = [check for check in self.columns if check.wanted]
        randomized = self._moved
        return Markdown(
            f"**{counts['methods']} methods in {len(asked)} checks: {counts['unwanted']} have a "
            f"verdict that a map which sees the model should not have, {counts['wanted']} have no "
            f"such verdict, {counts['open']} leave something open.** "
            f"{len(self._randomized)} of these checks compare a network with one of random "
            "weights or labels (random upper halves are not counted here). Of the "
            f"{randomized['methods']} methods asked in these, {randomized['unwanted']} have such "
            f"a verdict, {randomized['wanted']} have none, {randomized['open']} leave something "
            f"open. {self.noise} {self.ledger.summary}"
        )

    @property
    def _randomized(self) -> list[Check]:
        return [check for check in self.columns if check.words == RANDOMIZATION_WORDS]

    @cached_property
    def _moved(self) -> dict[str, int]:
        """How methods stand in those checks, as ``tally`` counts them."""
        return tally(self.table, self._randomized)

    @property
    def _noise(self) -> dict[str, int]:
        """How noise that knows nothing but the weights stands in those checks, by standing."""
        keys = [check.key for check in self._randomized]
        rows = self.table[(self.table["method"] == "noise") & self.table["check"].isin(keys)]
        counts = rows["standing"].value_counts()
        return {"checks": len(rows)} | {
            standing: int(counts.get(standing, 0)) for standing in ("wanted", "cannot")
        }

    @property
    def noise(self) -> str:
        """What those checks say of noise, which has nothing to explain; empty without it."""
        found = self._noise
        if not found["checks"]:
            return ""
        return (
            f"Noise that knows nothing but the weights responds in {found['wanted']} of its "
            f"{found['checks']} checks; in {found['cannot']} one cannot tell."
        )

    def write_all(self) -> None:
        """Write the tables of verdicts, and what the landing page says of each figure."""
        write_badges(self.ledger, self.folder / "figures")
        self.write(self.table)
        self.write(self.answers, "critics")

    def numbers(self) -> dict[str, int]:
        """What other pages of the book quote, by name."""
        numbers = {
            f"methods_{word}" if word != "methods" else word: count
            for word, count in self._moved.items()
        }
        halves = [check for check in self.columns if check.stage == HALFWAY]
        numbers |= {f"half_{word}": count for word, count in tally(self.table, halves).items()}
        numbers["checks_randomized"] = len(self._randomized)
        numbers |= {f"noise_{word}": count for word, count in self._noise.items()}
        counts = self.ledger.counts("paper")
        numbers |= {"checks": len(self.columns), "readings": self.ledger.readings}
        numbers |= {"statements": sum(counts.values())}
        numbers["five_figures_statements"] = sum(map(len, FIVE.values()))
        return numbers | {
            f"statements_{word.replace(' ', '_')}": count for word, count in counts.items()
        }

    def box(self) -> ProvenanceBox:
        """How this page was made."""
        return self.provenance(
            {
                "checks": ", ".join(check.key for check in (*self.columns, *self.asked)),
                "profile": self.profile or "any",
            },
            (),
            None,
        )
