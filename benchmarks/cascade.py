"""Cascading randomization beside the bare passes it needs, and beside Quantus' MPRT.

Torchvision's Inception v3 at 299 px with random weights and calibrated batch norms, the gradient
only, 17 stages from the logits down, all four similarities. Quantus randomizes layer by layer, so
times are for one stage and image.
"""

import copy
import time
import warnings
from functools import partial

import pandas as pd
import torch
from saliency_sanity import load_model, resolve
from saliency_sanity._random import generator
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.similarity.metrics import METRICS, metric
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks._inception import calibrate
from benchmarks.attribution import SIZE, bare, medians, printed, row

BARE_AIM, QUANTUS_AIM, MEMORY_AIM = 1.0, 0.2, 1.05

# In a process of its own, so that the peak is this run's and nobody else's.
MEMORY = """
import sys
from benchmarks.attribution import peak_memory
from benchmarks.cascade import experiment
run = experiment(2, stage_limit=int(sys.argv[1]))
before = peak_memory()
run()
print(peak_memory() - before)
"""


def experiment(images: int, stage_limit: int = 0) -> Experiment:
    model = calibrate(load_model("inception_v3", "none", device="cpu"), SIZE, images=4)
    x = torch.randn(images, 3, SIZE, SIZE, generator=generator("photographs"))
    return Experiment(
        model,
        x,
        model.predict(x),
        {"gradient": resolve("gradient")},
        {name: metric(name) for name in METRICS},
        seeds=1,
        stage_limit=stage_limit,
    )


def passes(network: nn.Module, x: Tensor, target: Tensor, stages: int) -> None:
    for _ in range(stages):
        bare(network, x, target)


def quantus_seconds(network: nn.Module, x: Tensor, target: Tensor) -> tuple[float, int]:
    """Seconds of one MPRT with Captum's saliency, and the number of layers it walked."""
    try:
        import quantus
    except ImportError as error:
        raise ImportError(
            "the cascade is compared with Quantus, which is missing: pip install -e '.[bench]'"
        ) from error
    # As a user would hand it over: default memory format.
    plain = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    test = quantus.MPRT(
        similarity_func=quantus.similarity_func.correlation_spearman,
        return_last_correlation=False,
        disable_warnings=True,
    )
    start = time.perf_counter()
    scores = test(
        model=plain,
        x_batch=x.numpy(),
        y_batch=target.numpy(),
        explain_func=quantus.explain,
        explain_func_kwargs={"method": "Saliency"},
        device="cpu",
        batch_size=len(x),
    )
    return time.perf_counter() - start, len(scores)


def memory_row(few: int) -> dict[str, object]:
    """Peak memory of the whole cascade above the loaded network, against a few stages of it."""
    peaks = [printed(MEMORY, stages) for stages in (0, few)]
    what = f"cascade: peak MiB, all stages / {few} stages"
    return row(what, *([peak] for peak in peaks), MEMORY_AIM)


def run(images: int = 4, repeats: int = 3, layers: bool = True) -> pd.DataFrame:
    """Time the cascade; ``layers`` says whether Quantus, which takes minutes, is run too."""
    warnings.filterwarnings("ignore", module="captum|quantus")
    ours = experiment(images)
    model, x, target = ours.model, ours.x, ours.target
    stages = len(ours().stages)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    sides = {"ours": ours, "bare": partial(passes, model.network, x, target, stages + 1)}
    times = medians(sides, repeats)
    each = [[seconds / (stages * images) for seconds in times[side]] for side in ("ours", "bare")]
    rows = [row("cascade, a stage and image / bare passes", *each, BARE_AIM)]
    if layers:
        with tqdm(total=1, desc="Quantus") as bar:
            seconds, walked = quantus_seconds(model.network, x, target)
            bar.update()
        theirs = [seconds / (walked * images)] * len(each[0])
        rows.append(row("cascade, a stage and image / Quantus MPRT", each[0], theirs, QUANTUS_AIM))
    return pd.DataFrame([*rows, memory_row(3)])


if __name__ == "__main__":
    print(run().round(3).to_string(index=False))
