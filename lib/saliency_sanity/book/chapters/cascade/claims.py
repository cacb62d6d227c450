"""What was claimed of randomization, held against our readings."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import pandas as pd
from pandas.io.formats.style import Styler

from saliency_sanity.attribution.catalogue import title
from saliency_sanity.book.chapters.cascade.layers import LOOKING, over_layers
from saliency_sanity.book.chapters.cascade.norms import by_policy, hanging
from saliency_sanity.book.chapters.claims import ClaimTable, judge, resting
from saliency_sanity.book.chapters.published import Published
from saliency_sanity.experiments.outcome import MOST, halfway
from saliency_sanity.randomization.blocks import WHOLE
from saliency_sanity.verdict.obstacle import CANNOT_TELL
from saliency_sanity.verdict.wording import METRIC_TITLES, kappa_text, rounded, settled

PAPER = "Adebayo et al. 2018"
_OURS = "this book"
_GUIDED = ("guided_backprop", "guided_grad_cam")
PRODUCTS = ("gradient_x_input", "integrated_gradients")

# What claims are about.
_ATTENTION = ("attention", "attention_rollout")
CLAIMED = ("gradient", "grad_cam", *_GUIDED, *PRODUCTS, *_ATTENTION)


class Readings:
    """Readings by name, and what was published at the same places."""

    def __init__(self, readings: pd.DataFrame, published: Published | None):
        self.rows = readings.set_index(["method", "metric", "stage"])
        self.published = published
        self.stages = readings.sort_values("position")["stage"].drop_duplicates().tolist()
        self.methods = set(readings["method"])
        self.metrics = set(readings["metric"])

    def at(self, method: str, metric: str, stage: str) -> Mapping:
        """The reading of these names; KeyError where there is none."""
        return self.rows.loc[(method, metric, stage)]

    @staticmethod
    def held(row: Mapping, line: float | None) -> Mapping:
        """A reading to be printed as held against a line; None for its margin."""
        return row if line is None else {**row, "margin": line}

    def verdicts(self, methods: Sequence[str], metric: str, stages: Sequence[str]) -> list[str]:
        """``above``, ``below`` or what is no verdict, method by method."""
        return [self.at(m, metric, stage)["verdict"] for m in methods for stage in stages]

    def measured(
        self,
        methods: Sequence[str],
        metric: str,
        stages: Sequence[str],
        line: float | None = None,
    ) -> str:
        """Raw similarity and kappa, from stage to stage; ``line`` as for ``extreme``."""
        parts = []
        for m in methods:
            rows = [self.held(self.at(m, metric, stage), line) for stage in stages]
            similarity = " → ".join(rounded(row["similarity"]) for row in rows)
            kappa = " → ".join(
                [*(rounded(row["kappa"]) for row in rows[:-1]), kappa_text(rows[-1])]
            )
            parts.append(f"{title(m)} {similarity}, kappa {kappa}")
        return "; ".join(parts)

    def extreme(
        self,
        methods: Sequence[str],
        metric: str,
        stages: Sequence[str],
        which: str,
        line: float | None = None,
    ) -> str:
        """The lowest or highest kappa over some stages, and where.

        ``line`` is what it is held against, if not the margin.
        """
        parts = []
        for m in methods:
            rows = {stage: self.at(m, metric, stage) for stage in stages}
            known = {stage: row["kappa"] for stage, row in rows.items() if pd.notna(row["kappa"])}
            if not known:
                parts.append(f"{title(m)} undefined")
                continue
            stage = (min if which == "lowest" else max)(known, key=known.get)
            row = self.held(rows[stage], line)
            parts.append(f"{title(m)}, {which} kappa {kappa_text(row)} at {stage}")
        return "; ".join(parts)

    def side(self, method: str, metric: str, stages: Sequence[str], line: float) -> str:
        """The verdict on a claim that every interval of a method lies above a line."""
        rows = [self.at(method, metric, stage) for stage in stages]
        if CANNOT_TELL in (row["verdict"] for row in rows):
            return CANNOT_TELL
        above, below = ([row["low"] > line for row in rows], [row["high"] < line for row in rows])
        if not all(map(settled, rows)) or not (all(above) or any(below)):
            return "inconclusive"
        return "reproduced" if all(above) else "not reproduced"

    def chance(self, methods: Sequence[str], metric: str, stages: Sequence[str]) -> str:
        """The range of similarities that other pictures give."""
        levels = [self.at(m, metric, stage)["chance"] for m in methods for stage in stages]
        known = [level for level in levels if pd.notna(level)]
        if not known:
            return "undefined"
        low, high = rounded(min(known)), rounded(max(known))
        return f"similarity {low}" + (f" to {high}" if high != low else "") + ", kappa 0"

    def said(self, methods: Sequence[str], metric: str, stages: Sequence[str], words: str) -> str:
        """Published similarities at stages of the same names, else the paper's words."""
        parts = []
        for m in methods:
            values = [self.published and self.published.value(m, metric, s) for s in stages]
            if any(value is not None for value in values):
                shown = ("·" if value is None else rounded(value) for value in values)
                parts.append(f"{title(m)} {' → '.join(shown)}")
        return f"{words}: {'; '.join(parts)} ({self.published.brief})" if parts else words


