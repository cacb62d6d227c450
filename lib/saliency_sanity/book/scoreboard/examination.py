"""What can be asked of any method and network as they are: the checks, and their verdicts."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from saliency_sanity._arithmetic import arithmetic
from saliency_sanity._errors import NotApplicable
from saliency_sanity.attribution.base import Attribution
from saliency_sanity.attribution.controls import Canny, Sobel
from saliency_sanity.book.chapters.measured import RISE, measured
from saliency_sanity.book.scoreboard.columns import (
    HALFWAY,
    NETWORKS,
    SIMILARITY,
    Check,
    own_checks,
)
from saliency_sanity.book.scoreboard.table import score
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.experiments.ceiling import PICTURES
from saliency_sanity.experiments.comparison import Explained, compare, explain
from saliency_sanity.experiments.outcome import Outcome, halfway, stage_table
from saliency_sanity.experiments.store import Store
from saliency_sanity.experiments.variants import has_batch_norms
from saliency_sanity.networks.classifier import Classifier
from saliency_sanity.probes.complexity import STATISTICS, rises
from saliency_sanity.probes.input_size import likeness_table
from saliency_sanity.probes.random_logit import FLIPS, label_maps, logit_similarities, other_labels
from saliency_sanity.probes.scales import KeptScales, kept_scales
from saliency_sanity.probes.units import units_table
from saliency_sanity.randomization.blocks import find_blocks
from saliency_sanity.similarity.metrics import Similarity
from saliency_sanity.verdict.reading import read, table
from saliency_sanity.verdict.robustness import MARGINS


@dataclass(kw_only=True)
class Examination:
    """Methods on one network and its pictures, and the checks that need no other network trained.

    ``pixels`` and ``x`` ``[N, C, H, W]`` are the pictures, raw and in the network's units,
    ``target`` ``[N]`` the classes explained; ``methods`` and ``measures`` the methods and the
    similarities by name. ``blocks`` are randomized alone as well, 0 for none. ``labels`` other
    labels of each picture are explained as well, 0 for none. Where ``brief`` the cascade's first
    stage is left out, which no check reads. Everything else is as in ``Experiment``. Nothing is
    computed before it is asked for, and then once.
    """

    classifier: Classifier
    pixels: Tensor
    x: Tensor
    target: Tensor
    methods: Mapping[str, Attribution]
    measures: Mapping[str, Similarity]
    margin: float
    seeds: int
    seed: int
    stage_limit: int
    blocks: int = 0
    labels: int = 0
    shown: int = 0
    brief: bool = False
    ceiling: int = PICTURES
    store: Store | None = None
    precision: str = "exact"
    anchor: str = ""

    @property
    def network(self) -> str:
        """What pages call the network."""
        return NETWORKS.get(self.classifier.name, self.classifier.name)

    @cached_property
    def explained(self) -> Explained:
        """Maps by method."""
        return explain(self.methods, self.classifier, self.x, self.target, self.precision)

    @property
    def maps(self) -> Mapping[str, Tensor]:
        """The same without what does not apply to the network."""
        return self.explained.maps

    @property
    def applicable(self) -> dict[str, Attribution]:
        """The methods that have maps."""
        return {key: self.methods[key] for key in self.maps}

    @cached_property
    def edges(self) -> Tensor:
        """Sobel magnitudes of the pictures, ``[N, 1, H, W]``."""
        return Sobel()(self.classifier, self.x, self.target)

    @cached_property
    def edge_likeness(self) -> pd.DataFrame:
        """Readings of maps against the edges, as shares of what Canny's have."""
        canny = Canny()(self.classifier, self.x, self.target)
        return compare(self.maps, self.edges, self.measures, margin=self.margin, detector=canny)[0]

    @cached_property
    def experiment(self) -> Experiment:
        """The cascade of randomization."""
        found = Experiment(
            self.classifier,
            self.x,
            self.target,
            self.applicable,
            self.measures,
            seeds=self.seeds,
            seed=self.seed,
            stage_limit=self.stage_limit,
            shown=self.shown,
            store=self.store,
            precision=self.precision,
            ceiling=self.ceiling,
            statistics=STATISTICS,
        ).having(self.maps)
        if not self.brief:
            return found
        _, *others = found.stages(find_blocks(self.classifier, self.x))
        return replace(found, only=[stage.name for stage in others])

    @cached_property
    def outcome(self) -> Outcome:
        """What the cascade gave; the long part."""
        return self.experiment()

    @cached_property
    def cascade(self) -> pd.DataFrame:
        """Readings of the cascade, a row a method, metric and stage."""
        return stage_table(self.outcome.readings(margin=self.margin), self.outcome.random)

    @cached_property
    def complexity(self) -> pd.DataFrame:
        """How the entropy of maps rises once all is random, beside 0; a row a method."""
        found = {name: rise.values for name, rise in rises(self.outcome).items()}
        return measured(found, RISE, 0.0)

    @cached_property
    def other_label(self) -> pd.DataFrame | None:
        """Readings of maps against those of other labels; None where none is asked for.

        Also where the network has no other label.
        """
        count = self.classifier.logits(self.x[:1]).shape[1]
        if not self.labels or count < 2:
            return None
        others = other_labels(self.target, count, self.labels, self.seed)
        labels = torch.cat([self.target[None], others])
        found = {}
        for name, method in tqdm(self.applicable.items(), desc="other labels", unit="method"):
            with arithmetic(self.precision, self.x.device):
                maps = label_maps(method, self.classifier, self.x, labels)
            with arithmetic("exact", self.x.device):
                similarities = logit_similarities(method, maps)[FLIPS[1]]
            found[name, SIMILARITY] = read(similarities.mean(axis=0), margin=self.margin)
        return table(found, index=("method", "metric"))

    @cached_property
    def scales(self) -> KeptScales | NotApplicable:
        """What randomizing from the logits down leaves of the scales of channels, or why none."""
        try:
            return kept_scales(
                self.classifier,
                self.x,
                self.target,
                orders=("top_down",),
                seeds=self.seeds,
                seed=self.seed,
                stage_limit=self.stage_limit,
            )
        except (NotApplicable, ValueError) as error:
            return NotApplicable(str(error))

    @cached_property
    def alone(self) -> pd.DataFrame | None:
        """Readings of single random blocks; None where none is asked for."""
        if not self.blocks:
            return None
        # The last stage of this order is the whole network, which the cascade has had.
        single = replace(self.experiment, order="independent", stage_limit=self.blocks + 1, shown=0)
        return stage_table(single().readings(margin=self.margin))

    @cached_property
    def likeness(self) -> pd.DataFrame:
        """Readings of maps against the size of the input."""
        return likeness_table(self.maps, self.x, margin=self.margin)

    @cached_property
    def _moved(self) -> pd.DataFrame | NotApplicable:
        try:
            return units_table(
                self.applicable,
                self.classifier,
                self.pixels,
                self.target,
                margin=self.margin,
                seed=self.seed,
            )
        except NotApplicable as error:
            return error

    @property
    def moved(self) -> pd.DataFrame | None:
        """Readings of maps in other units; None for a network that cannot be given such."""
        return None if isinstance(self._moved, NotApplicable) else self._moved

    @property
    def no_units(self) -> str:
        """Why this network cannot be given other units; empty where it can."""
        return str(self._moved) if isinstance(self._moved, NotApplicable) else ""

    @cached_property
    def _read(self) -> dict[str, pd.DataFrame]:
        """Readings by check; those that there are."""
        read = {
            "edges": self.edge_likeness,
            "outlines": self.edge_likeness,
            "cascade_photographs": self.cascade,
            "upper_photographs": self.cascade,
            "independent_cnn": self.alone,
            "input_photographs": self.likeness,
            "units_photographs": self.moved,
            "complexity_photographs": self.complexity,
            "label_photographs": self.other_label,
        }
        return {key: table for key, table in read.items() if table is not None}

    @cached_property
    def checks(self) -> list[Check]:
        """The checks that could be made."""
        norms = has_batch_norms(self.classifier)
        halves = halfway(self.cascade) is not None
        return [
            check
            for check in own_checks(self.classifier.name, norms=norms, anchor=self.anchor)
            if check.key in self._read
            and check.metric in set(self._read[check.key]["metric"])
            and (halves or check.stage != HALFWAY)
        ]

    @cached_property
    def board(self) -> pd.DataFrame:
        """Verdicts in them, as rows of the scoreboard."""
        return self._board()

    @cached_property
    def others(self) -> dict[float, pd.DataFrame]:
        """The same with other margins, by margin."""
        return {margin: self._board(margin) for margin in MARGINS}

    def _board(self, margin: float | None = None) -> pd.DataFrame:
        rows = [score(check, self._read[check.key], check.source, margin) for check in self.checks]
        return pd.concat(rows, ignore_index=True)
