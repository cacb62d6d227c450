"""Numbers of papers' code that our own are set beside, each with what it is worth.

They are read from ``published.toml``.
"""

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

# The one stage of a comparison of true with permuted labels.
PERMUTED = "permuted labels"

Curve = tuple[float | None, ...]


@dataclass(frozen=True)
class Published:
    """Similarities by stage that a run of the paper's authors gave.

    ``curves[method, metric]`` has a value for each of ``stages``, None where it cannot be read.
    ``subject`` says which network and pictures, in ``brief`` words too, ``precision`` how well a
    value is known.
    """

    subject: str
    brief: str
    source: str
    precision: str
    stages: tuple[str, ...]
    curves: Mapping[tuple[str, str], Curve]

    def value(self, method: str, metric: str, stage: str) -> float | None:
        """The similarity at a stage; None where there is none."""
        curve = self.curves.get((method, metric))
        return (
            None if curve is None or stage not in self.stages else curve[self.stages.index(stage)]
        )


@dataclass(frozen=True)
class PublishedScores:
    """MPRT and eMPRT that a run of the authors of [hedstrom2024code] gave.

    ``scores[method]`` has MPRT, its standard deviation over pictures, eMPRT and its own. ``brief``
    says which network and pictures.
    """

    brief: str
    source: str
    scores: Mapping[str, tuple[float, float, float, float]]


def published_mprt(network: str, dataset: str) -> PublishedScores | None:
    """What was published of MPRT and eMPRT for a network like this one; None where nothing was.

    ``network`` and ``dataset`` as in the catalogue of trained networks.
    """
    return mprt_scores().get((network, dataset))


@cache
def mprt_scores() -> Mapping[tuple[str, str], PublishedScores]:
    """All that was published of MPRT and eMPRT, by network and data set."""
    return {
        (entry["network"], entry["dataset"]): PublishedScores(
            entry["brief"],
            entry["source"],
            {method: tuple(numbers) for method, numbers in entry["scores"].items()},
        )
        for entry in _read("mprt")
    }


def published(model: str, order: str) -> Published | None:
    """What was published for a network of this name under this order; None where nothing was."""
    return cascades().get((model, order))


def published_labels(network: str, dataset: str) -> Published | None:
    """What was published for true against permuted labels, at the one stage ``PERMUTED``.

    ``network`` and ``dataset`` as in the catalogue of trained networks; None for any other pair.
    """
    return labels().get((network, dataset))


@cache
def cascades() -> Mapping[tuple[str, str], Published]:
    """All that was published of randomized networks, by network and order."""
    return {(entry["network"], entry["order"]): _cascade(entry) for entry in _read("cascade")}


@cache
def labels() -> Mapping[tuple[str, str], Published]:
    """All that was published of permuted labels, by network and data set."""
    return {(entry["network"], entry["dataset"]): _labels(entry) for entry in _read("labels")}


def _read(what: str) -> list[dict[str, Any]]:
    file = resources.files(__package__) / "published.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))[what]


def _cascade(entry: dict[str, Any]) -> Published:
    texts = {key: entry[key] for key in ("subject", "brief", "source", "precision")}
    curves = {
        (method, metric): _curve(values)
        for metric, methods in entry.items()
        if isinstance(methods, dict)
        for method, values in methods.items()
    }
    return Published(**texts, stages=tuple(entry["stages"]), curves=curves)


def _labels(entry: dict[str, Any]) -> Published:
    curves = {
        (method, metric): _curve([bars[place]])
        for place, metric in enumerate(("spearman_abs", "spearman_signed"))
        for method, bars in entry["bars"].items()
    }
    return Published(
        f"{entry['brief']}, true against random labels; the number of images is not stated",
        entry["brief"],
        f"Adebayo et al. 2018, figure {entry['figure']}",
        f"read from bars, ±0.02; error bars about {entry['spread']} by absolute ranks, "
        "0.2 to 0.35 by signed ones",
        (PERMUTED,),
        curves,
    )


def _curve(values: Iterable[float]) -> Curve:
    return tuple(None if math.isnan(value) else value for value in values)
