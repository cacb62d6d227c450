"""Batched metrics beside a loop over SciPy and scikit-image: the same numbers, how much sooner.

The loop runs in a process of its own that never imports the library, because the library makes
the C allocator keep freed pages, which speeds up everybody's NumPy. `theirs_kept_s` is the same
loop with that setting alone. On a GPU a row more: the matrix of 64 x 64 maps by structural
similarity beside the one by ranks, which stands in the place of the loop.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from skimage.feature import hog
from skimage.metrics import structural_similarity

AIM = 10.0
AIMS = {"ssim": 12.0, "hog": 12.0, "ssim matrix, beside ranks": 1 / 3}
PAIRS, SIDE, REPEATS = 64, 299, 3


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


def loop(name: str) -> dict[str, object]:
    """Seconds the loop over pairs takes, and its values, in float64 as ours."""
    a, b = pairs()
    start = time.perf_counter()
    values = [LOOPS[name](x, y) for x, y in zip(a.astype(float), b.astype(float), strict=True)]
    return {"seconds": time.perf_counter() - start, "values": list(map(float, values))}


def _loop_elsewhere(name: str, setting: str) -> dict[str, object]:
    command = [sys.executable, __file__, "loop", name, setting]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def matrix_seconds(name: str, device: str) -> float:
    """Seconds for the matrix of all maps with all on a device."""
    import torch
    from saliency_sanity.similarity.metrics import metric

    a, b = (torch.from_numpy(maps).to(device) for maps in pairs())
    metric(name).matrix(a[:2], b[:2]).cpu()  # compiles, and waits
    start = time.perf_counter()
    metric(name).matrix(a, b).cpu()
    return time.perf_counter() - start


def run(repeats: int = REPEATS) -> pd.DataFrame:
    """Medians in seconds for each metric and for all; ratio is theirs over ours."""
    import torch
    from saliency_sanity.similarity.metrics import metric

    a, b = map(torch.from_numpy, pairs())
    times = []
    for repeat in range(repeats):
        for name in LOOPS:
            plain, kept = (_loop_elsewhere(name, setting) for setting in ("plain", "kept"))
            start = time.perf_counter()
            values = metric(name)(a, b)
            ours = time.perf_counter() - start
            np.testing.assert_allclose(values, plain["values"], rtol=1e-6)
            times.append((repeat, name, ours, plain["seconds"], kept["seconds"]))
    columns = ["ours_s", "theirs_s", "theirs_kept_s"]
    long = pd.DataFrame(times, columns=["repeat", "what", *columns])
    total = long.groupby("repeat", as_index=False)[columns].sum().assign(what="all together")
    medians = pd.concat([long, total]).groupby("what", sort=False)[columns].agg(statistics.median)
    if torch.cuda.is_available():
        found = [
            [matrix_seconds(name, "cuda") for name in ("ssim", "spearman_abs")]
            for _ in range(repeats)
        ]
        ssim, ranks = map(statistics.median, zip(*found, strict=True))
        medians.loc["ssim matrix, beside ranks"] = [ssim, ranks, float("nan")]
    medians["ratio"] = medians["theirs_s"] / medians["ours_s"]
    medians["ratio_kept"] = medians["theirs_kept_s"] / medians["ours_s"]
    medians["aim"] = [AIMS.get(what, AIM) for what in medians.index]
    medians["reached"] = medians["ratio"] >= medians["aim"]
    return medians.reset_index()


if __name__ == "__main__":
    if sys.argv[1:2] == ["loop"]:
        if sys.argv[3] == "kept":
            np.empty(2**25 - 2**16, dtype=np.uint8)  # as saliency_sanity.similarity.prepare does
        print(json.dumps(loop(sys.argv[2])))
    else:
        print(f"{PAIRS} pairs of maps, 3 x {SIDE} x {SIDE}")
        print(run().to_string(index=False, float_format="{:.3g}".format))
