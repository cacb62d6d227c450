"""Results made for a test of the scoreboard: tables as the notebooks write them, tiny."""

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
    row = {"method": method, "metric": metric, "kappa": (low + high) / 2, "low": low, "high": high}
    return (
        row
        | {
            "verdict": verdict,
            "obstacle": obstacle,
            "notes": "one_network",
            "margin": MARGIN,
        }
        | more
    )


def staged(method: str, metric: str, **stages: tuple[float, float]) -> list[dict]:
    """Rows of one method over stages, in their order; at each one block more is random."""
    return [
        reading(method, metric, interval, stage=stage, position=i, random=(i + 1) / len(stages))
        for i, (stage, interval) in enumerate(stages.items())
    ]


def put(results: Path, file: str, rows: list[dict]) -> Path:
    """Write a table of readings."""
    return write_table(pd.DataFrame(rows), results_folder(results / "tables") / file)


def interval_of(method: str) -> tuple[float, float]:
    """What the planted tables say of a method in every check."""
    seen = {"gradient": RESPONDS, "noise": RESPONDS, "my_methods:blurred": OPEN}
    return seen.get(method, DRIVEN)


def plant(results: Path, checks: tuple[Check, ...] = CHECKS) -> Path:
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


def board(results: Path, checks: tuple[Check, ...] = CHECKS) -> pd.DataFrame:
    """The scoreboard of planted tables."""
    return read_scoreboard(plant(results, checks), checks)
