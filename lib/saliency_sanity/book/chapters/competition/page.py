"""The page on competition: maps and their competitive twins, randomized, relabelled, summed up."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler
from torch import Tensor

from saliency_sanity import load_model, resolve
from saliency_sanity._errors import NotApplicable
from saliency_sanity._hashing import weights_hash
from saliency_sanity.attribution.base import Attribution
from saliency_sanity.attribution.catalogue import is_control, title
from saliency_sanity.attribution.competition import Compete, check_top
from saliency_sanity.attribution.controls import Noise
from saliency_sanity.book.chapters.claims import ClaimTable, tried
from saliency_sanity.book.chapters.competition.claims import competition_claims
from saliency_sanity.book.chapters.competition.completeness import fits as lines
from saliency_sanity.book.chapters.competition.completeness import predicted_sums, sums_of_labels
from saliency_sanity.book.chapters.competition.removal import RANDOM_ORDER, areas, removal_table
from saliency_sanity.book.chapters.labels import agreement_table, undecided
from saliency_sanity.book.chapters.page import (
    Page,
    check_shown,
    described,
    memorized_by_all,
    nonzero_metrics,
    nonzero_pixels,
    pictures_for,
    pictures_used,
    plain_table,
    titled,
)
from saliency_sanity.book.chapters.stage_maps import (
    competing_sentence,
    grid_caption,
    kappas_by_stage,
    row_name,
    stage_heads,
)
from saliency_sanity.book.runs.provenance import ProvenanceBox
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.experiments.label_permutation import Agreement
from saliency_sanity.experiments.outcome import Outcome, stage_table
from saliency_sanity.networks.classifier import Classifier
from saliency_sanity.plots.competition import removal_chart, sums_chart, survival_chart
from saliency_sanity.plots.labels import agreement_bars
from saliency_sanity.plots.mosaic import mosaic, tinted
from saliency_sanity.plots.style import save
from saliency_sanity.plots.tiles import VIEWS, Tiles, View, network_tiles, spread, stage_tiles
from saliency_sanity.probes.deletion import check_shares
from saliency_sanity.probes.survival import (
    STATISTICS,
    mass,
    overlap_chance,
    survival_null,
    survival_table,
    survivors,
)
from saliency_sanity.similarity.metrics import metric
from saliency_sanity.similarity.prepare import signed_picture
from saliency_sanity.similarity.rank import Overlap, UnionSpearman
from saliency_sanity.subjects.models import load_replicates
from saliency_sanity.subjects.training.accuracy import trainings
from saliency_sanity.verdict.robustness import held_against
from saliency_sanity.verdict.wording import METRIC_TITLES, cross_table

_NOISE, _CONTROL = "noise", "input_x_noise"
# Shown on the landing page beside its competitive twin.
_CARD = "gradient_x_input"
_MAPS = (
    "Its maps by every method, above by itself, below in competition of all labels of the network. "
    "Channels are summed: red is positive, blue negative, white zero; each map is cut at its 99th "
    "percentile. A positive value stays where no label has a larger one, a negative one where no "
    "label has a smaller one. The number below a map is the share of the coordinates that were not "
    "zero and still are not, mean over {count} pictures. By chance it is 2 of {labels} labels."
)


def twin_of(key: str) -> str:
    """What a method in competition is called in tables."""
    return f"competitive_{key}"


@dataclass(kw_only=True)
class Competition(Page):
    """One run of the notebook on competition; its parameters are described there.

    ``methods`` are the bases, their competitive twins and controls by name, ``twins`` the base of
    each twin, ``x`` ``[N, C, H, W]`` the pictures in the network's units and ``target`` ``[N]`` the
    classes that the trained network finds.

    Raises ValueError for a method, metric, number or share that cannot be, FileNotFoundError for
    networks that are not trained, before anything is explained.
    """

    notebook: ClassVar[str] = "04_cgi_sanity"

    model: str
    weights: str
    images: str
    image_count: int
    bases: list[str]
    top: int
    seeds: int
    stage_limit: int
    pairs: int
    dataset: str
    metrics: list[str]
    preset: str
    steps: int
    shares: list[float]
    shown: int
    memorized: float

    def __post_init__(self):
        super().__post_init__()
        check_shares(self.shares)
        self._choose()
        self.classifier = load_model(self.model, self.weights, self.device, self.seed)
        self.photographs, self.x = pictures_for(self.classifier, self.images, self.image_count)
        self.target = self.classifier.predict(self.x)
        self.labels = int(self.classifier.logits(self.x[:1]).shape[1])
        check_top(self.top, self.labels)
        self.rivals = self.top or self.labels
        self.chance = survival_null(self.rivals)
        self.measures = {key: metric(key, self.preset) for key in self.metrics}
        where = nonzero_pixels(self.x)
        if where is not None:
            # Elsewhere every product with the input is zero, whatever survives.
            key = "spearman_abs_not_zero"
            self.measures[key] = nonzero_metrics(where)[key]
        self.kept = {"overlap": Overlap(), "spearman_union": UnionSpearman()}
        check_shown(self.shown, len(self.photographs))
        self.replicates = {}
        if self.pairs:
            self.replicates = load_replicates(self.model, self.dataset, self.pairs, self.device)

    def _choose(self) -> None:
        base = self.at_scale(self.bases)
        self.twins = {twin_of(key): key for key in self.bases}
        self.methods: dict[str, Attribution] = base | {
            twin: Compete(base[key], top=self.top) for twin, key in self.twins.items()
        }
        # A control: noise that hangs on weights and label only, alone and in competition with
        # itself.
        self.methods[_NOISE] = Noise(self.seed, per_label=True)
        self.methods[_CONTROL] = resolve(_CONTROL, seed=self.seed)
        self.methods[twin_of(_NOISE)] = Compete(self.methods[_NOISE], top=self.top)
        self.twins[twin_of(_NOISE)] = _NOISE
        self.titles = {key: title(key) for key in self.methods} | {
            twin: f"{title(key)} (competitive)" for twin, key in self.twins.items()
        }

    @property
    def _bases_and_twins(self) -> list[str]:
        return [key for base in self.bases for key in (base, twin_of(base))]

    @cached_property
    def _pictured(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Maps of the shown pictures with all labels in competition, and who refused, and why."""
        maps, refused = {}, {}
        for key in self._bases_and_twins:
            method = self.methods[key]
            if key in self.twins:
                method = Compete(self.methods[self.twins[key]], store=self.store)
            try:
                maps[key] = method(self.classifier, *self._show).cpu()
            except NotApplicable as error:
                refused[key] = str(error)
        return maps, refused

    @property
    def _show(self) -> tuple[Tensor, Tensor]:
        return self.x[: self.shown], self.target[: self.shown]

    @property
    def refused(self) -> Mapping[str, str]:
        """Methods that do not apply to the network, with the reason."""
        return self._pictured[1]

    @cached_property
    def applicable(self) -> dict[str, Attribution]:
        """The methods that apply to the network."""
        return {key: method for key, method in self.methods.items() if key not in self.refused}

    @cached_property
    def competing(self) -> dict[str, str]:
        """The base of each competitive twin that applies to the network."""
        return {twin: base for twin, base in self.twins.items() if twin in self.applicable}

    def maps(self) -> Tiles:
        """Each method beside its twin on the shown pictures; says which methods are left out."""
        for key, reason in self.refused.items():
            print(f"left out: {self.titles[key]}: {reason}")
        maps = self._pictured[0]
        left = {
            twin: float((survivors(maps[twin]) / survivors(maps[base])).nanmean())
            for twin, base in self.twins.items()
            if twin in maps and base in maps
        }
        least, most = min(left.values(), default=np.nan), max(left.values(), default=np.nan)
        rows = {
            "by itself": {base: maps[base] for base in map(self.twins.get, left)},
            "in competition": {self.twins[twin]: maps[twin] for twin in left},
        }
        return network_tiles(
            [
                View(
                    self.photographs.names[i],
                    self.photographs.arrays[i],
                    None,
                    {
                        row: np.concatenate(
                            [
                                signed_picture(one[i : i + 1].float()).numpy()
                                for one in found.values()
                            ]
                        )
                        for row, found in rows.items()
                    },
                )
                for i in range(min(self.shown, VIEWS))
            ],
            [self.titles[self.twins[twin]] for twin in left],
            spread(len(left)),
            finding=(
                "In the trained network, competition leaves "
                f"{least:.0%} to {most:.0%} of what a map has that is not zero."
            ),
            caption=_MAPS.format(count=min(self.shown, len(self.x)), labels=self.labels),
            notes={"in competition": [f"{share:.0%} left" for share in left.values()]},
            every=f"all {len(left)} methods",
        )

    def channels(self) -> Styler | None:
        """What is left where each channel competes by itself, and where their sum does.

        None where pictures have one channel, so that both are the same.
        """
        rows = []
        for base in self.bases if self.x.shape[1] > 1 else ():
            if base not in self.refused:
                rows += self._ways(base)
        if rows:
            return plain_table(pd.DataFrame(rows), precision=2)
        return None

    def _ways(self, base: str) -> list[dict]:
        method, rows = self.methods[base], []
        own = method(self.classifier, *self._show)
        for text, each in (("each channel by itself", True), ("the sum over channels", False)):
            left = Compete(method, top=self.top, per_channel=each)(self.classifier, *self._show)
            rows.append(
                {
                    "map of": self.titles[base],
                    "what competes": text,
                    "survivors": float((survivors(left) / survivors(own)).mean()),
                    "mass kept": float((mass(left) / mass(own)).mean()),
                }
            )
        return rows

    @property
    def _again(self) -> list[Classifier]:
        """Another training of the network, where there is one, whose maps are a ceiling."""
        own = weights_hash(self.classifier)
        others = [n for n in self.replicates.get("true", []) if weights_hash(n) != own]
        return others[:1]

    @cached_property
    def outcome(self) -> Outcome:
        """The maps of the network randomized block by block, against those of the trained one."""
        experiment = Experiment(
            self.classifier,
            self.x,
            self.target,
            self.applicable,
            self.measures | self.kept,
            explained="fixed",
            seeds=self.seeds,
            seed=self.seed,
            stage_limit=self.stage_limit,
            shown=self.shown,
            store=self.store,
            precision=self.precision,
            statistics=STATISTICS,
            trainings=self._again,
        )
        return experiment()

    @cached_property
    def readings(self) -> pd.DataFrame:
        """Every similarity by method, metric and stage, read against chance."""
        return stage_table(self.outcome.readings(margin=self.margin))

    @property
    def last(self) -> pd.DataFrame:
        """The readings of the last stage, where everything is random."""
        return self.readings[self.readings["stage"] == self.outcome.stages[-1]]

    def stages(self) -> Tiles:
        """Maps of the first picture by method and stage, each method before its twin."""
        shown = [
            key
            for pair in self.competing.items()
            for key in reversed(pair)
            if key in self.outcome.pictures
        ]
        names = {
            key: row_name(self.titles[key], is_control(self.competing.get(key, key)))
            for key in shown
        }
        absolute, signed = (
            {names[key]: self.outcome.pictures[key][kind][:, 0] for key in shown} for kind in (0, 1)
        )
        rows = titled(self.readings[self.readings["method"].isin(shown)], names)
        main = next(iter(self.measures))
        twins = {
            self.titles[twin]: self.titles[base]
            for twin, base in self.competing.items()
            if base in self.bases and {twin, base} <= set(shown)
        }
        return stage_tiles(
            [View(self.photographs.names[0], self.photographs.arrays[0], absolute, signed)],
            stage_heads(self.outcome.stages, None),
            finding=competing_sentence(self._titled(self.last), main, twins),
            caption=grid_caption(rows, main, len(self.x), self.margin),
            notes=kappas_by_stage(rows, main, len(self.x)),
        )

    @cached_property
    def survival(self) -> pd.DataFrame:
        """What competition leaves at each stage, as ``survival_table`` gives it."""
        return survival_table(self.outcome, self.competing)

    @cached_property
    def quantities(self) -> pd.DataFrame:
        """``survival``, with overlap and ranks of the survivors below it."""
        table = self.readings
        beside = table[table["metric"].isin(self.kept) & table["method"].isin(self.competing)]
        beside = beside.rename(columns={"metric": "quantity", "similarity": "value"}).assign(
            low=beside["similarity_low"],
            high=beside["similarity_high"],
            position=beside["position"] + 1,
        )
        beside = beside[self.survival.columns].merge(
            overlap_chance(self.outcome, self.competing).assign(quantity="overlap"),
            on=["method", "position", "quantity"],
            how="left",
        )
        return pd.concat([self.survival, beside], ignore_index=True)

    def survival_figure(self) -> Figure:
        """What survives, in four numbers, over the stages."""
        nulls = {
            "survivors": self.chance,
            "spearman_union": 0.0,
        }
        figure = survival_chart(
            self._titled(self.quantities),
            nulls,
            logarithmic=["survivors"] if self.rivals > 50 else [],
            title=self._surviving,
        )
        save(figure, self.figure("survival"))
        return figure

    @property
    def _surviving(self) -> str:
        """What competition keeps under random weights, in a sentence."""
        rows = self.survival[self.survival["quantity"] == "survivors"]
        last = rows["value"][rows["position"] == rows["position"].max()]
        return (
            f"With the whole network random, competition keeps {last.min():.2g} to "
            f"{last.max():.2g} of a map's coordinates; chance is {self.chance:.2g}"
        )

    def verdicts(self) -> Styler:
        """Kappa on the last stage, by method and similarity."""
        rows = self.last[self.last["metric"].isin(self.measures)]
        order = {key: i for i, key in enumerate(self.titles)}
        rows = rows.sort_values("method", key=lambda keys: keys.map(order), kind="stable")
        rows = rows.assign(
            method=rows["method"].map(self.titles), metric=rows["metric"].map(METRIC_TITLES)
        )
        return cross_table(rows, "method", "metric")

    @cached_property
    def learned(self) -> bool:
        """Whether every network with permuted labels, if there is one, knows them."""
        networks = [network for kind in self.replicates.values() for network in kind]
        if not networks:
            return True
        trained = trainings([network.provenance for network in networks])
        reached = trained.loc[trained["labels"] == "permuted", "training accuracy"]
        return memorized_by_all(reached, self.memorized)

    @cached_property
    def relabelled(self) -> pd.DataFrame | None:
        """Maps under true and permuted labels, read against chance; None without networks."""
        if not self.replicates:
            return None
        agreement = Agreement(
            self.replicates["true"],
            self.replicates["permuted"],
            self.x,
            self.applicable,
            self.measures | self.kept,
            store=self.store,
            precision=self.precision,
        )
        readings = agreement().readings(margin=self.margin)
        return readings if self.learned else undecided(readings)

    def label_table(self) -> Styler | None:
        """The verdicts of the random labels; says why where there is none."""
        if self.relabelled is None:
            print("This network was not trained here, so there is none with permuted labels.")
            return None
        if not self.learned:
            print("The permuted labels were not memorized: nothing can be concluded.")
        return agreement_table(self._titled(self.relabelled), self.metrics[0])

    def label_bars(self) -> Figure | None:
        """Similarity under true and permuted labels, where there are such networks."""
        if self.relabelled is None:
            return None
        controls = [self.titles[key] for key in (_NOISE, _CONTROL, twin_of(_NOISE))]
        figure = agreement_bars(
            self._titled(self.relabelled),
            [*self.measures, *self.kept],
            margin=self.margin,
            controls=controls,
        )
        save(figure, self.figure("labels"))
        return figure

    def _titled(self, rows: pd.DataFrame) -> pd.DataFrame:
        return titled(rows, self.titles)

    @cached_property
    def explained(self) -> dict[str, Tensor]:
        """Maps ``[N, C, H, W]`` of all pictures by each base and its twin."""
        pairs = [pair for pair in self.competing.items() if pair[1] in self.bases]
        return {
            key: self.methods[key](self.classifier, self.x, self.target)
            for twin, base in pairs
            for key in (base, twin)
        }

    @cached_property
    def sums(self) -> pd.DataFrame:
        """Sums of maps and the logits they explain, by ``kind``: method, biases, and which label.

        Of all labels where they are not too many, and of the predicted class.
        """
        kinds = {
            self.titles[key]: self.methods[key] for key in self.bases if key in self.applicable
        }
        found = sums_of_labels(kinds, self.classifier, self.x) if self.labels <= 100 else []
        named = {self.titles[key]: maps for key, maps in self.explained.items()}
        by_title = {self.titles[key]: self.methods[key] for key in self.explained}
        found += predicted_sums(by_title, named, self.classifier, self.x, self.target)
        return pd.concat(found, ignore_index=True)

    def fits(self) -> Styler:
        """Slope, intercept and share explained of each kind of sums."""
        return plain_table(lines(self.sums), precision=2)

    def sums_figure(self) -> Figure:
        """Sum of the map against the logit; of the predicted class with competition only."""
        kinds = self.sums["kind"].unique()
        told = [kind for kind in kinds if "predicted" not in kind or "competitive" in kind]
        found = lines(self.sums).set_index("sum of").loc[told]
        return sums_chart(
            self.sums,
            {
                kind: f"{kind}\nslope {slope:.2f}, R² {explained:.2f}"
                for kind, slope, explained in zip(told, found["slope"], found["R²"], strict=True)
            },
        )

    @cached_property
    def removed(self) -> pd.DataFrame:
        """Probability of the class as pixels go in the order of a map, and in random order."""
        product = "gradient_x_input"
        maps = {
            key: self.explained[key] for key in (product, twin_of(product)) if key in self.explained
        }
        return removal_table(
            self.classifier,
            self.x,
            self.target,
            maps,
            self.shares,
            seed=self.seed,
        )

    @property
    def _removed_by_title(self) -> pd.DataFrame:
        titles = self.titles | {RANDOM_ORDER: "random order"}
        return titled(self.removed, titles)

    def areas(self) -> Styler:
        """The areas under the curves of removal."""
        return (
            areas(self._removed_by_title)
            .style.format(precision=2)
            .set_table_attributes('class="dataframe"')
        )

    def removal_figure(self) -> Figure:
        """The curves of removal, deleted and inserted."""
        found = areas(self._removed_by_title)
        return removal_chart(
            self._removed_by_title,
            {
                way: f"{way}, area below: "
                + " · ".join(f"{method} {area:.2f}" for method, area in found[way].items())
                for way in found
            },
        )

    @cached_property
    def claims(self) -> ClaimTable:
        """What [gupta2019simple] says and what we say, held against what was measured here."""
        return tried(self._claims, self.margin)

    def _claims(self, margin: float, level: float) -> ClaimTable:
        claims = ClaimTable(self.name)
        readings = held_against(self.readings, margin, level)
        relabelled = self.relabelled
        competition_claims(
            claims,
            readings,
            None if relabelled is None else held_against(relabelled, margin, level),
            {twin: base for twin, base in self.competing.items() if base in self.bases},
            self.titles,
            self.quantities,
            share=self.chance,
            margin=margin,
            memorized=self.learned,
            all_compete=not self.top,
        )
        return claims

    def write_all(self) -> None:
        """Write the claims and every table of the page."""
        self.claims.write(self.folder)
        self.write(
            described(
                self.outcome.measurements(),
                self.photographs,
                self.applicable,
                model=self.classifier.name,
            )
        )
        self.write(self.readings.drop(columns="words"), "readings")
        self.write_refused(self.refused)
        self.write(self.quantities, "survival")
        self.write(self.removed, "removal")
        self._keep_card()

    def _keep_card(self) -> None:
        """Keep a small picture: a method above its twin, with the network trained and random."""
        films = self.outcome.pictures
        pair = (_CARD, twin_of(_CARD))
        if not set(pair) <= set(films):
            return
        rows = [[tinted(films[key][1][i, 0], signed=True) for i in (0, -1)] for key in pair]
        mosaic([[self.photographs.arrays[0], *row] for row in rows], self.card)

    def numbers(self) -> dict[str, float]:
        """What other pages of the book quote, by name."""
        found = {
            "pictures": len(self.photographs),
            "networks": self.seeds,
            "labels": self.labels,
            "competitors": self.rivals,
            "chance": self.chance,
        }
        twin = twin_of("gradient_x_input")
        if twin in self.competing:
            rows = self.survival[self.survival["method"] == twin]
            rows = rows[rows["quantity"] == "survivors"].sort_values("position")
            found["survivors_trained"] = float(rows["value"].iloc[0])
            found["survivors_random"] = float(rows["value"].iloc[-1])
        for row in self.last.to_dict("records"):
            if pd.notna(row["kappa"]):
                found[f"kappa_{row['method']}_{row['metric']}"] = round(row["kappa"], 2) + 0.0
        return found

    def box(self) -> ProvenanceBox:
        """How this page was made."""
        return self.provenance(
            {
                "model": self.model,
                "weights": f"{self.classifier.weights}",
                "images": pictures_used(self.images, len(self.photographs)),
                "labels that compete": f"{self.rivals} of {self.labels}",
                "random networks": self.seeds,
                "pairs with permuted labels": self.pairs,
                "preset": self.preset,
                "steps": self.steps,
                "margin": self.margin,
            },
            range(self.seed, self.seed + self.seeds),
            self.x.device,
        )
