"""Grids of maps as HTML: real text, pictures to choose from, tabs that need no scripts."""

import base64
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from markupsafe import Markup
from PIL import Image

from saliency_sanity._errors import unknown
from saliency_sanity._markup import Displayed, render
from saliency_sanity.experiments.outcome import ORIGINAL
from saliency_sanity.plots.maps import films, resized, state
from saliency_sanity.plots.slider import colour_filter, webp

COLUMNS = 6  # stages that a grid shows before more are asked for
VIEWS = 3  # pictures to choose from
_LIMIT = 290_000  # characters of a picture's grid
_PHOTOGRAPH = 192  # pixels, twice what it has on the page
_SMALL = 48  # pixels up to which a map is kept as it is
_LEVELS = (64, 32, 16)  # of grey, of maps that are kept as they are
# Height in pixels of the maps shown at first, of the others, and WebP's quality. Heights are whole
# blocks of 16 pixels, so that none mixes two maps.
_SIZES = (
    (256, 128, 70),
    (192, 112, 60),
    (160, 96, 60),
    (128, 96, 55),
    (112, 80, 50),
    (96, 64, 45),
    (96, 64, 30),
    (80, 48, 30),
    (80, 48, 15),
    (64, 32, 15),
    (48, 32, 10),
    (48, 16, 5),
    (32, 16, 0),
)
_BLOCK = 16


@dataclass(frozen=True)
class View:
    """One picture of a grid, ``[h, w]`` or ``[h, w, 3]`` in [0, 1], and its maps by method.

    ``absolute`` and ``signed`` are display pictures ``[S + 1, h, w]`` as for
    :func:`saliency_sanity.plots.maps.films`, of the same methods; without signs ``signed`` is None.
    """

    name: str
    picture: np.ndarray
    absolute: Mapping[str, np.ndarray] | None
    signed: Mapping[str, np.ndarray] | None = None


class Tiles(Displayed):
    """A grid of maps."""


