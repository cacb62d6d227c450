"""The page on randomization: maps stage by stage, how similar they stay, what is hidden in it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import ClassVar

import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from saliency_sanity import load_model, weights_hash
from saliency_sanity._errors import known
from saliency_sanity._files import replacing
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.attribution.catalogue import FIGURES, is_control, title
from saliency_sanity.attribution.compose import PathAverage
from saliency_sanity.book.chapters.cascade.claims import (
    CLAIMED,
    beside_published,
    cascade_claims,
    independent_claims,
    norm_claims,
    read_stages,
)
from saliency_sanity.book.chapters.cascade.layers import (
    LOOKING,
    ONE_LAYER,
    at_layers,
    cam_layers,
    layer_styled,
    layer_table,
)
from saliency_sanity.book.chapters.cascade.norms import (
    norm_sentence,
    norm_styled,
    norm_table,
)
from saliency_sanity.book.chapters.cascade.wording import (
    ceiling_text,
    network_differences,
    network_facts,
    published_title,
    random_networks,
    random_words,
    stage_words,
    weights_text,
)
from saliency_sanity.book.chapters.claims import LEVELS, ClaimTable, tried
from saliency_sanity.book.chapters.page import (
    MethodsPage,
    bullets,
    check_shown,
    counted,
    described,
    nonzero_metrics,
    nonzero_pixels,
    pictures_for,
    pictures_used,
    verdict_counts,
    verdict_lists,
)
from saliency_sanity.book.chapters.published import Published, published
from saliency_sanity.book.chapters.stage_maps import (
    grid_caption,
    kappas_by_stage,
    kept_sentence,
    stage_heads,
    upper_half,
)
from saliency_sanity.book.runs.provenance import ProvenanceBox
from saliency_sanity.experiments.cascade import Experiment, Share, share
from saliency_sanity.experiments.outcome import Outcome, cascades, stage_table
from saliency_sanity.experiments.plan import Plan, planned
from saliency_sanity.experiments.variants import norm_policies, variants
from saliency_sanity.plots.curves import against_published, method_curves
from saliency_sanity.plots.hero import Film, spread, stage_hero
from saliency_sanity.plots.mosaic import mosaic, tinted
from saliency_sanity.plots.slider import StageSlider, stage_slider
from saliency_sanity.plots.stages import independent_boxes, kappa_curves, similarity_curves
from saliency_sanity.plots.style import save
from saliency_sanity.plots.tiles import VIEWS, Tiles, View, stage_tiles
from saliency_sanity.randomization.blocks import ORDERS
from saliency_sanity.randomization.schemes import EXPLAINED, Randomization
from saliency_sanity.similarity.metrics import PRESETS, metric
from saliency_sanity.subjects.models import trained_again
from saliency_sanity.subjects.photographs import targets
from saliency_sanity.verdict.reading import Reading
from saliency_sanity.verdict.robustness import at_margin
from saliency_sanity.verdict.wording import METRIC_TITLES, cross_table, kappa_text, verdict_table

# The gradient, and what multiplies it by the input.
_MULTIPLIED = ("gradient", "gradient_x_input", "integrated_gradients")
_KINDS = {
    "spearman_abs": "absolute, all pixels",
    "spearman_abs_not_zero": "absolute, where the input is not zero",
    "spearman_signed": "signed, all pixels",
    "spearman_signed_not_zero": "signed, where the input is not zero",
}
_SLIDER_BYTES = 290_000
# The book's first picture, the most stages that it goes through, and what its card shows.
_HERO = ("gradient", "guided_backprop", "gradient_x_input", "sobel")
_HERO_STAGES = 5
_CARD = ("guided_backprop", "gradient")


@dataclass(kw_only=True)
class Cascade(MethodsPage):
    """One run of the notebook on randomization; its parameters are described there.

    ``chosen`` are the methods and ``measures`` the similarities by name, ``classifier`` the
    trained network, ``x`` ``[N, C, H, W]`` the pictures in its units, ``predicted`` and ``target``
    ``[N]`` the classes that it finds and those that are explained, ``labels`` ``[N]`` the
    pictures' own where all are known, ``nonzero`` ``[N, H, W]`` where pictures are not zero if
    that matters, and ``experiment`` what is run.

    Raises ValueError for a name or number that cannot be, before anything is explained.
    """

    notebook: ClassVar[str] = "02_cascading_randomization"

    model: str
    weights: str
    images: str
    image_count: int
    order: str
    stage_limit: int
    scheme: str
    std: float
    batch_norm: str
    explained_class: str
    seeds: int
    trainings: int
    methods: list[str]
    choices: list[str]
    metrics: list[str]
    preset: str
    layer: str
    samples: int
    steps: int
    ig_samples: int
    ig_steps: int
    top: int
    shown: int
    group: int
    shard: str

    def __post_init__(self):
        super().__post_init__()
        self.chosen = self.at_scale(self.methods or FIGURES)
        self.measures = {key: metric(key, self.preset) for key in self.metrics}
        randomization = Randomization(self.scheme, self.batch_norm, self.std)
        known("order", self.order, ORDERS)
        known("explained class", self.explained_class, EXPLAINED)
        self._load()
        fixed = self.explained_class == "label"
        self.experiment = Experiment(
            self.classifier,
            self.x,
            self.target,
            self.chosen,
            self.measures | (nonzero_metrics(self.nonzero) if self.nonzero is not None else {}),
            order=self.order,
            randomization=randomization,
            explained="fixed" if fixed else self.explained_class,
            seeds=self.seeds,
            seed=self.seed,
            stage_limit=self.stage_limit,
            shown=self.shown,
            store=self.store,
            precision=self.precision,
            group=self.group,
            trainings=trained_again(self.classifier, self.trainings, self.device),
        )

    def _load(self) -> None:
        self.classifier = load_model(self.model, self.weights, self.device, self.seed)
        self.photographs, self.x = pictures_for(self.classifier, self.images, self.image_count)
        check_shown(self.shown, len(self.photographs))
        self.nonzero = nonzero_pixels(self.x)
        self.predicted = self.classifier.predict(self.x)
        self.labels = None
        if None not in self.photographs.labels:
            self.labels = targets(self.photographs, self.predicted, "label")
        kind = "label" if self.explained_class == "label" else "predicted"
        self.target = targets(self.photographs, self.predicted, kind)

    def facts(self) -> Styler:
        """What the network can do before anything is randomized, and what it is compared with."""
        pictures = f"{len(self.photographs)} of {self.images}"
        facts = network_facts(self.classifier, pictures, self.predicted, self.labels)
        facts["random networks"] = random_networks(self.seeds)
        facts["ceiling"] = ceiling_text(self.experiment)
        shown = pd.Series(facts, name="").to_frame()
        return shown.style.set_table_attributes('class="dataframe"')

    def left_out(self) -> list[str]:
        """Methods that do not apply, and those that have no ceiling, with the reason."""
        without = [f"no ceiling: {title(k)}: {why}" for k, why in self.outcome.no_ceiling.items()]
        return super().left_out() + without

    def share(self) -> Share:
        """Leave this shard's similarities in the store for the run that follows."""
        return share(self.experiment, self.shard)

    def plan(self) -> Plan:
        """What the experiment takes: passes, time, and room."""
        return planned(self.experiment)

    @cached_property
    def outcome(self) -> Outcome:
        """What the experiment measured; the long part of the page."""
        return self.experiment()

    @property
    def refused(self) -> Mapping[str, str]:
        """Why methods do not apply, by name."""
        return self.outcome.refused

    @cached_property
    def found(self) -> dict[tuple[str, str, str], Reading]:
        """Readings by method, metric and stage."""
        return self.outcome.readings(margin=self.margin)

    @cached_property
    def table(self) -> pd.DataFrame:
        """Readings with the catalogue's names of methods."""
        return stage_table(self.found, self.outcome.random)

    @cached_property
    def readings(self) -> pd.DataFrame:
        """Readings with titles of methods."""
        return self._titled(self.table)

    @property
    def last(self) -> pd.DataFrame:
        """Readings of the last stage, with titles of methods."""
        return self.readings[self.readings["stage"] == self.outcome.stages[-1]]

    @cached_property
    def measurements(self) -> pd.DataFrame:
        """Similarities by picture and random network."""
        return self.outcome.measurements()

    def _asked(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows of the metrics that the page was asked for, over all pixels."""
        return rows[rows["metric"].isin(self.metrics)]

    @cached_property
    def scene(self) -> np.ndarray:
        """The pictures as they are shown, ``[N, h, w]`` or ``[N, h, w, 3]``."""
        return self.photographs.arrays

    def _films(self, signed: bool, picture: int) -> dict[str, np.ndarray]:
        return {
            self.titles[key]: pictures[signed][:, picture]
            for key, pictures in self.outcome.pictures.items()
            if not is_control(key)
        }

    def maps(self) -> Tiles:
        """Maps of up to three pictures by method and stage."""
        views = [
            View(name, self.scene[i], self._films(False, i), self._films(True, i))
            for i, name in enumerate(self.photographs.names[: min(self.shown, VIEWS)])
        ]
        kappas = kappas_by_stage(self.readings, self.metrics[0], len(self.photographs))
        half = upper_half(self.table, self.order)
        methods = self.readings[~self.readings["method"].isin(self.controls)]
        return stage_tiles(
            views,
            self._heads(half),
            finding=kept_sentence(methods, self.metrics[0], half),
            caption=grid_caption(
                methods, self.metrics[0], len(self.photographs), self.margin, half
            ),
            notes={key: kappas[key] for key in views[0].absolute},
        )

    def _heads(self, half: str | None) -> list[str]:
        stages = self.outcome.stages
        return stage_heads(stages, half) if self.order in ("top_down", "bottom_up") else stages

    def slider(self) -> StageSlider:
        """Maps of the first picture, to move through; kappa by the first similarity below."""
        films = self._films(False, 0)
        kappas = kappas_by_stage(self.readings, self.metrics[0], len(self.photographs), "kappa {}")
        return stage_slider(
            self.scene[0],
            films,
            stage_words(self.outcome.stages, self.order),
            signed=self._films(True, 0),
            caption=f"{self.photographs.names[0]}: maps of every method, stage by stage.",
            says="{stage}",
            notes={key: kappas[key] for key in films},
            limit=_SLIDER_BYTES,
        )

    @cached_property
    def beside(self) -> pd.DataFrame:
        """Readings with titles of methods, and what was published at the same places."""
        values = [
            self.theirs and self.theirs.value(row["method"], row["metric"], row["stage"])
            for row in self.table[["method", "metric", "stage"]].to_dict("records")
        ]
        return self.readings.assign(published=np.array(values, dtype=float))

    def curves(self) -> Figure:
        """The first similarity by stage, a small panel a method, beside the authors'."""
        key = self.metrics[0]
        return method_curves(
            self.beside,
            key,
            margin=self.margin,
            controls=self.controls,
            joined=self.order != "independent",
            title=f"With the whole network random, {counted(self._methods_last, key)} "
            f"({METRIC_TITLES.get(key, key)})",
        )

    def similarity(self) -> Figure:
        """All similarities by stage: curves of a cascade, boxes of blocks randomized alone."""
        if self.order == "independent":
            boxes = self._titled(self.measurements)
            return independent_boxes(boxes, self.readings, self.metrics, controls=self.controls)
        return similarity_curves(self.readings, self.metrics, controls=self.controls)

    def kappa(self) -> Figure:
        """Kappa by stage; the figure is kept for other pages."""
        figure = kappa_curves(
            self.readings, self.metrics, margin=self.margin, controls=self.controls
        )
        save(figure, self.figure("kappa"))
        return figure

    @property
    def _methods_last(self) -> pd.DataFrame:
        return self.last[~self.last["method"].isin(self.controls)]

    def summary(self) -> Markdown:
        """Methods by their verdict, by the first similarity."""
        return verdict_lists(self._methods_last, self.metrics[0])

    def verdicts(self) -> Styler:
        """Verdicts on the last stage by the first similarity, and what a cascade adds to them."""
        curves = None
        if self.order in ("top_down", "bottom_up") and len(self.outcome.stages) > 1:
            curves = self._titled(cascades(self.found))
            if half := upper_half(self.table, self.order):
                rows = self.readings[self.readings["stage"] == half]
                rows = rows.assign(upper=[kappa_text(row) for row in rows.to_dict("records")])
                keys = ["method", "metric"]
                curves = curves.merge(rows[[*keys, "upper"]], on=keys)
        return verdict_table(self.readings, self.metrics[0], curves)

    def by_metric(self) -> Styler:
        """The same verdicts by every similarity."""
        return _by_metric(self._asked(self.last))

    @cached_property
    def variants(self) -> dict[str, Experiment]:
        """Experiments that differ in one choice each, by name; none where nothing is compared."""
        compared = {key: self.chosen[key] for key in self.choices if key in self.chosen}
        if not compared:
            return {}
        others = [preset for preset in PRESETS if preset != self.preset]
        return variants(
            replace(self.experiment, metrics=self.measures),
            compared,
            labels=self.labels,
            presets={preset: {k: metric(k, preset) for k in self.metrics} for preset in others},
        )

    def _varied(self, name: str) -> Outcome:
        if name not in self._known:
            self._known[name] = self.variants[name]()
        return self._known[name]

    @cached_property
    def _known(self) -> dict[str, Outcome]:
        return {}

    def hidden_choices(self) -> list[Markdown | Styler]:
        """Kappa by choice and method, a table with its heading a similarity."""
        if not self.variants:
            return []
        parts = []
        for name in self.variants:
            readings = self._varied(name).readings(titles=self.titles, margin=self.margin)
            parts.append(stage_table(readings).assign(choice=name))
        effects = pd.concat(parts)
        shown = []
        for key in dict.fromkeys((self.metrics[0], *({"ssim"} & set(self.metrics)))):
            shown.append(Markdown(f"Kappa of the {METRIC_TITLES[key]}, by choice and method:"))
            shown.append(cross_table(effects[effects["metric"] == key], "choice", "method"))
        return shown

    def _norms(self, margin: float, confidence: float = 0.95) -> pd.DataFrame | None:
        """Readings by what becomes of batch norms; None where there are none to ask."""
        names = norm_policies(self.experiment, self.variants)
        outcomes = {policy: self._varied(name) for policy, name in names.items()}
        return norm_table(outcomes, margin, confidence) if outcomes else None

    def norms(self) -> list[Markdown | Styler]:
        """Which verdicts hang on what becomes of batch norms, in a sentence and a table.

        Nothing where no method that is compared meets one.
        """
        rows = self._norms(self.margin)
        if rows is None:
            return []
        key = self.metrics[0]
        return [Markdown(norm_sentence(rows, key)), norm_styled(rows, key)]

    def differences(self) -> Markdown | None:
        """Where a network of this kind is treated otherwise than the paper's; None if nowhere."""
        return bullets(network_differences(self.classifier))

    @cached_property
    def cam_layers(self) -> dict[str, tuple[int, int]]:
        """Layers that Grad-CAM is tried at, with their places; none where no claim rests on it."""
        own = self.layer or self.classifier.cam_layer
        looking = (set(LOOKING) & set(self.chosen)) - set(self.refused)
        if self.order != "top_down" or not (own and looking):
            return {}
        found = cam_layers(self.classifier, self.x, own)
        return found if len(found) > 1 else {}

    @cached_property
    def layered(self) -> Outcome:
        """What was measured with Grad-CAM at each of these layers."""
        looking = {name: self.chosen[name] for name in LOOKING if name in self.chosen}
        stages = read_stages(self.table, self.metrics[0])
        own = self.layer or self.classifier.cam_layer
        return at_layers(self.experiment, looking, self.cam_layers, own, stages)()

    def _layers(self, margin: float, confidence: float = 0.95) -> pd.DataFrame | None:
        """Readings by layer of Grad-CAM; None where none is tried."""
        return layer_table(self.layered, margin, confidence) if self.cam_layers else None

    def layers(self) -> Styler | Markdown:
        """Kappa by layer of Grad-CAM, at the stages on which claims rest."""
        rows = self._layers(self.margin)
        if rows is None:
            return Markdown(ONE_LAYER)
        return layer_styled(rows, self.cam_layers, self.metrics[0], self.titles)

    def signs(self) -> Styler:
        """Kappa with and without signs, over all pixels and over those that are not zero."""
        rows = self.last[self.last["metric"].isin(_KINDS)]
        return cross_table(rows.assign(kind=rows["metric"].map(_KINDS)), "method", "kind")

    def zeros(self) -> str:
        """How many pixels are zero, in words."""
        if self.nonzero is None:
            return "Hardly any pixel is zero in this network's units: both are the same here."
        share = 1 - float(self.nonzero.float().mean())
        return f"{share:.0%} of the pixels are zero in network units"

    def multiplier(self) -> Styler:
        """What the product with the input alone does to a verdict, the whole network random."""
        bare = replace(
            self.experiment,
            methods={"averaged": PathAverage(Gradient(), self.steps)},
            metrics=self.measures,
            order="full",
            stage_limit=0,
            ceiling=0,  # as for the other choices
        )
        name = "Integrated gradients without it"
        averaged = bare().readings(titles={"averaged": name}, margin=self.margin)
        products = self.last[self.last["method"].isin(map(title, _MULTIPLIED))]
        return _by_metric(self._asked(pd.concat([products, stage_table(averaged)])))

    @cached_property
    def theirs(self) -> Published | None:
        """What was published of a network of this name under this order."""
        return published(self.model, self.order)

    @cached_property
    def claims(self) -> ClaimTable:
        """What [adebayo2018sanity] says, held against what was measured here."""
        return tried(self._claims, self.margin)

    def _claims(self, margin: float, level: float) -> ClaimTable:
        claims = ClaimTable(self.name)
        rows = self.table if level == LEVELS[0] else self._claimed(level)
        rows = at_margin(self._asked(rows), margin)
        norms = self._norms(margin, 1 - level)
        if self.order == "top_down":
            layers = self._layers(margin, 1 - level)
            cascade_claims(claims, rows, self.theirs, margin, layers, norms)
        elif self.order == "independent":
            independent_claims(claims, rows, self.theirs, margin)
        if norms is not None:
            norm_claims(claims, norms, self.metrics[0], margin)
        return claims

    def _claimed(self, level: float) -> pd.DataFrame:
        """Readings of what claims are about, with intervals of confidence 1 - ``level``."""
        matrices = {key: found for key, found in self.outcome.matrices.items() if key[0] in CLAIMED}
        outcome = replace(self.outcome, matrices=matrices)
        found = outcome.readings(margin=self.margin, confidence=1 - level)
        return stage_table(found, outcome.random)

    def write_all(self) -> None:
        """Write the claims, if there are any, and both tables of the page."""
        if len(self.claims):
            self.claims.write(self.folder)
        self.write(
            described(
                self.measurements,
                self.photographs,
                self.chosen,
                model=self.classifier.name,
                weights=weights_hash(self.classifier),
                preset=self.preset,
                order=self.order,
                randomization=str(self.experiment.randomization),
                explained=self.explained_class,
            )
        )
        self.write(self.table.drop(columns="words"), "readings")
        if len(self._compared()):
            keys = ["method", "metric", "stage", "published", "similarity"]
            rows = self._compared()[[*keys, "similarity_low", "similarity_high"]]
            self.write(rows, "beside-published")
        self.write_refused(self.refused)
        self._keep_hero()
        self._keep_card()

    def _keep_hero(self) -> None:
        """Keep the first picture's maps to move through, for the landing page."""
        films = self.outcome.pictures
        if self.order != "top_down" or not set(_HERO) <= set(films):
            return
        stages = [self.outcome.stages[i] for i in spread(len(self.outcome.stages), _HERO_STAGES)]
        places = [0, *(self.outcome.stages.index(stage) + 1 for stage in stages)]
        key = self.metrics[0]
        shown = []
        for method in _HERO:
            found = [self.found[method, key, stage] for stage in stages]
            kappas = [(reading.kappa, reading.low, reading.high) for reading in found]
            shown.append(Film(self.titles[method], films[method][0][places, 0], kappas))
        count = len(self.photographs)
        of = f"{count} pictures and {self.seeds} random network{'s' * (self.seeds > 1)}"
        shares = [self.outcome.random[stage] for stage in stages]
        markup = stage_hero(
            self.scene[0],
            shown,
            random_words(shares),
            # Seen before anything is moved: what the page of the paper is about.
            start=1 + int(np.argmin(np.abs(np.array(shares) - 0.5))),
            caption=(
                f"Kappa says how much of a method's map is left (over {of}, by "
                f"{METRIC_TITLES[key]}): 1 is the same map, 0 is what another picture's map gives. "
                f"The stroke on a bar is its 95 % interval. The network: {self.classifier.name}."
            ),
            about=f"over {of}, {METRIC_TITLES[key]}",
        )
        path = self.folder / "figures" / f"{self.name}-hero.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(markup, encoding="utf8")

    def _keep_card(self) -> None:
        """Keep a small picture of two methods, trained, half random and random."""
        films = self.outcome.pictures
        if not set(_CARD) <= set(films):
            return
        places = (0, (len(self.outcome.stages) + 1) // 2, -1)
        mosaic([[tinted(films[key][0][i, 0]) for i in places] for key in _CARD], self.card)

    def _compared(self) -> pd.DataFrame:
        """Readings of the page's similarities for which a number was published."""
        return self._asked(self.beside.dropna(subset="published"))

    def their_numbers(self) -> list[Markdown]:
        """What the authors' numbers are, if there are any."""
        if self._compared().empty:
            return []
        return [Markdown(f"*{self.theirs.subject}; {self.theirs.precision}. {self.theirs.source}*")]

    def against_published(self) -> Figure | None:
        """Our similarities by the authors'; None where no number of theirs is known."""
        if self._compared().empty:
            return None
        title = published_title(self._compared(), self.margin)
        rows = self._asked(self.beside)
        return against_published(rows, self.metrics, words=METRIC_TITLES, title=title)

    def beside_published(self) -> list[Styler]:
        """The authors' numbers beside ours, a row a method and stage; maybe none."""
        if self._compared().empty:
            return []
        rows = self._asked(self.table)
        return [beside_published(rows, self.theirs, ["method", "stage"], "similarity")]

    def numbers(self) -> dict[str, float]:
        """What other pages of the book quote, by name."""
        stages = {"kappa": self.outcome.stages[-1]}
        if half := upper_half(self.table, self.order):
            stages["upper"] = half
        numbers = {
            "pictures": len(self.photographs),
            "stages": len(self.outcome.stages),
            "networks": self.seeds,
        }
        trained = self.classifier.provenance or {}
        if trained:
            numbers["test_accuracy"] = trained["test_accuracy"]
        for key in self.metrics:
            numbers |= verdict_counts(self._methods_last, key)
            for method, (name, stage) in product(self.outcome.pictures, stages.items()):
                # As it is printed, without a minus before a zero.
                kappa = self.found[method, key, stage].kappa
                numbers[f"{name}_{method}_{key}"] = round(kappa, 2) + 0.0
        return numbers

    def box(self) -> ProvenanceBox:
        """How this page was made."""
        return self.provenance(
            {
                "model": self.model,
                "weights": weights_text(self.classifier),
                "images": pictures_used(self.images, len(self.photographs), self.group),
                "order": self.order,
                "randomization": str(self.experiment.randomization),
                "explained class": self.explained_class,
                "random networks": self.seeds,
                "trainings": self.trainings,
                "preset": self.preset,
                "samples": self.samples,
                "steps": self.steps,
                "margin": self.margin,
            },
            list(range(self.seed, self.seed + self.seeds)),
            self.x.device,
        )


def _by_metric(rows: pd.DataFrame) -> Styler:
    return cross_table(rows.assign(metric=rows["metric"].map(METRIC_TITLES)), "method", "metric")
