"""Does a map follow the size of the input? Response curves, curves over colours, likeness."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import binned_statistic
from torch import Tensor

from saliency_sanity._groups import grouped
from saliency_sanity.similarity.metrics import Metric
from saliency_sanity.similarity.prepare import Array, Prepare, raw_maps
from saliency_sanity.similarity.rank import Pearson, PixelSpearman, Ranks
from saliency_sanity.verdict.interval import interval
from saliency_sanity.verdict.obstacle import LEAST_IMAGES
from saliency_sanity.verdict.reading import Reading, read, table

LIKENESS, KEPT = "input_likeness", "input_likeness_not_zero"
# What *above* says of the size of a map in a sentence of its own.
GROWS = "The larger the input, the larger the map"
INPUT_WORDS = {"below": "does not follow the input", "above": "follows the input"}

_ROUNDING = 1e-4  # of a raw value that went to the network's units and back
_SPEARMAN = Metric(Prepare("each"), (Ranks(),), Pearson())


def response_edges(x: Tensor, bins: int = 10) -> np.ndarray:
    """Edges ``[bins + 1]`` of bins of equal width from 0 to the largest ``|x|`` of the batch.

    In the network's units. Curves that are to be compared need the same edges. Raises ValueError
    for less than one bin and for an input that is zero everywhere or not finite.
    """
    if bins < 1:
        raise ValueError(f"bins is {bins}; expected 1 or more")
    top = x.abs().max().item()
    if not 0 < top < np.inf:
        raise ValueError(f"the largest |x| is {top}; expected a finite input that is not all zero")
    return np.linspace(0, top, bins + 1)


def response_curve(maps: Array, x: Tensor, edges: Array) -> np.ndarray:
    """Mean ``|E|`` where ``|x|`` lies in each bin, 1 for the map's own mean: ``[N, B]`` float64.

    Bin b is ``edges[b] <= |x| < edges[b + 1]``, the last one closed; ``x`` ``[N, C, H, W]`` is in
    the network's units. Maps ``[N, C, H, W]`` are taken coordinate by coordinate, maps
    ``[N, 1, H, W]`` against ``|x|`` averaged over channels. NaN for a bin that an image leaves
    empty and for a map that is zero everywhere. Raises ValueError for shapes that do not fit, for
    edges that do not increase and for values that are not finite. [brocki2020input]
    """
    return _relative(*_finite(maps, x.abs(), "x"), edges)


def value_curve(maps: Array, values: Tensor, levels: Sequence[float] | Array) -> np.ndarray:
    """Mean ``|E|`` of the pixels of each colour, 1 for the map's own mean: ``[N, L]`` float64.

    ``values`` ``[N, C, H, W]`` are raw, in [0, 1], and count for the level within half a step;
    ``levels`` are equally spaced. Maps ``[N, 1, H, W]`` are taken against values averaged over
    channels. NaN for a level that an image does not have and for a map that is zero everywhere.
    Raises ValueError for shapes that do not fit, for other levels, for values outside [0, 1] and
    for values that are not finite. [brocki2020input]
    """
    levels = np.asarray(levels, dtype=np.float64)
    steps = np.diff(levels)
    if levels.ndim != 1 or len(levels) < 2 or steps[0] <= 0 or not np.allclose(steps, steps[0]):
        raise ValueError(
            f"levels {levels} are not equally spaced and increasing; use np.linspace(0, 1, n)"
        )
    sizes, colours = _finite(maps, values, "values")
    if values.min() < -_ROUNDING or values.max() > 1 + _ROUNDING:
        raise ValueError(
            f"values lie in {values.min():g} to {values.max():g}; expected raw pixels in 0 to 1, "
            "as Scaling.to_raw gives them"
        )
    half = steps[0] / 2
    return _relative(sizes, colours, np.append(levels - half, levels[-1] + half))


def input_likeness(maps: Array, x: Tensor, *, kept: bool = False) -> Tensor:
    """Rank correlation of ``|E|`` of image i and ``|x|`` of image j: ``[N, N]`` float64.

    The diagonal is an image with its own map, all else is chance, as ``verdict.read`` takes it.
    Maps ``[N, C, H, W]`` are taken coordinate by coordinate, maps ``[N, 1, H, W]`` against ``|x|``
    averaged over channels. With ``kept`` row i is over the coordinates where map i is not zero:
    a sparse map is mostly ties, which hide how its other values follow the input. For such a map
    every input is ranked anew, N times the work. NaN for a map or an input that is constant over
    space or not finite. Raises ValueError for shapes that do not fit. [spearman1904proof]
    """
    own, seen = (values.abs() for values in _fitting(maps, x.abs(), "x"))
    found = _SPEARMAN.matrix(own, seen)
    sparse = (own == 0).flatten(1).any(1)
    if kept and sparse.any():
        # Channels below each other: a coordinate is a pixel of its own.
        own, seen = (values.flatten(1, 2).unsqueeze(1) for values in (own[sparse], seen))
        found[sparse] = PixelSpearman((own != 0).squeeze(1), signed=False).matrix(own, seen)
    return found


def curve_table(curves: Mapping[str, np.ndarray], at: Sequence[float] | Array) -> pd.DataFrame:
    """Mean of each method's curves over images; a row a method and place where an image has one.

    ``curves`` are ``[N, B]``, ``at`` the places ``[B]`` on the axis. Columns are method, at,
    value with its interval of 95 % over images, low to high, and images, the number of those that
    have a value there; below 5 the interval is NaN, as these are too few for one. Raises
    ValueError for curves that do not fit ``at``.
    """
    rows = []
    for method, curve in curves.items():
        if np.ndim(curve) != 2 or curve.shape[1] != len(at):
            raise ValueError(
                f"curves of {method!r} have shape {np.shape(curve)}; expected [N, {len(at)}], a "
                "value an image and place"
            )
        for place, values in zip(at, curve.T, strict=True):
            images = int(np.isfinite(values).sum())
            if images:
                value, low, high = interval(values[None])
                if images < LEAST_IMAGES:
                    low = high = np.nan
                rows.append((method, float(place), value, low, high, images))
    return pd.DataFrame(rows, columns=["method", "at", "value", "low", "high", "images"])


def likeness_table(maps: Mapping[str, Tensor], x: Tensor, *, margin: float = 0.1) -> pd.DataFrame:
    """How far each method's maps follow ``|x|``, read against chance: two rows a method.

    Columns are method, metric, the fields of ``verdict.Reading``, and words, the verdict in those
    of ``INPUT_WORDS``. Metrics are ``LIKENESS``, over all coordinates, and ``KEPT``, over those
    where the map is not zero. Raises what ``input_likeness`` and ``verdict.read`` do.
    """
    return read_likeness(likeness_matrices(maps, x), margin=margin)


def likeness_matrices(maps: Mapping[str, Tensor], x: Tensor) -> dict[tuple[str, str], np.ndarray]:
    """Likeness to ``|x|`` by method and metric, ``[N, P]`` each as ``verdict.read`` takes it."""
    return {
        (name, metric): grouped(
            lambda rows, own=own, kept=kept: input_likeness(own[rows], x[rows], kept=kept), len(x)
        )
        for name, own in maps.items()
        for metric, kept in ((LIKENESS, False), (KEPT, True))
    }


def read_likeness(
    matrices: Mapping[tuple[str, str], np.ndarray], *, margin: float, confidence: float = 0.95
) -> pd.DataFrame:
    """``likeness_table`` of what ``likeness_matrices`` gives."""
    readings: dict[tuple[str, str], Reading] = {
        key: read(square, margin=margin, confidence=confidence) for key, square in matrices.items()
    }
    words = [reading.words(INPUT_WORDS) for reading in readings.values()]
    return table(readings, index=("method", "metric")).assign(words=words)


def _fitting(maps: Array, values: Tensor, what: str) -> tuple[Tensor, Tensor]:
    """Maps and values [N,C,H,W] of one shape: for maps of one channel values are averaged."""
    maps = raw_maps(maps)
    expected = tuple(values.shape)
    if values.ndim != 4 or tuple(maps.shape) not in {expected, (len(values), 1, *expected[2:])}:
        raise ValueError(
            f"maps have shape {tuple(maps.shape)}, {what} {expected}; expected {what} [N,C,H,W] "
            "and maps of that shape, or of one channel"
        )
    values = values.detach().double()
    return maps, values.mean(1, keepdim=True) if maps.shape[1] == 1 else values


def _finite(maps: Array, values: Tensor, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Absolute maps and values [N,P] float64."""
    rows = []
    for name, batch in zip(("maps", what), _fitting(maps, values, what), strict=True):
        bad = (~batch.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
        if bad:
            raise ValueError(f"{name} of images {bad} have values that are not finite; drop them")
        rows.append(batch.double().cpu().flatten(1).numpy())
    return abs(rows[0]), rows[1]


def _relative(sizes: np.ndarray, values: np.ndarray, edges: Array) -> np.ndarray:
    edges = np.asarray(edges, dtype=np.float64)
    widths = np.diff(edges)
    if edges.ndim != 1 or not widths.size or not ((widths > 0) & np.isfinite(widths)).all():
        raise ValueError(
            f"edges {edges} do not increase; expected [B + 1] such as response_edges gives"
        )
    means = [
        binned_statistic(value, size, bins=edges).statistic
        for value, size in zip(values, sizes, strict=True)
    ]
    with np.errstate(invalid="ignore"):  # a map of zeros has no relative size
        return np.stack(means) / sizes.mean(1, keepdims=True)
