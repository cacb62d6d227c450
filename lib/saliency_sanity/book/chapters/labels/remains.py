"""What remains of a map when labels are permuted, and why, in sentences."""

from collections.abc import Mapping, Sequence

import pandas as pd

from saliency_sanity._errors import unknown
from saliency_sanity.attribution.catalogue import title
from saliency_sanity.book.chapters.labels.references import (
    ABSOLUTE,
    REFERENCES,
    SIGNED,
    check_margin,
    has_reference,
    no_more,
)
from saliency_sanity.book.chapters.page import is_product
from saliency_sanity.experiments.label_permutation import CONTROL
from saliency_sanity.experiments.outcome import MOST
from saliency_sanity.verdict.wording import METRIC_TITLES, kappa_text, rounded, settled, why

_BY = {
    ABSOLUTE: "by absolute ranks",
    SIGNED: "with signs",
    f"{ABSOLUTE}_not_zero": "over pixels where the input is not zero",
    f"{SIGNED}_not_zero": "with signs over pixels where the input is not zero",
    "ssim": "by SSIM",
    "hog": "by HOG",
}


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
        sentences.append(f"In other readings kappa is {_listed(parts)}.")
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
    product = is_product(row["method"])
    enough = "picture, architecture and training on any labels"
    if "noise" in same and product:
        enough = "the input"
        if row["metric"] == ABSOLUTE:
            gone = nonzero is not None and nonzero["verdict"] == "below"
            enough = "the input's zero background" + " and brightness" * (not gone)
    verb = "agrees" if same == ["noise"] else "agree"
    text = f"{who[0].upper()}{who[1:]} {verb} as much or more, so "
    if "noise" in same and not product:
        # The control is zero where the input is; this method need not be.
        text += "agreement of this size needs no network; this map is no product with the input, "
        text += "and why it agrees is open"
    else:
        text += f"such agreement needs no more than {enough}"
    more = nonzero is not None and settled(nonzero) and nonzero["noise_excess_low"] > margin
    if "noise" in same and more:
        text += "; over pixels where the input is not zero, more remains than this explains"
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
        clauses.append("permuted labels change it no more than another seed does, up to the margin")
    else:
        clauses.append("whether the labels matter beyond the seed is open")
    return clauses
