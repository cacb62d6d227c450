#!/usr/bin/env bash
# torch 2.13.0: one step of an optimizer with weight decay turns a layer with
# torch.nn.utils.parametrizations.orthogonal into exact zeros, where its form is Householder's,
# which is the default for every weight that is not square. Nothing is raised or warned of.
#
# One would guess: the layer stays orthogonal whatever its parameter is, for that is what the
# parametrization is for; or decay has no effect on it.
# What happens: the form keeps signs of +1 and -1 on its diagonal and reads them as integers.
# Decay makes 0.999 of them, which becomes 0, and with it every column of the weight.
# Square weights, whose default form is the matrix exponential, are not concerned.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$place/env/bin/python" - <<'PYTHON'
import warnings

import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal

warnings.simplefilter("error")
print("torch", torch.__version__.partition("+")[0])
found = {}
for wide, tall in ((4, 4), (3, 5), (8, 3)):
    for optimizer in (torch.optim.SGD, torch.optim.AdamW):
        for decay in (0.0, 0.01):
            torch.manual_seed(0)
            layer = orthogonal(nn.Linear(wide, tall, bias=False))
            form = layer.parametrizations.weight[0].orthogonal_map.name
            steps = optimizer(layer.parameters(), lr=0.1, weight_decay=decay)
            before = layer.weight.norm().item()
            layer(torch.randn(16, wide)).square().sum().backward()
            steps.step()
            after = layer.weight.norm().item()
            found[form, decay] = found.get((form, decay), True) and after == 0
            print(
                f"{tall} x {wide}, {form}, {optimizer.__name__}, decay {decay}: "
                f"norm {before:.3f} before the step, {after:.3f} behind it"
            )
assert found == {
    ("matrix_exp", 0.0): False,
    ("matrix_exp", 0.01): False,
    ("householder", 0.0): False,
    ("householder", 0.01): True,
}, found
PYTHON
