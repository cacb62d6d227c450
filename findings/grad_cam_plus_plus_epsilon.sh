#!/usr/bin/env bash
# pytorch-grad-cam (grad-cam) 1.5.7, GradCAMPlusPlus, on torchvision's ResNet-18.
#
# One would guess: the 1e-6 in the denominator of its weights is there against division by zero and
# changes nothing else.
# What happens: the denominator is a sum of squared and cubed gradients. At the last convolutions of a
# common network gradients are some 1e-4 to 1e-3, so their squares are as small as the constant. It takes
# part in the choice of channels, and the map differs from the published formula's by several per cent
# of its range. With all logits times 1000 it does not.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 grad-cam==1.5.7
"$place/env/bin/python" - <<'PYTHON'
import importlib.metadata

import numpy as np
import torch
from pytorch_grad_cam import GradCAMPlusPlus
from torch import nn
from torchvision.models import resnet18

torch.manual_seed(0)
network = resnet18().double().eval()
picture = torch.randn(1, 3, 224, 224, dtype=torch.float64)


class Times(nn.Module):
    def __init__(self, unit):
        super().__init__()
        self.network, self.unit = network, unit

    def forward(self, x):
        return self.unit * self.network(x)


def coarse(unit):
    """The library's coarse map before it is scaled, and the formula's."""
    model = Times(unit).eval()
    with GradCAMPlusPlus(model, [network.layer4]) as cam:
        cam.activations_and_grads(picture.clone().requires_grad_())[0, 1].backward()
        values = cam.activations_and_grads.activations[0].numpy()
        slopes = cam.activations_and_grads.gradients[0].numpy()
        theirs = cam.get_cam_weights(picture, [network.layer4], None, values, slopes)
    below = 2 + slopes * values.sum((2, 3), keepdims=True)
    formula = (np.maximum(slopes, 0) / below).sum((2, 3))
    maps = [(w[:, :, None, None] * values).sum(1)[0] for w in (theirs, formula)]
    return [(m - m.min()) / np.ptp(m) for m in maps], np.abs(slopes).mean()


(small, published), size = coarse(1.0)
(large, published_large), _ = coarse(1000.0)
off, after = np.abs(small - published).max(), np.abs(large - published_large).max()
print(
    f"grad-cam {importlib.metadata.version('grad-cam')}: mean gradient {size:.1e}; largest difference "
    f"from the formula, as a share of the map's range: {off:.3f}; with logits times 1000: {after:.1e}"
)
assert off > 0.01, off
assert after < 1e-2 * off, after
PYTHON