def spread(count: int, most: int = COLUMNS) -> list[int]:
    """Places of at most so many of ``count`` things, evenly spread, first and last among them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})


def stage_tiles(
    views: Sequence[View],
    stages: Sequence[str],
    *,
    finding: str,
    caption: str,
    notes: Mapping[str, Sequence[str]] | None = None,
    limit: int = _LIMIT,
) -> Tiles:
    """One row a method, one column a stage: at first six stages, all of them for a click.

    Parameters
    ----------
    views
        The pictures to choose from, at most three, with the same methods; the first is shown.
    stages
        Names of the stages, without the original.
    finding, caption
        What is seen, in a sentence, and what is shown; plain text.
    notes
        By method a short text for the original and each stage, such as kappa.
    limit
        Most characters of one picture's grid. Maps are stored smaller and rougher until they fit.

    Raises
    ------
    ValueError
        A view is not as described, ``notes`` has another length or method, or a grid cannot be
        made as short as ``limit``.
    """
    first = [0, *(place + 1 for place in spread(len(stages)))]
    heads = [ORIGINAL, *stages]
    every = f"all {len(stages)} stages"
    return _tiles("stages", views, heads, first, finding, caption, notes, limit, every)


def network_tiles(
    views: Sequence[View],
    networks: Sequence[str],
    first: Sequence[int],
    *,
    finding: str,
    caption: str,
    notes: Mapping[str, Sequence[str]] | None = None,
    limit: int = _LIMIT,
    every: str = "",
) -> Tiles:
    """One row a method, one column a network; those at ``first`` are shown, all for a click.

    Maps are ``[K, h, w]`` for the K networks, else as ``stage_tiles``; ``every`` says what a click
    shows, where rows and columns are something else. Source: adebayo2018sanity, figure 6.
    """
    every = every or f"all {len(networks)} networks"
    return _tiles("stages", views, networks, first, finding, caption, notes, limit, every)


def map_tiles(
    views: Sequence[View],
    *,
    finding: str,
    caption: str,
    notes: Mapping[str, str] | None = None,
    limit: int = _LIMIT,
) -> Tiles:
    """One tile a method beside the picture; maps are ``[1, h, w]``, else as ``stage_tiles``."""
    said = {name: [text] for name, text in (notes or {}).items()}
    return _tiles("wall", views, [""], [0], finding, caption, said, limit, "")


def _tiles(
    layout: str,
    views: Sequence[View],
    heads: Sequence[str],
    first: Sequence[int],
    finding: str,
    caption: str,
    notes: Mapping[str, Sequence[str]] | None,
    limit: int,
    every: str,
) -> Tiles:
    if not 0 < len(views) <= VIEWS:
        raise ValueError(f"{len(views)} pictures; give one to {VIEWS}")
    checked = [_checked(view, heads) for view in views]
    modes = list(checked[0])
    methods = list(checked[0][modes[0]])
    if any(list(one) != modes or list(one[m]) != methods for one in checked for m in one):
        raise ValueError("pictures or kinds of maps differ in methods")
    for name, texts in (notes or {}).items():
        if name not in methods:
            raise ValueError(unknown("method", name, methods))
        if len(texts) != len(heads):
            raise ValueError(f"notes of {name!r} are {len(texts)}; give {len(heads)}")
    columns = _columns(heads, first)
    shown = [
        _view(layout, view.name, _photograph(view.picture), maps, columns, caption, notes, limit)
        for view, maps in zip(views, checked, strict=True)
    ]
    # Named by its content: the same page twice is the same text twice.
    key = "tiles-" + hashlib.sha256("".join(shown).encode()).hexdigest()[:10]
    markup = render(
        "plots/tiles.html.j2",
        key=key,
        views=[
            # A template's own text, in which all values are escaped already.
            {"name": view.name, "markup": Markup(text)}
            for view, text in zip(views, shown, strict=True)
        ],
        modes=modes,
        filters=[(mode, colour_filter(mode)) for mode in modes],
        columns=columns,
        first=len(first),
        finding=finding,
        every=every,
    )
    counts = {"method": len(methods), "picture": len(views)}
    tiles = ", ".join(f"{count} {name}{'s' * (count > 1)}" for name, count in counts.items())
    return Tiles(markup, f"{finding} (tiles of {tiles})")


def _columns(heads: Sequence[str], first: Sequence[int]) -> list[dict]:
    """What stands above each column, whether it is shown only when asked for, where its map is."""
    columns = [{"head": head, "more": at not in first} for at, head in enumerate(heads)]
    for more in (False, True):
        some = [column for column in columns if column["more"] == more]
        for place, column in enumerate(some):
            column["x"] = f"{100 * place / max(1, len(some) - 1):.4g}"
    return columns


def _checked(view: View, heads: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Maps by mode and method."""
    stages = heads[1:] or [""]
    found = {}
    for mode in ("absolute", "signed"):
        maps = getattr(view, mode)
        if maps is None:
            continue
        if heads[1:]:
            found[mode] = films(maps, stages, signed=mode == "signed")
        else:
            # A film wants a stage: the map itself once more, which is dropped again.
            twice = {name: np.concatenate([one, one]) for name, one in maps.items()}
            kept = films(twice, stages, signed=mode == "signed")
            found[mode] = {name: film[:1] for name, film in kept.items()}
    if not found:
        raise ValueError("give absolute pictures, signed ones, or both")
    return found


