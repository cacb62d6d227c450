"""The page for a reader's own method: its contract, its checks, its row of the scoreboard."""

import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler
from torch import Tensor

from saliency_sanity import load_model, resolve, weights_hash
from saliency_sanity._errors import InputError, NotApplicable
from saliency_sanity._files import checkout
from saliency_sanity._hashing import describe
from saliency_sanity.attribution.catalogue import is_control
from saliency_sanity.book.chapters.page import MethodsPage, pictures_for, pictures_used, titled
from saliency_sanity.book.chapters.stage_maps import (
    grid_caption,
    kappas_by_stage,
    own_sentence,
    row_name,
    stage_heads,
    upper_half,
)
from saliency_sanity.book.runs.provenance import ProvenanceBox
from saliency_sanity.book.scoreboard.chart import scoreboard_chart
from saliency_sanity.book.scoreboard.columns import Check
from saliency_sanity.book.scoreboard.examination import Examination
from saliency_sanity.book.scoreboard.html import Scorecard
from saliency_sanity.contract.clauses import Report
from saliency_sanity.contract.trial import require_method
from saliency_sanity.experiments.outcome import Outcome
from saliency_sanity.plots.input_bias import response_chart
from saliency_sanity.plots.layout import count_above
from saliency_sanity.plots.maps import map_grid
from saliency_sanity.plots.ranking import kappa_ranking
from saliency_sanity.plots.stages import kappa_curves
from saliency_sanity.plots.tiles import Tiles, View, stage_tiles
from saliency_sanity.probes.input_size import (
    GROWS,
    INPUT_WORDS,
    KEPT,
    LIKENESS,
    curve_table,
    response_curve,
    response_edges,
)
from saliency_sanity.probes.scales import summary
from saliency_sanity.similarity.hog import Hog
from saliency_sanity.similarity.metrics import metric
from saliency_sanity.verdict.wording import EDGE_WORDS, kappa_text, rounded, verdict_table

_LONG = 100  # lines of a file that are shown
_UNTRAINED = "its weights are random, so its verdicts say nothing about a method"
_STANDINGS = {
    "unwanted": "as it should not",
    "wanted": "as it should",
    "open": "inconclusive",
    "cannot": "cannot tell",
}


