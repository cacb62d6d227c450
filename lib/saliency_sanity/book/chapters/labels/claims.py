"""What was claimed of permuted labels, held against our readings."""

from collections.abc import Mapping, Sequence

import pandas as pd
from pandas.io.formats.style import Styler

from saliency_sanity.attribution.catalogue import title
from saliency_sanity.book.chapters.cascade import claims as cascade
from saliency_sanity.book.chapters.cascade.claims import PAPER, PRODUCTS, Readings
from saliency_sanity.book.chapters.claims import ClaimTable, resting
from saliency_sanity.book.chapters.labels.references import (
    ABSOLUTE,
    REFERENCES,
    SIGNED,
    check_margin,
    has_reference,
    no_more,
    reference_kappa,
)
from saliency_sanity.book.chapters.published import PERMUTED, Published
from saliency_sanity.experiments.outcome import MOST
from saliency_sanity.verdict.wording import METRIC_TITLES, settled

_FIGURES = "section 4, figures 6 and 22 to 25"
_NOT_LEARNED = (
    "the network has not learned its permuted labels, so its maps say nothing about labels"
)
_TWO_SEEDS = "the interval of kappa minus the kappa of two seeds on true labels"


def label_claims(
    claims: ClaimTable,
    readings: pd.DataFrame,
    published: Published | None,
    margin: float,
    memorized: bool,
) -> None:
    """Add what [adebayo2018sanity] says of permuted labels, one claim a method.

    ``readings`` as ``Agreed.readings`` makes them, with the catalogue's names. Claims on
    methods, metrics or references that are not among them are left out. Without a network that
    has ``memorized`` its permuted labels, every claim is "not tested".

    Raises ValueError where the readings were made with another margin.
    """
    found = _Labelled(readings, published, margin)
    at_margin = f"kappa {margin:g}"

    def add(
        id: str,
        statement: str,
        methods: Sequence[str],
        metrics: Sequence[str],
        *,
        of: str,
        said: str,
        parts: Sequence[bool | None],
        reason: str,
        about: str = "",
        where: str = _FIGURES,
        reference: str = "true",
        line: float | None = None,
    ) -> None:
        verdict = "reproduced" if all(parts) else "inconclusive"
        told = [v for key in metrics for v in found.verdicts(methods, key, [PERMUTED])]
        # A part that is False is so by a reading that can tell.
        verdict = "not reproduced" if False in parts else resting(verdict, told)
        claims.add(
            id,
            statement,
            source=f"{PAPER}, {where}",
            paper_said=said,
            measured=found.beside(methods, metrics, reference, line) if memorized else None,
            chance=found.levels(methods, metrics) if memorized else None,
            verdict=verdict if memorized else "not tested",
            reason=reason if memorized else _NOT_LEARNED,
            of=of,
            about=about,
            by=metrics[0] if len(metrics) == 1 else "",
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
            of="labels-change",
            about=title(method),
            said=found.said([method], ABSOLUTE, [PERMUTED], "changes a lot"),
            parts=[_below(row, MOST), True if beyond else None],
            line=MOST,
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
            of="labels-break-up",
            about=title(method),
            said=found.said([method], ABSOLUTE, [PERMUTED], "disconnected patches"),
            parts=[_below(found.at(method, ABSOLUTE, PERMUTED), margin)],
            reason=f"reproduced if, by absolute ranks, the interval lies below {at_margin}",
        )
    for method in found.among(("guided_backprop",), ABSOLUTE):
        row = found.at(method, ABSOLUTE, PERMUTED)
        add(
            f"{title(method)} covers the object",
            "Its map still covers the object.",
            [method],
            [ABSOLUTE],
            of="labels-cover",
            about=title(method),
            said=found.said([method], ABSOLUTE, [PERMUTED], "still covers the digit"),
            parts=[_above(row, margin)],
            reason=f"reproduced if, by absolute ranks, the interval lies above {at_margin}; not "
            "reproduced if below",
        )
        if has_reference(row, "true"):
            add(
                f"{title(method)} changes",
                "Its map changes visibly: more than another seed changes it.",
                [method],
                [ABSOLUTE],
                of="labels-change-visibly",
                about=title(method),
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
            of="labels-keep-shape",
            about=title(method),
            said=found.said([method], ABSOLUTE, [PERMUTED], "keeps the shape")
            + "; "
            + found.said([method], SIGNED, [PERMUTED], "signs change"),
            parts=[
                _above(found.at(method, ABSOLUTE, PERMUTED), margin),
                _below(found.at(method, SIGNED, PERMUTED), margin),
            ],
            reason=f"reproduced if the interval lies above {at_margin} by absolute and below it by "
            "signed ranks; not reproduced if one lies on the other side",
        )
    products = found.among(PRODUCTS, ABSOLUTE, "noise")
    if products:
        rows = [found.at(method, ABSOLUTE, PERMUTED) for method in products]
        add(
            "the input dominates products",
            "The input dominates a product with the input: with noise in the gradient's place, "
            "maps agree as much.",
            products,
            [ABSOLUTE],
            of="input-dominates",
            where="section 5.2 and figure 19",
            said="the input dominates the product",
            parts=[no_more(row, "noise", margin) for row in rows],
            reason="reproduced if, by absolute ranks, the interval of the difference to input ⊙ "
            f"noise lies below {margin:g}; not reproduced if it lies above for one of them",
            reference="noise",
        )


def beside_published(readings: pd.DataFrame, published: Published) -> Styler:
    """Published similarity and ours, a row a method, a column a metric."""
    return cascade.beside_published(_staged(readings), published, ["method"], "similarity")


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

    def beside(
        self,
        methods: Sequence[str],
        metrics: Sequence[str],
        reference: str,
        line: float | None = None,
    ) -> str:
        """Similarity and kappa, with the kappa of a reference and of two seeds on true labels.

        ``line`` is what a method's own kappa is held against, if not the margin.
        """
        parts = []
        for metric in metrics:
            for method in methods:
                row = self.at(method, metric, PERMUTED)
                texts = [self.measured([method], metric, [PERMUTED], line)]
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
    return True if row["sure_low"] > line else False if row["high"] < line else None


def _below(row: Mapping, line: float) -> bool | None:
    above = _above(row, line)
    return None if above is None else not above


def _lower(row: Mapping, margin: float) -> bool | None:
    """Whether networks of true and permuted labels agree less than two seeds do."""
    low, high = row["true_excess_low"], row["true_excess_high"]
    return None if not settled(row) else True if high < 0 else False if low > -margin else None
