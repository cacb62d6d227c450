#!/usr/bin/env bash
# zennit 0.5.1, with torchvision's ResNet-18: while a composite with ResNetCanonizer is on, the network
# gives another logit than without it.
#
# One would guess: a canonizer rewrites a network as the same function, so logits agree to rounding,
# some 1e-16 of double precision.
# What happens: a merged batch norm gets running variance 1 and keeps its epsilon of 1e-5, so it still
# divides by sqrt(1.00001). Each of twenty norms takes 5e-6 of what goes through it: the logit is off
# by some 1e-4 in double precision, where the map's sum is held against it.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 zennit==0.5.1
"$place/env/bin/python" - <<'PYTHON'
import importlib.metadata

import torch
from torchvision.models import resnet18
from zennit.attribution import Gradient
from zennit.composites import EpsilonPlus
from zennit.torchvision import ResNetCanonizer

torch.manual_seed(0)
network = resnet18().double()
for module in network.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
        module.momentum = None  # statistics of one batch, taken as they are
with torch.no_grad():
    network(torch.randn(16, 3, 64, 64, dtype=torch.float64))
network.eval().requires_grad_(False)
picture = torch.randn(1, 3, 64, 64, dtype=torch.float64)
before = network(picture)[0, 1].item()
with Gradient(network, EpsilonPlus(canonizers=[ResNetCanonizer()])) as attributor:
    inside = attributor(picture, torch.eye(1000, dtype=torch.float64)[[1]])[0][0, 1].item()
after = network(picture)[0, 1].item()
off = abs(inside / before - 1)
print(
    f"zennit {importlib.metadata.version('zennit')}: logit {before:.6f} before, "
    f"{inside:.6f} within, {after:.6f} after; off by {off:.1e}"
)
assert after == before
assert 1e-5 < off < 1e-3, off
PYTHON
