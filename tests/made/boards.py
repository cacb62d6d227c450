"""Results made for a test of the scoreboard: tables as the notebooks write them, tiny."""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from saliency_sanity._files import results_folder, write_table
from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.book.scoreboard.columns import CHECKS, Check
from saliency_sanity.book.scoreboard.table import read_scoreboard

MARGIN = 0.1
METHODS = ("gradient", "gradient_x_input", "my_methods:blurred", "sobel", "noise")
# Ends of the interval; kappa lies in the middle.
DRIVEN, RESPONDS, OPEN = (0.7, 0.9), (-0.02, 0.04), (0.0, 0.3)


def reading(method: str, metric: str, interval: tuple[float, float], **more) -> dict:
    """A row of a table of readings, its verdict held against the margin."""
    low, high = interval
    verdict = "below" if high < MARGIN else "above" if low > MARGIN else "inconclusive"
    obstacle = "margin_inside" if verdict == "inconclusive" else ""
    return (
        {"method": method, "metric": metric, "kappa": (low + high) / 2}
        | {
            "low": low,
            "sure_low": low,
            "high": high,
            "verdict": verdict,
            "obstacle": obstacle,
            "notes": "one_network",
            "margin": MARGIN,
            "ceiling": math.nan,
            "ceiling_kind": "",
        }
        | more
    )


def staged(method: str, metric: str, **stages: tuple[float, float]) -> list[dict]:
    """Rows of one method over stages, in their order; at each one block more is random."""
    return [
        reading(method, metric, interval, stage=stage, position=i, random=(i + 1) / len(stages))
        for i, (stage, interval) in enumerate(stages.items())
    ]


# Intervals of one check, how its obstacle and ceiling differ from an ordinary one's, and how each
# method stands with margins 0.05, 0.1 and 0.2.
MOVING = {
    "gradient": ((0.12, 0.18), {}, "unwanted", "unwanted", "wanted"),
    "gradient_x_input": ((0.06, 0.09), {}, "unwanted", "wanted", "wanted"),
    "my_methods:blurred": (
        (0.3, 0.5),
        {"verdict": "inconclusive", "obstacle": "undefined_similarities"},
        *("open",) * 3,
    ),
    "sobel": (
        (-0.02, 0.04),
        {
            "verdict": "cannot tell",
            "obstacle": "low_ceiling",
            "ceiling": 0.08,
            "ceiling_kind": "seeds",
        },
        *("wanted", "cannot", "cannot"),
    ),
    "noise": ((-0.02, 0.04), {}, *("wanted",) * 3),
}


def moving(results: Path, checks: Sequence[Check] = CHECKS) -> Path:
    """Planted tables, with random labels of the CNN as in ``MOVING``."""
    plant(results, checks)
    (check,) = (check for check in checks if check.key == "labels_cnn")
    rows = []
    for method, (interval, more, *_) in MOVING.items():
        stages = staged(method, check.metric, fc=interval, all=interval)
        rows += [stage | more for stage in stages]
    put(results, check.source.file, rows)
    return results


def put(results: Path, file: str, rows: list[dict]) -> Path:
    """Write a table of readings."""
    return write_table(pd.DataFrame(rows), results_folder(results / "tables") / file)


def interval_of(method: str) -> tuple[float, float]:
    """What the planted tables say of a method in every check."""
    seen = {"gradient": RESPONDS, "noise": RESPONDS, "my_methods:blurred": OPEN}
    return seen.get(method, DRIVEN)


def plant(results: Path, checks: Sequence[Check] = CHECKS) -> Path:
    """Tables for all checks: every method in each, and a claim for every page."""
    files: dict[str, list[dict]] = {}
    for check in checks:
        source = check.source
        for method in METHODS:
            if source.table == "readings" and source.notebook != "01_edge_detectors":
                interval = interval_of(method)
                rows = staged(method, check.metric, fc=interval, conv=interval, all=interval)
            else:
                rows = [reading(method, check.metric, interval_of(method))]
            # Several checks may read one table.
            kept = files.setdefault(source.file, [])
            kept.extend(row for row in rows if row not in kept)
        claims = ClaimTable(source.copy)
        claims.add(
            "one",
            "A map is a map.",
            source="A paper",
            paper_said="yes",
            measured="yes",
            verdict="reproduced" if "cnn" in source.copy else "not reproduced",
            reason="it is",
            of="products-stay",
        )
        claims.write(results)
    for file, rows in files.items():
        put(results, file, rows)
    return results


def board(results: Path, checks: Sequence[Check] = CHECKS) -> pd.DataFrame:
    """The scoreboard of planted tables."""
    return read_scoreboard(plant(results, checks), checks)