def upper_stages(readings: pd.DataFrame) -> list[str]:
    """The stages of a cascade up to the one halfway; at least one, where that is left out."""
    stages = readings.sort_values("position")["stage"].drop_duplicates().tolist()
    return stages[: stages.index(halfway(readings) or stages[0]) + 1]


def read_stages(readings: pd.DataFrame, metric: str) -> list[str]:
    """The stages on which claims on what looks at a layer rest, by a metric.

    The first, the last, and between them that of the upper ones where guided Grad-CAM has the
    lowest kappa.
    """
    found, upper = Readings(readings, None), upper_stages(readings)
    rows = readings[(readings["method"] == "guided_grad_cam") & (readings["metric"] == metric)]
    kappas = rows.set_index("stage")["kappa"].reindex(upper)
    lowest = [kappas.idxmin()] if kappas.notna().any() else []
    wanted = {found.stages[0], *lowest, found.stages[-1]}
    return [stage for stage in found.stages if stage in wanted]


def cascade_claims(
    claims: ClaimTable,
    readings: pd.DataFrame,
    published: Published | None,
    margin: float,
    layers: pd.DataFrame | None = None,
    norms: pd.DataFrame | None = None,
) -> None:
    """Add what [adebayo2018sanity] says of cascading randomization from the logits down.

    ``readings`` as ``outcome.stage_table`` makes them, with the catalogue's names. Claims on
    methods or metrics that are not among them are left out. ``layers`` are those with other layers
    of Grad-CAM, as ``layers.layer_table`` makes them: a claim that hangs on the layer cannot tell.
    ``norms`` are those of the last stage by what becomes of batch norms, as ``norms.norm_table``
    makes them: a claim that rests on a verdict that hangs on it says so.
    """
    found = Readings(readings, published)
    first, last = found.stages[0], found.stages[-1]
    upper = upper_stages(readings)
    ends = list(dict.fromkeys((first, last)))
    hung = {} if norms is None else hanging(norms)
    by_layer = {} if layers is None else {k: Readings(p, None) for k, p in _parts(layers, "layer")}
    line = f"kappa {margin:g}"

    def add(
        id: str,
        statement: str,
        methods: Sequence[str],
        metric: str,
        *,
        of: str,
        where: str,
        words: str,
        verdict: str,
        reason: str,
        about: str = "",
        stages: Sequence[str] = ends,
        measured: str = "",
        again: Callable[[Readings], str] | None = None,
        over: Sequence[str] = (),
    ) -> None:
        for method in methods if last in stages else ():
            if (method, metric) in hung:
                reason += (
                    f"; at {last} the verdict on {title(method)} depends on how batch norms are "
                    f"treated: {by_policy(hung[method, metric])}"
                )
        if again is not None and methods[0] in LOOKING:
            verdict, more = _over_layers(by_layer, methods[0], metric, verdict, again, over)
            reason += more
        claims.add(
            f"{id}, by {METRIC_TITLES[metric]}",
            statement,
            source=f"{PAPER}, {where}",
            paper_said=found.said(methods, metric, stages, words),
            measured=measured or found.measured(methods, metric, stages),
            chance=found.chance(methods, metric, stages),
            verdict=verdict,
            reason=reason,
            of=of,
            about=about,
            by=metric,
        )

    def responds(method: str, metric: str) -> Callable[[Readings], str]:
        return lambda at: judge(at.verdicts([method], metric, [last]), "below")

    def keeps(method: str, metric: str) -> Callable[[Readings], str]:
        return lambda at: at.side(method, metric, [s for s in upper if s in at.stages], MOST)

    def falls(method: str, metric: str) -> Callable[[Readings], str]:
        def verdict(at: Readings) -> str:
            end, start = (at.at(method, metric, stage) for stage in (last, first))
            return resting(_lower(end, start, margin), at.verdicts([method], metric, ends))

        return verdict

    for metric in ("spearman_abs", "ssim", "hog"):
        if metric not in found.metrics:
            continue
        for method in ("gradient", "grad_cam"):
            if method in found.methods:
                add(
                    f"{title(method)} responds",
                    f"{title(method)} changes when the network is randomized.",
                    [method],
                    metric,
                    of="weights-change",
                    about=title(method),
                    where="section 3.1, figures 2, 4 and 5",
                    words="sensitive",
                    verdict=responds(method, metric)(found),
                    reason=f"reproduced if the interval at {last} lies below {line}",
                    again=responds(method, metric),
                    over=[last],
                )
        for method in (m for m in _GUIDED if m in found.methods):
            add(
                f"{title(method)}, upper layers",
                "Randomizing the upper layers leaves most of its map.",
                [method],
                metric,
                of="upper-layers-leave",
                about=title(method),
                where="section 3.1 and contribution 3",
                words="invariant to higher layers",
                stages=list(dict.fromkeys((upper[0], upper[-1]))),
                measured=found.extreme([method], metric, upper, "lowest", MOST),
                verdict=keeps(method, metric)(found),
                reason=f"reproduced if every interval lies above kappa {MOST:g} at every stage "
                f"from {upper[0]} to {upper[-1]}",
                again=keeps(method, metric),
                over=upper,
            )
            add(
                f"{title(method)}, lower layers",
                "Its map changes once the lower layers are randomized.",
                [method],
                metric,
                of="lower-layers-change",
                about=title(method),
                where="section 3.1 and contribution 3",
                words="changes with the lower convolutions only",
                verdict=falls(method, metric)(found),
                reason=f"reproduced if the interval at {last} lies below that at {first}; not "
                f"reproduced if a drop of {margin:g} can be ruled out",
                again=falls(method, metric),
            )
        products = [m for m in PRODUCTS if m in found.methods]
        if products and metric != "hog":
            add(
                "products with the input",
                "Gradient ⊙ input and integrated gradients stay similar although everything was "
                "randomized.",
                products,
                metric,
                of="products-stay",
                where="section 3.1, figures 2, 4 and 5",
                words="visually similar, high similarity",
                verdict=judge(found.verdicts(products, metric, [last])),
                reason=f"reproduced if both intervals at {last} lie above {line}: "
                "a high similarity does not count if other pictures reach it too",
            )
    products = [m for m in PRODUCTS if m in found.methods]
    if products and "spearman_signed" in found.metrics and len(found.stages) > 1:
        add(
            "signs",
            "With signs kept, their rank correlation falls to about 0 almost at once.",
            products,
            "spearman_signed",
            of="signs-fall",
            where="section 3.1 and figure 4",
            words="about 0 after the first stages",
            stages=found.stages[:2] + found.stages[-1:],
            measured=found.extreme(products, "spearman_signed", found.stages[1:], "highest"),
            verdict=judge(found.verdicts(products, "spearman_signed", found.stages[1:]), "below"),
            reason=f"reproduced if every interval from {found.stages[1]} on lies below {line}",
        )
    _without_classifier(claims, found)


