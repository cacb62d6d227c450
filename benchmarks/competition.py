"""Competition over labels beside the bare backward passes it needs, and beside a naive loop.

EfficientNet-Lite0 at 224 px, one image, random weights, gradient times input. Times are for 100 of
the 1000 labels: each label costs one backward pass, so that 1000 take ten times as long, and what
is done once counts ten times as much here. Memory is that of all 1000 labels.
"""

from functools import partial

import pandas as pd
import torch
from saliency_sanity import load_model, resolve
from saliency_sanity._random import generator
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.attribution import bare, medians, printed, row

SIZE = 224
BARE_AIM, LOOP_AIM, MEMORY_AIM = 1.10, 0.50, 1.05

# In a process of its own, so that the peak is this method's and nobody else's.
MEMORY = """
import sys, torch
from benchmarks.attribution import peak_memory
from saliency_sanity import load_model, resolve
model = load_model("efficientnet_lite0", "none", device="cpu")
x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
resolve("gradient")(model, x[:, :, :64, :64], torch.tensor([0]))
before = peak_memory()
resolve("cgi", top=int(sys.argv[1]))(model, x, torch.tensor([0]))
print(peak_memory() - before)
"""


def backward(leaf: Tensor, logits: Tensor, labels: int) -> None:
    """Backward passes of a graph that is there already."""
    for label in range(labels):
        torch.autograd.grad(logits[:, label].sum(), leaf, retain_graph=True)


def loop(network: nn.Module, x: Tensor, labels: int) -> None:
    """A forward and a backward pass for each label, no gradients of parameters."""
    for label in range(labels):
        bare(network, x, torch.full((len(x),), label))


def memory_row(few: int) -> dict[str, object]:
    """Peak memory above the loaded network, all labels against few."""
    peaks = [printed(MEMORY, labels) for labels in (1000, few)]
    what = f"CGI: peak MiB, 1000 labels / {few} labels"
    return row(what, *([peak] for peak in peaks), MEMORY_AIM)


def run(labels: int = 100, repeats: int = 3) -> pd.DataFrame:
    """Time competition between ``labels`` labels."""
    model = load_model("efficientnet_lite0", "none", device="cpu")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    x = torch.randn(1, 3, SIZE, SIZE, generator=generator("photographs"))
    leaf = x.clone(memory_format=torch.channels_last).requires_grad_()
    sides = {
        "ours": partial(resolve("cgi", top=labels), model, x, torch.tensor([0])),
        "bare": partial(backward, leaf, model.network(leaf), labels),
        "loop": partial(loop, model.network, x, labels),
    }
    with tqdm(total=2, desc="competition") as bar:
        times = medians(sides, repeats)
        each = {side: [seconds / labels for seconds in times[side]] for side in times}
        bar.update()
        rows = [
            row("CGI, a label / bare backward pass", each["ours"], each["bare"], BARE_AIM),
            row("CGI, a label / forward and backward pass", each["ours"], each["loop"], LOOP_AIM),
            memory_row(labels),
        ]
        bar.update()
    return pd.DataFrame(rows)


if __name__ == "__main__":
    print(run().round(3).to_string(index=False))
