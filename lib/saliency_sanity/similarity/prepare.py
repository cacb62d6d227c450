"""Saliency maps as numbers: what is done to a raw map before it is compared or shown.

Every function here is pure, works on each image by itself and takes NumPy arrays as well as
tensors: on the CPU the metrics run over NumPy views in threads (one image in cache at a time),
on an accelerator over batches of tensors, with the same code.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from saliency_sanity._errors import known

Array = torch.Tensor | np.ndarray

_CPU_CHUNK = 2**18  # values: one 299 x 299 x 3 map and its temporaries stay in the cache
_SAMPLE = 256  # of a map's values, to see about where a percentile lies
_DEVICE_CHUNK = 2**23  # values: some 30 temporaries in float64 stay below 2 GB


def namespace(maps: Array):
    """The library whose functions take these maps: `torch` for tensors, else `numpy`."""
    return torch if isinstance(maps, torch.Tensor) else np


def to_tensor(values: object) -> torch.Tensor:
    """A tensor as it is, and anything else on the CPU, whatever torch's default device is."""
    return values if isinstance(values, torch.Tensor) else torch.as_tensor(values, device="cpu")


def raw_maps(maps: Array) -> torch.Tensor:
    """Raw maps [N,H,W] or [N,C,H,W], any floating dtype, as a detached tensor [N,C,H,W].

    Raises TypeError for maps that are not real floating-point numbers, ValueError for another
    number of axes.
    """
    tensor = to_tensor(maps).detach()
    if not tensor.is_floating_point():
        raise TypeError(
            f"maps of shape {tuple(tensor.shape)} have dtype {tensor.dtype}; maps are real "
            "floating-point numbers: convert them, for example with .float()"
        )
    if tensor.ndim == 3:
        tensor = tensor.unsqueeze(1)
    if tensor.ndim != 4 or tensor.numel() == 0:
        raise ValueError(
            f"maps have shape {tuple(maps.shape)}; expected [N,H,W] or [N,C,H,W] with at least one "
            "image and one pixel"
        )
    return tensor


@cache
def _keep_pages() -> None:
    """Let the allocator keep freed memory, once for the process.

    glibc returns every large temporary to the system at once, and fetching the pages again costs
    more than the arithmetic; a freed block just below its 32 MB limit makes it keep them.
    """
    np.empty(2**25 - 2**16, dtype=np.uint8)


