"""What was claimed of competition, held against our readings, and what passing is worth."""

from collections.abc import Mapping

import pandas as pd

from saliency_sanity.book.chapters.claims import ClaimTable, resting
from saliency_sanity.verdict.obstacle import CANNOT_TELL
from saliency_sanity.verdict.wording import METRIC_TITLES, kappa_text, rounded

_PAPER = "Gupta and Arora 2019, abstract"
_OURS = "this book"
# What the paper's sentences are about. Its rule of LRP is not known; the maps of ε sum up to about
# the logit, as the paper asks.
_SAID = ("gradient_x_input", "integrated_gradients", "lrp_epsilon")
_METRICS = ("spearman_abs", "spearman_abs_not_zero")
# How far a share of survivors may lie from chance and still be called chance.
_NEAR = 0.1


def competition_claims(
    claims: ClaimTable,
    readings: pd.DataFrame,
    relabelled: pd.DataFrame | None,
    twins: Mapping[str, str],
    titles: Mapping[str, str],
    survival: pd.DataFrame,
    *,
    share: float,
    margin: float,
    memorized: bool = True,
    all_compete: bool = True,
) -> None:
    """Add what [gupta2019simple] says of competition, and two statements of our own.

    ``readings`` of a cascade as ``outcome.stage_table`` makes them, ``relabelled`` those of
    ``experiments.Agreed.readings`` or None, both with the notebook's keys; ``twins`` names for each
    competitive method the one that competes, ``titles`` what a page calls them. ``survival`` as
    ``survival_table`` gives it, with overlaps and their chance below, ``share`` the chance share of
    survivors. Without networks that have ``memorized`` their permuted labels, what needs them is
    "not tested". Chance is exact where ``all_compete``; labels chosen for their large logits are
    no fair rivals, and nothing is said.
    """
    last = readings[readings["position"] == readings["position"].max()]
    for twin, base in twins.items():
        if base not in _SAID:
            continue
        for metric in _METRICS:
            _passes(claims, last, (twin, base), titles, metric, "layer randomization", margin)
            if relabelled is not None:
                tested = relabelled if memorized else None
                _passes(claims, tested, (twin, base), titles, metric, "random labels", margin)
    for twin in twins if all_compete else ():
        _at_chance(claims, survival, twin, titles, share)
    for twin in twins:
        _other_places(claims, survival, twin, titles)
    if "competitive_noise" in set(last["method"]):
        _noise(claims, last, titles, margin)


def _passes(
    claims: ClaimTable,
    rows: pd.DataFrame | None,
    pair: tuple[str, str],
    titles: Mapping[str, str],
    metric: str,
    test: str,
    margin: float,
) -> None:
    twin, base = pair
    of = "weights" if test == "layer randomization" else "labels"
    measured, chance, verdict = None, None, "not tested"
    reason = "the network has not learned its permuted labels"
    if rows is not None:
        chosen = rows[rows["metric"] == metric].set_index("method")
        if not {twin, base} <= set(chosen.index):
            return
        ours, theirs = chosen.loc[twin], chosen.loc[base]
        measured = (
            f"{titles[base]} kappa {kappa_text(theirs)}; competitive {kappa_text(ours)}, "
            f"similarity {rounded(ours['similarity'])}"
        )
        chance = f"similarity {rounded(ours['chance'])}, kappa 0"
        reason = (
            f"reproduced if the interval lies above kappa {margin:g} without competition and "
            "below it with competition; not reproduced if it lies above with competition; not "
            "tested if it lies below already without competition"
        )
        verdict = "inconclusive"
        if ours["verdict"] == "above":
            verdict = "not reproduced"
        elif CANNOT_TELL in (ours["verdict"], theirs["verdict"]):
            verdict = CANNOT_TELL
        elif theirs["verdict"] == "below":
            verdict = "not tested"
        elif ours["verdict"] == "below" and theirs["verdict"] == "above":
            verdict = "reproduced"
    claims.add(
        f"{titles[base]} passes {test} by competition, by {METRIC_TITLES[metric]}",
        f"Its map follows the picture under {test}; in competition it does not.",
        source=_PAPER,
        paper_said="passes",
        measured=measured,
        chance=chance,
        verdict=verdict,
        reason=reason,
        of=f"competition-passes-{of}",
        about=titles[base],
        by=metric,
    )


def _at_chance(
    claims: ClaimTable, survival: pd.DataFrame, twin: str, titles: Mapping[str, str], share: float
) -> None:
    rows = survival[(survival["method"] == twin) & (survival["quantity"] == "survivors")]
    rows = rows.sort_values("position")
    if len(rows) < 2:
        return
    before, after = rows.iloc[0], rows.iloc[1]
    near = abs(after["value"] / share - 1) < _NEAR
    apart = after["low"] > share * (1 + _NEAR) or after["high"] < share * (1 - _NEAR)
    claims.add(
        f"{titles[twin]} survives by chance",
        "Once the logits are drawn anew, what survives competition is no more than chance leaves.",
        source=f"{_OURS}, from its third statement",
        paper_said="–",
        measured=f"share {after['value']:.3g} ({after['low']:.3g} to {after['high']:.3g}) at "
        f"{after['stage']}, {before['value']:.3g} before",
        chance=f"share {share:.3g}",
        verdict="reproduced" if near else "not reproduced" if apart else "inconclusive",
        reason=f"reproduced if the share at {after['stage']} is within {_NEAR:.0%} of chance; not "
        "reproduced if its interval lies outside",
        of="survivors-at-chance",
        about=titles[twin],
    )


def _other_places(
    claims: ClaimTable, survival: pd.DataFrame, twin: str, titles: Mapping[str, str]
) -> None:
    rows = survival[(survival["method"] == twin) & (survival["quantity"] == "overlap")]
    if rows.empty:
        return
    last = rows.sort_values("position").iloc[-1]
    # Of maps that are zero wherever their base is not, nothing survives to overlap.
    verdict = "not tested" if pd.isna(last["value"]) else "inconclusive"
    if last["low"] > last["chance"]:
        verdict = "reproduced"
    elif last["high"] < last["chance"]:
        verdict = "not reproduced"
    claims.add(
        f"{titles[twin]} keeps more of the same places than chance",
        "What survives in the random network also survives in the trained one more often than by "
        "chance.",
        source=_OURS,
        paper_said="–",
        measured=f"overlap {last['value']:.3f} ({last['low']:.3f} to {last['high']:.3f}) at "
        f"{last['stage']}",
        chance=f"overlap {last['chance']:.3f}, from the shares that survive in both",
        verdict=verdict,
        reason="reproduced if the interval lies above chance; not reproduced if below; not tested "
        "where nothing survives",
        of="survivors-same-places",
        about=titles[twin],
    )


def _noise(
    claims: ClaimTable, last: pd.DataFrame, titles: Mapping[str, str], margin: float
) -> None:
    rows = last[(last["method"] == "competitive_noise") & last["metric"].isin(_METRICS)]
    parts = [f"{METRIC_TITLES[row['metric']]} {kappa_text(row)}" for _, row in rows.iterrows()]
    below = set(rows["verdict"]) == {"below"}
    claims.add(
        "noise passes, too",
        "Noise for every label, in competition with itself, passes as well and explains nothing.",
        source=_OURS,
        paper_said="–",
        measured=f"{titles['competitive_noise']}, kappa: {'; '.join(parts)}",
        chance="kappa 0",
        verdict=resting("reproduced" if below else "inconclusive", set(rows["verdict"])),
        reason=f"reproduced if every interval lies below kappa {margin:g}",
        of="noise-passes",
    )
