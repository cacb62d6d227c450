#!/usr/bin/env bash
# torch 2.14.1 (2.13.0 too): once somebody has set one precision of float32 in the newer way, the
# older way can no longer be read, and so torch.backends.cudnn.flags, which sets, cannot be entered.
# And the older way does not find back to where it came from. No GPU is needed to see it.
#
# One would guess: cudnn.flags(enabled=True, allow_tf32=False) forbids TF32 whatever was set before,
# most of all where it is forbidden already; torch.get_float32_matmul_precision says "high" where
# products may use TF32; and "highest", which is the default, restores the default.
# What happens: 1. flags reads the old value, to put it back, and reading raises RuntimeError where
# cuDNN's convolutions and recurrent layers differ. Of a library that sets the newer way, every
# caller of the older one gets an error. 2. So does torch.get_float32_matmul_precision. 3. From
# "medium" back to "highest", which reads as before, products have "ieee" where they had "none", and
# follow torch.backends.fp32_precision no longer.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
# Each in a process of its own: no setting can be taken back to what it was.
"$place/env/bin/python" - <<'PYTHON'
import torch
from torch.backends import cudnn

print("torch", torch.__version__.partition("+")[0])
with cudnn.flags(enabled=True, allow_tf32=False):
    assert not cudnn.allow_tf32
assert cudnn.allow_tf32
cudnn.conv.fp32_precision = "ieee"
try:
    with cudnn.flags(enabled=True, allow_tf32=False):
        pass
except RuntimeError as error:
    print("cudnn.flags, convolutions exact already:", str(error).partition(".")[0])
else:
    raise SystemExit("cudnn.flags can be entered; this has changed")
PYTHON
"$place/env/bin/python" - <<'PYTHON'
import torch

assert torch.get_float32_matmul_precision() == "highest"
torch.backends.cuda.matmul.fp32_precision = "tf32"
try:
    torch.get_float32_matmul_precision()
except RuntimeError as error:
    print("get_float32_matmul_precision:", str(error).partition(".")[0])
else:
    raise SystemExit("get_float32_matmul_precision can be read; this has changed")
PYTHON
for way in "" "medium highest"; do
    "$place/env/bin/python" - $way <<'PYTHON'
import sys

import torch

products = torch.backends.cuda.matmul
assert torch.get_float32_matmul_precision() == "highest"
for name in sys.argv[1:]:
    torch.set_float32_matmul_precision(name)
assert torch.get_float32_matmul_precision() == "highest"
own = products.fp32_precision
torch.backends.fp32_precision = "tf32"
print(
    f"products, {' then '.join(sys.argv[1:]) or 'as torch starts'}: {own}; "
    f"after tf32 for all backends: {products.fp32_precision}"
)
expected = ("ieee", "ieee") if sys.argv[1:] else ("none", "tf32")
assert (own, products.fp32_precision) == expected
PYTHON
done
