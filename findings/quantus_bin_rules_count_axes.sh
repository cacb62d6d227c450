#!/usr/bin/env bash
# Quantus 0.6.0, the rules for the number of bins of EfficientMPRT.
#
# One would guess: a rule such as Sturges' finds the number of bins from the number of values of a map.
# What happens: it is given the number of axes of a map. So three of the five rules give one and the same
# number for every map, 1 or 2, which is then raised to 10, the least that is allowed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 quantus==0.6.0
"$place/env/bin/python" - <<'PYTHON'
import importlib.metadata

import numpy as np
from quantus.helpers.constants import AVAILABLE_N_BINS_ALGORITHMS as rules

random = np.random.default_rng(0)
found = {
    name: [rules[name](random.normal(size=(2, 1, side, side))) for side in (28, 224)]
    for name in ("Square Root", "Sturges Formula", "Rice")
}
numpys = {
    name: [len(np.histogram_bin_edges(np.arange(side**2), key)) - 1 for side in (28, 224)]
    for name, key in (("Square Root", "sqrt"), ("Sturges Formula", "sturges"), ("Rice", "rice"))
}
print(
    f"Quantus {importlib.metadata.version('quantus')}: bins for maps of 28 and of 224 pixels a side {found}; "
    f"the same rules of NumPy {numpys}"
)
for name, (small, large) in found.items():
    assert small == large < 3
    assert numpys[name][0] < numpys[name][1]
PYTHON
