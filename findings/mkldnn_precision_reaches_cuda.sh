#!/usr/bin/env bash
# torch 2.14.1 (2.13.0 too): TF32 allowed for oneDNN, which computes on the CPU, is allowed for
# CUDA's matrix products and for cuDNN as well. Nothing is said, and no GPU is needed to see it.
#
# One would guess: torch.backends.mkldnn.fp32_precision is oneDNN's own, as
# torch.backends.cuda.matmul.fp32_precision is that of CUDA's products, and the one for all of them
# is torch.backends.fp32_precision.
# What happens: what is given to mkldnn goes to the setting of all backends, and whatever has none
# of its own follows. In the same way cudnn.fp32_precision sets CUDA's products, too.
# mkldnn.matmul and mkldnn.conv set nothing but themselves.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
cat > "$place/one.py" <<'PYTHON'
import sys

import torch
from torch import backends

parts = {
    "backends": backends,
    "cuda.matmul": backends.cuda.matmul,
    "cudnn": backends.cudnn,
    "cudnn.conv": backends.cudnn.conv,
    "mkldnn": backends.mkldnn,
    "mkldnn.matmul": backends.mkldnn.matmul,
    "mkldnn.conv": backends.mkldnn.conv,
}


def allowed():
    return {name for name, part in parts.items() if part.fp32_precision == "tf32"}


_, name, *expected = sys.argv
if name == "backends":
    print("torch", torch.__version__.partition("+")[0])
before = allowed()
parts[name].fp32_precision = "tf32"
after = allowed()
print(f"set {name}: TF32 is new for {', '.join(sorted(after - before))}")
assert before == {"cudnn.conv"}, before
assert after - before == set(expected), after
PYTHON
# Each in a process of its own: no setting can be taken back to what it was.
one() { "$place/env/bin/python" "$place/one.py" "$@"; }
one backends backends cuda.matmul cudnn mkldnn mkldnn.conv mkldnn.matmul
one mkldnn backends cuda.matmul cudnn mkldnn mkldnn.conv mkldnn.matmul
one cudnn cuda.matmul cudnn
one cuda.matmul cuda.matmul
one mkldnn.matmul mkldnn.matmul
one mkldnn.conv mkldnn.conv
