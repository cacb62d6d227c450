"""What a reading of permuted labels stands beside: two seeds, two permuted networks, noise."""

from collections.abc import Mapping

import pandas as pd

from saliency_sanity.verdict.wording import kappa_text, settled

ABSOLUTE, SIGNED = "spearman_abs", "spearman_signed"

REFERENCES = {
    "true": "two seeds on true labels",
    "permuted": "two networks trained on permuted labels",
    "noise": "input ⊙ noise",
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
    own = {key: row[f"{reference}_{key}"] for key in ("kappa", "low", "high")}
    return kappa_text(own | {"margin": row["margin"]})


def no_more(row: Mapping, reference: str, margin: float) -> bool | None:
    """Whether a reference agrees as much, up to the margin; None where the interval is open."""
    low, high = row[f"{reference}_excess_low"], row[f"{reference}_excess_high"]
    return None if not settled(row) else True if high < margin else False if low > margin else None
