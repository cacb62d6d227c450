"""The book's first picture: a few large maps that a reader moves from trained to random."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saliency_sanity._markup import render
from saliency_sanity.experiments.outcome import ORIGINAL
from saliency_sanity.plots.maps import films, state
from saliency_sanity.plots.slider import (
    LONGEST,
    colour_filter,
    grey_film,
    tile_size,
    webp,
)

_SIZES = (224, 192, 160, 128, 96)  # pixels, the stored height of a map
_QUALITIES = (75, 60, 45, 30)


@dataclass(frozen=True)
class Film:
    """A method's maps from trained to random, and how much of them is left.

    Attributes
    ----------
    name
        What the method is called.
    pictures
        ``[S + 1, h, w]`` in [0, 1], the trained network's map first.
    kappas
        Kappa with the lower and the upper limit of its interval at each of the ``S`` stages.
    """

    name: str
    pictures: np.ndarray
    kappas: Sequence[tuple[float, float, float]]


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` stages, evenly spread, always with the last one."""
    if count <= most:
        return list(range(count))
    return sorted({round((i + 1) * count / most) - 1 for i in range(most)})


def stage_hero(
    picture: np.ndarray,
    shown: Sequence[Film],
    words: Sequence[tuple[str, str]],
    *,
    caption: str,
    about: str,
    start: int = 0,
    limit: int = 300_000,
) -> str:
    """Markup of the picture; it needs nothing else, and shows every stage where scripts are off.

    Parameters
    ----------
    picture
        ``[h, w]`` or ``[h, w, 3]`` in [0, 1]: what is explained.
    shown
        The maps, all of one shape.
    words
        What the trained network and each of the ``S`` stages are, in short and as a sentence.
    caption
        What is shown; plain text.
    about
        What a kappa is of, such as "mean of 8 photographs"; plain text.
    start
        The stage that is shown before the slider is moved, 0 the trained network.
    limit
        Most bytes of the markup. Maps are stored smaller and rougher until they fit.

    Raises
    ------
    ValueError
        Maps, kappas and words are not of as many stages, there is no such stage to start with, or
        the markup cannot be made so short.
    """
    if start not in range(len(words)):
        raise ValueError(f"start is {start}; valid are 0 to {len(words) - 1}, the last stage")
    names = range(1, len(words))
    strips = films({one.name: one.pictures for one in shown}, names, signed=False)
    for one in shown:
        if len(one.kappas) != len(names):
            raise ValueError(
                f"kappas of {one.name!r} are {len(one.kappas)}; give {len(names)}, one a stage"
            )
    for size in _SIZES:
        width, height = tile_size(next(iter(strips.values())), size)
        if width * len(words) > LONGEST:
            continue
        for quality in _QUALITIES:
            maps = [
                {
                    "name": one.name,
                    "film": grey_film(strips[one.name], "absolute", size, quality),
                    "stages": _stages(one, words, about, strips[one.name]),
                }
                for one in shown
            ]
            content = {
                "picture": webp(np.uint8(np.round(np.asarray(picture) * 255)), 80, most=2 * size),
                "maps": maps,
                "words": json.dumps([sentence for _, sentence in words]),
                "start": start,
                "first": words[start][1],
                "last": len(names),
                "caption": caption,
            }
            # Named by its content: the same page twice is the same text twice.
            digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:10]
            markup = render(
                "plots/hero.html.j2",
                **content,
                key=f"hero-{digest}",
                ratio=f"{width} / {height}",
                strip=f"{width * len(words)} / {height}",
                channels=colour_filter("absolute"),
            )
            if len(markup.encode()) <= limit:
                return markup
    raise ValueError(
        f"{len(shown)} maps and {len(names)} stages do not fit into {limit} bytes; "
        "choose fewer stages or a higher limit"
    )


def _stages(
    one: Film, words: Sequence[tuple[str, str]], about: str, film: np.ndarray
) -> list[dict]:
    """What stands beside each map: kappa, its interval, how long the bars are, what it is of."""
    stages = [
        {
            "brief": words[0][0],
            "state": state(film[0]),
            "kappa": "1",
            "interval": "by definition",
            "bar": 1.0,
            "band": [1.0, 1.0],
            "title": f"{ORIGINAL}: the trained network's own map",
        }
    ]
    for (brief, _), picture, (kappa, low, high) in zip(
        words[1:], film[1:], one.kappas, strict=True
    ):
        bar, *band = np.nan_to_num(np.clip((kappa, low, high), 0, 1)).tolist()
        interval = f"{_short(low)} to {_short(high)}"
        stages.append(
            {
                "brief": brief,
                "state": state(picture),
                "kappa": _short(kappa),
                "interval": interval,
                "bar": bar,
                "band": band,
                "title": f"kappa {_short(kappa)}, 95 % interval {interval}: {about}",
            }
        )
    return stages


def _short(value: float) -> str:
    """Two decimals without a minus before a zero; a dash for what is undefined."""
    return f"{round(value, 2) + 0.0:.2f}" if np.isfinite(value) else "–"
