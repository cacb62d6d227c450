"""LRP beside one gradient, and beside zennit's: what its rules cost.

Torchvision's Inception v3 at 299 px with random weights and calibrated batch norms, which zennit
has no rules for; and its ResNet-50 at 224 px, for which both have the same.
"""

from collections.abc import Callable
from copy import deepcopy
from functools import partial

import pandas as pd
import torch
from saliency_sanity import load_model, resolve
from saliency_sanity.attribution.lrp import composite
from torch import Tensor, nn

from benchmarks._inception import SIZE, calibrate, inception, pictures
from benchmarks._timing import row, timed
from benchmarks.attribution import IMAGES

AIMS = {"lrp_epsilon": 2.5, "lrp_zplus": 4.0, "lrp_alpha_beta": 4.0}
COMPETITION_AIM = 2.0
ZENNIT_AIM = 1.0
COMPOSITES = {"epsilon_plus": "EpsilonPlus", "epsilon_alpha2_beta1": "EpsilonAlpha2Beta1"}


def residual(device: str) -> nn.Module:
    """Torchvision's ResNet-50, random weights and calibrated batch norms."""
    return calibrate(load_model("resnet50", "none", device=device), 224, images=4)


def run(
    device: str = "cpu",
    short: bool = False,
    *,
    builds: tuple[Callable[[str], nn.Module], Callable[[str], nn.Module]] = (inception, residual),
    sizes: tuple[int, int] = (SIZE, 224),
    images: int = 0,
    labels: int = 20,
) -> pd.DataFrame:
    """Time the rules of LRP."""
    rounds, count = 2 if short else 5, images or IMAGES[device]
    model, other = (build(device).requires_grad_(False) for build in builds)
    x, y = (pictures(count, size, device) for size in sizes)
    target = torch.arange(count, device=device)
    methods = {name: resolve(name) for name in ("gradient", *AIMS)}
    sides = {name: partial(method, model, x, target) for name, method in methods.items()}
    labels = min(labels, model(x[:1]).shape[1])
    competing = {name: resolve(name, top=labels) for name in ("competitive_lrp", "cgi")}
    sides |= {name: partial(method, model, x, target) for name, method in competing.items()}
    times = timed(sides, rounds, device, "lrp")
    rows = [row(f"{name} / gradient", times[name], times["gradient"], AIMS[name]) for name in AIMS]
    what = f"competitive_lrp / cgi, {labels} labels"
    rows.append(row(what, times["competitive_lrp"], times["cgi"], COMPETITION_AIM))
    sides = {name: partial(composite(name), other, y, target) for name in COMPOSITES}
    sides |= {
        COMPOSITES[name]: partial(zennits, deepcopy(other.network), COMPOSITES[name], y, target)
        for name in COMPOSITES
    }
    times = timed(sides, rounds, device, "zennit")
    rows += [
        row(f"{name} / zennit's {theirs}", times[name], times[theirs], ZENNIT_AIM)
        for name, theirs in COMPOSITES.items()
    ]
    return pd.DataFrame(rows)


def zennits(network: nn.Module, name: str, x: Tensor, target: Tensor) -> Tensor:
    """The maps of zennit's composite of that name, for a ResNet."""
    from zennit import composites
    from zennit.attribution import Gradient
    from zennit.torchvision import ResNetCanonizer

    places = target[:, None]
    chosen = getattr(composites, name)(canonizers=[ResNetCanonizer()])
    with Gradient(network, chosen) as attributor:
        return attributor(x, lambda y: torch.zeros_like(y).scatter(1, places, 1) * y)[1]
