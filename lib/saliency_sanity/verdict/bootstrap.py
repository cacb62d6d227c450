"""Means over images and networks, drawn anew with replacement to see how well they are known."""

import math
from dataclasses import dataclass

import numpy as np

from saliency_sanity._groups import groups


@dataclass(frozen=True)
class Corrected:
    """Mean similarity, mean chance level and kappa, [B] each: one a resample."""

    similarity: np.ndarray
    chance: np.ndarray
    kappa: np.ndarray


def corrected(values: np.ndarray, images: np.ndarray, seeds: np.ndarray) -> Corrected:
    """Means and kappa of values [R,N,P] under weights of images [B,N] and of networks [B,R].

    P images are a group, the last may be smaller. Of a row the image's own entry is a similarity,
    all others are chance. A kappa that is not finite is NaN.
    """
    known = np.isfinite(values)
    total, weight = np.zeros((2, 2, len(images)))
    parts = groups(*values.shape[1:])
    for r in range(len(values)):
        for rows in parts:
            at, drawn = (r, rows, slice(rows.stop - rows.start)), images[:, rows]
            # What is undefined has neither value nor weight.
            for held, into in ((np.where(known[at], values[at], 0.0), total), (known[at], weight)):
                own = np.diagonal(held).astype(float)
                other = np.where(np.eye(len(own), dtype=bool), 0.0, held)
                into[0] += seeds[:, r] * (drawn @ own)
                into[1] += seeds[:, r] * ((drawn @ other) * drawn).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        similarity, chance = total / weight
        kappa = (similarity - chance) / (1 - chance)
    return Corrected(similarity, chance, np.where(np.isfinite(kappa), kappa, np.nan))


def draws(generator: np.random.Generator, resamples: int, size: int) -> np.ndarray:
    """How often each of `size` things is drawn in each resample, [B,size]."""
    return generator.multinomial(size, np.full(size, 1 / size), size=resamples).astype(float)


def quantiles(values: np.ndarray, tails: tuple[float, float]) -> tuple[float, float]:
    """The two quantiles of the defined values; NaN where there is none."""
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, tails) if len(values) else (math.nan, math.nan)
    return float(low), float(high)


def mean(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """Mean of the defined values; NaN, without a warning, where there is none."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def interval(
    values: np.ndarray, *, resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Mean of values [R,N] over networks and images, and its interval, both drawn anew.

    Undefined values are left out; NaN where all are.
    """
    generator = np.random.default_rng(seed)
    images = draws(generator, resamples, values.shape[1])
    seeds = draws(generator, resamples, values.shape[0])
    known = np.isfinite(values)
    total, weight = (
        np.einsum("br,rn,bn->b", seeds, held, images, optimize=True)
        for held in (np.where(known, values, 0.0), known.astype(float))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = total / weight
    low, high = quantiles(drawn, ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(mean(values, axis=(0, 1))), low, high
