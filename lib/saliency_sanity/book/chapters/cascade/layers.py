"""Where else Grad-CAM could have looked, and whether a claim on it depends on that."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import pandas as pd
import torch
from pandas.io.formats.style import Styler
from torch import Tensor, nn

from saliency_sanity.attribution.base import Attribution
from saliency_sanity.attribution.catalogue import resolve
from saliency_sanity.book.chapters.claims import DECIDED
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.experiments.outcome import Outcome, stage_table
from saliency_sanity.networks.classifier import submodule
from saliency_sanity.networks.forward import laid_out, quietly
from saliency_sanity.randomization.blocks import find_blocks
from saliency_sanity.verdict.obstacle import CANNOT_TELL
from saliency_sanity.verdict.wording import METRIC_TITLES, cross_table

# What looks at a layer.
LOOKING = ("grad_cam", "guided_grad_cam")

# A layer with fewer times as many places is taken for one of the same resolution.
_APART = 2

ONE_LAYER = "No claim here rests on Grad-CAM, or Grad-CAM has only one layer to look at."

# What parts a method from its layer in a name.
_AT = "@"


@torch.no_grad()
def cam_layers(model: nn.Module, x: Tensor, own: str, count: int = 3) -> dict[str, tuple[int, int]]:
    """Layers at which Grad-CAM can look, and their places ``(h, w)``, the deepest first.

    ``own`` is among them; the others are the last blocks of other resolutions, with more than one
    place and at least twice as many as the next, of which the deepest are taken: ``count`` in all,
    or fewer where there are no more. ``x`` ``[N, C, H, W]``, of which the first picture is used.
    Raises ValueError for an unknown layer.
    """
    seen: dict[str, tuple[int, int]] = {}

    def note(path: str) -> Callable:
        def hook(_module: nn.Module, _inputs: tuple, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and output[0, 0].numel() > 1:
                seen[path] = tuple(output.shape[2:])

        return hook

    paths = [block.modules[-1] for block in find_blocks(model, x[:1])]
    paths = [*filter(None, paths), own]
    handles = [submodule(model, p).register_forward_hook(note(p)) for p in dict.fromkeys(paths)]
    try:
        quietly(model, laid_out(model, x[:1]).clone())
    finally:
        for handle in handles:
            handle.remove()
    return _chosen(seen, own, count)


def _chosen(
    seen: Mapping[str, tuple[int, int]], own: str, count: int
) -> dict[str, tuple[int, int]]:
    """Own layer and the deepest others of other resolutions; ``seen`` in order of execution."""
    if own not in seen:
        return {}

    def places(path: str) -> int:
        return seen[path][0] * seen[path][1]

    kept = [own]
    for path in reversed(seen):
        near = (max(places(path), places(k)) < _APART * min(places(path), places(k)) for k in kept)
        if len(kept) < count and not any(near):
            kept.append(path)
    return {path: seen[path] for path in reversed(seen) if path in kept}


def at_layers(
    experiment: Experiment,
    chosen: Mapping[str, Attribution],
    layers: Iterable[str],
    own: str,
    stages: Sequence[str],
) -> Experiment:
    """The experiment with what looks at a layer only, at each of these layers and some stages.

    ``chosen`` are the methods that look at the experiment's ``own`` layer: what the store has of
    them is not made again. Pictures are the first group; no ceiling is measured.
    """
    methods = {
        f"{name}{_AT}{layer}": method if layer == own else resolve(name, layer=layer)
        for layer in layers
        for name, method in chosen.items()
    }
    rows = slice(0, experiment.group or None)
    return replace(
        experiment,
        x=experiment.x[rows],
        target=experiment.target[rows],
        methods=methods,
        only=tuple(stages),
        shown=min(experiment.shown, len(experiment.x[rows])),
        originals={},
        ceiling=0,
    )


def layer_table(outcome: Outcome, margin: float, confidence: float = 0.95) -> pd.DataFrame:
    """Readings as ``stage_table`` makes them, with methods by name and a column ``layer``."""
    table = stage_table(outcome.readings(margin=margin, confidence=confidence), outcome.random)
    parts = table["method"].str.split(_AT, n=1, expand=True)
    return table.assign(method=parts[0], layer=parts[1])


def layer_styled(
    rows: pd.DataFrame,
    layers: Mapping[str, tuple[int, int]],
    metric: str,
    titles: Mapping[str, str],
) -> Styler:
    """Kappa and verdict by layer, with its places, and by method and stage, by one metric."""
    of_metric = rows[rows["metric"] == metric]
    named = {layer: f"{layer}, {h} × {w}" for layer, (h, w) in layers.items()}
    shown = cross_table(
        of_metric.assign(
            layer=of_metric["layer"].map(named),
            column=of_metric["method"].map(titles) + ", " + of_metric["stage"],
        ),
        "layer",
        "column",
    )
    return shown.set_caption(
        f"Kappa of the {METRIC_TITLES[metric]} with Grad-CAM at several layers, from the deepest "
        "up, with their places, by method and stage."
    )


def meet(one: Mapping, other: Mapping) -> bool:
    """Whether the intervals of two readings have a kappa in common."""
    return not (one["high"] < other["low"] or other["high"] < one["low"])


def over_layers(
    verdicts: Mapping[str, str], readings: Mapping[str, Sequence[Mapping]]
) -> tuple[bool, str]:
    """Whether a claim's verdict hangs on the layer, and what it is at each, in words.

    ``verdicts`` by layer; ``readings`` those that each rests on, stage by stage. It hangs on the
    layer where two decide differently, or where one decides, another does not, and their intervals
    at a stage do not meet: then it is not for lack of pictures.
    """
    told = {layer: verdict for layer, verdict in verdicts.items() if verdict != CANNOT_TELL}

    def differ(one: str, other: str) -> bool:
        decided = [told[layer] in DECIDED for layer in (one, other)]
        pairs = zip(readings.get(one, ()), readings.get(other, ()), strict=True)
        return all(decided) or (any(decided) and not all(meet(*pair) for pair in pairs))

    hangs = any(told[a] != told[b] and differ(a, b) for a, b in combinations(told, 2))
    by_verdict: dict[str, list[str]] = {}
    for layer, verdict in verdicts.items():
        by_verdict.setdefault(verdict, []).append(layer)
    return hangs, "; ".join(f"{v} at {', '.join(at)}" for v, at in by_verdict.items())
