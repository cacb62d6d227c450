"""What a page on permuted labels says: which claims held, and what of a map remains, and why."""

from collections.abc import Mapping, Sequence

import pandas as pd
from pandas.io.formats.style import Styler

from saliency_sanity._errors import unknown
from saliency_sanity.attribution.catalogue import title
from saliency_sanity.book.chapters import cascade as replication
from saliency_sanity.book.chapters.cascade import (
    MOST,
    PAPER,
    PRODUCTS,
    Readings,
)
from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.book.chapters.published import PERMUTED, Published
from saliency_sanity.experiments.label_permutation import CONTROL
from saliency_sanity.verdict.obstacle import Obstacle
from saliency_sanity.verdict.wording import (
    METRIC_TITLES,
    kappa_text,
    rounded,
    said,
    settled,
    verdict_words,
    why,
)

_FIGURES = "section 4, figures 6 and 22 to 25"
_NOT_LEARNED = (
    "the network has not learned its permuted labels, so its maps say nothing about labels"
)
_TWO_SEEDS = "the interval of kappa less that of two seeds on true labels"


def label_claims(
    claims: ClaimTable,
    readings: pd.DataFrame,
    published: Published | None,
    margin: float,
    memorized: bool,
) -> None:
    """Add what [adebayo2018sanity] says of permuted labels, one claim a method.

    ``readings`` as ``agreement.Agreed.readings`` makes them, with the catalogue's names. Claims on
    methods, metrics or references that are not among them are left out. Without a network that
    has ``memorized`` its permuted labels, every claim is "not tested".

    Raises ValueError where the readings were made with another margin.
    """
    found = _Labelled(readings, published, margin)
    line = f"kappa {margin:g}"

    def add(
        id: str,
        statement: str,
        methods: Sequence[str],
        metrics: Sequence[str],
        *,
        said: str,
        parts: Sequence[bool | None],
        reason: str,
        where: str = _FIGURES,
        reference: str = "true",
    ) -> None:
        verdict = "reproduced" if all(parts) else "inconclusive"
        verdict = "not reproduced" if False in parts else verdict
        claims.add(
            id,
            statement,
            source=f"{PAPER}, {where}",
            paper_said=said,
            measured=found.beside(methods, metrics, reference) if memorized else None,
            chance=found.levels(methods, metrics) if memorized else None,
            verdict=verdict if memorized else "not tested",
            reason=reason if memorized else _NOT_LEARNED,
        )

    for method in found.among(("gradient", "smoothgrad"), ABSOLUTE):
        row = found.at(method, ABSOLUTE, PERMUTED)
        # Where two seeds differ as much, it is not the labels that changed the map.
        room = has_reference(row, "true") and row["true_low"] > margin
        beyond = room and row["true_excess_high"] < 0
        add(
            f"{title(method)} changes",
            "Its map changes a lot when the labels are permuted.",
            [method],
            [ABSOLUTE],
            said=found.said([method], ABSOLUTE, [PERMUTED], "changes a lot"),
            parts=[_below(row, MOST), True if beyond else None],
            reason=f"reproduced if, by absolute ranks, the interval lies below kappa {MOST:g}, "
            f"that of two seeds above {margin:g}, and {_TWO_SEEDS} below 0; not reproduced if the "
            f"first lies above {MOST:g}",
        )
    for method in found.among(("grad_cam",), ABSOLUTE):
        add(
            f"{title(method)} breaks up",
            "Its map falls into disconnected patches, no longer those of the picture.",
            [method],
            [ABSOLUTE],
            said=found.said([method], ABSOLUTE, [PERMUTED], "disconnected patches"),
            parts=[_below(found.at(method, ABSOLUTE, PERMUTED), margin)],
            reason=f"reproduced if, by absolute ranks, the interval lies below {line}",
        )
    for method in found.among(("guided_backprop",), ABSOLUTE):
        row = found.at(method, ABSOLUTE, PERMUTED)
        add(
            f"{title(method)} covers the object",
            "Its map still covers the object.",
            [method],
            [ABSOLUTE],
            said=found.said([method], ABSOLUTE, [PERMUTED], "still covers the digit"),
            parts=[_above(row, margin)],
            reason=f"reproduced if, by absolute ranks, the interval lies above {line}; not "
            "reproduced if below",
        )
        if has_reference(row, "true"):
            add(
                f"{title(method)} changes",
                "Its map changes visibly: more than another seed changes it.",
                [method],
                [ABSOLUTE],
                said=found.said([method], ABSOLUTE, [PERMUTED], "visible changes"),
                parts=[_lower(row, margin)],
                reason=f"reproduced if, by absolute ranks, {_TWO_SEEDS} lies below 0; not "
                f"reproduced if it reaches 0 and lies above -{margin:g}",
            )
    for method in found.among(PRODUCTS, ABSOLUTE):
        if SIGNED not in found.metrics:
            continue
        add(
            f"{title(method)} keeps the shape, not the signs",
            "Its map keeps the shape of the input; mainly its signs change.",
            [method],
            [ABSOLUTE, SIGNED],
            said=found.said([method], ABSOLUTE, [PERMUTED], "keeps the shape")
            + "; "
            + found.said([method], SIGNED, [PERMUTED], "signs change"),
            parts=[
                _above(found.at(method, ABSOLUTE, PERMUTED), margin),
                _below(found.at(method, SIGNED, PERMUTED), margin),
            ],
            reason=f"reproduced if the interval lies above {line} by absolute and below it by "
            "signed ranks; not reproduced if one lies on the other side",
        )
    products = found.among(PRODUCTS, ABSOLUTE, "noise")
    if products:
        rows = [found.at(method, ABSOLUTE, PERMUTED) for method in products]
        add(
            "the input dominates products",
            "A product with the input is dominated by the input: noise in the gradient's place "
            "agrees with itself as much.",
            products,
            [ABSOLUTE],
            where="section 5.2 and figure 19",
            said="the input dominates the product",
            parts=[no_more(row, "noise", margin) for row in rows],
            reason="reproduced if, by absolute ranks, the interval of the difference to input ⊙ "
            f"noise lies below {margin:g}; not reproduced if it lies above for one of them",
            reference="noise",
        )


