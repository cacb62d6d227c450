#!/usr/bin/env bash
# Quantus 0.6.0, SmoothMPRT, on a small convolutional network.
#
# One would guess: it scores the method that it is given as explain_func, as MPRT and EfficientMPRT do.
# What happens: explain_func is never called. Denoised maps come from quantus.explain, which computes the
# gradient where explain_func_kwargs name no other method. So two functions that have nothing in common
# have the same score, that of the gradient.
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

warnings.simplefilter("ignore")
torch.manual_seed(0)
layers = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 14 * 14, 5)
network = nn.Sequential(*layers).eval()
pictures = torch.randn(4, 3, 16, 16).numpy()
calls = 0


def picture(inputs, **_):
    global calls
    calls += 1
    return inputs.sum(1, keepdims=True)


def noise(inputs, **_):
    global calls
    calls += 1
    return np.random.default_rng(calls).normal(size=(len(inputs), 1, 16, 16))


def score(name, explain, **more):
    np.random.seed(0)
    metric = getattr(quantus, name)(skip_layers=True, disable_warnings=True, **more)
    found = metric(network, pictures, np.ones(4, dtype=int), explain_func=explain, channel_first=True)
    return list(found.values())[-1]


plain = [float(np.mean(score("MPRT", one))) for one in (picture, noise)]
called, calls = calls, 0
smooth = [float(np.mean(score("SmoothMPRT", one, nr_samples=10))) for one in (picture, noise)]
print(
    f"Quantus {importlib.metadata.version('quantus')}: the picture itself and noise as explanations. MPRT: "
    f"{plain[0]:.2f} and {plain[1]:.2f}, explain_func called {called} times. SmoothMPRT: {smooth[0]:.2f} and "
    f"{smooth[1]:.2f}, called {calls} times"
)
assert plain[0] > 0.99 > 0.5 > plain[1]
assert called > 0 == calls
assert smooth[0] == smooth[1]
PYTHON
