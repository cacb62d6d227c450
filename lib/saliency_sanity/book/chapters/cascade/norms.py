"""What the running statistics of batch norms do to a verdict on the wholly random network."""

from collections.abc import Mapping
from itertools import combinations

import pandas as pd
from pandas.io.formats.style import Styler

from saliency_sanity.attribution.catalogue import title
from saliency_sanity.book.chapters.cascade.layers import meet
from saliency_sanity.experiments.outcome import Outcome, stage_table
from saliency_sanity.verdict.wording import (
    METRIC_TITLES,
    RANDOMIZATION_WORDS,
    cross_table,
    kappa_text,
    rounded,
)


def norm_table(
    outcomes: Mapping[str, Outcome], margin: float, confidence: float = 0.95
) -> pd.DataFrame:
    """Readings by policy, as ``stage_table`` makes them, with a column ``policy``."""
    return pd.concat(
        stage_table(outcome.readings(margin=margin, confidence=confidence)).assign(policy=policy)
        for policy, outcome in outcomes.items()
    )


def hanging(rows: pd.DataFrame) -> dict[tuple[str, str], list[dict]]:
    """The readings, by method and metric, whose verdict hangs on the policy.

    It does where two policies have other verdicts and intervals that do not meet: more pictures
    would not make them one.
    """
    found = {}
    for key, part in rows.groupby(["method", "metric"], sort=False):
        readings = part.to_dict("records")
        pairs = combinations(readings, 2)
        if any(one["verdict"] != other["verdict"] and not meet(one, other) for one, other in pairs):
            found[key] = readings
    return found


def by_policy(readings: list[dict]) -> str:
    """Kappa with its interval and the verdict, policy by policy."""
    words = [RANDOMIZATION_WORDS.get(row["verdict"], row["verdict"]) for row in readings]
    parts = zip(readings, words, strict=True)
    return ", ".join(f"{row['policy']} {kappa_text(row)} {word}" for row, word in parts)


def norm_sentence(rows: pd.DataFrame, metric: str) -> str:
    """Which verdicts by a metric hang on the policy, in Markdown."""
    of_metric = rows[rows["metric"] == metric]
    found = hanging(of_metric)
    methods, policies = of_metric["method"].nunique(), of_metric["policy"].unique()
    head = (
        f"By {METRIC_TITLES[metric]}, **{len(found)} of {methods} verdicts depend on how the "
        f"running statistics of batch norms are treated** ({', '.join(policies)})"
    )
    named = [f"{title(key[0])}, {by_policy(readings)}" for key, readings in found.items()]
    return head + (": " + "; ".join(named) if named else "") + "."


def norm_styled(rows: pd.DataFrame, metric: str) -> Styler:
    """Kappa by method and policy, its range, and whether the verdict hangs on it."""
    of_metric = rows[rows["metric"] == metric]
    hung = {title(method) for method, _ in hanging(of_metric)}
    shown = cross_table(of_metric.assign(method=of_metric["method"].map(title)), "method", "policy")
    kappas = of_metric.groupby(of_metric["method"].map(title))["kappa"]
    ends = {end: kappas.agg(end) for end in ("min", "max")}
    table = shown.data.assign(
        **{
            "range of kappa": [
                f"{rounded(ends['min'][m])} to {rounded(ends['max'][m])}" for m in shown.data.index
            ],
            "verdict depends on it": ["yes" if m in hung else "no" for m in shown.data.index],
        }
    )
    caption = (
        f"Kappa of the {METRIC_TITLES[metric]}, with the whole network random, by how the running "
        "statistics of batch norms are treated. The verdict depends on this where two verdicts "
        "differ and their intervals do not overlap."
    )
    return table.style.set_table_attributes('class="dataframe"').set_caption(caption)