def undecided(readings: pd.DataFrame) -> pd.DataFrame:
    """The same readings without verdicts, for networks that did not learn their permuted labels."""
    rows = readings.assign(verdict="inconclusive", obstacle=Obstacle.NOT_MEMORIZED.value, notes="")
    return rows.assign(words=[verdict_words(row) for row in rows.to_dict("records")])


def agreement_table(readings: pd.DataFrame, metric: str) -> Styler:
    """One metric's verdicts as a table for the page, the highest kappa first.

    The references' kappas stand beside it, and how much lower it is than between two seeds.
    Raises ValueError for a metric without readings.
    """
    rows = readings[readings["metric"] == metric].sort_values("kappa", ascending=False)
    if rows.empty:
        raise ValueError(unknown("metric", metric, readings["metric"].unique()))
    cells = []
    for row in rows.to_dict("records"):
        below = {"kappa": "excess", "low": "excess_high", "high": "excess_low"}
        less = {key: 0 - row[f"true_{name}"] for key, name in below.items()}
        difference = kappa_text(less) if has_reference(row, "true") else "–"
        cells.append(
            {
                "method": row["method"],
                "verdict": said(row),
                "kappa (95 % interval)": kappa_text(row),
                "two seeds": rounded(row["true_kappa"]),
                "less than two seeds": difference,
                "two permuted": rounded(row["permuted_kappa"]),
                "x ⊙ noise: as much or more": _noise(row),
            }
        )
    shown = pd.DataFrame(cells)
    if rows["undefined_diagonal"].any():
        shown["undefined maps"] = rows["undefined_diagonal"].tolist()
    return shown.style.hide(axis="index").set_table_attributes('class="dataframe"')


def _noise(row: Mapping) -> str:
    """Whether the control explains what of a map remains."""
    if row["method"] == title(CONTROL) or row["verdict"] == "below" or not settled(row):
        return "–"
    found = no_more(row, "noise", row["margin"]) if has_reference(row, "noise") else None
    return {True: "yes", False: "no", None: "open"}[found]


def beside_published(readings: pd.DataFrame, published: Published) -> Styler:
    """Published similarity and ours, a row a method, a column a metric."""
    return replication.beside_published(_staged(readings), published, ["method"], "similarity")