def _without_classifier(claims: ClaimTable, found: Readings) -> None:
    """What follows from the definition of attention where the logits alone are random."""
    metric = "spearman_abs"
    for method in (m for m in _ATTENTION if m in found.methods and metric in found.metrics):
        row = found.at(method, metric, found.stages[0])
        claims.add(
            f"{title(method)} holds no classifier",
            "Random logits do not change a single bit of its map.",
            source=_OURS,
            paper_said="–",
            measured=row["similarity"],
            chance=row["chance"],
            verdict="reproduced" if row["similarity"] > 1 - 1e-9 else "not reproduced",
            reason=f"reproduced if the similarity at {found.stages[0]} is 1",
            of="attention-without-classifier",
            about=title(method),
            by=metric,
        )


def _parts(rows: pd.DataFrame, column: str) -> Iterator[tuple[str, pd.DataFrame]]:
    yield from rows.groupby(column, sort=False)


def _over_layers(
    by_layer: Mapping[str, Readings],
    method: str,
    metric: str,
    verdict: str,
    again: Callable[[Readings], str],
    stages: Sequence[str],
) -> tuple[str, str]:
    """The verdict once other layers are asked, and what it adds to the reason."""
    asked = {layer: at for layer, at in by_layer.items() if method in at.methods}
    if len(asked) < 2:
        return verdict, ""
    rows = {
        layer: [at.at(method, metric, stage) for stage in at.stages if stage in stages]
        for layer, at in asked.items()
    }
    hangs, said = over_layers({layer: again(at) for layer, at in asked.items()}, rows)
    if hangs:
        return CANNOT_TELL, f"; it depends on the layer that Grad-CAM looks at: {said}"
    return verdict, f"; by the layer that Grad-CAM looks at: {said}"


