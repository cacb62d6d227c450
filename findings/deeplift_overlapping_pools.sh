#!/usr/bin/env bash
# captum 0.9.0, DeepLift, through max pooling whose windows overlap, as at the start of ResNets: 3 x 3
# at stride 2.
#
# One would guess: nn.MaxPool2d has a rule of its own, so the map sums to the change of the score for
# every kernel and stride. A pixel that is the maximum of several windows gets what it does in each.
# What happens: contributions of windows are written to their maximum's place, not added up there. Of
# the windows that share a maximum one counts, and the others are lost, without a word. The score
# below is the sum of a pooled picture with one bright pixel: it changes by the number of windows
# that see the pixel, and the map says 1. Where windows do not overlap the map is exact.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 numpy==2.4.6 captum==0.9.0
"$place/env/bin/python" - <<'PYTHON'
import importlib.metadata
import warnings

import torch
from captum.attr import DeepLift, InputXGradient
from torch import nn

warnings.simplefilter("ignore")


class Pooled(nn.Module):
    def __init__(self, pool):
        super().__init__()
        self.pool = pool

    def forward(self, x):
        return self.pool(x).flatten(1).sum(1)


print(
    f"captum {importlib.metadata.version('captum')}, torch {torch.__version__.partition('+')[0]}, "
    "one bright pixel on black; change of the score, sum of DeepLift's map, of gradient x input"
)
for kind, axes, kernel, stride, windows in (
    (nn.MaxPool2d, 2, 3, 3, 1),
    (nn.MaxPool2d, 2, 3, 2, 4),
    (nn.MaxPool2d, 2, 3, 1, 9),
    (nn.MaxPool1d, 1, 3, 1, 3),
    (nn.MaxPool3d, 3, 3, 1, 27),
):
    network = Pooled(kind(kernel, stride)).eval()
    black = torch.zeros(1, 1, *[9] * axes, dtype=torch.float64)
    picture = black.clone()
    picture[(0, 0, *[4] * axes)] = 1
    change = (network(picture) - network(black)).item()
    mapped = DeepLift(network).attribute(picture.clone(), black.clone()).sum().item()
    product = InputXGradient(network).attribute(picture.clone()).sum().item()
    print(f"{kind.__name__}({kernel}, {stride}): {change:g}, {mapped:g}, {product:g}")
    assert change == product == windows
    assert abs(mapped - 1) < 1e-9

# Neither is it a matter of one pixel: noise, and weights of both signs.
for stride in (3, 2, 1):
    torch.manual_seed(0)
    pool = nn.MaxPool2d(3, stride)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), pool, nn.Flatten(), nn.LazyLinear(3))
    network = network.double().eval()
    picture, start = torch.randn(2, 1, 1, 24, 24, dtype=torch.float64)
    change = (network(picture) - network(start))[0, 1].item()
    found = DeepLift(network).attribute(picture.clone(), start.clone(), target=1).sum().item()
    print(f"noise, MaxPool2d(3, {stride}): the score changes by {change:+.4f}, the map sums to {found:+.4f}")
    assert (abs(found - change) < 1e-9) == (stride == 3)
    assert stride == 3 or abs(found - change) > 1e-2
PYTHON
