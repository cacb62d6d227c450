"""Competition over labels beside the bare backward passes it needs, and beside a naive loop.

EfficientNet-Lite0 at 224 px, random weights, gradient times input, all 1000 labels; the loop, a
forward and a backward pass for each, is measured on 100 of them. Bare backward passes are those of
one graph, a label each, no batch norm folded; the graph is there before. Times are for one label.
"""

from collections.abc import Callable
from functools import partial

import pandas as pd
import torch
from saliency_sanity import load_model, resolve
from torch import Tensor, nn

from benchmarks._inception import pictures
from benchmarks._timing import elsewhere, rise, row, timed
from benchmarks.attribution import bare

SIZE = 224
IMAGES = {"cpu": 1, "cuda": 8}
BARE_AIM = {"cpu": 1.0, "cuda": 0.35}
LOOP_AIM, MEMORY_AIM = 0.50, 1.05


def efficientnet(device: str) -> nn.Module:
    return load_model("efficientnet_lite0", "none", device=device)


def backward(leaf: Tensor, logits: Tensor, labels: int) -> None:
    """Backward passes of a graph that is there already."""
    for label in range(labels):
        torch.autograd.grad(logits[:, label].sum(), leaf, retain_graph=True)


def loop(network: nn.Module, x: Tensor, labels: int) -> None:
    """A forward and a backward pass for each label, no gradients of parameters."""
    for label in range(labels):
        bare(network, x, torch.full((len(x),), label, device=x.device))


def competition_memory(device: str, labels: int) -> float:
    """MiB by which a competition raises the peak above the loaded network."""
    model, x = efficientnet(device), pictures(1, SIZE, device)
    target = torch.zeros(1, dtype=torch.int64, device=device)
    resolve("gradient")(model, x[:, :, :64, :64], target)
    return rise(partial(resolve("cgi", top=labels), model, x, target), device)


def memory_row(device: str, few: int = 200) -> dict[str, object]:
    """Peak memory above the loaded network, all labels against few."""
    peaks = [elsewhere(competition_memory, device, labels) for labels in (1000, few)]
    what = f"CGI: peak memory, 1000 labels / {few} labels"
    return row(what, *([peak] for peak in peaks), MEMORY_AIM, "MiB")


def run(
    device: str = "cpu",
    short: bool = False,
    *,
    build: Callable[[str], nn.Module] = efficientnet,
    size: int = SIZE,
    labels: int = 1000,
    looped: int = 100,
    memory: bool = True,
) -> pd.DataFrame:
    """Time competition between ``labels`` labels."""
    model = build(device)
    model.requires_grad_(False)
    x = pictures(IMAGES[device], size, device)
    target = torch.zeros(len(x), dtype=torch.int64, device=device)
    leaf = x.clone(memory_format=torch.channels_last).requires_grad_()
    logits = model.network(leaf)
    sides = {
        "ours": partial(resolve("cgi", top=labels), model, x, target),
        "bare": partial(backward, leaf, logits, labels),
        "loop": partial(loop, model.network, x, looped),
    }

    def warm_up() -> None:
        resolve("cgi", top=min(labels, 20))(model, x, target)
        backward(leaf, logits, min(labels, 20))
        loop(model.network, x, 1)

    times = timed(sides, 1 if short else 3, device, "competition", warm_up)
    counts = {"ours": labels, "bare": labels, "loop": looped}
    each = {side: [second / counts[side] for second in times[side]] for side in times}
    what = f"CGI, {labels} labels / "
    rows = [
        row(what + "bare backward passes", each["ours"], each["bare"], BARE_AIM[device]),
        row(what + "forward and backward passes", each["ours"], each["loop"], LOOP_AIM),
    ]
    return pd.DataFrame([*rows, *([memory_row(device)] if memory else [])])
