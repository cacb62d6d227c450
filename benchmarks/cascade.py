"""Cascading randomization beside the bare passes it needs, and beside Quantus' MPRT.

Torchvision's Inception v3 at 299 px with random weights and calibrated batch norms, the gradient
only, 17 stages from the logits down, all four similarities. Bare passes are one for each stage and
one for the trained network, no batch norm folded. Ceilings, for which the trained and the last
network run once more in double precision, are timed beside the same cascade without them: neither
bare passes nor Quantus have any. Quantus randomizes layer by layer and compares
by one similarity only, so times are for one stage and image; its own pass over the unrandomized
network, "original" among its scores, is no layer.
"""

import copy
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType

import pandas as pd
import torch
from saliency_sanity import METRICS, Experiment, metric, resolve
from saliency_sanity.experiments.ceiling import PICTURES
from saliency_sanity.randomization.blocks import find_blocks, find_stages
from torch import Tensor, nn

from benchmarks._inception import SIZE, inception, pictures
from benchmarks._timing import elsewhere, rise, row, timed
from benchmarks.attribution import bare

IMAGES = {"cpu": 4, "cuda": 64}
BARE_AIM = {"cpu": 0.90, "cuda": 1.5}
QUANTUS_AIM, MEMORY_AIM = 0.40, 1.05

# Quantus goes through the network's layers one by one: on a CPU a round of four takes minutes.
BESIDE_QUANTUS, ROUNDS = 4, {"cpu": 1, "cuda": 3}


def experiment(model: nn.Module, x: Tensor, stage_limit: int = 0, ceiling: int = 0) -> Experiment:
    return Experiment(
        model,
        x,
        model.predict(x),
        {"gradient": resolve("gradient")},
        {name: metric(name) for name in METRICS},
        seeds=1,
        stage_limit=stage_limit,
        ceiling=ceiling,
    )


def passes(network: nn.Module, x: Tensor, target: Tensor, stages: int) -> None:
    for _ in range(1 + stages):
        bare(network, x, target)


def layers_walked(scores: Mapping[str, object]) -> int:
    """How many layers Quantus randomized; from 0.6 on its first entry is the network as it was."""
    return len(scores) - ("original" in scores)


def peer() -> ModuleType:
    try:
        import quantus
    except ImportError as error:
        raise ImportError(
            "the cascade is compared with Quantus, which is missing: pip install -e '.[bench]'"
        ) from error
    return quantus


def quantus_mprt(
    network: nn.Module, x: Tensor, target: Tensor
) -> Callable[[], Mapping[str, object]]:
    """Quantus' MPRT with Captum's saliency, ready to be run: scores by layer."""
    quantus = peer()
    # As a user would hand it over: default memory format.
    plain = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    test = quantus.MPRT(
        similarity_func=quantus.similarity_func.correlation_spearman,
        return_last_correlation=False,
        disable_warnings=True,
    )
    return partial(
        test,
        model=plain,
        x_batch=x.cpu().numpy(),
        y_batch=target.cpu().numpy(),
        explain_func=quantus.explain,
        explain_func_kwargs={"method": "Saliency"},
        device=x.device.type,
        batch_size=len(x),
    )


def quantus_row(model: nn.Module, x: Tensor, stages: int, rounds: int) -> dict[str, object]:
    """The cascade beside Quantus' MPRT, each by what it randomized."""
    ours, walked, device = experiment(model, x), [], x.device.type
    test = quantus_mprt(model.network, x, ours.target)
    sides = {"ours": ours, "quantus": lambda: walked.append(layers_walked(test()))}
    times = timed(sides, rounds, device, "beside Quantus", partial(_warm_up, model, x))
    counts = {"ours": stages * len(x), "quantus": walked[0] * len(x)}
    each = [[second / counts[side] for second in times[side]] for side in sides]
    what = f"cascade of {len(x)} pictures, a stage and picture / Quantus MPRT, Captum"
    return row(what, *each, QUANTUS_AIM)


def cascade_memory(device: str, stage_limit: int) -> float:
    """MiB by which a cascade of two pictures raises the peak above the loaded network."""
    model, x = inception(device), pictures(2, SIZE, device)
    return rise(experiment(model, x, stage_limit, PICTURES), device)


def memory_row(device: str, few: int = 3) -> dict[str, object]:
    """The whole cascade against a few stages of it."""
    peaks = [elsewhere(cascade_memory, device, stages) for stages in (0, few)]
    what = f"cascade: peak memory, all stages / {few} stages"
    return row(what, *([peak] for peak in peaks), MEMORY_AIM, "MiB")


def run(
    device: str = "cpu",
    short: bool = False,
    *,
    build: Callable[[str], nn.Module] = inception,
    size: int = SIZE,
    images: int = 0,
    layers: bool = True,
    memory: bool = True,
) -> pd.DataFrame:
    """Time the cascade; ``layers`` says whether Quantus, which takes minutes, is run too."""
    warnings.filterwarnings("ignore", module="captum|quantus")
    if layers:
        peer()  # before the long part
    model = build(device)
    x = pictures(images or IMAGES[device], size, device)
    ours = experiment(model, x)
    model.requires_grad_(False)
    stages = len(find_stages(find_blocks(model, x), "top_down"))
    sides = {
        "ours": ours,
        "bare": partial(passes, model.network, x, ours.target, stages),
        "with ceilings": experiment(model, x, ceiling=PICTURES),
    }
    warm_up = partial(_warm_up, model, x) if short else None
    times = timed(sides, 1 if short else 3, device, "cascade", warm_up)
    counted = [[s / (stages * len(x)) for s in times[side]] for side in ("ours", "bare")]
    what = f"cascade of {len(x)} pictures, a stage and picture / bare passes"
    beside = f"cascade of {len(x)} pictures, with ceilings / without"
    rows = [
        row(what, *counted, BARE_AIM[device]),
        row(beside, times["with ceilings"], times["ours"]),
    ]
    if layers:
        few = x[: 2 if short and device == "cpu" else BESIDE_QUANTUS]
        rows.append(quantus_row(model, few, stages, 1 if short else ROUNDS[device]))
    return pd.DataFrame([*rows, *([memory_row(device)] if memory else [])])


def _warm_up(model: nn.Module, x: Tensor) -> None:
    experiment(model, x, stage_limit=2)()
    bare(model.network, x, model.predict(x))
