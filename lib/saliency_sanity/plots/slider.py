"""Maps on a page that a reader moves through the stages: one self-contained piece of HTML."""

import base64
import hashlib
import io
import json
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from PIL import Image

from saliency_sanity._errors import unknown
from saliency_sanity._markup import Displayed, render
from saliency_sanity.experiments.outcome import ORIGINAL
from saliency_sanity.plots.maps import films, resized, state
from saliency_sanity.plots.style import SIGNED, UNSIGNED

_BLOCK = 16  # pixels, WebP's
_SIZES = (112, 96, 80, 64, 48, 32)  # pixels, the stored height of a map
_QUALITIES = (80, 55, 30)
LONGEST = 16383  # pixels, WebP's limit
_COLOURS = 33  # of a colour map's table; odd, so that zero of a signed map has an entry


class StageSlider(Displayed):
    """Maps that a reader moves through the stages."""


def stage_slider(
    picture: np.ndarray,
    absolute: Mapping[str, np.ndarray] | None,
    stages: Sequence[str],
    *,
    signed: Mapping[str, np.ndarray] | None = None,
    caption: str,
    says: str = "randomized down to {stage}",
    notes: Mapping[str, Sequence[str]] | None = None,
    limit: int = 600_000,
) -> StageSlider:
    """Show one picture's maps of all methods at the stage that the reader chooses.

    Parameters
    ----------
    picture
        ``[h, w]`` or ``[h, w, 3]`` in [0, 1].
    absolute, signed
        Display pictures by method as for :func:`saliency_sanity.plots.maps.films`, for the same
        methods; with both the reader can switch between them.
    stages
        Names of the stages, without the original.
    caption
        What is shown, in words; plain text.
    says
        The current stage in words, around ``{stage}``.
    notes
        By method a short text for the original and each stage, such as kappa.
    limit
        Most characters of the markup. Maps are stored smaller and rougher until they fit: WebP,
        each pixel the mean of what it covers.

    Raises
    ------
    ValueError
        The pictures are not as described, ``notes`` has another length or method, or the markup
        cannot be made as short as ``limit``.
    """
    modes = {
        name: films(pictures, stages, signed=name == "signed")
        for name, pictures in (("absolute", absolute), ("signed", signed))
        if pictures is not None
    }
    if not modes:
        raise ValueError("give absolute pictures, signed ones, or both")
    names = list(next(iter(modes.values())))
    for shown in modes.values():
        if list(shown) != names:
            raise ValueError(f"absolute and signed differ in methods: {names} and {list(shown)}")
    for name, texts in (notes or {}).items():
        if name not in names:
            raise ValueError(unknown("method", name, names))
        if len(texts) != len(stages) + 1:
            raise ValueError(
                f"notes of {name!r} are {len(texts)}; give {len(stages) + 1}: "
                f"the {ORIGINAL} and {len(stages)} stages"
            )
    words = [f"{ORIGINAL}: the trained network", *(says.format(stage=stage) for stage in stages)]
    for size in _SIZES:
        if tile_size(modes[next(iter(modes))][names[0]], size)[0] * len(words) > LONGEST:
            continue
        for quality in _QUALITIES:
            markup = _markup(picture, modes, words, caption, notes or {}, size, quality)
            if len(markup) <= limit:
                return StageSlider(
                    markup, f"slider of {len(names)} methods and {len(stages)} stages"
                )
    raise ValueError(
        f"{len(names)} methods and {len(stages)} stages do not fit into {limit} characters; "
        "choose fewer of them or a higher limit"
    )


def _markup(
    picture: np.ndarray,
    modes: Mapping[str, Mapping[str, np.ndarray]],
    words: Sequence[str],
    caption: str,
    notes: Mapping[str, Sequence[str]],
    size: int,
    quality: int,
) -> str:
    names = list(next(iter(modes.values())))
    tiles = []
    for name in names:
        films = {mode: grey_film(shown[name], mode, size, quality) for mode, shown in modes.items()}
        states = {mode: [state(one) for one in shown[name]] for mode, shown in modes.items()}
        said = notes.get(name)
        tiles.append(
            {
                "name": name,
                "films": films,
                "state": states[next(iter(modes))][0],
                "note": said[0] if said else None,
                "data": json.dumps({"states": states, "notes": said and list(said)}),
            }
        )
    pixels = np.uint8(np.round(np.asarray(picture) * 255))
    whole = max(1, size // len(pixels))  # a digit's pixels stay squares
    content = {
        "picture": webp(pixels.repeat(whole, 0).repeat(whole, 1), 80, most=2 * size),
        "tiles": tiles,
        "caption": caption,
        "words": json.dumps(words),
        "first": words[0],
        "last": len(words) - 1,
        "modes": list(modes),
    }
    # Named by its content: the same page twice is the same text twice.
    key = "stages-" + hashlib.sha256(json.dumps(content).encode()).hexdigest()[:10]
    width, height = tile_size(next(iter(modes.values()))[names[0]], size)
    filters = [(mode, colour_filter(mode)) for mode in modes]
    ratio = f"{width} / {height}"
    return render("plots/slider.html.j2", **content, key=key, ratio=ratio, filters=filters)


def tile_size(film: np.ndarray, size: int) -> tuple[int, int]:
    """Width and height of a stored map: whole blocks of WebP, so that none mixes two maps."""
    return max(1, round(size * film.shape[2] / film.shape[1] / _BLOCK)) * _BLOCK, size


def grey_film(film: np.ndarray, mode: str, size: int, quality: int) -> str:
    """All pictures ``[S + 1, h, w]`` of a method side by side, in grey, as an address."""
    width, height = tile_size(film, size)
    strip = np.concatenate(
        [resized(np.where(np.isfinite(one), one, 0), height, width) for one in film], axis=1
    )
    if mode == "signed":
        strip = (strip + 1) / 2
    return webp(np.uint8(np.round(255 * strip.clip(0, 1))), quality)


def webp(pixels: np.ndarray, quality: int, most: int = LONGEST) -> str:
    """A picture of 8 bits as an address that holds it, of at most so many pixels a side."""
    image = Image.fromarray(pixels)
    image.thumbnail((most, most))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality, method=4)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def colour_filter(mode: str) -> list[tuple[str, str]]:
    """The colour map by channel: maps are stored in grey, where nothing blurs their sign."""
    table = mpl.colormaps[SIGNED if mode == "signed" else UNSIGNED](np.linspace(0, 1, _COLOURS))
    return [
        (channel, " ".join(f"{value:.3f}" for value in table[:, i]))
        for i, channel in enumerate("RGB")
    ]
