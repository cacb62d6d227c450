"""Maps as pictures: grids beside their photographs, and what films over stages have to be."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from PIL import Image
from torch import Tensor

from saliency_sanity.experiments.outcome import ORIGINAL
from saliency_sanity.plots.layout import SMALL, headline, wrapped
from saliency_sanity.plots.style import CHANCE, SIGNED, UNSIGNED
from saliency_sanity.similarity import prepare as scales


def show_map(axes: Axes, attribution: Tensor, signed: bool = False) -> None:
    """Draw one map ``[C, H, W]``, scaled by ``absolute_picture`` or ``signed_picture``.

    Signed maps have zero in the middle of the colours; a map that is zero everywhere says so.
    """
    batch = attribution[None].float().cpu()
    picture = (scales.signed_picture if signed else scales.absolute_picture)(batch)[0].numpy()
    axes.imshow(picture, cmap=SIGNED if signed else UNSIGNED, vmin=-1 if signed else 0, vmax=1)
    if not batch.any():
        colour = "black" if signed else "white"
        axes.text(0.5, 0.5, "zero", transform=axes.transAxes, ha="center", va="center", c=colour)


def _bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    sns.despine(ax=axes, left=True, bottom=True)


def map_grid(
    pictures: Tensor,
    names: Sequence[str],
    maps: Mapping[str, Tensor],
    *,
    signed: bool = False,
    width: float = 9,
    title: str = "",
) -> Figure:
    """One row a picture ``[C, H, W]`` in [0, 1], one column a method's maps of the pictures.

    ``title`` says what was found. ``width`` in inches: up to 9 a page's column leaves 10 pixels of
    the smallest letters.
    """
    rows, columns = len(pictures), len(maps) + 1
    heads = {head: wrapped(head, width / columns) for head in maps}
    lines = max((head.count("\n") + 1 for head in heads.values()), default=1)
    # Noisy maps hardly compress: a coarser figure keeps the page light.
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(width, width / columns * rows + 0.1 + 0.18 * lines),
        squeeze=False,
        dpi=90,
        layout="constrained",
    )
    for row, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        shown = picture.permute(1, 2, 0).squeeze(-1).cpu().numpy()
        grid[row, 0].imshow(shown, cmap="gray", vmin=0, vmax=1)
        grid[row, 0].set_ylabel(name, fontsize=SMALL)
        for axes, (head, batch) in zip(grid[row, 1:], maps.items(), strict=True):
            show_map(axes, batch[row], signed)
            if not row:
                axes.set_title(heads[head], fontsize=SMALL, fontweight="normal")
    grid[0, 0].set_title("picture", fontsize=SMALL, fontweight="normal")
    for axes in grid.flat:
        _bare(axes)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    headline(figure, title)
    return figure


_WIDTH = 7.4  # inches; with _DPI about the 700 pixels that a page leaves
_DPI = 100
_SMALLEST = 7.5  # points; 10 pixels of the page
_NAMES = 1.1  # inches for the methods' names
_TOP = 0.15  # inches above everything
_GAP = 0.3  # cells between groups of columns
_CELL = 0.9  # inches of a map at most
_LETTER = 0.075  # inches along a line of upright names
_LEVELS = (16, 64)  # fewest and most steps of colour: noise hardly compresses
_STEPS = 3000  # of colour, in all maps together


def films(
    pictures: Mapping[str, np.ndarray], stages: Sequence[str], *, signed: bool
) -> dict[str, np.ndarray]:
    """Check display pictures ``[S + 1, h, w]`` by method, the trained network's map first.

    Unsigned ones lie in [0, 1], signed ones in [-1, 1], as ``prepare.absolute_picture`` and
    ``prepare.signed_picture`` give them; a picture with a value that is not finite is undefined.
    Raises ValueError where the shape or the range is another, or where there is no picture.
    """
    if not pictures or not stages:
        raise ValueError(f"{len(pictures)} methods, {len(stages)} stages: give one of each or more")
    found = {}
    for name, film in pictures.items():
        film = np.asarray(film, dtype=np.float32)
        if film.ndim != 3 or len(film) != len(stages) + 1 or 0 in film.shape:
            raise ValueError(
                f"pictures of {name!r} have shape {film.shape}; expected [{len(stages) + 1}, h, w]:"
                f" the {ORIGINAL} and {len(stages)} stages"
            )
        _check_scale(name, film, signed)
        found[name] = film
    return found


def _check_scale(name: str, film: np.ndarray, signed: bool) -> None:
    low = -1 if signed else 0
    finite = film[np.isfinite(film)]
    if finite.size and (finite.min() < low or finite.max() > 1):
        raise ValueError(
            f"pictures of {name!r} run from {finite.min():g} to {finite.max():g}; expected "
            f"{low} to 1: scale maps by maps.{'signed' if signed else 'absolute'}_picture"
        )


def state(picture: np.ndarray) -> str:
    """What has to be said of a picture ``[h, w]``: ``undefined``, ``zero`` or nothing."""
    if not np.isfinite(picture).all():
        return "undefined"
    return "" if picture.any() else "zero"


def resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture ``[h, w]`` at another size: each new pixel is the mean of what it covers."""
    image = Image.fromarray(np.ascontiguousarray(picture, dtype=np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BOX))