class _Labelled(Readings):
    """Readings of permuted labels as those of one stage, beside their references."""

    def __init__(self, readings: pd.DataFrame, published: Published | None, margin: float):
        check_margin(readings, margin)
        super().__init__(_staged(readings), published)

    def among(self, methods: Sequence[str], metric: str, reference: str = "") -> list[str]:
        """Those of the methods that have this reading, with this reference if one is named."""
        return [
            method
            for method in methods
            if (method, metric, PERMUTED) in self.rows.index
            and (not reference or has_reference(self.at(method, metric, PERMUTED), reference))
        ]

    def beside(self, methods: Sequence[str], metrics: Sequence[str], reference: str) -> str:
        """Similarity and kappa, with the kappa of a reference and of two seeds on true labels."""
        parts = []
        for metric in metrics:
            for method in methods:
                row = self.at(method, metric, PERMUTED)
                texts = [self.measured([method], metric, [PERMUTED])]
                for name in dict.fromkeys((reference, "true")):
                    kappa = reference_kappa(row, name) if has_reference(row, name) else "unknown"
                    texts.append(f"{REFERENCES[name]} {kappa}")
                parts.append(_named(metric, metrics) + ", ".join(texts))
        return "; ".join(parts)

    def levels(self, methods: Sequence[str], metrics: Sequence[str]) -> str:
        """Chance, metric by metric."""
        return "; ".join(
            _named(metric, metrics) + self.chance(methods, metric, [PERMUTED]) for metric in metrics
        )


def _staged(readings: pd.DataFrame) -> pd.DataFrame:
    return readings.assign(stage=PERMUTED, position=0)


def _named(metric: str, metrics: Sequence[str]) -> str:
    return f"{METRIC_TITLES.get(metric, metric)}: " if len(metrics) > 1 else ""


def _above(row: Mapping, line: float) -> bool | None:
    if not settled(row):
        return None
    return True if row["low"] > line else False if row["high"] < line else None


def _below(row: Mapping, line: float) -> bool | None:
    above = _above(row, line)
    return None if above is None else not above


def _lower(row: Mapping, margin: float) -> bool | None:
    """Whether networks of true and permuted labels agree less than two seeds do."""
    low, high = row["true_excess_low"], row["true_excess_high"]
    return None if not settled(row) else True if high < 0 else False if low > -margin else None


ABSOLUTE, SIGNED = "spearman_abs", "spearman_signed"

REFERENCES = {
    "true": "two seeds on true labels",
    "permuted": "two networks trained on permuted labels",
    "noise": "input ⊙ noise",
}

_BY = {
    ABSOLUTE: "by absolute ranks",
    SIGNED: "with signs",
    f"{ABSOLUTE}_not_zero": "over pixels where the input is not zero",
    f"{SIGNED}_not_zero": "with signs over pixels where the input is not zero",
    "ssim": "by SSIM",
    "hog": "by HOG",
}


def check_margin(readings: pd.DataFrame, margin: float) -> None:
    """Raise ValueError where readings were made with another margin."""
    other = [value for value in readings["margin"].unique() if value != margin]
    if other:
        raise ValueError(f"margin is {margin}, but the readings have {other[0]}; use the same")


def has_reference(row: Mapping, reference: str) -> bool:
    """Whether a reading stands beside this reference (``true``, ``permuted``, ``noise``)."""
    return pd.notna(row[f"{reference}_kappa"])


def reference_kappa(row: Mapping, reference: str) -> str:
    """The reference's kappa with its interval."""
    return kappa_text({key: row[f"{reference}_{key}"] for key in ("kappa", "low", "high")})


def no_more(row: Mapping, reference: str, margin: float) -> bool | None:
    """Whether a reference agrees as much, up to the margin; None where the interval is open."""
    low, high = row[f"{reference}_excess_low"], row[f"{reference}_excess_high"]
    return None if not settled(row) else True if high < margin else False if low > margin else None


