#!/usr/bin/env bash
# Quantus 0.6.0, MPRT, on torchvision's ResNet-18.
#
# One would guess: the seed makes the whole cascade repeatable, and each layer is drawn with what comes
# next from one stream, so that all of them differ.
# What happens: torch's global generator is set to seed + 1 before every layer. Layers of one shape get
# the same weights, those of one kind and other sizes the same beginning, up to scale: the network at
# the last stage has eleven convolutions for the twenty that it is made of. And the caller's generator is
# left there: what is drawn next is the same whatever was seeded before.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 captum==0.9.0 quantus==0.6.0
"$place/env/bin/python" - <<'PYTHON'
import importlib.metadata
import warnings

import numpy as np
import quantus
import torch
from torch import nn
from torchvision.models import resnet18

warnings.simplefilter("ignore")
pictures = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)


def last_stage(seed):
    """Convolutions of the network that is explained last, and what the caller draws then."""
    torch.manual_seed(seed)
    network, seen = resnet18(weights=None).eval(), []

    def explain(model, inputs, **_):
        seen[:] = [one.weight.detach().clone() for one in model.modules() if isinstance(one, nn.Conv2d)]
        return inputs.sum(1, keepdims=True)

    metric = quantus.MPRT(disable_warnings=True)
    metric(network, pictures, np.zeros(1, dtype=int), explain_func=explain, channel_first=True)
    return [one for one in network.modules() if isinstance(one, nn.Conv2d)], seen, torch.randn(3)


before, after, first = last_stage(seed=1)
*_, second = last_stage(seed=2)


def distinct(weights):
    return len({one.detach().numpy().tobytes() for one in weights})


def alike(one, other):
    """Correlation of what both have, in the order in which it was drawn."""
    one, other = one.flatten(), other.flatten()
    count = min(len(one), len(other))
    return float(torch.corrcoef(torch.stack([one[:count], other[:count]]))[0, 1])


was = distinct([one.weight for one in before])
print(
    f"Quantus {importlib.metadata.version('quantus')}: of {len(after)} convolutions of ResNet-18 {was} differ as "
    f"torchvision draws them and {distinct(after)} at the last stage of MPRT. First and last of these: correlation "
    f"{alike(after[0], after[-1]):.4f}. The caller's next draws: {first.tolist()} after seed 1, "
    f"{second.tolist()} after seed 2"
)
assert was == len(after) == 20
assert distinct(after) == 11
assert alike(after[0], after[-1]) > 0.999
assert torch.equal(first, second)
PYTHON
