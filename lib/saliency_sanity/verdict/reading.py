"""What a similarity means: read against chance, prior and ceiling, with interval and verdict.

Input is a matrix S[r, i, j]: how alike the map of image i from the first network and the map of
image j from the second are, for random networks r. The diagonal is the similarity s. Off the
diagonal the pairing of images is broken, so that only what every picture's map shares is left:
chance. Where images are many, j runs over the image's group only. One number compares across
metrics,

    kappa = (s - chance) / (1 - chance)        0: as any other picture's map; 1: unchanged.

How large kappa can be, a ceiling says: maps of one picture when nothing changed that should matter.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from saliency_sanity._errors import known
from saliency_sanity.verdict.interval import (
    Corrected,
    Estimate,
    corrected,
    excess,
    mean,
    others,
    own_similarities,
    with_changed,
)
from saliency_sanity.verdict.obstacle import (
    CANNOT_TELL,
    INCONCLUSIVE,
    LEAST_IMAGES,
    OPEN,
    CeilingKind,
    Note,
    NoteKind,
    Obstacle,
)
from saliency_sanity.verdict.wording import (
    RANDOMIZATION_WORDS,
    explained,
    kappa_text,
    reasons,
    verdict_words,
)

_LEAST_ROOM = 0.02  # chance leaves less than this: the metric cannot tell


@dataclass(frozen=True)
class Reading:
    """A similarity with its references; intervals hold what is true in `confidence` of all cases.

    `similarity_low` and `similarity_high` enclose the mean similarity, `low` and `high` kappa, of
    all images and networks like these; of one network, its own. `chance_low` and `chance_high` span
    the middle `confidence` of the chance levels of single images, `prior_band_low` and
    `prior_band_high` of their prior similarities: how far pictures differ, not how well the means
    are known. `excess` is kappa less the kappa of the prior; with fewer than three networks its
    interval covers images only. `ceiling` is the lowest kappa of maps between which nothing changed
    that should matter, with its interval, similarity and ``CeilingKind``, of `ceiling_images`.
    `sure_low` is `low`, or less: the lower end if each picture without a similarity had kappa 0.
    `p` is the largest 1 - confidence at which kappa's interval holds the margin, NaN where there is
    no verdict whatever the margin. `images` counts those whose own similarity is defined. Without a
    prior its fields are NaN, without a ceiling too, and its kind is empty. `obstacle` says why the
    verdict is open, None where there is one.
    """

    similarity: float
    similarity_low: float
    similarity_high: float
    chance: float
    chance_low: float
    chance_high: float
    kappa: float
    low: float
    high: float
    sure_low: float
    p: float
    prior_similarity: float
    prior_band_low: float
    prior_band_high: float
    prior_chance: float
    prior_kappa: float
    prior_low: float
    prior_high: float
    excess: float
    excess_low: float
    excess_high: float
    ceiling_similarity: float
    ceiling: float
    ceiling_low: float
    ceiling_high: float
    ceiling_images: int
    ceiling_kind: str
    images: int
    seeds: int
    prior_seeds: int
    undefined_diagonal: int
    undefined_off_diagonal: int
    margin: float
    confidence: float
    verdict: str
    obstacle: Obstacle | None
    notes: tuple[Note, ...]

    def __str__(self) -> str:
        held = f"{self.verdict} the margin {self.margin:g}"
        return (
            f"similarity {self.similarity:.2f}, chance {self.chance:.2f}, "
            f"kappa {kappa_text(self.row())}: "
            + (f"{self.verdict} ({reasons(self.row())})" if self.verdict in OPEN else held)
        )

    @property
    def explained_by_prior(self) -> bool:
        """Whether input and architecture alone give as much, up to the margin."""
        return explained(self.row())

    def words(self, words: Mapping[str, str] = RANDOMIZATION_WORDS) -> str:
        """The verdict in words, and why if there is none; see ``wording.verdict_words``."""
        return verdict_words(self.row(), words)

    def row(self) -> dict[str, float | int | str]:
        """The fields as a table has them: obstacle and notes are plain text, empty for none."""
        plain = {"obstacle": self.obstacle.value if self.obstacle else ""}
        return vars(self) | plain | {"notes": " ".join(map(str, self.notes))}


def read(
    similarity: ArrayLike,
    prior: ArrayLike | None = None,
    ceiling: Mapping[str, ArrayLike] | None = None,
    *,
    margin: float = 0.1,
    confidence: float = 0.95,
    paired: bool = False,
) -> Reading:
    """Read similarities [R,N,N] or [N,N] against chance, and against a prior [Q,N,N] if given.

    Of many images each is compared with those of its group: [R,N,P], where row i is image i's, the
    first P rows are the first group, and so on; in the last group what is missing to P is NaN.
    Chance is then a mean of fewer pairs. If a pair's similarity is a row's effect, a column's and
    a rest of variance v, its variance grows by v (1/(P - 1) - 1/(N - 1)) / N, twice that where
    i, j is as j, i. It is in the interval, which is made of the very pairs that there are.

    Means are corrected, not single images. Intervals are for pictures and networks drawn
    independently of each other: kappa is taken to be, to first order, a sum of what each picture
    and each network adds, and both are known from as many as there are; see ``interval``. Those of
    the prior are of the same pictures, and of pairs of networks each of which shares one with the
    next; `paired` if they are the very networks of the similarity. Where no similarity is above 1,
    none is an interval's end. Undefined entries (NaN) are left out and counted.

    The verdict is "below" or "above" if the interval lies on one side of the margin, else
    "inconclusive"; also if fewer than five images have a defined similarity, if of several
    networks but one has, or if chance leaves the similarity no room. `obstacle` says
    which, and `notes` that with one network the interval is that network's.

    A map that is one value everywhere has no similarity, nor has one with a value that is not
    finite. Nothing of either is left, so "above" has to hold even if all of these had kappa 0.

    `ceiling` has by ``CeilingKind`` similarities, shaped as the others and of some of the images or
    other ones, of maps between which nothing changed that should matter. The lowest kappa counts.
    Where it lies below the margin, a kappa that does so too has no meaning: the verdict is "cannot
    tell", never "below", nor "inconclusive" for the margin alone. What lies above the margin is
    "above" still: what disturbs a map takes kappa away, and can't make a picture's two maps agree
    more than with those of others. A ceiling that its own chance leaves no room is none.
    Raises ValueError for other shapes or numbers, or a margin or confidence out of range.
    """
    _check_settings(margin, confidence)
    values = squares(similarity, "similarity")
    seeds, images = values.shape[:2]
    found = corrected(values)
    low, high = _limits(found.kappa, values, confidence)
    similarity_low, similarity_high = _limits(found.similarity, values, confidence)
    chance_low, chance_high = _middle(chance_of_images(values), confidence)

    before = dict.fromkeys(_PRIOR_FIELDS, math.nan) | {"prior_seeds": 0}
    if prior is not None:
        before = _read_prior(prior, values, found.kappa, confidence, paired)

    highest = _read_ceiling(ceiling or {}, confidence)
    defined = found.similarity.seen
    obstacle = _obstacle(found, low)
    verdict = INCONCLUSIVE
    sure_low, p = low, math.nan
    notes: list[Note] = []
    if obstacle is None:
        p = found.kappa.p(margin)
        lower = with_changed(values, found)
        if lower is not found.kappa:
            sure_low = min(low, _limits(lower, values, confidence)[0])
            p = max(p, lower.p(margin)) if low > margin else p
        verdict, obstacle = side((low, high), sure_low, margin, Obstacle.MARGIN_INSIDE)
        if verdict != "above" and highest["ceiling"] < margin:
            verdict, obstacle = CANNOT_TELL, Obstacle.LOW_CEILING
        notes += [Note(NoteKind.ONE_NETWORK)] * (seeds == 1)
    elif obstacle is Obstacle.FEW_IMAGES and defined < images:
        notes.append(Note(NoteKind.OF_IMAGES, images))
    undefined, undefined_diagonal = (
        int(np.isnan(part).sum()) for part in (values, own_similarities(values))
    )
    undefined -= seeds * (-images % values.shape[2]) * (images % values.shape[2])  # no such pairs
    return Reading(
        similarity=found.similarity.value,
        similarity_low=similarity_low,
        similarity_high=similarity_high,
        chance=found.chance,
        chance_low=chance_low,
        chance_high=chance_high,
        kappa=found.kappa.value,
        low=low,
        high=high,
        sure_low=sure_low,
        p=p,
        images=defined,
        seeds=seeds,
        undefined_diagonal=undefined_diagonal,
        undefined_off_diagonal=undefined - undefined_diagonal,
        margin=margin,
        confidence=confidence,
        verdict=verdict,
        obstacle=obstacle,
        notes=tuple(notes),
        **before,
        **highest,
    )


def side(
    ends: tuple[float, float], sure_low: float, line: float, inside: Obstacle
) -> tuple[str, Obstacle | None]:
    """On which side of a line an interval lies, else why on none: ``inside`` if it holds the line.

    Above it only if ``sure_low``, its lower end with what has no similarity, is so too.
    """
    low, high = ends
    if high < line:
        return "below", None
    if sure_low > line:
        return "above", None
    return INCONCLUSIVE, Obstacle.VANISHED if low > line else inside


def table(readings: Mapping[object, Reading], index: str | Sequence[str] = "what") -> pd.DataFrame:
    """Readings by name as a table, one row each; `index` names the parts of names (tuples)."""
    rows = [reading.row() | {"words": reading.words()} for reading in readings.values()]
    names = [index] if isinstance(index, str) else list(index)
    keys = [key if isinstance(key, tuple) else (key,) for key in readings]
    for key in keys:
        if len(key) != len(names):
            raise ValueError(f"reading {key!r} has {len(key)} parts for {len(names)} names {names}")
    return pd.concat([pd.DataFrame(keys, columns=names), pd.DataFrame(rows)], axis=1)


@dataclass(frozen=True)
class Cascade:
    """A curve over stages: its normalised area, and the first stage whose interval is low."""

    area: float
    first_below: str | None


def cascade(readings: Mapping[str, Reading]) -> Cascade:
    """Summarise readings by stage, in the order of randomization, at equal distances.

    The area under kappa (trapezoids, 1 for an unchanged map) is NaN if a kappa is. Raises
    ValueError for fewer than two stages.
    """
    if len(readings) < 2:
        raise ValueError(f"a cascade has two stages or more; got {list(readings)}")
    kappa = np.array([reading.kappa for reading in readings.values()])
    area = float(np.trapezoid(kappa) / (len(kappa) - 1))
    first = next((stage for stage, read in readings.items() if read.verdict == "below"), None)
    return Cascade(area, first)


# In their order, the number of pairs last.
_PRIOR_FIELDS = tuple(
    name for name in Reading.__annotations__ if name.startswith(("prior_", "excess"))
)


def _read_prior(
    prior: ArrayLike, values: np.ndarray, kappa: Estimate, confidence: float, paired: bool
) -> dict[str, float]:
    prior = squares(prior, "prior")
    if prior.shape[1:] != values.shape[1:]:
        raise ValueError(
            f"prior has shape {prior.shape}, similarity {values.shape}; both need the same images"
        )
    if paired and len(prior) != len(values):
        raise ValueError(f"{len(prior)} networks in the prior cannot be the {len(values)} read")
    found, images = corrected(prior), mean(own_similarities(prior), axis=0)
    if paired:
        limits = kappa.less(found.kappa).interval(confidence)
    else:
        limits = excess(kappa, found.kappa, confidence)
    values = (
        *(found.similarity.value, *_middle(images, confidence), found.chance),
        *(found.kappa.value, *_limits(found.kappa, prior, confidence, chain=not paired)),
        *(kappa.value - found.kappa.value, *limits),
    )
    return dict(zip(_PRIOR_FIELDS, [*values, len(prior)], strict=True))


def _read_ceiling(
    ceiling: Mapping[str, ArrayLike], confidence: float
) -> dict[str, float | int | str]:
    """The fields of the ceiling with the lowest kappa."""
    lowest: dict[str, float | int | str] = {
        "ceiling_similarity": math.nan,
        "ceiling": math.nan,
        "ceiling_low": math.nan,
        "ceiling_high": math.nan,
        "ceiling_images": 0,
        "ceiling_kind": "",
    }
    for kind, values in ceiling.items():
        named = CeilingKind(known("ceiling", kind, CeilingKind))
        values = squares(values, f"ceiling {kind}")
        found = corrected(values)
        if 1 - found.chance < _LEAST_ROOM or not math.isfinite(found.kappa.value):
            continue
        if not lowest["ceiling"] <= found.kappa.value:
            numbers = (found.similarity.value, found.kappa.value)
            limits = _limits(found.kappa, values, confidence)
            every = (*numbers, *limits, found.similarity.seen, named.value)
            lowest = dict(zip(lowest, every, strict=True))
    return lowest


def _limits(
    found: Estimate, values: np.ndarray, confidence: float, *, chain: bool = False
) -> tuple[float, float]:
    """The interval, up to 1 where no similarity is above 1: then no mean and no kappa can be."""
    low, high = found.interval(confidence, chain=chain)
    most = max(1.0, found.value) if np.nanmax(values, initial=-np.inf) < 1 + 1e-6 else math.inf
    return low, high if math.isnan(high) else min(high, most)


def _middle(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """The two quantiles between which `confidence` of the defined values are; NaN for none."""
    values = values[np.isfinite(values)]
    tails = (1 - confidence) / 2, (1 + confidence) / 2
    low, high = np.quantile(values, tails) if len(values) else (math.nan, math.nan)
    return float(low), float(high)


def _obstacle(found: Corrected, low: float) -> Obstacle | None:
    """Why no verdict is possible whatever the margin, or None."""
    if found.similarity.seen < LEAST_IMAGES:
        return Obstacle.FEW_IMAGES
    if not math.isfinite(found.chance):
        return Obstacle.CHANCE_UNDEFINED
    if 1 - found.chance < _LEAST_ROOM:
        return Obstacle.NO_ROOM
    if not math.isfinite(low):
        return Obstacle.UNDEFINED_SIMILARITIES
    return None


def chance_of_images(values: np.ndarray) -> np.ndarray:
    """Chance level [N] of each image in values [R,N,P]: its map with those of all other images."""
    return mean(others(values), axis=(0, 2))


def by_image(similarity: ArrayLike) -> pd.DataFrame:
    """Similarity and chance level of each image, as ``read`` takes them; a row a draw and image."""
    values = squares(similarity, "similarity")
    draw, image = np.indices(values.shape[:2]).reshape(2, -1)
    return pd.DataFrame(
        {
            "draw": draw,
            "image": image,
            "similarity": own_similarities(values).reshape(-1),
            "chance": np.concatenate([chance_of_images(square[None]) for square in values]),
        }
    )


def squares(values: ArrayLike, what: str) -> np.ndarray:
    """Similarities as [R,N,P], NaN where undefined; ValueError for another shape."""
    # A tensor, known by what it can do: a verdict is to be had without torch.
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    array = np.asarray(values, dtype=np.float64)
    array = array[None] if array.ndim == 2 else array
    if not _fits(array):
        raise ValueError(
            f"{what} has shape {np.shape(values)}; expected [R,N,N] or [N,N]: map of image i from "
            "one network against map of image j from the other, as metric.matrix(a, b) gives it; "
            "or [R,N,P], each image beside those of its group of P, NaN where the last is smaller"
        )
    return np.where(np.isfinite(array), array, np.nan)


def _fits(array: np.ndarray) -> bool:
    if array.ndim != 3 or 0 in array.shape:
        return False
    images, partners = array.shape[1:]
    last = images % partners
    beyond = array[:, images - last :, last:] if last else array[:0]
    return (1 < partners <= images or images == partners) and not np.isfinite(beyond).any()


def _check_settings(margin: float, confidence: float) -> None:
    if not 0 < margin < 1:
        raise ValueError(f"margin is {margin}; expected a kappa between 0 and 1, such as 0.1")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; expected between 0 and 1, such as 0.95")
