"""Attribution methods beside the bare passes they need, and beside Captum.

Torchvision's Inception v3 at 299 px, random weights with calibrated batch norms. The sides take
turns within one run, so that whatever else the machine does meets all of them alike; times are
medians, ratios medians over the rounds. What a pass costs is what is compared, so that few
samples and steps say as much as many.
"""

import copy
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import captum.attr
import pandas as pd
import torch
from saliency_sanity import load_model, resolve
from saliency_sanity._random import generator
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks._inception import calibrate, with_relu_modules

SIZE = 299
LAYER = "Mixed_7c"
BARE_AIM, CAPTUM_AIM, MEMORY_AIM = 1.10, 0.70, 1.05

# glibc keeps freed blocks below a threshold that grows as they are freed: the resident size would
# count its fragments, up to 15 % more after some chunks. Held fixed, freed memory goes back.
RETURNED = {"MALLOC_MMAP_THRESHOLD_": "65536"}

# In a process of its own, so that the peak is this method's and nobody else's.
MEMORY = """
import sys, torch
from benchmarks.attribution import peak_memory
from saliency_sanity import load_model, resolve
model = load_model("efficientnet_lite0", "none", device="cpu")
x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
resolve("gradient")(model, x[:1], torch.tensor([0]))
before = peak_memory()
resolve("smoothgrad", samples=int(sys.argv[1]))(model, x, torch.tensor([0, 1]))
print(peak_memory() - before)
"""


def bare(network: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """One forward and one backward pass, written as fast as it can be."""
    leaf = x.clone(memory_format=torch.channels_last).requires_grad_()
    score = network(leaf).gather(1, target[:, None]).sum()
    return torch.autograd.grad(score, leaf)[0]


def bare_cam(network: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """One forward pass, and backward from the logits to the layer only."""
    seen = []

    def start(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        seen.append(output.requires_grad_())
        return seen[0]

    handle = network.get_submodule(LAYER).register_forward_hook(start)
    try:
        score = network(x.clone(memory_format=torch.channels_last))
        return torch.autograd.grad(score.gather(1, target[:, None]).sum(), seen[0])[0]
    finally:
        handle.remove()


def both(network: nn.Module, x: Tensor, target: Tensor) -> None:
    bare(network, x, target)
    bare_cam(network, x, target)


def medians(sides: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of every round, the sides taking turns; a first round warms up and is dropped."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats + 1):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            times[name].append(time.perf_counter() - start)
    return {name: seconds[1:] for name, seconds in times.items()}


def peak_memory() -> float:
    """The largest resident size of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage, whose peak starts with that of the process this one was started from.
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def printed(script: str, argument: int) -> float:
    """The number that a script prints in a process of its own, where freed memory goes back."""
    process = subprocess.run(
        [sys.executable, "-c", script, str(argument)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
        env=os.environ | RETURNED,
    )
    return float(process.stdout)


def memory_row() -> dict[str, object]:
    """Peak memory of SmoothGrad above that of one gradient, many samples against few."""
    peaks = [printed(MEMORY, samples) for samples in (200, 10)]
    what = "SmoothGrad, EfficientNet-Lite0: peak MiB, 200 samples / 10 samples"
    return row(what, *([peak] for peak in peaks), MEMORY_AIM)


def row(what: str, ours: list[float], theirs: list[float], aim: float) -> dict[str, object]:
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    return {
        "what": what,
        "ours_s": statistics.median(ours),
        "theirs_s": statistics.median(theirs),
        "ratio": ratio,
        "aim": aim,
        "reached": ratio <= aim,
    }


def run(images: int = 2, samples: int = 3, repeats: int = 5) -> pd.DataFrame:
    """Time every method; ``images`` x ``samples`` inputs make one full chunk."""
    warnings.filterwarnings("ignore", module="captum")
    model = calibrate(load_model("inception_v3", "none", device="cpu"), SIZE, images=4)
    # As a user would hand it to Captum: default memory format, parameters as they are.
    plain = copy.deepcopy(model.network).to(memory_format=torch.contiguous_format)
    modules = with_relu_modules(plain)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    x = torch.randn(images, 3, SIZE, SIZE, generator=generator("photographs"))
    target = torch.arange(images)
    many, targets = x.repeat(samples, 1, 1, 1), target.repeat(samples)

    def oracle(method: object, /, **options: object) -> Callable[[], object]:
        return partial(method.attribute, x, target=target, **options)

    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(plain))
    noisy = {"nt_samples": samples, "stdevs": 0.3, "abs": False}
    one = partial(bare, model.network, x, target)
    stream = partial(bare, model.network, many, targets)
    steps = {"n_steps": samples, "method": "riemann_middle"}
    # Guided backpropagation and DeconvNet on the copy, since the original they leave as it is.
    cases: dict[str, tuple[dict, Callable, Callable]] = {
        "gradient": ({}, one, oracle(captum.attr.Saliency(plain), abs=False)),
        "gradient_x_input": ({}, one, oracle(captum.attr.InputXGradient(plain))),
        "integrated_gradients": (
            {"steps": samples, "rule": "midpoint"},
            stream,
            oracle(captum.attr.IntegratedGradients(plain), **steps),
        ),
        "smoothgrad": (
            {"samples": samples},
            stream,
            oracle(tunnel, nt_type="smoothgrad", **noisy),
        ),
        "vargrad": ({"samples": samples}, stream, oracle(tunnel, nt_type="vargrad", **noisy)),
        "guided_backprop": ({}, one, oracle(captum.attr.GuidedBackprop(modules))),
        "deconvnet": ({}, one, oracle(captum.attr.Deconvolution(modules))),
        "grad_cam": (
            {},
            partial(bare_cam, model.network, x, target),
            oracle(
                captum.attr.LayerGradCam(plain, plain.get_submodule(LAYER)),
                relu_attributions=True,
            ),
        ),
        "guided_grad_cam": (
            {},
            partial(both, model.network, x, target),
            oracle(
                captum.attr.GuidedGradCam(modules, modules.get_submodule(LAYER)),
                interpolate_mode="bilinear",
            ),
        ),
    }
    rows = []
    for name, (parameters, passes, theirs) in tqdm(cases.items(), desc="attribution"):
        ours = partial(resolve(name, **parameters), model, x, target)
        times = medians({"ours": ours, "bare": passes, "captum": theirs}, repeats)
        rows.append(row(f"{name} / bare passes", times["ours"], times["bare"], BARE_AIM))
        rows.append(row(f"{name} / Captum", times["ours"], times["captum"], CAPTUM_AIM))
    return pd.DataFrame([*rows, memory_row()])


if __name__ == "__main__":
    print(run().round(3).to_string(index=False))
