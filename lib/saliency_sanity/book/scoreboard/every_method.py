"""The page on every method: what each costs and how each comes out, of whichever library."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from textwrap import fill
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler
from torch import Tensor
from tqdm import tqdm

from saliency_sanity import load_model, resolve
from saliency_sanity._arithmetic import arithmetic
from saliency_sanity._errors import NotApplicable
from saliency_sanity._plugins import PEERS, peer
from saliency_sanity.attribution.base import Attribution
from saliency_sanity.attribution.catalogue import CATALOGUE, is_control, title, titles
from saliency_sanity.book.chapters.page import Page, pictures_for, pictures_used, plain_table
from saliency_sanity.book.runs.provenance import ProvenanceBox
from saliency_sanity.book.scoreboard.columns import Check
from saliency_sanity.book.scoreboard.examination import Examination
from saliency_sanity.book.scoreboard.html import Scorecard
from saliency_sanity.book.scoreboard.table import tally
from saliency_sanity.book.scoreboard.twins import OMITTED, SAME, difference, twins
from saliency_sanity.peers.notes import notes
from saliency_sanity.plots.maps import map_grid
from saliency_sanity.plots.price import price_chart
from saliency_sanity.probes.price import Price, TooDearError, passes_of, price
from saliency_sanity.similarity.metrics import metric
from saliency_sanity.verdict.robustness import MARGINS
from saliency_sanity.verdict.wording import kappa_text, said

MAIN = "spearman_abs"
_SECTION = "every-reading"
_NO_CEILING = (
    " Here no map was made again in double precision. So it is not known how alike maps are when "
    "nothing has changed: to *respond* may be rounding."
)
_DEAR = "Dearer than the budget"
_SHOWN = 6  # twins whose maps are shown
_TWIN_IMAGES = 2  # so many pictures are enough to see whether two maps differ


@dataclass(kw_only=True)
class EveryMethod(Page):
    """One run of the notebook on every method; its parameters are described there.

    ``names`` are the methods of the page, the catalogue's and other libraries', ``there`` those
    that could be had, ``missing`` the others with the reason.

    Raises ValueError for lists that do not go together, or a name that cannot be, before anything
    is explained.
    """

    notebook: ClassVar[str] = "08_every_method"

    networks: list[str]
    images: list[str]
    image_counts: list[int]
    budgets: list[int]
    ceilings: list[int]
    methods: list[str]
    samples: int
    steps: int
    ig_samples: int
    ig_steps: int
    masks: int
    top: int
    stage_limit: int
    seeds: int
    preset: str

    def __post_init__(self):
        super().__post_init__()
        count = len(self.networks)
        for name in ("images", "image_counts", "budgets", "ceilings"):
            given = getattr(self, name)
            if len(given) not in (1, count):
                raise ValueError(
                    f"{name} has {len(given)} entries, but there are {count} networks: "
                    f"{', '.join(self.networks)}; give one for each, or one for all"
                )
            setattr(self, name, [*given] * (count if len(given) == 1 else 1))
        if len(set(self.networks)) < count or not count:
            raise ValueError(f"networks are {self.networks}; name each once, and at least one")
        if min(self.budgets) < 1:
            raise ValueError(f"budgets are {self.budgets}; each is at least one pass a picture")
        self.names = list(dict.fromkeys(self.methods)) or [*CATALOGUE, *every_peer()]
        self.there: dict[str, Attribution] = {}
        self.missing: dict[str, str] = {}
        for name in self.names:
            try:
                self.there |= self.at_scale([name])
            except ImportError as error:
                self.missing[name] = str(error)
        self.titles = titles(self.names)
        if not self.there:
            raise ValueError(
                f"no method is left: {'; '.join(dict.fromkeys(self.missing.values()))}"
            )
        self.subjects = [
            self._subject(*given)
            for given in zip(
                self.networks, self.images, self.image_counts, self.ceilings, strict=True
            )
        ]

    def _subject(self, network: str, images: str, count: int, ceiling: int) -> Examination:
        """The pictures of a network, without methods yet."""
        classifier = load_model(network, "default", self.device, self.seed)
        photographs, x = pictures_for(classifier, images, count)
        return Examination(
            classifier=classifier,
            pixels=photographs.pixels.to(x),
            x=x,
            target=classifier.predict(x),
            methods=self.there,
            measures={MAIN: metric(MAIN, self.preset)},
            margin=self.margin,
            seeds=self.seeds,
            seed=self.seed,
            stage_limit=self.stage_limit,
            store=self.store,
            precision=self.precision,
            anchor=_SECTION,
            ceiling=min(ceiling, len(x)),
            brief=True,
        )

    def absent(self) -> list[Markdown]:
        """Libraries that are not installed, with what brings them, and methods without a row."""
        lines = [f"left out: {text}" for text in dict.fromkeys(self.missing.values())]
        if not self.methods:
            variants = "; ".join(f"{title(name)}, {why}" for name, why in OMITTED.items())
            lines.append(f"Variants without a row: {variants}.")
        return [Markdown(line) for line in lines]

    @cached_property
    def twins(self) -> pd.DataFrame:
        """How far maps of other libraries lie from ours, by network.

        A row a twin and network; ``note`` is why there is no difference.
        """
        rows = []
        for subject, most in zip(self.subjects, self.budgets, strict=True):
            model, x = subject.classifier, subject.x[:_TWIN_IMAGES]
            asked = [
                twin
                for twin in twins(model)
                if twin.own in self.there and (twin.peer in self.there or twin.peer in OMITTED)
            ]
            for twin in tqdm(asked, desc=f"{subject.network}, twins", unit="pair"):
                found, note = np.nan, ""
                pair = (twin.own, twin.settings), (twin.peer, twin.parameters)
                try:
                    with arithmetic("exact", x.device), passes_of(model, 2 * most * len(x), 4):
                        maps = [
                            resolve(name, **given)(model, x, subject.target[: len(x)])
                            for name, given in pair
                        ]
                    found = difference(*maps)
                except TooDearError:
                    note = f"more than {most} passes a picture"
                except (NotApplicable, ImportError) as error:
                    note = str(error)
                except Exception as error:  # of the library's; ours are tested
                    note = f"it fails with {type(error).__name__}: {_short(str(error))}"
                rows.append((twin.own, twin.peer, subject.network, found, note))
        columns = ["own", "peer", "network", "difference", "note"]
        return pd.DataFrame(rows, columns=columns)

    @cached_property
    def same(self) -> dict[str, str]:
        """Methods of other libraries whose maps are ours wherever both are; ours by theirs."""
        known = self.twins.dropna(subset="difference")
        worst = known.groupby(["own", "peer"], sort=False)["difference"].max()
        return {peer: own for (own, peer), value in worst.items() if value <= SAME}

    def twin_table(self) -> Styler:
        """The differences as a table."""
        shown = self.twins.assign(
            own=self.twins["own"].map(self.titles),
            peer=self.twins["peer"].map(self.titles),
            difference=[
                note or f"{value:.0e}" + " (the same)" * (value <= SAME)
                for value, note in zip(
                    self.twins["difference"], self.twins["note"].map(_short), strict=True
                )
            ],
        )
        wide = shown.pivot_table(
            index=["own", "peer"],
            columns="network",
            values="difference",
            aggfunc="first",
            sort=False,
        )
        wide = wide.reset_index().rename_axis(columns=None)
        return plain_table(wide.rename(columns={"own": "here", "peer": "there"}))

    @property
    def rows(self) -> list[str]:
        """Methods that are priced, and have a row where they are within the budget."""
        return [name for name in self.there if name not in self.same]

    @cached_property
    def prices(self) -> pd.DataFrame:
        """Passes and seconds of one picture, a row a method and network.

        ``why`` says what is wrong with a method that has no price, or that is beyond the budget.
        """
        rows = []
        for subject, most in zip(self.subjects, self.budgets, strict=True):
            bar = tqdm(self.rows, desc=f"{subject.network}, prices", unit="method")
            for name in bar:
                found, why = self._price(name, subject, most)
                rows.append((name, subject.network, found.passes, found.seconds, why))
        return pd.DataFrame(rows, columns=["method", "network", "passes", "seconds", "why"])

    def _price(self, name: str, subject: Examination, most: int) -> tuple[Price, str]:
        nothing = Price(0, np.nan, False)
        try:
            found = price(
                self.there[name], subject.classifier, subject.x[:1], subject.target[:1], most
            )
        except NotApplicable as error:
            return nothing, str(error)
        except Exception as error:
            if peer(name) is None:
                raise
            return nothing, f"it fails with {type(error).__name__}: {_short(str(error))}"
        if found.stopped:
            return found, f"{_DEAR} of {most} passes a picture."
        return found, ""

    def dear(self) -> list[Markdown]:
        """What is beyond the budget, by network, and what to type to have it."""
        said = []
        for subject, most in zip(self.subjects, self.budgets, strict=True):
            own = self.prices[self.prices["network"] == subject.network]
            names = own.loc[own["why"].str.startswith(_DEAR), "method"].map(self.titles)
            if len(names):
                said.append(
                    f"On {subject.network}, these methods need more than {most} passes a picture, "
                    f"and so have no verdict there: {', '.join(names)}."
                )
        if said:
            case = f" --case {self.case}" * bool(self.case)
            said.append(
                "Larger budgets include them, and take as much more time:\n\n```bash\n"
                f"python -m saliency_sanity run notebooks/{self.notebook}.ipynb{case} \\\n"
                f"    -p budgets '{[2500] * len(self.budgets)}' --output build/every.ipynb\n```"
            )
        return [Markdown(text) for text in said]

    def price_table(self) -> Styler:
        """Passes and seconds by method and network."""
        texts = [
            "–"
            if np.isnan(row.seconds)
            else f"{'> ' if row.why else ''}{row.passes} · {row.seconds:.3g} s"
            for row in self.prices.itertuples()
        ]
        wide = self.prices.assign(method=self.prices["method"].map(self.titles), text=texts)
        wide = wide.pivot_table(
            index="method", columns="network", values="text", aggfunc="first", sort=False
        )
        return plain_table(wide.reset_index().rename_axis(columns=None))

    @cached_property
    def examinations(self) -> list[Examination]:
        """The checks, by network, of what is within its budget."""
        found = []
        for subject in self.subjects:
            own = self.prices[self.prices["network"] == subject.network]
            within = own.loc[own["why"] == "", "method"]
            found.append(replace(subject, methods={name: self.there[name] for name in within}))
        return found

    def run(self) -> list[Markdown]:
        """Make all maps and readings, the long part of the page, and say of how much they are."""
        said = []
        for examination, most in zip(self.examinations, self.budgets, strict=True):
            rows, name = len(examination.board), examination.network
            said.append(
                Markdown(
                    f"{name}: {len(examination.applicable)} methods and controls within {most} "
                    f"passes a picture, {len(examination.x)} pictures, {rows} verdicts."
                    + _NO_CEILING
                    * (not examination.ceiling)
                )
            )
        return said

    @cached_property
    def checks(self) -> list[Check]:
        """The checks of all networks, those of one question beside each other."""
        found = [
            _named(check, examination)
            for examination in self.examinations
            for check in examination.checks
        ]
        questions = list(dict.fromkeys(check.question for check in found))
        return sorted(found, key=lambda check: questions.index(check.question))

    @cached_property
    def board(self) -> pd.DataFrame:
        """Verdicts in them, as rows of the scoreboard."""
        return self._together([one.board for one in self.examinations])

    @cached_property
    def others(self) -> dict[float, pd.DataFrame]:
        """The same with other margins, by margin."""
        return {
            margin: self._together([one.others[margin] for one in self.examinations])
            for margin in MARGINS
        }

    def _together(self, boards: Sequence[pd.DataFrame]) -> pd.DataFrame:
        parts = []
        for examination, board in zip(self.examinations, boards, strict=True):
            keys = {check.key: _key(check, examination) for check in examination.checks}
            parts.append(board.assign(check=board["check"].map(keys)))
        return pd.concat(parts, ignore_index=True)

    @cached_property
    def blank(self) -> dict[tuple[str, str], str]:
        """Why a method has no verdict in a check, by both."""
        measured = set(zip(self.board["method"], self.board["check"], strict=True))
        why = {(row.method, row.network): row.why for row in self.prices.itertuples()}
        refused = {
            (name, examination.network): text
            for examination in self.examinations
            for name, text in examination.explained.refused.items()
        }
        return {
            (name, check.key): refused.get((name, check.subject))
            or why.get((name, check.subject))
            or check.asked
            or "Not measured."
            for check in self.checks
            for name in dict.fromkeys(self.board["method"])
            if (name, check.key) not in measured
        }

    def card(self) -> Scorecard:
        """The verdicts, rows methods, columns checks."""
        return Scorecard(self.board, self.checks, self.blank, self.others)

    @cached_property
    def cascades(self) -> pd.DataFrame:
        """What becomes of each map when all is random, with its price; a row a method, network."""
        parts = []
        for examination in self.examinations:
            rows = examination.cascade
            last = rows[rows["position"] == rows["position"].max()]
            parts.append(last.assign(network=examination.network))
        found = pd.concat(parts, ignore_index=True)
        return found.merge(self.prices, on=["method", "network"])

    def charts(self) -> Figure:
        """Price against verdict, a panel a network."""
        rows = self.cascades.assign(
            control=self.cascades["method"].map(is_control),
            method=self.cascades["method"].map(self.titles),
        )
        return price_chart(rows, margin=self.margin)

    @cached_property
    def differing(self) -> pd.DataFrame:
        """Twins that are not the same, the most different first, with what both come to.

        A row a twin and network where both have a verdict: the difference, and for ``here`` and
        ``there`` what becomes of the map when all is random.
        """
        rows = self.cascades.set_index(["method", "network"])
        found = []
        for twin in self.twins.sort_values("difference", ascending=False).itertuples():
            both = [(name, twin.network) for name in (twin.own, twin.peer)]
            if twin.difference > SAME and all(key in rows.index for key in both):
                here, there = (
                    f"{kappa_text(row)}, {said(row)}" for row in map(rows.loc.__getitem__, both)
                )
                found.append((twin.own, twin.peer, twin.network, twin.difference, here, there))
        columns = ["own", "peer", "network", "difference", "here", "there"]
        return pd.DataFrame(found, columns=columns)

    def differing_table(self) -> Styler:
        """The same as a table."""
        shown = self.differing.assign(
            own=self.differing["own"].map(self.titles), peer=self.differing["peer"].map(self.titles)
        )
        heads = {"own": "method", "peer": "there", "here": "its map", "there": "the other's map"}
        return plain_table(shown.rename(columns=heads), 2)

    def differing_maps(self) -> Figure | None:
        """A picture's maps by the most different of them; None where there are none."""
        chosen = self.differing.drop_duplicates("own").head(_SHOWN)
        if chosen.empty:
            return None
        subjects = {one.network: one for one in self.examinations}
        names, pictures, sides = [], [], ([], [])
        for row in chosen.itertuples():
            subject = subjects[row.network]
            there = fill(f"there: {self.titles[row.peer]}", 22)
            names.append(f"{fill(self.titles[row.own], 22)}\n{there}\n{row.network}")
            pictures.append(_coloured(subject.pixels[0], 3))
            for name, maps in zip((row.own, row.peer), sides, strict=True):
                maps.append(_sized(subject.maps[name][:1].abs().sum(1, keepdim=True)))
        here, there = (torch.cat(maps) for maps in sides)
        return map_grid(
            torch.stack(pictures),
            names,
            {"here": here, "there": there},
            width=5.5,
            title=f"Other maps by another library: {self.differing['own'].nunique()} methods",
        )

    def known(self) -> list[Markdown]:
        """What is known beforehand of other libraries' maps on these networks."""
        said: dict[str, list[str]] = {}
        for examination in self.examinations:
            for name in examination.applicable:
                method = self.there[name]
                for note in notes(method, examination.classifier, examination.x[:1]):
                    said.setdefault(f"{self.titles[name]}: {note}", []).append(examination.network)
        return [Markdown(f"* {text} *({', '.join(where)})*") for text, where in said.items()]

    def readings(self) -> Styler:
        """All verdicts as a table of words."""
        shown = self.board[["method", "check", "words", "kappa", "low", "high"]]
        heads = {check.key: f"{check.question}: {check.title}" for check in self.checks}
        shown = shown.assign(
            method=shown["method"].map(self.titles), check=shown["check"].map(heads)
        )
        return plain_table(shown, 2)

    def write_all(self) -> None:
        """Write the tables of verdicts, prices and twins."""
        self.write(self.board)
        self.write(self.prices, "prices")
        self.write(self.twins, "twins")

    def summary(self) -> Markdown:
        """How many methods there are, and how many come out how."""
        counts = tally(self.board, self.checks)
        agreeing = f" {len(self.same)} more are twins of these, map by map." if self.same else ""
        return Markdown(
            f"**{counts['methods']} methods on {len(self.subjects)} networks: "
            f"{counts['unwanted']} have a verdict that a map which sees the model should not have, "
            f"{counts['wanted']} have no such verdict in any check, {counts['open']} leave "
            "something open.**" + agreeing
        )

    def numbers(self) -> dict[str, int]:
        """What other pages of the book quote, by name."""
        counts = tally(self.board, self.checks)
        return counts | {"twins": len(self.same), "networks": len(self.subjects)}

    def box(self) -> ProvenanceBox:
        """How this page was made."""
        used = zip(self.subjects, self.images, strict=True)
        return self.provenance(
            {
                "networks": [subject.network for subject in self.subjects],
                "images": [pictures_used(name, len(subject.x)) for subject, name in used],
                "budgets": [f"{budget} passes a picture" for budget in self.budgets],
                "random networks": self.seeds,
                "stage limit": self.stage_limit,
                "preset": self.preset,
                "margin": self.margin,
            },
            range(self.seed, self.seed + self.seeds),
            self.subjects[0].x.device,
        )


def every_peer() -> list[str]:
    """All methods of other libraries that get a row, also of those that are not installed."""
    return [
        name
        for library in PEERS
        if (home := peer(f"{library}:")) is not None  # somebody's own module of that name hides it
        for name in (f"{library}:{method}" for method in home.METHODS)
        if name not in OMITTED
    ]


def _key(check: Check, examination: Examination) -> str:
    return f"{check.key}_{examination.network}"


def _named(check: Check, examination: Examination) -> Check:
    """A check of one of several networks, whose name heads its column."""
    network = examination.network
    title = network if check.title == check.network else f"{network}, {check.title}"
    return replace(check, key=_key(check, examination), title=title, network=network)


def _coloured(picture: Tensor, channels: int) -> Tensor:
    return _sized(picture.expand(channels, *picture.shape[1:])[None].cpu())[0]


def _sized(maps: Tensor, side: int = 224) -> Tensor:
    """Maps of networks that see pictures of other sizes, for one figure."""
    return F.interpolate(maps.float().cpu(), size=(side, side), mode="nearest")


def _short(text: str, most: int = 120) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
