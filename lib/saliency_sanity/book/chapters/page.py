"""What all pages share: where results go, which methods run at which scale, what is checked."""

import atexit
import math
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import pandas as pd
import torch
from IPython import get_ipython
from IPython.display import Markdown
from pandas.io.formats.style import Styler
from torch import Tensor

from saliency_sanity._arithmetic import PRECISIONS, arithmetic
from saliency_sanity._errors import known
from saliency_sanity._files import results_folder, write_table
from saliency_sanity._groups import GROUP
from saliency_sanity._hashing import describe
from saliency_sanity.attribution.base import Attribution
from saliency_sanity.attribution.cards import Card
from saliency_sanity.attribution.catalogue import CATALOGUE, is_control, resolve, title, titles
from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.book.runs.alternatives import carry_findings
from saliency_sanity.book.runs.provenance import ProvenanceBox, provenance_box
from saliency_sanity.experiments.store import Store
from saliency_sanity.networks.classifier import Classifier
from saliency_sanity.networks.forward import fitted
from saliency_sanity.plots.style import use_style
from saliency_sanity.similarity.rank import PixelSpearman
from saliency_sanity.subjects.photographs import Photographs, load_photographs
from saliency_sanity.verdict.obstacle import CANNOT_TELL
from saliency_sanity.verdict.wording import METRIC_TITLES, foremost, out_of

# From this share of pixels on that are not zero, leaving out those that are changes nothing.
_DENSE = 0.95

# What parameters of a page may be called that are parameters of methods, too.
_SCALE = ("samples", "steps", "masks", "top", "q", "layer", "seed")

# What a composition that multiplies by the input has in its description.
_PRODUCTS = ("TimesInput", "Lrp(")

_process = ExitStack()
atexit.register(_process.close)

_VERDICTS = {
    "above": "picture-driven",
    "below": "responds",
    "inconclusive": "open",
    "cannot tell": "cannot tell",
}


@dataclass(kw_only=True)
class Page:
    """One run of a notebook; each page derives its own, whose fields are the notebook's parameters.

    Sections of the notebook are methods, which return what is to be shown; what several of them
    need is a cached property. ``results`` is the folder for tables, claims, figures and the store,
    ``case`` the name of this executed copy, ``precision`` the arithmetic in which the maps are made
    that are compared; everything else is exact.

    Raises ResultsError where the folder cannot be used, ValueError for a parameter out of range.
    """

    notebook: ClassVar[str]

    margin: float
    seed: int
    device: str
    results: str
    case: str = ""
    precision: str = "exact"

    def __post_init__(self):
        known("precision", self.precision, PRECISIONS)
        self.started = datetime.now(UTC)
        self.folder: Path = results_folder(self.results)
        use_style()
        carry_findings()

    @classmethod
    def of(cls, namespace: Mapping[str, Any]) -> Self:
        """The page with the parameters that a notebook has set: ``Page.of(globals())``.

        A notebook runs in a process of its own: there torch computes exactly until it ends.

        Raises NameError for a parameter that the notebook lacks.
        """
        names = [item.name for item in fields(cls) if item.init]
        optional = ("case", "precision")
        missing = [name for name in names if name not in namespace and name not in optional]
        if missing:
            raise NameError(
                f"{cls.notebook}: the notebook sets no parameter {', '.join(missing)}; "
                "add it to the cell tagged 'parameters'"
            )
        if get_ipython() is not None:
            _in_this_process()
        return cls(**{name: namespace[name] for name in names if name in namespace})

    @property
    def name(self) -> str:
        """What tables, claims and figures of this copy are called."""
        return "-".join(filter(None, (self.notebook, self.case)))

    @cached_property
    def claims(self) -> ClaimTable:
        """The claims of this copy, in the order of the page."""
        return ClaimTable(self.name)

    @cached_property
    def store(self) -> Store:
        """Where finished parts of long runs are kept."""
        return Store(self.folder / "store")

    def at_scale(self, names: Iterable[str]) -> dict[str, Attribution]:
        """Methods by name, each with what the page sets of its parameters.

        Those that follow several paths to a picture have ``ig_samples`` for ``samples``, and
        ``ig_steps`` for ``steps``.
        """
        return {name: resolve(name, **self._scale(CATALOGUE.get(name))) for name in names}

    def _scale(self, card: Card | None) -> dict[str, Any]:
        valid = () if card is None else card.defaults
        found = {key: getattr(self, key) for key in _SCALE if key in valid and hasattr(self, key)}
        if "steps" in found and found.keys() & {"samples", "top"}:
            for key in found.keys() & {"samples", "steps"}:
                found[key] = getattr(self, f"ig_{key}", found[key])
        if "layer" in found:
            found["layer"] = found["layer"] or None
        return found

    def write(self, table: pd.DataFrame, what: str = "") -> Path:
        """Write a table of this copy; ``what`` follows its name."""
        stem = "-".join(filter(None, (self.name, what)))
        return write_table(table, results_folder(self.folder / "tables") / f"{stem}.parquet")

    def write_refused(self, refused: Mapping[str, str]) -> Path:
        """Write which methods do not apply to the network, and why."""
        rows = {"method": [*refused], "reason": [*refused.values()]}
        return self.write(pd.DataFrame(rows, dtype=str), "refused")

    def figure(self, what: str = "") -> Path:
        """Where a figure of this copy goes."""
        return self.folder / "figures" / ("-".join(filter(None, (self.name, what))) + ".png")

    @property
    def card(self) -> Path:
        """Where the small picture goes by which the landing page shows this copy."""
        return self.folder / "figures" / f"{self.name}-card.webp"

    def provenance(
        self, parameters: Mapping[str, Any], seeds: Iterable[int], device: Any
    ) -> ProvenanceBox:
        """The box at the page's end: what made this copy, with the parameters worth telling."""
        made_in = {} if device is None else {"arithmetic": self.precision}
        return provenance_box(
            parameters=parameters, seeds=seeds, device=device, started=self.started, **made_in
        )


