"""The choices hidden in "randomize": one at a time, at full randomization."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch import Tensor, nn

from saliency_sanity.attribution.base import Attribution
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.randomization.schemes import BATCH_NORM, SCHEMES
from saliency_sanity.similarity.metrics import Similarity

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

AS_HERE = "as on this page"
_NORMS_CHOICE = "batch norm: "


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
    settings, each used in one. A network without batch norms has no such choice. Their ceiling is
    that of other trainings, if there are some: none is measured in double precision.
    """
    # Double precision would take longer than each of them does; another training does not.
    changes = {"order": "full", "stage_limit": 0, "only": (), "methods": methods, "originals": {}}
    whole = replace(base, ceiling=0, **changes)
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
    if has_batch_norms(base.model):
        for policy in BATCH_NORM:
            if policy != now.batch_norm:
                changed = replace(now, batch_norm=policy)
                made[f"{_NORMS_CHOICE}{policy}"] = replace(whole, randomization=changed)
    for name, metrics in (presets or {}).items():
        made[f"metrics: {name}"] = replace(whole, metrics=metrics)
    return made


def has_batch_norms(model: nn.Module) -> bool:
    """Whether there is a choice of what becomes of running statistics."""
    return any(isinstance(module, _NORMS) for module in model.modules())


def norm_policies(base: Experiment, names: Iterable[str]) -> dict[str, str]:
    """Which of the ``variants`` of ``base`` differ in nothing but batch norms: names by policy.

    None where the network has no batch norms.
    """
    found = {
        name.removeprefix(_NORMS_CHOICE): name for name in names if name.startswith(_NORMS_CHOICE)
    }
    return {base.randomization.batch_norm: AS_HERE} | found if found else {}