def _photograph(picture: np.ndarray) -> str:
    pixels = np.uint8(np.round(np.asarray(picture) * 255))
    whole = max(1, _PHOTOGRAPH // len(pixels))  # a digit's pixels stay squares
    return webp(pixels.repeat(whole, 0).repeat(whole, 1), 80, most=_PHOTOGRAPH)


def _view(
    layout: str,
    name: str,
    photograph: str,
    maps: Mapping[str, Mapping[str, np.ndarray]],
    columns: Sequence[dict],
    caption: str,
    notes: Mapping[str, Sequence[str]] | None,
    limit: int,
) -> str:
    """The figure of one picture, in the best quality that fits."""
    height, width = next(iter(next(iter(maps.values())).values())).shape[1:]
    for store, small in _ways(max(height, width)):
        # Most of a grid is its maps; a part of them says whether the others are worth storing.
        if _expected(maps, columns, store) > 1.2 * limit:
            continue
        markup = render(
            f"plots/tiles_{layout}.html.j2",
            name=name,
            photograph=photograph,
            rows=_rows(maps, columns, notes or {}, store),
            columns=columns,
            modes=list(maps),
            shown=sum(not column["more"] for column in columns),
            small=small,
            ratio=f"{width} / {height}",
            caption=caption,
        )
        if len(markup) <= limit:
            return markup
    raise ValueError(
        f"the grid of {name!r} does not fit into {limit} characters; "
        "choose fewer methods or a higher limit"
    )


def _ways(size: int) -> Iterable[tuple]:
    """How maps are stored, the best first, and whether their pixels are to be seen."""
    if size <= _SMALL:
        yield from ((partial(_exact, levels=levels), True) for levels in _LEVELS)
    for height, other, quality in _SIZES:
        if height < 1.3 * size:
            sizes = {False: height, True: other}
            yield partial(_rough, sizes=sizes, quality=quality), False


def _expected(maps: Mapping, columns: Sequence[dict], store) -> float:
    """Characters of all maps, from every fourth method's."""
    some = [name for place, name in enumerate(next(iter(maps.values()))) if not place % 4]
    lengths = sum(
        len(strip)
        for mode, films_of in maps.items()
        for name in some
        for strip in _strips(films_of[name], mode, columns, store).values()
    )
    return lengths * len(next(iter(maps.values()))) / len(some)


def _strips(film: np.ndarray, mode: str, columns: Sequence[dict], store) -> dict[str, str]:
    """Addresses of the maps shown at first, side by side, and of the others where there are any."""
    grey = np.where(np.isfinite(film), film, 0)
    grey = (grey + 1) / 2 if mode == "signed" else grey
    found = {}
    for more in (False, True):
        some = [one for one, column in zip(grey, columns, strict=True) if column["more"] == more]
        if some:
            found["more" if more else "first"] = store(some, more)
    return found


def _exact(maps: Sequence[np.ndarray], _more: bool, *, levels: int) -> str:
    """Every pixel as it is, in steps of grey; an even number, so that 1/2 is one of them."""
    strip = np.concatenate(maps, axis=1).clip(0, 1)
    file = io.BytesIO()
    steps = np.uint8(np.round(np.round(strip * levels) * (255 / levels)))
    Image.fromarray(steps).save(file, "WEBP", lossless=True, quality=80, method=4)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _rough(
    maps: Sequence[np.ndarray], more: bool, *, sizes: Mapping[bool, int], quality: int
) -> str:
    height = sizes[more]
    width = max(1, round(height * maps[0].shape[1] / maps[0].shape[0] / _BLOCK)) * _BLOCK
    strip = np.concatenate([resized(one, height, width) for one in maps], axis=1)
    return webp(np.uint8(np.round(255 * strip.clip(0, 1))), quality)


def _rows(
    maps: Mapping[str, Mapping[str, np.ndarray]],
    columns: Sequence[dict],
    notes: Mapping[str, Sequence[str]],
    store,
) -> list[dict]:
    rows = []
    for name in next(iter(maps.values())):
        strips = {mode: _strips(maps[mode][name], mode, columns, store) for mode in maps}
        said = notes.get(name, [""] * len(columns))
        states = {mode: [state(one) for one in maps[mode][name]] for mode in maps}
        cells = [
            column | {"note": said[at], "states": {mode: states[mode][at] for mode in maps}}
            for at, column in enumerate(columns)
        ]
        rows.append({"name": name, "strips": strips, "cells": cells})
    return rows
