"""Maps by method and stage as still pictures: what a display shows, and the grid of all."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from saliency_sanity.figures import CHANCE, SIGNED, UNSIGNED
from saliency_sanity.outcome import ORIGINAL

_WIDTH = 7.4  # inches; with _DPI about the 700 pixels that a page leaves
_DPI = 100
_NAMES = 1.1  # inches for the methods' names
_LEVELS = (16, 64)  # fewest and most steps of colour: noise hardly compresses
_STEPS = 3000  # of colour, in all maps together


def films(
    pictures: Mapping[str, np.ndarray], stages: Sequence[str], *, signed: bool
) -> dict[str, np.ndarray]:
    """Check display pictures ``[S + 1, h, w]`` by method, the trained network's map first.

    Unsigned ones lie in [0, 1], signed ones in [-1, 1], as ``maps.absolute_picture`` and
    ``maps.signed_picture`` give them; a picture with a value that is not finite is undefined.
    Raises ValueError where the shape or the range is another, or where there is no picture.
    """
    if not pictures or not stages:
        raise ValueError(f"{len(pictures)} methods, {len(stages)} stages: give one of each or more")
    low = -1 if signed else 0
    found = {}
    for name, film in pictures.items():
        film = np.asarray(film, dtype=np.float32)
        if film.ndim != 3 or len(film) != len(stages) + 1 or 0 in film.shape:
            raise ValueError(
                f"pictures of {name!r} have shape {film.shape}; expected [{len(stages) + 1}, h, w]:"
                f" the {ORIGINAL} and {len(stages)} stages"
            )
        finite = film[np.isfinite(film)]
        if finite.size and (finite.min() < low or finite.max() > 1):
            raise ValueError(
                f"pictures of {name!r} run from {finite.min():g} to {finite.max():g}; expected "
                f"{low} to 1: scale maps by maps.{'signed' if signed else 'absolute'}_picture"
            )
        found[name] = film
    return found


def state(picture: np.ndarray) -> str:
    """What has to be said of a picture ``[h, w]``: ``undefined``, ``zero`` or nothing."""
    if not np.isfinite(picture).all():
        return "undefined"
    return "" if picture.any() else "zero"


def resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture ``[h, w]`` at another size: each new pixel is the mean of what it covers."""
    image = Image.fromarray(np.ascontiguousarray(picture, dtype=np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BOX))


def stage_grid(
    picture: np.ndarray,
    pictures: Mapping[str, np.ndarray],
    stages: Sequence[str],
    *,
    signed: bool = False,
) -> Figure:
    """One row a method, one column a stage after the original, of one picture's maps.

    ``picture`` is ``[h, w]`` or ``[h, w, 3]`` in [0, 1], ``pictures`` and errors are as for
    :func:`films`. An undefined map and a map of zeros say so. Maps are averaged down to the size
    they have on the page. Source: adebayo2018sanity, figures 2 and 3.
    """
    shown = films(pictures, stages, signed=signed)
    rows, columns = len(shown), len(stages) + 1
    cell = min((_WIDTH - _NAMES) / columns, 0.9)
    head = max(cell, 0.075 * max(map(len, stages)) + 0.05)  # the picture, beside upright names
    figure, grid = plt.subplots(
        rows + 1,
        columns,
        figsize=(_NAMES + cell * columns, head + cell * rows + 0.15),
        squeeze=False,
        dpi=_DPI,
        gridspec_kw={
            "height_ratios": [head, *[cell] * rows],
            "left": _NAMES / (_NAMES + cell * columns),
            "right": 1,
            "bottom": 0,
            "top": 1 - 0.15 / (head + cell * rows + 0.15),
            "wspace": 0.04,
            "hspace": 0.04,
        },
    )
    size = round(cell * _DPI)
    levels = int(np.clip(_STEPS // (rows * columns), *_LEVELS))
    for axes in grid.flat:
        axes.set_axis_off()
    grid[0, 0].imshow(picture, cmap="gray", vmin=0, vmax=1)
    grid[0, 0].set_anchor("S")
    grid[0, 0].set_title(ORIGINAL, fontsize=7, pad=2)
    for axes, stage in zip(grid[0, 1:], stages, strict=True):
        axes.text(0.5, 0.02, stage, rotation=90, ha="center", va="bottom", fontsize=8)
    for line, (name, film) in zip(grid[1:], shown.items(), strict=True):
        line[0].text(
            -0.1,
            0.5,
            _folded(name),
            transform=line[0].transAxes,
            ha="right",
            va="center",
            fontsize=7,
            linespacing=1,
        )
        for axes, one in zip(line, film, strict=True):
            _show(axes, one, signed, size, levels)
    return figure


def _show(axes: Axes, picture: np.ndarray, signed: bool, size: int, levels: int) -> None:
    word = state(picture)
    height, width = picture.shape
    if word == "undefined":
        picture = np.full_like(picture, np.nan)
    elif max(height, width) > size:
        scale = size / max(height, width)
        picture = resized(picture, round(height * scale), round(width * scale))
    axes.imshow(
        # Steps are counted from zero, which stays what it is.
        np.round(picture * levels / (1 + signed)) * (1 + signed) / levels,
        cmap=plt.get_cmap(SIGNED if signed else UNSIGNED).with_extremes(bad=CHANCE),
        vmin=-1 if signed else 0,
        vmax=1,
        interpolation="nearest",
    )
    if word:
        colour = "black" if signed or word == "undefined" else "white"
        axes.text(
            0.5,
            0.5,
            word,
            transform=axes.transAxes,
            ha="center",
            va="center",
            color=colour,
            fontsize=5 if word == "undefined" else 6,
        )


def _folded(name: str) -> str:
    """A name on lines of at most some 16 letters, broken between words."""
    lines = [""]
    for word in name.split():
        if lines[-1] and len(lines[-1]) + len(word) > 15:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)