def network_grid(
    pictures: np.ndarray,
    maps: Mapping[str, np.ndarray],
    networks: Sequence[str],
    *,
    signed: bool = False,
    title: str = "",
) -> Figure:
    """One row a method, a group of columns a picture, in each one column a network.

    ``pictures`` is ``[n, h, w]`` or ``[n, h, w, 3]`` in [0, 1], ``maps`` has ``[K, n, h, w]`` for
    the K networks by method, scaled as for :func:`films`. Each picture stands above its group, the
    networks' names upright above their columns. An undefined map and a map of zeros say so;
    ``title`` says what was found. Raises ValueError where a shape or a range is another, or where
    there is no picture, method or network.
    Source: adebayo2018sanity, figure 6.
    """
    pictures = np.asarray(pictures, dtype=np.float32)
    if pictures.ndim not in (3, 4) or pictures.shape[3:] not in ((), (3,)) or 0 in pictures.shape:
        raise ValueError(
            f"pictures have shape {pictures.shape}; expected [n, h, w] or [n, h, w, 3] with one "
            "picture or more"
        )
    if not (pictures.min() >= 0 and pictures.max() <= 1):
        raise ValueError(
            f"pictures run from {pictures.min():g} to {pictures.max():g}; expected 0 to 1"
        )
    if not maps or not networks:
        raise ValueError(f"{len(maps)} methods, {len(networks)} networks: give one of each or more")
    across, group = len(pictures), len(networks)
    shown = {}
    for name, film in maps.items():
        film = np.asarray(film, dtype=np.float32)
        if film.ndim != 4 or film.shape[:2] != (group, across) or 0 in film.shape:
            raise ValueError(
                f"pictures of {name!r} have shape {film.shape}; expected [{group}, {across}, h, w]:"
                f" {group} networks and {across} pictures"
            )
        _check_scale(name, film, signed)
        shown[name] = film.swapaxes(0, 1).reshape(across * group, *film.shape[2:])
    cell = _cell(across * group + _GAP * (across - 1))
    # On two lines a name is as narrow as its column.
    names = [_folded(name) for name in networks]
    heads = [
        min(group * cell, _CELL),
        _length([line for name in names for line in name.splitlines()]),
    ]
    figure, grid = _sheet(heads, len(shown), [group] * across, title)
    for place, picture in enumerate(pictures):
        first = place * (group + 1)
        axes = figure.add_subplot(grid[0, first : first + group])
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
        for column, name in enumerate(names, first):
            _upright(figure.add_subplot(grid[1, column]), name)
    _lines(figure, grid, 2, shown, signed=signed, group=group)
    for axes in figure.axes:
        axes.set_axis_off()
    return figure


def _cell(columns: float) -> float:
    """Inches that a map has, of so many beside each other."""
    return min((_WIDTH - _NAMES) / columns, _CELL)


def _length(names: Sequence[str]) -> float:
    return _LETTER * max(map(len, names)) + 0.05


def _sheet(
    heads: Sequence[float], rows: int, groups: Sequence[int], title: str
) -> tuple[Figure, GridSpec]:
    """A figure and its grid: ``heads`` inches high, then a row a method; a gap between groups."""
    widths = [1.0] * groups[0]
    for size in groups[1:]:
        widths += [_GAP, *[1.0] * size]
    cell = _cell(sum(widths))
    width, height = cell * sum(widths), sum(heads) + cell * rows
    figure = plt.figure(figsize=(_NAMES + width, height + _TOP), dpi=_DPI)
    head = headline(figure, title)
    if head is not None:
        head.set_y(1 - 0.5 * _TOP / figure.get_figheight())
    grid = figure.add_gridspec(
        len(heads) + rows,
        len(widths),
        width_ratios=widths,
        height_ratios=[*heads, *[cell] * rows],
        left=_NAMES / (_NAMES + width),
        right=1,
        bottom=0,
        top=height / figure.get_figheight(),
        wspace=0.04,
        hspace=0.04,
    )
    return figure, grid


def _upright(axes: Axes, name: str) -> None:
    axes.text(
        0.5, 0.02, name, rotation=90, ha="center", va="bottom", fontsize=_SMALLEST, linespacing=1
    )


def _lines(
    figure: Figure,
    grid: GridSpec,
    first: int,
    shown: Mapping[str, np.ndarray],
    *,
    signed: bool,
    group: int,
) -> None:
    """Draw each method's maps ``[M, h, w]`` in its row, from row ``first``, names at the left."""
    size = round(_DPI * _cell(sum(grid.get_width_ratios())))
    levels = int(np.clip(_STEPS // sum(map(len, shown.values())), *_LEVELS))
    for row, (name, film) in enumerate(shown.items(), first):
        for place, one in enumerate(film):
            axes = figure.add_subplot(grid[row, place + place // group])
            if not place:
                axes.text(
                    -0.1,
                    0.5,
                    _folded(name),
                    transform=axes.transAxes,
                    ha="right",
                    va="center",
                    fontsize=_SMALLEST,
                    linespacing=1,
                )
            _show(axes, one, signed, size, levels)


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
            fontsize=_SMALLEST,
        )


def _folded(name: str) -> str:
    """A name on lines of at most some 16 letters, broken between words."""
    lines = [""]
    for word in name.split():
        if lines[-1] and len(lines[-1]) + len(word) > 15:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)
