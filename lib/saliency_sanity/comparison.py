"""Maps of many methods on the same pictures, and how like a reference each of them is."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pandas as pd
import torch
from pandas.io.formats.style import Styler
from torch import Tensor, nn
from tqdm import tqdm

from saliency_sanity.gradient import Attribution, NotApplicable, passes
from saliency_sanity.names import unknown
from saliency_sanity.similarity import Similarity, similarity_matrix
from saliency_sanity.verdict import (
    RANDOMIZATION_WORDS,
    Reading,
    by_image,
    read,
    table,
)


@dataclass(frozen=True)
class Explained:
    """Maps by method, and the methods that cannot explain this network, with the reason."""

    maps: Mapping[str, Tensor]
    refused: Mapping[str, str]


@contextmanager
def _counting(model: nn.Module, bar: tqdm) -> Iterator[None]:
    def count(_module: nn.Module, inputs: tuple) -> None:
        # What a hook returns replaces the input, so nothing may be.
        bar.update(len(inputs[0]))

    handle = model.register_forward_pre_hook(count)
    try:
        yield
    finally:
        handle.remove()


def check_map(name: str, attribution: object, x: Tensor) -> Tensor:
    """Return a method's map, or raise ValueError or TypeError naming the method and its fault."""
    if not isinstance(attribution, Tensor):
        raise TypeError(f"method {name!r} returned {type(attribution).__name__}, not a tensor")
    valid = {tuple(x.shape), (len(x), 1, *x.shape[2:])}
    if tuple(attribution.shape) not in valid:
        raise ValueError(
            f"method {name!r} returned shape {tuple(attribution.shape)}; "
            f"valid are {' and '.join(map(str, sorted(valid)))}"
        )
    if not attribution.is_floating_point():
        raise TypeError(f"method {name!r} returned {attribution.dtype}; return floating point")
    return attribution.detach()


def refuse_all(refused: Mapping[str, str]) -> None:
    """Raise NotApplicable with the reason of every method, if there is one."""
    if refused:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise NotApplicable(f"none of the methods applies to this network. {reasons}")


def explain(
    methods: Mapping[str, Attribution], model: nn.Module, x: Tensor, target: Tensor
) -> Explained:
    """Explain ``target`` ``[N]`` for ``x`` ``[N, C, H, W]`` by every method, showing progress.

    A method that is not applicable to the network is set aside with its reason; every other
    fault is raised as it is. Raises NotApplicable, with all reasons, where no method applies.
    """
    maps: dict[str, Tensor] = {}
    refused: dict[str, str] = {}
    total = len(x) * sum(passes(method) for method in methods.values())
    with tqdm(total=total, unit="pass", mininterval=1) as bar, _counting(model, bar):
        for name, method in methods.items():
            bar.set_description(name)
            try:
                maps[name] = check_map(name, method(model, x, target), x)
            except NotApplicable as error:
                refused[name] = str(error)
                bar.total -= len(x) * passes(method)
    if not maps:
        refuse_all(refused)
    return Explained(maps, refused)


