"""What a randomization experiment measured, and how it is read."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from saliency_sanity.similarity import prepare as of
from saliency_sanity.verdict.obstacle import CeilingKind
from saliency_sanity.verdict.reading import (
    Reading,
    by_image,
    cascade,
    read,
    table,
)

ORIGINAL = "original"


@dataclass(frozen=True)
class Outcome:
    """What an experiment measured.

    ``random``: the share of the network's blocks that are random, by stage.
    ``matrices[method, metric]`` ``[S, R, N, P]``: similarity of the trained network's map of image
    i and the map of image j at stage s of random network r, where j runs over the group of i: all
    N if they are no more than a group. ``priors`` ``[R - 1, N, P]``: the same between the wholly
    random networks r and r + 1. ``classes`` ``[S, R, N]``: the largest logit. ``pictures[method]``:
    absolute ``[S + 1, shown, h, w]`` in [0, 1] and signed ones in [-1, 1], the trained network's
    first. ``statistics[method, name]`` ``[S + 1, R, N]``: a number of each
    map, the trained network's first. ``refused``: methods that do not apply, with the reason.
    ``ceilings[method, metric]`` ``[C, N', N']`` or ``[N', N']`` by ``CeilingKind``: similarity of
    maps of the first pictures between which nothing changed that should matter; ``no_ceiling`` says
    of methods why one is missing.
    ``shortened`` passes of this run started at the first random block, ``whole`` ones at the input;
    ``reason`` says why none of the former were made, where the network does not allow it.
    """

    stages: tuple[str, ...]
    random: Mapping[str, float]
    matrices: Mapping[tuple[str, str], np.ndarray]
    priors: Mapping[tuple[str, str], np.ndarray]
    classes: np.ndarray
    pictures: Mapping[str, tuple[np.ndarray, np.ndarray]]
    refused: Mapping[str, str]
    statistics: Mapping[tuple[str, str], np.ndarray]
    ceilings: Mapping[tuple[str, str], Mapping[str, np.ndarray]] = field(default_factory=dict)
    no_ceiling: Mapping[str, str] = field(default_factory=dict)
    shortened: int = 0
    whole: int = 0
    reason: str = ""

    def readings(
        self,
        *,
        titles: Mapping[str, str] | None = None,
        margin: float = 0.1,
        confidence: float = 0.95,
    ) -> dict[tuple[str, str, str], Reading]:
        """Every similarity read against chance, prior and ceiling, by method, metric and stage.

        ``titles`` replaces the names of methods; ``margin`` and ``confidence`` as in ``read``.
        Stages follow each other in their order. At all of them the trained network's maps are
        compared, so its ceiling holds for all. The wholly random network's holds for the last one,
        which it is; stages between have none of their own.
        """
        found: dict[tuple[str, str, str], Reading] = {}
        for (method, metric), matrices in self.matrices.items():
            prior = self.priors[method, metric]
            last = self.ceilings.get((method, metric), {})
            before = {k: m for k, m in last.items() if k != CeilingKind.RANDOM_ARITHMETIC}
            for stage, square in zip(self.stages, matrices, strict=True):
                found[(titles or {}).get(method, method), metric, stage] = read(
                    square,
                    prior if len(prior) else None,
                    last if stage == self.stages[-1] else before,
                    margin=margin,
                    confidence=confidence,
                )
        return found

    def measurements(self, titles: Mapping[str, str] | None = None) -> pd.DataFrame:
        """Similarity and chance level, a row for each method, metric, stage, network and image."""
        parts = []
        for (method, metric), matrices in self.matrices.items():
            for position, (stage, square) in enumerate(zip(self.stages, matrices, strict=True)):
                rows = by_image(square).rename(columns={"draw": "seed"})
                title = (titles or {}).get(method, method)
                parts.append(
                    rows.assign(method=title, metric=metric, stage=stage, position=position)
                )
        return pd.concat(parts, ignore_index=True)


def displayed(maps: Tensor) -> dict[str, Tensor]:
    """Maps ``[N, C, H, W]`` as ``absolute`` ``[N, H, W]`` in [0, 1] and ``signed`` in [-1, 1].

    An undefined map is shown as undefined, as it is compared.
    """
    maps = maps.float().cpu()
    defined = maps.isfinite().flatten(1).all(1)
    maps = maps.where(defined[:, None, None, None], torch.nan)
    return {"absolute": of.absolute_picture(maps), "signed": of.signed_picture(maps)}


def packed(pictures: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Pictures in [-1, 1] as 8 bits, NaN as the one value that no other takes; see unpacked."""
    return {
        kind: np.where(picture.isnan(), -128, (picture * 127).round()).astype(np.int8)
        for kind, picture in pictures.items()
    }


def unpacked(pictures: np.ndarray) -> np.ndarray:
    """Undo ``packed`` up to rounding, in float32."""
    return np.where(pictures == -128, np.nan, pictures / 127).astype(np.float32)


def stage_table(
    readings: Mapping[tuple[str, str, str], Reading], random: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """Readings by method, metric and stage as a table; ``position`` is the stage's place.

    ``random`` as an ``Outcome`` has it becomes a column of that name.
    """
    rows = table(readings, index=("method", "metric", "stage"))
    rows = rows.assign(position=rows.groupby(["method", "metric"], sort=False).cumcount())
    return rows if random is None else rows.assign(random=rows["stage"].map(random))


MOST = 0.5  # kappa above which more of a map is left than is gone


def halfway(readings: pd.DataFrame) -> str | None:
    """The stage of a cascade with half of its blocks random, of an odd number one fewer.

    From the logits down the upper half of the network is random there, the lower one as it was
    learned. ``readings`` as ``stage_table`` makes them, with a column ``random``. None where there
    is no such stage: of a single block, or where a limit of two stages left it out.
    """
    # Of three blocks one; of more the share is larger.
    stages = readings[readings["random"].between(1 / 3, 1 / 2)]
    return None if stages.empty else stages.loc[stages["position"].idxmax(), "stage"]


def cascades(readings: Mapping[tuple[str, str, str], Reading]) -> pd.DataFrame:
    """Area under kappa and first stage below the margin, a row for each method and metric.

    For orders in which stages add up. Raises as ``verdict.cascade``.
    """
    curves: dict[tuple[str, str], dict[str, Reading]] = {}
    for (method, metric, stage), reading in readings.items():
        curves.setdefault((method, metric), {})[stage] = reading
    return pd.DataFrame(
        [
            {"method": method, "metric": metric} | asdict(cascade(curve))
            for (method, metric), curve in curves.items()
        ]
    )
