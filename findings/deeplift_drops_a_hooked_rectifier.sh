#!/usr/bin/env bash
# captum 0.9.0, DeepLift, on a network one of whose rectifiers has a backward hook of somebody else's,
# such as one that writes down the size of gradients.
#
# One would guess: a hook that only reads changes no explanation.
# What happens: modules with backward hooks are passed over when the rule is given out. That rectifier
# hands down the plain gradient, without a word, and the map no longer sums to the change of the logit.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.14.1 numpy==2.4.6 captum==0.9.0
"$place/env/bin/python" - <<'PYTHON'
import importlib.metadata
import warnings

import torch
from captum.attr import DeepLift
from torch import nn

warnings.simplefilter("ignore")
torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)
).double().eval()
picture, start = torch.randn(2, 1, 1, 8, 8, dtype=torch.float64)
change = (network(picture) - network(start))[0, 1].item()


def explained():
    found = DeepLift(network).attribute(picture.clone(), start.clone(), target=1)
    return found.detach()


before = explained()
handle = network[1].register_full_backward_hook(lambda module, below, above: None)
hooked = explained()
handle.remove()
after = explained()

leaf = picture.clone().requires_grad_()
(slope,) = torch.autograd.grad(network(leaf)[0, 1], leaf)
plain = slope * (picture - start)
print(
    f"captum {importlib.metadata.version('captum')}: the logit changes by {change:.4f}; maps sum to "
    f"{before.sum():.4f} without the hook, {hooked.sum():.4f} with it, {after.sum():.4f} after it; "
    f"with it the map is the plain gradient: {torch.allclose(hooked, plain)}"
)
assert abs(before.sum().item() - change) < 1e-9
assert abs(after.sum().item() - change) < 1e-9
assert torch.allclose(hooked, plain)
assert abs(hooked.sum().item() - change) > 1e-2
PYTHON
