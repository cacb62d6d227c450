"""The choices hidden in "randomize": one at a time, at full randomization."""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd
from pandas.io.formats.style import Styler
from torch import Tensor, nn

from saliency_sanity.comparison import holds_margin, kappa_text
from saliency_sanity.experiment import Experiment
from saliency_sanity.gradient import Attribution
from saliency_sanity.randomization import BATCH_NORM, SCHEMES
from saliency_sanity.similarity import Similarity
from saliency_sanity.verdict import RANDOMIZATION_WORDS

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

AS_HERE = "as on this page"


def variants(
    base: Experiment,
    methods: Mapping[str, Attribution],
    *,
    labels: Tensor | None = None,
    presets: Mapping[str, Mapping[str, Similarity]] | None = None,
) -> dict[str, Experiment]:
    """Experiments that differ from ``base`` in one choice each, the first in none, by name.

    All randomize the whole network at once and run ``methods``. ``labels`` ``[N]``, where they are
    known, are explained in one of them; ``presets`` has by name the same metrics with other
    settings, each used in one. A network without batch norms has no such choice.
    """
    whole = replace(base, order="full", stage_limit=0, methods=methods, originals={})
    made = {AS_HERE: whole}
    other = {"argmax": "fixed", "fixed": "argmax"}[base.explained]
    made[f"class: {other}"] = replace(whole, explained=other)
    if labels is not None:
        made["class: label"] = replace(whole, explained="fixed", target=labels)
    now = base.randomization
    for scheme in SCHEMES:
        if scheme != now.scheme:
            changed = replace(now, scheme=scheme)
            std = f", std {now.std:g}" if scheme == "truncated_normal" else ""
            made[f"weights: {scheme.replace('_', ' ')}{std}"] = replace(
                whole, randomization=changed
            )
    if any(isinstance(module, _NORMS) for module in base.model.modules()):
        for policy in BATCH_NORM:
            if policy != now.batch_norm:
                changed = replace(now, batch_norm=policy)
                made[f"batch norm: {policy}"] = replace(whole, randomization=changed)
    for name, metrics in (presets or {}).items():
        made[f"metrics: {name}"] = replace(whole, metrics=metrics)
    return made


def cross_table(readings: pd.DataFrame, index: str, columns: str) -> Styler:
    """Kappa with its interval and the verdict, one column of ``readings`` against another.

    Why a verdict is open is said unless the interval shows it.
    """
    cells = readings.assign(cell=[_cell(row) for _, row in readings.iterrows()])
    shown = cells.pivot_table(
        index=index, columns=columns, values="cell", aggfunc="first", sort=False
    )
    shown.columns.name = shown.index.name = None
    return shown.style.set_table_attributes('class="dataframe"')


def _cell(row: Mapping) -> str:
    text = f"{kappa_text(row)} {RANDOMIZATION_WORDS.get(row['verdict'], row['verdict'])}"
    if row["verdict"] == "inconclusive" and not holds_margin(row):
        text += f" ({row['reason'].partition(';')[0]})"
    return text