def what_remains(readings: pd.DataFrame, method: str, margin: float) -> str:
    """Say in up to three sentences of Markdown what of a method's map remains, and why.

    ``readings`` as for ``label_claims``. The first metric found leads, absolute ranks if there
    are. Nothing is said that the intervals do not carry. Raises ValueError for a method that has
    no reading, and where the readings were made with another margin.
    """
    check_margin(readings, margin)
    own = readings[readings["method"] == method]
    if own.empty:
        raise ValueError(unknown("method", method, readings["method"].unique()))
    rows = {row["metric"]: row for row in own.to_dict("records")}
    lead = ABSOLUTE if ABSOLUTE in rows else next(iter(rows))
    row = rows.pop(lead)
    sentences = [f"**{title(method)}**: {_by(lead)}, {_kept(row)}."]
    if settled(row):
        reached = _reached(row, margin, rows.get(f"{lead}_not_zero"))
        sentences.append("; ".join([reached, *_labels(row, margin)]) + ".")
    if rows:
        parts = [_value(other) for other in rows.values()]
        sentences.append(f"Otherwise kappa is {_listed(parts)}.")
    return " ".join(sentences)


def _by(metric: str) -> str:
    return _BY.get(metric, f"by {METRIC_TITLES.get(metric, metric)}")


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _kept(row: Mapping) -> str:
    if not settled(row):
        return f"there is no verdict ({why(row)})"
    parts = [
        f"{words} {rounded(row[f'{name}_kappa'])}"
        for name, words in REFERENCES.items()
        if _beside(row, name)
    ]
    beside = f" ({'; '.join(parts)})" if parts else ""
    return f"kappa is {kappa_text(row)} between true and permuted labels{beside}"


def _value(row: Mapping) -> str:
    if settled(row):
        return f"{rounded(row['kappa'])} {_by(row['metric'])}"
    return f"without a verdict {_by(row['metric'])} ({why(row)})"


def _beside(row: Mapping, reference: str) -> bool:
    """Whether there is such a reference; the control is none to itself."""
    return has_reference(row, reference) and (reference, row["method"]) != ("noise", CONTROL)


def _reached(row: Mapping, margin: float, nonzero: Mapping | None) -> str:
    """What remains at all, and what is enough to explain it."""
    if row["verdict"] == "below":
        return f"Less than the margin {margin:g} remains"
    if row["verdict"] == "inconclusive":
        return f"Whether more than the margin {margin:g} remains is open"
    there = [name for name in ("noise", "permuted") if _beside(row, name)]
    same = [name for name in there if no_more(row, name, margin)]
    if not same:
        less = [name for name in there if row[f"{name}_excess_low"] > 0]
        if less:
            verb = "gives" if less == ["noise"] else "give"
            return f"That is more than {_listed([REFERENCES[name] for name in less])} {verb}"
        return "What explains it is open" if there else "No reference says what explains it"
    who = _listed([REFERENCES[name] for name in same])
    enough = "picture, architecture and training on any labels"
    if "noise" in same:
        enough = "the input"
        if row["metric"] == ABSOLUTE:
            gone = nonzero is not None and nonzero["verdict"] == "below"
            enough = "the input's zero background" + " and brightness" * (not gone)
    verb = "agrees" if same == ["noise"] else "agree"
    text = f"{who[0].upper()}{who[1:]} {verb} as much or more, so such agreement needs no more "
    text += f"than {enough}"
    more = nonzero is not None and settled(nonzero) and nonzero["noise_excess_low"] > margin
    if "noise" in same and more:
        text += "; over pixels where the input is not zero more remains than that gives"
    return text


def _labels(row: Mapping, margin: float) -> list[str]:
    """Whether labels matter beyond the seed."""
    two = REFERENCES["true"]
    if not has_reference(row, "true"):
        one = row["seeds"] == 1
        return ["with one pair of networks there is no ceiling" if one else f"{two} have no kappa"]
    if row["true_high"] < margin:
        return [
            f"{two} share less than the margin, so the map responds to anything and the test has "
            "no room"
        ]
    clauses = []
    if row["true_high"] < MOST:
        clauses.append(f"{two} share a kappa below {MOST:g}, so the test has little room")
        two = "they"
    if row["true_excess_high"] < 0:
        within = row["true_excess_low"] > -margin
        matter = f"so the labels matter{' in part' * (row['verdict'] == 'above')}"
        clauses.append(f"{two} share more, {'but by less than the margin' if within else matter}")
    elif row["true_excess_low"] > -margin:
        clauses.append("permuted labels change it no more than another seed, up to the margin")
    else:
        clauses.append("whether the labels matter beyond the seed is open")
    return clauses