def norm_claims(claims: ClaimTable, norms: pd.DataFrame, metric: str, margin: float) -> None:
    """Add whether methods change with the weights whatever becomes of batch norms.

    ``norms`` as ``norms.norm_table`` makes them, with the catalogue's names.
    """
    hung = hanging(norms)
    for method, part in _parts(norms[norms["metric"] == metric], "method"):
        rows = part.to_dict("records")
        levels = [row["chance"] for row in rows if pd.notna(row["chance"])]
        ends = " to ".join(dict.fromkeys(rounded(f(levels)) for f in (min, max) if levels))
        verdict = judge((row["verdict"] for row in rows), "below")
        claims.add(
            f"{title(method)}, batch norms, by {METRIC_TITLES[metric]}",
            f"{title(method)} changes when the network is randomized, however the running "
            "statistics of its batch norms are treated.",
            source=_OURS,
            paper_said="–",
            measured=f"kappa {by_policy(rows)}",
            chance=f"similarity {ends}, kappa 0" if ends else "undefined",
            verdict=CANNOT_TELL if (method, metric) in hung else verdict,
            reason=f"reproduced if every interval lies below kappa {margin:g}; cannot tell where "
            "verdicts differ and their intervals do not overlap",
            of="weights-change-any-norms",
            about=title(method),
            by=metric,
        )


def independent_claims(
    claims: ClaimTable, readings: pd.DataFrame, published: Published | None, margin: float
) -> None:
    """Add what [adebayo2018sanity] says of blocks randomized one at a time; see cascade_claims."""
    found = Readings(readings, published)
    blocks = [stage for stage in found.stages if stage != WHOLE]
    metric = "spearman_abs"
    products = [m for m in PRODUCTS if m in found.methods]
    if metric not in found.metrics:
        return
    if products:
        claims.add(
            "products with the input",
            "Gradient ⊙ input and integrated gradients keep their absolute ranks whichever block "
            "is randomized.",
            source=f"{PAPER}, section 3.2 and figure 21",
            paper_said=found.said(products, metric, blocks, "at or above 0.99 throughout"),
            measured=found.measured(products, metric, blocks),
            chance=found.chance(products, metric, blocks),
            verdict=judge(found.verdicts(products, metric, blocks)),
            reason=f"reproduced if every interval lies above kappa {margin:g}",
            of="blocks-keep-products",
            by=metric,
        )
    pair = ["gradient", "guided_backprop"]
    if set(pair) <= found.methods:
        apart = [
            _lower(*(found.at(method, metric, stage) for method in pair), margin)
            for stage in blocks
        ]
        claims.add(
            "guided against gradient",
            "Randomizing a block changes guided backpropagation less than the gradient.",
            source=f"{PAPER}, section 3.2 and figure 21",
            paper_said=found.said(pair, metric, blocks, "less sensitive"),
            measured=found.measured(pair, metric, blocks),
            chance=found.chance(pair, metric, blocks),
            verdict=resting(
                next((v for v in ("not reproduced", "inconclusive") if v in apart), "reproduced"),
                found.verdicts(pair, metric, blocks),
            ),
            reason="reproduced if, at every block, the gradient's interval of kappa lies below "
            "that of guided backpropagation; not reproduced if, at one block, it is ruled out "
            f"that the gradient's lies {margin:g} lower",
            of="blocks-guided-less",
            by=metric,
        )


def _lower(reading: Mapping, other: Mapping, margin: float) -> str:
    """The verdict on a claim that a kappa is lower than another, by their intervals."""
    if reading["high"] < other["low"]:
        return "reproduced"
    return "not reproduced" if other["high"] - reading["low"] < margin else "inconclusive"


def beside_published(
    readings: pd.DataFrame,
    published: Published,
    index: Sequence[str] = ("similarity", "method"),
    columns: str = "stage",
) -> Styler:
    """Published similarity and ours, by method, metric and stage of the same name.

    ``index`` and ``columns`` say which of ``similarity``, ``method`` and ``stage`` go where. Empty
    where nothing was published of these readings.
    """
    names = {key: METRIC_TITLES.get(key, key) for key in readings["metric"].unique()}
    rows = []
    for row in readings.to_dict("records"):
        value = published.value(row["method"], row["metric"], row["stage"])
        if value is not None:
            rows.append(
                {
                    "method": title(row["method"]),
                    "similarity": names[row["metric"]],
                    "stage": row["stage"],
                    "cell": f"{rounded(value)} | {rounded(row['similarity'])}",
                }
            )
    shown = pd.DataFrame(rows, columns=["method", "similarity", "stage", "cell"]).pivot_table(
        index=list(index), columns=columns, values="cell", aggfunc="first", sort=False
    )
    shown.columns.name = None
    # One line a cell: wide tables scroll in their own box.
    return (
        shown.style.set_table_attributes('class="dataframe"')
        .set_properties(**{"white-space": "nowrap"})
        .format(na_rep="–")
    )