def at_once(values: int, *, on_cpu: bool) -> int:
    """How many images of so many values one step works on."""
    return max(1, (_CPU_CHUNK if on_cpu else _DEVICE_CHUNK) // max(1, values))


def per_image(kernel: Callable[..., Array], *batches: torch.Tensor) -> torch.Tensor:
    """Run `kernel` over the images of `batches` in chunks and concatenate what it returns.

    The kernel gets slices of equal length along the first axis, NumPy views on the CPU and
    tensors elsewhere, and returns one row an image. It must treat each image by itself: the
    length of a slice depends on the size of a map and on the device.
    """
    count, on_cpu = len(batches[0]), batches[0].device.type == "cpu"
    step = at_once(max(batch[:1].numel() for batch in batches), on_cpu=on_cpu)
    starts = range(0, count, step)
    sources = [_as_numpy(batch) for batch in batches] if on_cpu else batches

    def run(start: int) -> Array:
        return kernel(*(source[start : start + step] for source in sources))

    if not on_cpu:
        return torch.cat([run(start) for start in starts])
    _keep_pages()
    # NumPy releases the interpreter lock; with one image a thread everything stays in cache.
    workers = min(torch.get_num_threads(), len(starts))
    if workers == 1:
        return torch.from_numpy(np.concatenate([run(start) for start in starts]))
    with ThreadPoolExecutor(workers) as pool:
        return torch.from_numpy(np.concatenate(list(pool.map(run, starts))))


def _as_numpy(batch: torch.Tensor) -> np.ndarray:
    if batch.dtype in (torch.bfloat16, torch.float16):  # NumPy lacks the one, is slow in the other
        batch = batch.float()
    return batch.numpy()


def undefined(maps: Array) -> Array:
    """Which maps [N,...,H,W] say nothing: a value that is not finite, or no change over space.

    A map whose channels are each constant is constant, whatever the differences between them.
    Returns booleans [N].
    """
    xp = namespace(maps)
    low, high = xp.amin(maps, axis=(-2, -1)), xp.amax(maps, axis=(-2, -1))
    # A minimum and a maximum are finite only if everything is: NaN passes through both.
    finite = xp.isfinite(low) & xp.isfinite(high)
    flat = low == high
    axes = tuple(range(1, flat.ndim))
    return flat.all(axis=axes) | ~finite.all(axis=axes) if axes else flat | ~finite


def blank_undefined(maps: Array) -> Array:
    """The maps [N,C,H,W] in float64, undefined ones as NaN all over so that NaN comes out.

    They lie in memory in the order of their axes, on which the rounding of sums depends.
    """
    xp = namespace(maps)
    bad = undefined(maps)
    maps = (
        maps.to(torch.float64).contiguous() if xp is torch else maps.astype(np.float64, order="C")
    )
    if bad.any():
        maps = xp.where(bad[:, None, None, None], xp.nan, maps)
    return maps


def absolute_sum(maps: Array) -> Array:
    """Sum over channels of the absolute value: [N,C,H,W] -> [N,H,W]. Source: adebayo2018code."""
    return abs(maps).sum(axis=1)


def signed_sum(maps: Array) -> Array:
    """Sum over channels, signs kept: [N,C,H,W] -> [N,H,W]. Source: adebayo2018code."""
    return maps.sum(axis=1)


def percentile(maps: Array, q: float) -> Array:
    """The q-th percentile (0 to 100) of each map, linearly interpolated: [N,...] -> [N]."""
    if not 0 <= q <= 100:
        raise ValueError(f"percentile {q} is outside 0 to 100")
    rows = maps.reshape(len(maps), -1)
    position = q / 100 * (rows.shape[1] - 1)
    low = int(position)
    high = min(low + 1, rows.shape[1] - 1)
    if namespace(maps) is np:
        tops = [_upper_end(row, low) for row in rows] if rows.shape[1] > 4 * _SAMPLE else rows
        ends = (np.sort(top)[[low - rows.shape[1], high - rows.shape[1], -1]] for top in tops)
        below, above, last = np.array(list(ends)).T
        below = np.where(np.isnan(last), np.nan, below)
    else:
        below = rows.kthvalue(low + 1, dim=1).values
        above = rows.kthvalue(high + 1, dim=1).values
    return below + (above - below) * (position - low)


def _upper_end(row: np.ndarray, low: int) -> np.ndarray:
    """The largest values of a row, among them the one at place `low` of the sorted row.

    A sample tells about where that is. Sorting the few above is fast; a partition of all values
    takes a hundred times as long where most are equal, as in a sparse map.
    """
    sample = np.sort(row[:: len(row) // _SAMPLE])
    place = low * len(sample) // len(row) - _SAMPLE // 32
    upper = row[~(row <= sample[max(0, place)])]  # with NaN, which sorts last
    return upper if len(upper) >= len(row) - low else row


def clip_above(maps: Array, q: float = 99.0) -> Array:
    """Cut each map at its own q-th percentile. Source: adebayo2018code, absolute maps."""
    return namespace(maps).minimum(maps, _spread(percentile(maps, q), maps))


def clip_diverging(maps: Array, q: float = 99.0) -> Array:
    """Cut each signed map to [-3 s, s], s the absolute value of its q-th percentile.

    This is what (m + s) / (2 s) clipped to [-1, 1] keeps. Source: adebayo2018code, signed maps,
    where the two sides are indeed not treated alike.
    """
    xp = namespace(maps)
    span = abs(_spread(percentile(maps, q), maps))
    return xp.maximum(xp.minimum(maps, span), -3 * span)


def unit_range(maps: Array) -> Array:
    """Each whole map, all channels together, moved and scaled to [0, 1]; a constant one to 0.

    Source: adebayo2018code (SSIM and HOG); the sign stays as an offset.
    """
    axes = tuple(range(1, maps.ndim))
    xp = namespace(maps)
    low = xp.amin(maps, axis=axes, keepdims=True)
    span = xp.amax(maps, axis=axes, keepdims=True) - low
    return (maps - low) / xp.where(span > 0, span, 1.0)


def signed_range(maps: Array) -> Array:
    """Each whole map divided by its largest absolute value: [-1, 1], zero stays zero.

    Source: adebayo2018sanity, section 2.2 and appendix B (maps between -1 and 1).
    """
    axes = tuple(range(1, maps.ndim))
    xp = namespace(maps)
    top = xp.amax(abs(maps), axis=axes, keepdims=True)
    return maps / xp.where(top > 0, top, 1.0)


def second_moment(maps: Array) -> Array:
    """Each whole map divided by the root of its mean square, all channels together.

    Neither moved nor bounded; zero stays zero. Source: hedstrom2024fresh, code, after
    binder2023shortcomings.
    """
    return maps / _spread(_root_mean_square(maps), maps)


def _root_mean_square(maps: Array) -> Array:
    """Of each whole map [N,...], [N]; 1 of a zero map."""
    xp = namespace(maps)
    rows = maps.reshape(len(maps), -1)
    top = xp.amax(abs(rows), axis=1)
    top = xp.where(top > 0, top, 1.0)
    # By the largest value first, so that no square of a tiny one is lost.
    scaled = rows / top[:, None]
    size = top * (scaled * scaled).mean(axis=1) ** 0.5
    return xp.where(size > 0, size, 1.0)


def absolute_picture(maps: Array, q: float = 99.0) -> Array:
    """Maps [N,C,H,W] or [N,H,W] as unsigned pictures [N,H,W] in [0, 1]; a constant one is 0."""
    return unit_range(clip_above(absolute_sum(with_channels(maps)), q))


def signed_picture(maps: Array, q: float = 99.0) -> Array:
    """Maps [N,C,H,W] or [N,H,W] as signed pictures [N,H,W] in [-1, 1] with zero at 0.

    The limits are plus and minus the q-th percentile of the absolute value, so that a diverging
    colour map has its middle at zero. A zero map stays zero.
    """
    xp = namespace(maps)
    summed = signed_sum(with_channels(maps))
    limit = percentile(abs(summed), q)
    # Where nearly everything is zero the percentile is zero too: fall back on the largest value.
    limit = xp.where(limit > 0, limit, xp.amax(abs(summed), axis=(1, 2)))
    limit = _spread(xp.where(limit > 0, limit, 1.0), summed)
    return xp.maximum(xp.minimum(summed / limit, xp.ones_like(limit)), -xp.ones_like(limit))


def with_channels(maps: Array) -> Array:
    """Maps [N,H,W] as maps of one channel [N,1,H,W]; maps [N,C,H,W] as they are."""
    return maps[:, None] if maps.ndim == 3 else maps


def _spread(values: Array, maps: Array) -> Array:
    """Values [N] shaped so that they broadcast over maps [N,...]."""
    return values.reshape(-1, *([1] * (maps.ndim - 1)))


def fitting(a: Array, b: Array, *, paired: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Both batches of maps as [N,C,H,W] and [M,C,H,W], which can be compared; N is M if `paired`.

    Raises what a `Metric` does.
    """
    both = f"maps of shapes {tuple(a.shape)} and {tuple(b.shape)}"
    first, second = raw_maps(a), raw_maps(b)
    if first.device != second.device:
        raise ValueError(
            f"{both} are on {first.device} and {second.device}; move them to one device"
        )
    if first.shape[2:] != second.shape[2:]:
        raise ValueError(f"{both} differ in height or width; resize one of them")
    if first.shape[1] != second.shape[1] and 1 not in (first.shape[1], second.shape[1]):
        raise ValueError(f"{both} differ in channels; expected equal numbers, or 1 in one of them")
    if paired and len(first) != len(second):
        raise ValueError(
            f"{both} differ in the number of images; use .matrix(a, b) to compare each with each"
        )
    return first, second


@dataclass(frozen=True)
class Prepare:
    """From raw maps [N,C,H,W] to what is compared, each image by itself.

    `channels`: "absolute" or "signed" sums over channels, "each" keeps them. `clip`: percentile at
    which a sum is cut, None for not at all. `scale`: "unit" moves and scales the whole map to
    [0, 1], "signed" divides it by its largest absolute value, None leaves it; "second_moment"
    divides by the root of the raw map's mean square, before absolute values are taken.
    """

    channels: str = "each"
    clip: float | None = None
    scale: str | None = None

    def __post_init__(self):
        known("channels", self.channels, ("absolute", "signed", "each"))
        known("scale", self.scale, (None, "unit", "signed", "second_moment"))
        if self.clip is not None and self.channels == "each":
            raise ValueError(
                f"clip={self.clip} needs a sum over channels; use channels='absolute' or 'signed'"
            )
        if self.clip is not None and not 0 <= self.clip <= 100:
            raise ValueError(f"clip={self.clip} is no percentile; expected 0 to 100")

    def __call__(self, maps: Array) -> Array:
        """Prepared maps [N,H,W], or [N,C,H,W] with channels="each"."""
        raw = maps
        if self.channels == "absolute":
            maps = absolute_sum(maps)
        elif self.channels == "signed":
            maps = signed_sum(maps)
        if self.clip is not None:
            cut = clip_above if self.channels == "absolute" else clip_diverging
            maps = cut(maps, self.clip)
        if self.scale == "second_moment":
            # The same number first or last, but sums that are equal stay so.
            return maps / _spread(_root_mean_square(raw), maps)
        if self.scale is not None:
            maps = (unit_range if self.scale == "unit" else signed_range)(maps)
        return maps

    def __str__(self) -> str:
        words = [
            {
                "absolute": "sum over channels of absolute values",
                "signed": "sum over channels, signs kept",
                "each": "all channels, signs kept",
            }[self.channels]
        ]
        if self.clip is not None:
            side = "" if self.channels == "absolute" else ", at minus three times it below"
            words.append(f"cut at percentile {self.clip:g}{side}")
        if self.scale == "second_moment":
            words.insert(0, "raw map divided by the root of its mean square")
        elif self.scale is not None:
            words.append(
                "whole map moved and scaled to [0, 1]"
                if self.scale == "unit"
                else "whole map divided by its largest absolute value, to [-1, 1]"
            )
        return "; ".join(words)
