"""RectGrad beside guided backpropagation: what a percentile in every layer costs.

Torchvision's Inception v3 at 299 px with random weights and calibrated batch norms, two images.
Both methods make one forward and one backward pass; RectGrad also looks for the percentile of
activation times gradient at each of the network's rectifiers, for each image.
"""

from functools import partial

import pandas as pd
import torch
from saliency_sanity import load_model, resolve
from saliency_sanity._random import generator
from tqdm import tqdm

from benchmarks._inception import calibrate
from benchmarks.attribution import SIZE, medians, row

AIM = 1.5


def run(images: int = 2, repeats: int = 5) -> pd.DataFrame:
    """Time RectGrad, with and without its switches, against guided backpropagation."""
    model = calibrate(load_model("inception_v3", "none", device="cpu"), SIZE, images=4)
    x = torch.randn(images, 3, SIZE, SIZE, generator=generator("photographs"))
    target = torch.arange(images)
    named = {
        "guided": resolve("guided_backprop"),
        "RectGrad": resolve("rectgrad"),
        "RectGrad, padding trick": resolve("rectgrad", padding_trick=True),
        "RectGrad, proportional": resolve("rectgrad", proportional=True),
    }
    with tqdm(total=1, desc="rectgrad") as bar:
        sides = {name: partial(method, model, x, target) for name, method in named.items()}
        times = medians(sides, repeats)
        bar.update()
    guided = times.pop("guided")
    return pd.DataFrame(
        [row(f"{name} / guided backpropagation", times[name], guided, AIM) for name in times]
    )


if __name__ == "__main__":
    print(run().round(3).to_string(index=False))