@dataclass(kw_only=True)
class OwnMethod(MethodsPage):
    """One run of the notebook for a reader's own method; its parameters are described there.

    ``chosen`` are the methods and ``measures`` the similarities by name, ``pixels`` and ``x``
    ``[N, C, H, W]`` the pictures, raw and in the network's units, ``target`` ``[N]`` the predicted
    classes.

    Raises ValueError for a name or number that cannot be, before anything is explained.
    """

    notebook: ClassVar[str] = "07_your_own_method"

    method: str
    model: str
    weights: str
    images: str
    image_count: int
    beside: list[str]
    stage_limit: int
    blocks: int
    labels: int
    seeds: int
    metrics: list[str]
    preset: str
    shown: int

    def __post_init__(self):
        super().__post_init__()
        if self.labels < 0:
            raise ValueError(f"labels is {self.labels}; valid are 0, for none, and more")
        if self.shown < 1:
            raise ValueError(f"shown is {self.shown}; valid are 1 and more")
        if str(checkout()) not in sys.path:
            sys.path.append(str(checkout()))  # so that Jupyter finds the examples, too
        self.chosen = {key: resolve(key) for key in dict.fromkeys((self.method, *self.beside))}
        self.measures = {key: metric(key, self.preset) for key in self.metrics}
        self.classifier = load_model(self.model, self.weights, self.device, self.seed)
        small = self.classifier.size < Hog().cell * Hog().block
        self.without_hog = small and self.measures.pop("hog", None) is not None
        self.photographs, self.x = pictures_for(self.classifier, self.images, self.image_count)
        self.pixels = self.photographs.pixels.to(self.x)
        self.target = self.classifier.predict(self.x)

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        """Raise InputError for parameters that the page would refuse, where no kernel runs yet."""
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))  # as the kernel has it
        try:
            cls.of(values)
        except (Exception, SystemExit) as error:
            noted = getattr(error, "__notes__", [])
            if not noted and not isinstance(error, (ValueError, TypeError, ImportError, OSError)):
                raise
            raise InputError(" ".join((noted[0] if noted else str(error)).split())) from error

    def too_small(self) -> list[str]:
        """Similarities that the pictures are too small for, with the reason."""
        size = self.classifier.size
        return [f"left out: HOG, which needs more than {size} px"] if self.without_hog else []

    @property
    def written(self) -> Markdown | None:
        """The file of the method, or of a long one the method alone; None for the catalogue's."""
        if ":" not in self.method:
            return None
        own = self.chosen[self.method]
        text = inspect.getsource(inspect.getmodule(own) or type(own))
        if len(text.splitlines()) > _LONG and inspect.isfunction(own):
            text = inspect.getsource(own)
        return Markdown(f"```python\n{text.rstrip()}\n```")

    def contract(self) -> Report:
        """Whether the method keeps what every method owes; raises ContractError if not."""
        own = self.chosen[self.method]
        return require_method(self.method, own, self.classifier, self.x, self.target)

    @property
    def learned(self) -> bool:
        """Whether the network's weights are not random."""
        return self.classifier.weights != "none"

    def warnings(self) -> list[Markdown]:
        """What to know of a network whose weights are random, or look so, before its verdicts."""
        if not self.learned:
            return [Markdown(f"**This network has learned nothing: {_UNTRAINED}.**")]
        classes = self.target.unique()
        if len(self.target) == 1 or len(classes) > 1:
            return []
        name = self.classifier.class_name(int(classes))
        said = f"All {len(self.target)} pictures are of one class to this network, {name}"
        return [Markdown(f"**{said}. If its weights are random, its verdicts say nothing.**")]

    @cached_property
    def facts(self) -> dict[str, str]:
        """The network, its weights, and the pictures."""
        size = sum(parameter.numel() for parameter in self.classifier.parameters())
        count = len(self.photographs)
        facts = {
            "network": f"{self.classifier.name}, {size:,} parameters",
            "weights": f"{self.classifier.weights} ({weights_hash(self.classifier)})",
            "pictures": f"{count} of {self.images}, {self.classifier.size} px",
        }
        if None not in self.photographs.labels:
            right = (self.target.cpu().numpy() == self.photographs.labels).sum()
            facts["of these pictures right"] = f"{right} of {count}"
        return facts

    def network(self) -> Styler:
        """The same as a table."""
        frame = pd.Series(self.facts, name="").to_frame()
        return frame.style.set_table_attributes('class="dataframe"')

    @cached_property
    def examination(self) -> Examination:
        """The checks of all methods of the page."""
        return Examination(
            classifier=self.classifier,
            pixels=self.pixels,
            x=self.x,
            target=self.target,
            methods=self.chosen,
            measures=self.measures,
            margin=self.margin,
            seeds=self.seeds,
            seed=self.seed,
            stage_limit=self.stage_limit,
            blocks=self.blocks,
            labels=self.labels,
            shown=1,
            store=self.store,
            precision=self.precision,
        )

    @property
    def _maps(self) -> Mapping[str, Tensor]:
        return self.examination.maps

    @property
    def refused(self) -> Mapping[str, str]:
        """Why methods do not apply, by name."""
        return self.examination.explained.refused

    @property
    def _main(self) -> str:
        return next(iter(self.measures))

    def maps(self) -> Figure:
        """Maps by method beside the edges."""
        captions = [
            f"{name}\n{self.classifier.class_name(int(c))}"
            for name, c in zip(self.photographs.names, self.target, strict=True)
        ]
        heads = {
            key: self.titles[key].replace("⊙ ", "⊙\u00a0").replace(" ", "\n") for key in self._maps
        }
        columns = {"Sobel": self.examination.edges} | {
            heads[key]: found for key, found in self._maps.items()
        }
        return map_grid(
            self.pixels[: self.shown].cpu(),
            captions[: self.shown],
            {head: found[: self.shown] for head, found in columns.items()},
            title=self._like_edges(),
        )

    def _like_edges(self) -> str:
        """What the page's own method's likeness to edges comes to, by the first similarity."""
        rows = self.examination.edge_likeness
        own = rows[(rows["method"] == self.method) & (rows["metric"] == self._main)]
        return "".join(
            f"{self.titles[self.method]} beside the edges: "
            f"{EDGE_WORDS.get(row['verdict'], row['verdict'])}, kappa {kappa_text(row)}"
            for row in own.to_dict("records")
        )

    def edge_ranking(self) -> Figure:
        """How edge-like each method is."""
        return kappa_ranking(
            self._titled(self.examination.edge_likeness),
            list(self.measures),
            margin=self.margin,
            words=EDGE_WORDS,
            controls=self.controls,
            one="the edges themselves",
        )

    @property
    def outcome(self) -> Outcome:
        """What the cascade gave; the long part of the page."""
        return self.examination.outcome

    def stages(self) -> Tiles:
        """Maps of the first picture by method and stage."""
        names = {key: row_name(name, is_control(key)) for key, name in self.titles.items()}
        absolute, signed = (
            {names[key]: kept[kind][:, 0] for key, kept in self.outcome.pictures.items()}
            for kind in (0, 1)
        )
        rows = titled(self.examination.cascade, names)
        kappas = kappas_by_stage(rows, self._main, len(self.x))
        half = upper_half(rows, "top_down")
        return stage_tiles(
            [View(self.photographs.names[0], self.photographs.arrays[0], absolute, signed)],
            stage_heads(self.outcome.stages, half),
            finding=own_sentence(rows, self._main, names[self.method], half),
            caption=grid_caption(rows, self._main, len(self.x), self.margin, half),
            notes={key: kappas[key] for key in absolute},
        )

    def curves(self) -> Figure:
        """Kappa by stage, the page's own method thick."""
        return kappa_curves(
            self._titled(self.examination.cascade),
            list(self.measures),
            margin=self.margin,
            controls=self.controls,
            thick=[self.titles[self.method]],
        )

    def cascade_verdicts(self) -> Styler:
        """Verdicts on the last stage, by the first similarity."""
        return verdict_table(self._titled(self.examination.cascade), self._main)

    def alone_kappas(self) -> Styler | None:
        """Kappa by single random block and method, by the first similarity; None without such."""
        alone = self.examination.alone
        if alone is None:
            return None
        rows = self._titled(alone[alone["metric"] == self._main])
        wide = rows.pivot_table(index="method", columns="stage", values="kappa", sort=False)
        return wide.style.format("{:.2f}", na_rep="–").set_table_attributes('class="dataframe"')

    def response(self) -> Figure:
        """Attribution against the size of the input, a panel a method."""
        bins = response_edges(self.x)
        responses = curve_table(
            {
                self.titles[key]: response_curve(found, self.x, bins)
                for key, found in self._maps.items()
            },
            (bins[1:] + bins[:-1]) / 2,
        )
        rows = self.examination.likeness
        rows = self._titled(rows[rows["metric"] == LIKENESS])
        found = count_above(rows, self.controls, GROWS)
        return response_chart(responses, across="|x|, in units of the network", title=found)

    def likeness_ranking(self) -> Figure:
        """How far each method follows the size of the input."""
        return kappa_ranking(
            self._titled(self.examination.likeness),
            [LIKENESS, KEPT],
            margin=self.margin,
            words=INPUT_WORDS,
            controls=self.controls,
            one="the input itself",
        )

    @property
    def moved(self) -> pd.DataFrame | None:
        """Readings of maps in other units; None for a network that cannot be given such."""
        return self.examination.moved

    def no_units(self) -> str:
        """Why this network cannot be given other units."""
        return f"left out: other units: {self.examination.no_units}"

    def units(self) -> Styler:
        """How alike each method's maps in both units are."""
        kappas = {self.titles[row["method"]]: kappa_text(row) for _, row in self.moved.iterrows()}
        frame = pd.Series(kappas, name="kappa of its maps in both units").to_frame()
        return frame.style.set_table_attributes('class="dataframe"')

    def critics(self) -> Styler:
        """By how much the entropy of each method's maps rises, and what another label leaves."""
        complexity = self.examination.complexity.set_index("method")
        columns = {"eMPRT": {key: kappa_text(row) for key, row in complexity.iterrows()}}
        labels = self.examination.other_label
        if labels is not None:
            labels = labels.set_index("method")
            columns["kappa of maps of another label"] = {
                key: kappa_text(row) for key, row in labels.iterrows()
            }
        frame = pd.DataFrame(columns).rename(index=self.titles)
        return frame.style.set_table_attributes('class="dataframe"')

    def scales(self) -> Markdown:
        """How much of this network's scales a random upper part keeps."""
        found = self.examination.scales
        if isinstance(found, NotApplicable):
            return Markdown(f"Scales of channels were not measured: {found}")
        value, low, high = summary(found.edge("top_down", "carried"), "carried")
        chance, *_ = summary(found.edge("top_down", "carried", chance=True), "carried")
        kept = (
            "are still those that matter more"
            if low > max(chance, 0)
            else "need not matter any more than others"
        )
        return Markdown(
            "*Scales of this network.* Just below the random blocks, channels that are large "
            f"{kept}: the rank correlation of a channel's size in the trained network with its "
            f"influence on the logit is {rounded(value)} ({rounded(low)} to {rounded(high)}). It "
            "is a mean over stages, with everything above the channel drawn anew; for channels "
            f"in random order it is {rounded(chance)}."
        )

    @property
    def checks(self) -> list[Check]:
        """The checks that could be made."""
        return self.examination.checks

    @property
    def board(self) -> pd.DataFrame:
        """Verdicts in them, as rows of the scoreboard."""
        return self.examination.board

    def row(self) -> Figure:
        """The verdicts as a picture."""
        return scoreboard_chart(self.board, self.checks)

    def write_all(self) -> None:
        """Write the table of verdicts."""
        self.write(self.board)

    def card(self) -> Scorecard:
        """The verdicts as links to what shows why."""
        return Scorecard(self.board, self.checks, others=self.examination.others)

    @cached_property
    def said(self) -> dict[str, list[str]]:
        """What checks with a wanted answer say of the page's own method, by how it stands."""
        asked = {check.key: check.question.lower() for check in self.checks if check.wanted}
        mine = self.board[
            (self.board["method"] == self.method) & self.board["check"].isin(asked)
        ].to_dict("records")
        return {
            standing: [
                f"{asked[row['check']]}: {row['words']}"
                for row in mine
                if row["standing"] == standing
            ]
            for standing in _STANDINGS
        }

    def summary(self) -> Markdown:
        """How many checks the method fails, and which."""
        wrong, total = self.said["unwanted"], sum(map(len, self.said.values()))
        undecided = self.said["open"]
        head = f"{self.titles[self.method]} fails {len(wrong)} of {total} checks"
        head += f", and leaves {len(undecided)} open" if undecided else ""
        untold = self.said["cannot"]
        head += f"; in {len(untold)} nobody can tell" if untold else ""
        head += "" if self.learned else f". But this network has learned nothing: {_UNTRAINED}"
        lines = [
            f"* *{_STANDINGS[standing]}*: {' · '.join(texts)}"
            for standing, texts in self.said.items()
            if texts
        ]
        return Markdown("\n".join([f"**{head}.**", "", *lines]))

    def numbers(self) -> dict[str, int]:
        """What other pages of the book quote, by name."""
        checks = sum(map(len, self.said.values()))
        return {"checks": checks, "failed": len(self.said["unwanted"])}

    def box(self) -> ProvenanceBox:
        """How this page was made."""
        return self.provenance(
            {
                "method": describe(self.chosen[self.method]),
                "model": self.classifier.name,
                "weights": self.facts["weights"],
                "images": pictures_used(self.images, len(self.photographs)),
                "random networks": self.seeds,
                "stages": len(self.outcome.stages),
                "preset": self.preset,
                "margin": self.margin,
            },
            range(self.seed, self.seed + self.seeds),
            self.x.device,
        )
