"""RectGrad beside bare passes, and beside guided backpropagation: what its percentiles cost.

Torchvision's Inception v3 at 299 px with random weights and calibrated batch norms. All make one
forward and one backward pass; RectGrad also looks for the percentile of activation times gradient
at each of the network's rectifiers, for each image.
"""

from collections.abc import Callable
from functools import partial

import pandas as pd
import torch
from saliency_sanity import resolve
from torch import nn

from benchmarks._inception import SIZE, inception, pictures
from benchmarks._timing import row, timed
from benchmarks.attribution import IMAGES, bare

BARE_AIM = {"cpu": None, "cuda": 1.5}
GUIDED_BARE_AIM = {"cpu": None, "cuda": 1.1}
GUIDED_AIM = 1.5


def run(
    device: str = "cpu",
    short: bool = False,
    *,
    build: Callable[[str], nn.Module] = inception,
    size: int = SIZE,
    images: int = 0,
) -> pd.DataFrame:
    """Time RectGrad, with and without its switches."""
    model = build(device)
    model.requires_grad_(False)
    x = pictures(images or IMAGES[device], size, device)
    target = torch.arange(len(x), device=device) % model(x[:1]).shape[1]
    named = {
        "guided backpropagation": resolve("guided_backprop"),
        "RectGrad": resolve("rectgrad"),
        "RectGrad, padding trick": resolve("rectgrad", padding_trick=True),
        "RectGrad, proportional": resolve("rectgrad", proportional=True),
    }
    sides = {name: partial(method, model, x, target) for name, method in named.items()}
    sides["bare"] = partial(bare, model.network, x, target)
    times = timed(sides, 2 if short else 5, device, "rectgrad")
    passes, guided = times.pop("bare"), times.pop("guided backpropagation")
    return pd.DataFrame(
        [
            row("guided backpropagation / bare passes", guided, passes, GUIDED_BARE_AIM[device]),
            row("RectGrad / bare passes", times["RectGrad"], passes, BARE_AIM[device]),
            *(
                row(f"{name} / guided backpropagation", times[name], guided, GUIDED_AIM)
                for name in times
            ),
        ]
    )
