"""Values that are no kappa, held against a line, as rows that the scoreboard reads."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from saliency_sanity.verdict.interval import interval
from saliency_sanity.verdict.obstacle import INCONCLUSIVE, LEAST_IMAGES, Obstacle

# Names of such values, as a metric has.
RISE, MOVES = "entropy_rise", "moves"


def measured(
    values: Mapping[str, np.ndarray],
    metric: str,
    line: float,
    *,
    least: float = -np.inf,
    most: float = np.inf,
) -> pd.DataFrame:
    """Each method's mean and whether its interval lies above or below a line; a row a method.

    ``values`` ``[R, N]`` are those of R networks and N pictures, by method, NaN where undefined;
    none is outside ``least`` to ``most``. Columns are those of a table of readings that a check of
    the scoreboard needs, ``kappa`` being the mean.
    """
    rows = []
    for method, found in values.items():
        value, low, high = interval(found)
        images = int(np.isfinite(found).any(0).sum())
        obstacle = ""
        verdict = "above" if low > line else "below" if high < line else INCONCLUSIVE
        if images < LEAST_IMAGES:
            verdict, obstacle = INCONCLUSIVE, Obstacle.FEW_IMAGES.value
        elif verdict == INCONCLUSIVE:
            undefined = not np.isfinite([low, high]).all()
            obstacle = Obstacle.UNDEFINED_SIMILARITIES if undefined else Obstacle.LINE_INSIDE
        rows.append(
            {
                "method": method,
                "metric": metric,
                "kappa": value,
                "low": max(low, least),
                "sure_low": max(low, least),  # a measure is not one of changes
                "high": min(high, most),
                "verdict": verdict,
                "obstacle": str(obstacle),
                "notes": "",
                "ceiling": np.nan,
                "ceiling_kind": "",
                "images": images,
                "networks": len(found),
                "margin": line,
                "line": line,
            }
        )
    return pd.DataFrame(rows)
