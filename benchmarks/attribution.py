"""Attribution methods beside the bare passes they need, and beside Captum.

Torchvision's Inception v3 at 299 px, random weights with calibrated batch norms. Bare passes are
those of the network as it was written, no batch norm folded. What a pass costs is what is
compared, so that few samples and steps say as much as many.
"""

import copy
import warnings
from collections.abc import Callable
from functools import partial

import captum.attr
import pandas as pd
import torch
from saliency_sanity import load_model, resolve
from torch import Tensor, nn

from benchmarks._inception import SIZE, inception, pictures, with_relu_modules
from benchmarks._timing import elsewhere, rise, row, timed

LAYER = "Mixed_7c"
FAMILY = ("gradient", "gradient_x_input", "integrated_gradients", "smoothgrad", "vargrad")
FAMILY_AIM = {"cpu": 0.90, "cuda": 0.82}
BARE_AIM, CAPTUM_AIM, GRADIENT_AIM, MEMORY_AIM = 1.10, 0.70, 0.62, 1.05

# Pictures of a call, and of one pass of theirs: what fills the device.
IMAGES, TOGETHER = {"cpu": 2, "cuda": 64}, {"cpu": 8, "cuda": 64}


def bare(network: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """One forward and one backward pass, written as fast as it can be."""
    leaf = x.clone(memory_format=torch.channels_last).requires_grad_()
    score = network(leaf).gather(1, target[:, None]).sum()
    return torch.autograd.grad(score, leaf)[0]


def bare_stream(network: nn.Module, x: Tensor, target: Tensor) -> None:
    """The bare passes of many pictures, as many at once as fill the device."""
    size = TOGETHER[x.device.type]
    for part, wanted in zip(x.split(size), target.split(size), strict=True):
        bare(network, part, wanted)


def bare_cam(network: nn.Module, layer: str, x: Tensor, target: Tensor) -> Tensor:
    """One forward pass, and backward from the logits to the layer only."""
    seen = []

    def start(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        seen.append(output.requires_grad_())
        return seen[0]

    handle = network.get_submodule(layer).register_forward_hook(start)
    try:
        score = network(x.clone(memory_format=torch.channels_last))
        return torch.autograd.grad(score.gather(1, target[:, None]).sum(), seen[0])[0]
    finally:
        handle.remove()


def both(network: nn.Module, layer: str, x: Tensor, target: Tensor) -> None:
    bare(network, x, target)
    bare_cam(network, layer, x, target)


def smoothgrad_memory(device: str, samples: int) -> float:
    """MiB by which SmoothGrad raises the peak above that of one gradient."""
    model = load_model("efficientnet_lite0", "none", device=device)
    x = pictures(2, 224, device)
    target = torch.arange(2, device=device)
    resolve("gradient")(model, x[:1], target[:1])
    return rise(partial(resolve("smoothgrad", samples=samples), model, x, target), device)


def memory_row(device: str) -> dict[str, object]:
    peaks = [elsewhere(smoothgrad_memory, device, samples) for samples in (200, 10)]
    what = "SmoothGrad, EfficientNet-Lite0: peak memory, 200 samples / 10 samples"
    return row(what, *([peak] for peak in peaks), MEMORY_AIM, "MiB")


def aims(name: str, device: str) -> tuple[float | None, float | None]:
    """What is aimed at beside bare passes and beside Captum, which is compared on a CPU."""
    beside_captum = GRADIENT_AIM if name == "gradient" else CAPTUM_AIM
    beside_bare = FAMILY_AIM[device] if name in FAMILY else BARE_AIM
    return beside_bare, beside_captum if device == "cpu" else None


def run(
    device: str = "cpu",
    short: bool = False,
    *,
    build: Callable[[str], nn.Module] = inception,
    layer: str = LAYER,
    size: int = SIZE,
    images: int = 0,
    samples: int = 3,
    memory: bool = True,
) -> pd.DataFrame:
    """Time every method; ``images`` x ``samples`` inputs make full chunks."""
    warnings.filterwarnings("ignore", module="captum")
    model = build(device)
    # As a user would hand it to Captum: default memory format, parameters as they are.
    plain = copy.deepcopy(model.network).to(memory_format=torch.contiguous_format)
    modules = with_relu_modules(plain)
    model.requires_grad_(False)
    x = pictures(images or IMAGES[device], size, device)
    target = torch.arange(len(x), device=device) % model(x[:1]).shape[1]
    many, targets = x.repeat(samples, 1, 1, 1), target.repeat(samples)

    def oracle(method: object, /, **options: object) -> Callable[[], object]:
        return partial(method.attribute, x, target=target, **options)

    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(plain))
    noisy = {"nt_samples": samples, "stdevs": 0.3, "abs": False}
    one = partial(bare, model.network, x, target)
    stream = partial(bare_stream, model.network, many, targets)
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
            partial(bare_cam, model.network, layer, x, target),
            oracle(
                captum.attr.LayerGradCam(plain, plain.get_submodule(layer)),
                relu_attributions=True,
            ),
        ),
        "guided_grad_cam": (
            {},
            partial(both, model.network, layer, x, target),
            oracle(
                captum.attr.GuidedGradCam(modules, modules.get_submodule(layer)),
                interpolate_mode="bilinear",
            ),
        ),
    }
    rows = []
    for name, (parameters, passes, theirs) in cases.items():
        ours = partial(resolve(name, **parameters), model, x, target)
        sides = {"ours": ours, "bare": passes, "captum": theirs}
        times = timed(sides, 2 if short else 5, device, name)
        beside_bare, beside_captum = aims(name, device)
        rows.append(row(f"{name} / bare passes", times["ours"], times["bare"], beside_bare))
        rows.append(row(f"{name} / Captum", times["ours"], times["captum"], beside_captum))
    return pd.DataFrame([*rows, *([memory_row(device)] if memory else [])])
