#!/usr/bin/env bash
# torch 2.14.1 (2.13.0 too), on a CPU: the gradient of LeViT, XCiT and EfficientFormer with respect to
# one picture is wrong by more than its largest value, without a word. Two copies of the same picture
# in a batch, or one in channels_last, have the right one, which finite differences confirm.
#
# One would guess: a network in evaluation mode has the same gradient for a picture whether it comes
# alone or twice, to rounding; batch norm is no more than a factor and a sum then.
# What happens: BatchNorm2d's output goes to tokens by flatten(2).transpose(1, 2). What comes back has
# the strides of channels_last. For one picture the backward pass of batch norm takes both tensors in
# the order of one of them, and mixes up places and channels. Every saliency map of a single picture
# in the usual layout is such a gradient.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.14.1 torchvision==0.29.1 timm==1.0.31 numpy==2.4.6
"$place/env/bin/python" - <<'PYTHON'
import timm
import torch

print("torch", torch.__version__.partition("+")[0], "timm", timm.__version__)
wrong = {}
for name in ("levit_128s", "xcit_nano_12_p16_224", "efficientformer_l1", "resnet18"):
    torch.manual_seed(0)
    network = timm.create_model(name).eval().double()
    picture = torch.randn(1, 3, 224, 224, dtype=torch.float64)

    def gradient(x):
        x = x.clone().requires_grad_()
        return torch.autograd.grad(network(x)[:, 0].sum(), x)[0][:1]

    with torch.no_grad():
        network(picture)  # LeViT keeps something of its first pass
        step = 1e-5 * torch.randn_like(picture)
        ends = [network(picture + sign * step)[0, 0] for sign in (1, -1)]
    slope = ((ends[0] - ends[1]) / 2).item()
    alone, twice = gradient(picture), gradient(picture.repeat(2, 1, 1, 1))
    last = gradient(picture.contiguous(memory_format=torch.channels_last))
    apart = ((alone - twice).abs().max() / twice.abs().max()).item()
    wrong[name] = apart > 0.5
    along = [(each * step).sum().item() for each in (alone, twice, last)]
    print(
        f"{name}: finite difference {slope:+.3e}; gradient along it: alone {along[0]:+.3e}, "
        f"in a batch of two {along[1]:+.3e}, alone in channels_last {along[2]:+.3e}"
    )
    # Rectifiers have edges, so a finite difference is no more than near.
    assert all(abs(found / slope - 1) < 0.05 for found in along[1:])
    assert (abs(along[0] / slope - 1) > 0.5) == wrong[name]
assert wrong == {
    "levit_128s": True,
    "xcit_nano_12_p16_224": True,
    "efficientformer_l1": True,
    "resnet18": False,
}, wrong
PYTHON