def compare(
    maps: Mapping[str, Tensor | Sequence[Tensor]],
    reference: Tensor | Sequence[Tensor],
    metrics: Mapping[str, Similarity],
    *,
    margin: float = 0.1,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the likeness of every method's maps to a reference against chance.

    ``maps`` and ``reference`` are ``[N, C, H, W]``, or a sequence of those, one a random network
    or draw, over which the interval then runs as well. Chance pairs a map with the references of
    other images. Returns two tables: readings, a row for each method and metric with the fields
    of ``verdict.Reading``; and measurements, a row for each method, metric, draw and image with
    its similarity and its chance level.
    """
    readings: dict[tuple[str, str], Reading] = {}
    rows = []
    pairs = [(name, key) for name in maps for key in metrics]
    for name, key in tqdm(pairs, desc="similarity", unit="matrix", mininterval=1):
        first, second = _draws(maps[name]), _draws(reference)
        draws = max(len(first), len(second))
        square = torch.stack(
            [
                similarity_matrix(metrics[key], first[r % len(first)], second[r % len(second)])
                for r in range(draws)
            ]
        ).cpu()
        readings[name, key] = read(square, margin=margin, resamples=resamples, seed=seed)
        rows.append(by_image(square).assign(method=name, metric=key))
    return table(readings, index=("method", "metric")), pd.concat(rows, ignore_index=True)


def _draws(maps: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [maps] if isinstance(maps, Tensor) else maps


def summary(
    readings: pd.DataFrame, metric: str, *, words: Mapping[str, str], head: str = "method"
) -> Styler:
    """One metric's readings as a table for the page, the highest kappa first.

    ``words`` names what lies below and above the margin, ``head`` what is compared. Maps without
    a defined similarity are counted where there are any.
    """
    rows = readings[readings["metric"] == metric].sort_values("kappa", ascending=False)
    shown = pd.DataFrame(
        {
            head: rows["method"],
            "verdict": [words.get(row["verdict"]) or _open(row) for _, row in rows.iterrows()],
            "kappa (95 % interval)": [kappa_text(row) for _, row in rows.iterrows()],
            "similarity": rows["similarity"].map(rounded),
            "chance": rows["chance"].map(rounded),
        }
    )
    if rows["undefined_diagonal"].any():
        shown["undefined maps"] = rows["undefined_diagonal"]
    return shown.style.hide(axis="index").set_table_attributes('class="dataframe"')


def verdict_table(
    readings: pd.DataFrame,
    metric: str,
    cascades: pd.DataFrame | None = None,
    *,
    words: Mapping[str, str] = RANDOMIZATION_WORDS,
) -> Styler:
    """One metric's verdicts at the last stage as a table for the page, the highest kappa first.

    "(prior)" after a verdict says that input and architecture explain it. ``readings`` has a row
    for each method, metric and stage with stage, position and the fields of
    ``verdict.Reading``; ``cascades``, for stages that add up, one for each method and metric with
    those of ``verdict.Cascade``. Raises ValueError for an unknown metric.
    """
    rows = readings[readings["metric"] == metric]
    if rows.empty:
        raise ValueError(unknown("metric", metric, readings["metric"].unique()))
    rows = rows[rows["position"] == rows["position"].max()]
    rows = rows.sort_values("kappa", ascending=False)
    shown = pd.DataFrame(
        {
            "method": rows["method"],
            "verdict": [said(row, words) for _, row in rows.iterrows()],
            "kappa (95 % interval)": [kappa_text(row) for _, row in rows.iterrows()],
            "similarity": rows["similarity"].map(rounded),
            "chance": rows["chance"].map(rounded),
        }
    )
    if rows["prior_similarity"].notna().any():
        shown["prior's kappa"] = rows["prior_kappa"].map(rounded)
    if cascades is not None:
        own = cascades[cascades["metric"] == metric].set_index("method").loc[rows["method"]]
        shown["area under kappa"] = own["area"].map(rounded).tolist()
        shown["first below the margin"] = own["first_below"].fillna("never").tolist()
    if rows["undefined_diagonal"].any():
        shown["undefined maps"] = rows["undefined_diagonal"]
    return shown.style.hide(axis="index").set_table_attributes('class="dataframe"')


def said(row: Mapping, words: Mapping[str, str] = RANDOMIZATION_WORDS) -> str:
    """A reading's verdict in words; "(prior)" where input and architecture explain it."""
    reading = Reading(**{name: row[name] for name in Reading.__annotations__})
    if reading.verdict == "inconclusive":
        return _open(row)
    explained = reading.verdict == "above" and reading.explained_by_prior
    return words[reading.verdict] + " (prior)" * explained


def _open(row: Mapping) -> str:
    # Of several reasons the first is the one that decides.
    return f"inconclusive: {row['reason'].partition(';')[0]}"


def rounded(value: float) -> str:
    """Two decimals, no minus before a zero, and a dash for what is undefined."""
    return "–" if math.isnan(value) else f"{round(value, 2) + 0.0:.2f}"


def holds_margin(reading: Mapping) -> bool:
    """Whether the interval shows by itself that a verdict is open."""
    return reading["low"] <= reading["margin"] <= reading["high"]


def kappa_text(reading: Mapping) -> str:
    """Kappa with its interval, e.g. ``0.41 (0.35 to 0.47)``, or that there is none."""
    if math.isnan(reading["kappa"]):
        return "undefined"
    kappa, low, high = (rounded(reading[key]) for key in ("kappa", "low", "high"))
    return f"{kappa} ({low} to {high})"