@cache
def _in_this_process() -> None:
    """Compute exactly wherever a page computes, on whatever device."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _process.enter_context(arithmetic("exact", device))


class MethodsPage(Page):
    """A page on ``chosen`` methods; its tables have their names, its charts their titles."""

    chosen: Mapping[str, Attribution]

    @property
    def refused(self) -> Mapping[str, str]:
        """Why methods do not apply to the network, by name."""
        raise NotImplementedError

    def left_out(self) -> list[str]:
        """Methods that do not apply to the network, with the reason."""
        return [f"left out: {title(key)}: {why}" for key, why in self.refused.items()]

    @cached_property
    def titles(self) -> dict[str, str]:
        """What methods are called on the page."""
        return titles(self.chosen)

    @property
    def controls(self) -> list[str]:
        """Titles of what is no method."""
        return [self.titles[key] for key in self.chosen if is_control(key)]

    def _titled(self, rows: pd.DataFrame) -> pd.DataFrame:
        return titled(rows, self.titles)


def titled(rows: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """The rows with their methods called by these names."""
    return rows.assign(method=rows["method"].map(names))


def pictures_for(classifier: Classifier, images: str, count: int) -> tuple[Photographs, Tensor]:
    """Pictures of a network's size; with them ``[N, C, H, W]`` in its units, where it is.

    ``images`` and ``count`` as in ``load_photographs``, which says what it raises. Labels beyond
    the network's classes are another network's, and left out.
    """
    scaling = classifier.scaling
    photographs = load_photographs(
        images, size=classifier.size, count=count, channels=len(scaling.mean)
    )
    x = fitted(classifier, scaling.to_network(photographs.pixels))
    classes = classifier.logits(x[:1]).shape[1]
    if any(label is not None and label >= classes for label in photographs.labels):
        photographs = replace(photographs, labels=(None,) * len(photographs))
    return photographs, x


def described(
    measured: pd.DataFrame,
    photographs: Photographs,
    methods: Mapping[str, Attribution],
    **columns: str,
) -> pd.DataFrame:
    """Similarities with more columns: ``columns``, the picture's name, the method's settings."""
    names = dict(enumerate(photographs.names))
    texts = {key: describe(method) for key, method in methods.items()}
    return measured.assign(
        **columns, picture=measured["image"].map(names), repr=measured["method"].map(texts)
    )


def is_product(key: str, method: Attribution | None = None) -> bool:
    """Whether a method of the catalogue is multiplied by the input, so that it is 0 where that is.

    ``method`` is the one of this name at a page's scale.
    """
    text = describe(resolve(key) if method is None else method)
    return key == "input" or any(part in text for part in _PRODUCTS)


def plain_table(rows: pd.DataFrame, precision: int | None = None) -> Styler:
    """A table as pages show it: no numbers of rows, and numbers with so many decimals."""
    shown = rows.style.hide(axis="index").set_table_attributes('class="dataframe"')
    return shown if precision is None else shown.format(precision=precision)


def bullets(lines: Iterable[str]) -> Markdown | None:
    """A list of sentences; None where there is none."""
    text = "\n".join(f"* {line}" for line in lines)
    return Markdown(text) if text else None


def check_shown(shown: int, count: int) -> None:
    """Raise ValueError unless so many of ``count`` pictures can be shown."""
    if not 1 <= shown <= count:
        raise ValueError(f"shown is {shown}; valid are 1 to {count}, the pictures there are")


def nonzero_pixels(x: Tensor) -> Tensor | None:
    """Where pictures ``[N, C, H, W]`` are not zero, ``[N, H, W]``; None where hardly any is.

    Whatever is multiplied by the input is zero where the input is, and alike for that reason alone.
    """
    found = (x != 0).any(1)
    return found if float(found.float().mean()) < _DENSE else None


def nonzero_metrics(where: Tensor) -> dict[str, PixelSpearman]:
    """The rank correlations over the pixels that are not zero."""
    return {
        f"spearman_{kind}_not_zero": PixelSpearman(where, signed=signed)
        for kind, signed in (("abs", False), ("signed", True))
    }


def memorized_by_all(accuracies: Iterable[float], least: float) -> bool:
    """Whether every network knows so many of its permuted labels."""
    return bool((torch.tensor(list(accuracies), dtype=torch.float64, device="cpu") >= least).all())


def at_least(share: float) -> float:
    """A share rounded down to a tenth of a per cent: "at least so much" is true of it."""
    return math.floor(1000 * share + 1e-9) / 1000


def pictures_used(name: str, count: int, group: int = GROUP, kind: str = "pictures") -> str:
    """How many pictures of what, and in groups of how many they are compared, if not all."""
    beside = f", compared in groups of {group}" if 0 < group < count else ""
    return f"{name}, {count} {kind}{beside}"


def verdict_lists(readings: pd.DataFrame, metric: str) -> Markdown:
    """Which methods are picture-driven, respond, or are open, by one metric, in a sentence.

    ``readings`` has a row a method and metric.
    """
    rows = readings[readings["metric"] == metric]
    found = {verdict: rows["method"][rows["verdict"] == verdict] for verdict in _VERDICTS}
    parts = [
        f"{word}: {' · '.join(found[verdict]) or 'none'}"
        for verdict, word in _VERDICTS.items()
        if verdict != CANNOT_TELL or len(found[verdict])
    ]
    return Markdown(f"By {METRIC_TITLES[metric]}: **{'; '.join(parts)}**.")


def counted(readings: pd.DataFrame, metric: str) -> str:
    """How many methods have each verdict by one metric, in words for the title of a figure.

    ``readings`` has a row a method and metric.
    """
    verdicts = readings["verdict"][readings["metric"] == metric]
    count = verdicts.value_counts().reindex(list(_VERDICTS), fill_value=0)
    said = (
        f"{count['above']} of {len(verdicts)} methods stay picture-driven, {count['below']} respond"
    )
    others = [f"{count[one]} {one}" for one in ("inconclusive", CANNOT_TELL) if count[one]]
    return said + f"; open: {', '.join(others)}" * bool(others)


def named(readings: pd.DataFrame, metric: str) -> str:
    """The same in sentences that name them: at most three methods a verdict, by kappa."""
    rows = readings[readings["metric"] == metric]
    parts = {
        "stay picture-driven": rows[rows["verdict"] == "above"],
        "respond": rows[rows["verdict"] == "below"],
        "are open": rows[~rows["verdict"].isin(("above", "below"))],
    }
    words = [
        f"{out_of(len(found), len(rows))} methods {word}: {foremost(found)}"
        for word, found in parts.items()
        if len(found)
    ]
    return ". ".join(words)


def verdict_counts(readings: pd.DataFrame, metric: str) -> dict[str, int]:
    """How many of the readings by one metric have each verdict: ``above_ssim`` and the like."""
    verdicts = readings["verdict"][readings["metric"] == metric]
    return {
        f"{verdict.replace(' ', '_')}_{metric}": int((verdicts == verdict).sum())
        for verdict in _VERDICTS
    }
