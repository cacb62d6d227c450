"""What a picture costs among many, against among few: 1 where cost is linear in the pictures.

The papers' CNN at 28 px, random weights, four methods and three similarities; and three
convolutions at 48 px with ranks, SSIM and HOG. Everything takes its default. Times are for one
picture; memory is that of a process of its own, above the loaded network and in all.
"""

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
import torch
from saliency_sanity import Experiment, load_model, metric, resolve
from saliency_sanity._random import built
from torch import nn

from benchmarks._inception import pictures
from benchmarks._timing import elsewhere, peak_memory, rise, row, timed

AIM, READINGS_AIM, MEMORY_AIM = 1.1, 1.2, 1.1

# Many and few pictures.
CNN, CONVOLUTIONS, MEMORY = (512, 64), (256, 32), (2048, 256)
_METHODS = ("gradient", "gradient_x_input", "guided_backprop", "grad_cam")


def cnn(device: str, count: int) -> Experiment:
    """The papers' CNN, four methods, three similarities."""
    model = load_model("cnn", "none", device=device)
    x = pictures(count, 28, device, channels=1)
    methods = {name: resolve(name) for name in _METHODS}
    metrics = {name: metric(name) for name in ("spearman_abs", "spearman_signed", "ssim")}
    return Experiment(model, x, model.predict(x), methods, metrics, seeds=2)


def _convolutional() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )


def convolutions(device: str, count: int) -> Experiment:
    """Three convolutions, the gradient, ranks and SSIM and HOG."""
    model = built(_convolutional, 0).to(device)
    x = pictures(count, 48, device)
    with torch.no_grad():
        target = model(x).argmax(1)
    metrics = {name: metric(name) for name in ("spearman_abs", "ssim", "hog")}
    return Experiment(model, x, target, {"gradient": resolve("gradient")}, metrics, seeds=1)


def memory(device: str, count: int) -> tuple[float, float]:
    """MiB by which the CNN's cascade raises the peak, and that peak."""
    experiment = cnn(device, count)
    cnn(device, 2)()
    return rise(experiment, device), peak_memory(device)


def memory_rows(device: str, counts: Sequence[int] = MEMORY) -> list[dict[str, object]]:
    many, few = (elsewhere(memory, device, count) for count in counts)
    what = f"CNN: peak memory of {counts[0]} pictures / of {counts[1]}, "
    pairs = zip(("above the network", "in all"), many, few, strict=True)
    return [row(what + place, [a], [b], MEMORY_AIM, "MiB") for place, a, b in pairs]


def a_picture(
    build: Callable[[str, int], Experiment], counts: Sequence[int], device: str, repeats: int
) -> tuple[list[list[float]], dict[int, object]]:
    """Seconds of a picture among many and among few, and what came out."""
    outcomes: dict[int, object] = {}

    def side(count: int, experiment: Experiment) -> None:
        outcomes[count] = experiment()

    sides = {str(count): partial(side, count, build(device, count)) for count in counts}
    times = timed(sides, repeats, device, build.__name__, build(device, min(counts)))
    seconds = [[second / count for second in times[str(count)]] for count in counts]
    return seconds, outcomes


def run(
    device: str = "cpu",
    short: bool = False,
    *,
    counts: Sequence[int] = CNN,
    convolved: Sequence[int] = CONVOLUTIONS,
    processes: bool = True,
) -> pd.DataFrame:
    """Time many against few; ``processes`` says whether memory is measured too."""
    repeats = 1 if short else 3
    seconds, outcomes = a_picture(cnn, counts, device, repeats)
    what = "a picture among {} / among {}: "
    rows = [row(what.format(*counts) + "CNN, four methods, three metrics", *seconds, AIM)]
    seconds, _ = a_picture(convolutions, convolved, device, repeats)
    rows.append(row(what.format(*convolved) + "three convolutions, 48 px", *seconds, AIM))
    # They are NumPy's, wherever maps were made.
    sides = {str(count): outcomes[count].readings for count in counts}
    times = timed(sides, repeats, "cpu", "readings")
    seconds = [[second / count for second in times[str(count)]] for count in counts]
    rows.append(row("readings, " + what.format(*counts) + "CNN", *seconds, READINGS_AIM))
    return pd.DataFrame([*rows, *(memory_rows(device) if processes else [])])
