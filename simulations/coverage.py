"""How often intervals hold what is true: ``python -m simulations.coverage``.

Similarities are drawn whose kappa is known, and read as ever. The table goes to
``book/coverage.json``, which the book shows; about eight minutes.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from saliency_sanity._errors import InputError
from saliency_sanity._files import replacing
from saliency_sanity.book.cli import exit_status
from saliency_sanity.verdict.reading import read
from tqdm import tqdm

TABLE = Path(__file__).parents[1] / "book" / "coverage.json"

KINDS = ("normal", "lognormal", "gamma")
PICTURES = (6, 10, 20, 50)
NETWORKS = (1, 2, 3, 5)
SPREADS = (0.0, 0.025, 0.06)

# All in units of kappa; of similarities, chance and the like, times the room above chance.
KAPPA, CHANCE = 0.1, 0.2
BETWEEN_PICTURES, REST, PAIRS = 0.1, 0.06, 0.05
# Correlations of what a picture, or a network, adds to the similarity and to the prior; that of a
# network has either sign.
SHARED_BY_PICTURES, SHARED_BY_NETWORKS = 0.5, 0.8


@dataclass(frozen=True)
class Cell:
    """Where similarities come from: ``kind`` of distribution over so many ``pictures``, and so on.

    ``spread`` is the standard deviation of kappa between networks.
    """

    kind: str
    pictures: int
    networks: int
    spread: float


CELLS = tuple(Cell(*key) for key in product(KINDS, PICTURES, NETWORKS, SPREADS))


def standard(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draws of mean 0 and variance 1; a lognormal has skewness 1.75, a gamma 2.8."""
    if kind == "normal":
        return rng.normal(size=shape)
    if kind == "lognormal":
        spread = np.exp(0.25)
        return (rng.lognormal(0, 0.5, shape) / np.exp(0.125) - 1) / np.sqrt(spread - 1)
    form = (2 / 2.8) ** 2
    return (rng.gamma(form, size=shape) - form) / np.sqrt(form)


def drawn(
    cell: Cell, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None, float, float]:
    """Similarities [R,N,N], a prior's [R-1,N,N], and the kappa of both.

    Of one network, kappa is that network's, and there is no prior. A pair of the prior has
    something from each of its two networks, so that neighbours share one.
    """
    pictures = standard(cell.kind, rng, (2, cell.pictures))
    # Sums of what both scales share and of what each has alone: skewness stays as it is in one.
    pictures[1] = (
        SHARED_BY_PICTURES * pictures[0] + np.sqrt(1 - SHARED_BY_PICTURES**2) * pictures[1]
    )
    networks = rng.normal(size=(2, cell.networks))
    networks[1] = _like(networks, rng.choice((-1, 1)) * SHARED_BY_NETWORKS)
    networks *= cell.spread
    truth = KAPPA + (networks[0, 0] if cell.networks == 1 else 0.0)
    values = _squares(networks[0], pictures[0], rng)
    prior = None
    if cell.networks > 1:
        pairs = (networks[1, 1:] + networks[1, :-1]) / np.sqrt(2)
        prior = _squares(pairs, pictures[1], rng)
    return values, prior, truth, KAPPA


def _like(draws: np.ndarray, correlation: float) -> np.ndarray:
    """The second draws made to correlate with the first."""
    return correlation * draws[0] + np.sqrt(1 - correlation**2) * draws[1]


def _squares(networks: np.ndarray, pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    count = len(pictures)
    row, column = 0.03 * rng.normal(size=(2, count))
    values = CHANCE + row[:, None] + column
    values = values + PAIRS * rng.normal(size=(len(networks), count, count))
    rest = REST * rng.normal(size=(len(networks), count))
    kappa = KAPPA + networks[:, None] + BETWEEN_PICTURES * pictures + rest
    values[:, np.arange(count), np.arange(count)] = CHANCE + (1 - CHANCE) * kappa
    return values


def measured(cell: Cell, runs: int, rng: np.random.Generator) -> dict[str, float | None]:
    """Shares of ``runs`` whose interval holds kappa, or lies below or above it, and its width.

    With kappa at the margin the latter two are wrong verdicts. ``excess`` is the share of those
    whose excess over the prior is held; None below three networks, where it is not said.
    """
    below = above = excess = 0
    widths = []
    for _ in range(runs):
        values, prior, truth, before = drawn(cell, rng)
        found = read(values, prior)
        below += bool(found.high < truth)
        above += bool(found.low > truth)
        excess += bool(found.excess_low <= truth - before <= found.excess_high)
        widths.append(found.high - found.low)
    return {
        "covered": round(1 - (below + above) / runs, 4),
        "below": round(below / runs, 4),
        "above": round(above / runs, 4),
        "width": round(float(np.median(widths)), 4),
        "excess": round(excess / runs, 4) if cell.networks > 2 else None,
    }


def simulated(runs: int, seed: int, cells: Sequence[Cell]) -> list[dict]:
    """A row for each cell; each has draws of its own, whatever the others are."""
    rows = []
    for cell in tqdm(cells, desc="coverage", unit="cell", mininterval=1):
        rng = np.random.default_rng([seed, *_number(cell)])
        rows.append(asdict(cell) | measured(cell, runs, rng))
    return rows


def _number(cell: Cell) -> tuple[int, ...]:
    return KINDS.index(cell.kind), cell.pictures, cell.networks, round(cell.spread * 1000)


def write(rows: Sequence[dict], runs: int, seed: int, path: Path = TABLE) -> Path:
    """Write the table, a line a cell, with what made it."""
    about = {"runs": runs, "seed": seed, "date": datetime.now(UTC).date().isoformat()}
    lines = ",\n".join(json.dumps(row) for row in rows)
    head = json.dumps(about)[1:-1]
    with replacing(path) as temporary:
        temporary.write_text(f'{{{head}, "cells": [\n{lines}\n]}}\n', encoding="utf-8")
    return path


def main(arguments: list[str] | None = None) -> int:
    """Run the simulation; 0 when it is written, 2 for a number or a file that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m simulations.coverage", description=__doc__)
    parser.add_argument("--runs", type=int, default=4000, help="of each cell (default: 4000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=TABLE)
    options = parser.parse_args(arguments)
    return exit_status(partial(_run, options), "nothing is written")


def _run(options: argparse.Namespace) -> int:
    if options.runs < 1 or options.seed < 0:
        raise InputError("runs must be 1 or more, and seed 0 or more")
    rows = simulated(options.runs, options.seed, CELLS)
    written = write(rows, options.runs, options.seed, options.output)
    worst = min(rows, key=lambda row: row["covered"])
    print(f"written: {written}; least covered: {worst}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
