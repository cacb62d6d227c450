#!/usr/bin/env bash
# pytorch-grad-cam (grad-cam) 1.5.7, EigenCAM, on torchvision's ResNet-18.
#
# One would guess: a network with mirrored filters sees in a mirrored picture what the network itself sees
# in the picture, so EigenCAM's map is the mirrored map. Singular vectors have no sign of their own, but the
# library's comment on centring before the decomposition says that the sign is seen to.
# What happens: logits, activations and Grad-CAM are mirrored to rounding. So is EigenCAM's map at a layer with
# more channels than positions. At one with fewer, it is in some networks the map of everything that was dark:
# its sign is the one that the decomposition happens to return, and what lies below zero is cut off before the
# map is scaled. The same release corrects the sign in SegEigenCAM alone.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 grad-cam==1.5.7
"$place/env/bin/python" - <<'PYTHON'
import copy
import importlib.metadata

import numpy as np
import torch
from pytorch_grad_cam import EigenCAM, GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torchvision.models import resnet18


def mirrored(network):
    """The network with every filter mirrored left to right."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.flip(-1)
    return network


def cosine(one, other):
    """1 for two maps that are zero, as Grad-CAM's may be."""
    sizes = np.sqrt((one**2).sum() * (other**2).sum())
    return float((one * other).sum() / sizes) if one.any() or other.any() else 1.0


# An odd width, so that strides begin and end in the same way.
picture = torch.rand(1, 3, 225, 225, generator=torch.Generator().manual_seed(0))
picture[:, :, 60:150, 30:110] += 1.5
NETWORKS = 30
# 225 positions of 256 channels, and 841 of 128.
LAYERS = {"wide": "layer3", "tall": "layer2"}
same = {GradCAM: [], "wide": [], "tall": []}
for seed in range(NETWORKS):
    torch.manual_seed(seed)
    network = resnet18().eval()
    twin = mirrored(network)
    with torch.no_grad():
        assert torch.allclose(network(picture), twin(picture.flip(-1)), rtol=1e-3, atol=1e-4)
    for kind, found in same.items():
        method, layer = (GradCAM, "layer3") if kind is GradCAM else (EigenCAM, LAYERS[kind])
        maps = []
        for model, x in ((network, picture), (twin, picture.flip(-1))):
            with method(model, [model.get_submodule(layer)]) as cam:
                maps.append(cam(x.clone(), [ClassifierOutputTarget(0)])[0])
        found.append(cosine(maps[0], maps[1][:, ::-1]))
lost = [value for value in same["tall"] if value < 0.5]
kept = [value for value in same["tall"] if value >= 0.5]
print(
    f"grad-cam {importlib.metadata.version('grad-cam')}: lowest cosine of a map with that of the mirrored "
    f"twin, {NETWORKS} networks: Grad-CAM {min(same[GradCAM]):.4f}, EigenCAM at layer3 "
    f"{min(same['wide']):.4f}; EigenCAM at layer2 {max(lost, default=np.nan):.2f} or less in {len(lost)}, "
    f"{min(kept):.4f} or more in the others"
)
assert min(same[GradCAM] + same["wide"] + kept) > 0.99, same
assert 1 <= len(lost) < NETWORKS, same["tall"]
PYTHON
