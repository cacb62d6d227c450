#!/usr/bin/env bash
# torch 2.13.0: taking a parametrization off a deep copy of a layer breaks the layer it was copied
# from: its weight is gone, and its next pass raises AttributeError.
#
# One would guess: a deep copy is independent of its original.
# What happens: a parametrized layer has a class of its own, made for it, which holds the weight as
# a property. copy.deepcopy shares classes, and remove_parametrizations deletes the property from
# the class, for both.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$place/env/bin/python" - <<'PYTHON'
import copy

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

print("torch", torch.__version__.partition("+")[0])
for make in (
    parametrizations.spectral_norm,
    parametrizations.weight_norm,
    parametrizations.orthogonal,
):
    layer = make(nn.Linear(3, 4))
    twin = copy.deepcopy(layer)
    assert layer is not twin
    assert layer.parametrizations is not twin.parametrizations
    layer(torch.zeros(2, 3))
    parametrize.remove_parametrizations(twin, "weight")
    twin(torch.zeros(2, 3))
    try:
        layer(torch.zeros(2, 3))
    except AttributeError as error:
        print(f"{make.__name__}: the original raises AttributeError: {error}")
    else:
        raise SystemExit(f"{make.__name__}: the original still runs; this has changed")
    print("  its state dict still has", ", ".join(layer.state_dict()))
PYTHON
