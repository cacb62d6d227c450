"""Batched metrics beside a loop over SciPy and scikit-image, and matrices beside those of ranks.

The loop, in float64 as ours, runs on a CPU in a process of its own that never imports the library,
because the library makes the C allocator keep freed pages, which speeds up everybody's NumPy.
"Pages kept" is the same loop with that setting alone. The matrices compare each map with each.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from skimage.feature import hog
from skimage.metrics import structural_similarity

AIMS = {"spearman_abs": 1 / 10, "spearman_signed": 1 / 10, "ssim": 1 / 12, "hog": 1 / 12}
TOGETHER_AIM = 1 / 10
MATRIX_AIM = {"cpu": None, "cuda": 3.0}
PAIRS, SIDE = 64, 299
# Maps of a matrix; on one core a matrix of 64 takes minutes.
MATRIX = {"cpu": 16, "cuda": 64}


def pairs(count: int = PAIRS, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Heavy-tailed maps [N,3,H,W] float32 that agree in part, as gradients do."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_t(4, size=(2, count, 3, side, side)).astype(np.float32)
    return a, (a + b) / 2


def _unit(m: np.ndarray) -> np.ndarray:
    return (m - m.min()) / (m.max() - m.min())


def _absolute(m: np.ndarray) -> np.ndarray:
    m = np.abs(m).sum(0)
    low, high = m.min(), np.percentile(m, 99)
    return np.clip((m - low) / (high - low), 0, 1).ravel()


def _signed(m: np.ndarray) -> np.ndarray:
    m = m.sum(0)
    span = abs(np.percentile(m, 99))
    return np.clip((m + span) / (2 * span), -1, 1).ravel()


def _hog(m: np.ndarray) -> np.ndarray:
    return hog(_unit(m), pixels_per_cell=(16, 16), channel_axis=0)


LOOPS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "spearman_abs": lambda a, b: spearmanr(_absolute(a), _absolute(b)).statistic,
    "spearman_signed": lambda a, b: spearmanr(_signed(a), _signed(b)).statistic,
    "ssim": lambda a, b: structural_similarity(
        _unit(a), _unit(b), gaussian_weights=True, data_range=2, channel_axis=0
    ),
    "hog": lambda a, b: spearmanr(_hog(a), _hog(b)).statistic,
}


def loop(name: str, count: int, side: int, clock: str) -> dict[str, object]:
    """Seconds the loop over pairs takes, and its values, in float64 as ours."""
    a, b = pairs(count, side)
    now = time.process_time if clock == "CPU time" else time.perf_counter
    start = now()
    values = [LOOPS[name](x, y) for x, y in zip(a.astype(float), b.astype(float), strict=True)]
    return {"seconds": now() - start, "values": list(map(float, values))}


def _loop_elsewhere(setting: str, *arguments: object) -> dict[str, object]:
    command = [sys.executable, __file__, setting, json.dumps(arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def pair_rows(count: int, side: int, repeats: int) -> list[dict[str, object]]:
    """Each metric of many pairs on a CPU beside its loop, and all of them."""
    import torch
    from saliency_sanity.similarity.metrics import metric
    from tqdm import tqdm

    from benchmarks._timing import clock, clock_name, row

    a, b = map(torch.from_numpy, pairs(count, side))
    now, name_of_clock = clock("cpu"), clock_name("cpu")
    seconds: dict[tuple[str, str], list[float]] = {
        (name, which): [] for name in LOOPS for which in ("ours", "plain", "kept")
    }
    for name in LOOPS:
        metric(name)(a, b)  # warms up; of a loop over so many pairs the first is a small part
    for name in tqdm([*LOOPS] * repeats, desc="metrics"):
        for setting in ("plain", "kept"):
            found = _loop_elsewhere(setting, name, count, side, name_of_clock)
            seconds[name, setting].append(found["seconds"])
        start = now()
        values = metric(name)(a, b)
        seconds[name, "ours"].append(now() - start)
        np.testing.assert_allclose(values, found["values"], rtol=1e-6)
    for which in ("ours", "plain", "kept"):
        parts = [seconds[name, which] for name in LOOPS]
        seconds["all together", which] = list(map(sum, zip(*parts, strict=True)))
    rows = []
    for name in (*LOOPS, "all together"):
        ours, what = seconds[name, "ours"], f"{name}, {count} pairs / loop"
        aim = AIMS.get(name, TOGETHER_AIM)
        rows.append(row(what, ours, seconds[name, "plain"], aim))
        rows.append(row(f"{what}, pages kept", ours, seconds[name, "kept"]))
    return rows


def matrix_rows(device: str, count: int, side: int, repeats: int) -> list[dict[str, object]]:
    """Matrices of SSIM and HOG beside one of ranks, which is cheap."""
    import torch
    from saliency_sanity.similarity.metrics import metric

    from benchmarks._timing import row, timed

    a, b = (torch.from_numpy(maps).to(device) for maps in pairs(count, side))
    names = ("spearman_abs", "ssim", "hog")
    sides = {name: partial(metric(name).matrix, a, b) for name in names}
    times = timed(sides, repeats, device, "matrices")
    what = f"matrix, {count} x {count} maps, {side} px / of ranks"
    aims = {"ssim": MATRIX_AIM[device], "hog": None}
    return [row(f"{name} {what}", times[name], times["spearman_abs"], aims[name]) for name in aims]


def run(
    device: str = "cpu",
    short: bool = False,
    *,
    count: int = PAIRS,
    side: int = SIDE,
    matrix: int = 0,
) -> pd.DataFrame:
    """Time pairs on a CPU, where loops are, and matrices on any device."""
    repeats = 1 if short else 3
    rows = pair_rows(count, side, repeats) if device == "cpu" else []
    return pd.DataFrame([*rows, *matrix_rows(device, matrix or MATRIX[device], side, repeats)])


if __name__ == "__main__":
    if sys.argv[1] == "kept":
        np.empty(2**25 - 2**16, dtype=np.uint8)  # as saliency_sanity.similarity.prepare does
    print(json.dumps(loop(*json.loads(sys.argv[2]))))
