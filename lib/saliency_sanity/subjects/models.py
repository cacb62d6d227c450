"""Classifiers by name, with the weights that can be had without a network as the default."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from saliency_sanity._errors import unknown
from saliency_sanity.networks.classifier import Classifier, Scaling
from saliency_sanity.networks.compat import ensure_torchvision
from saliency_sanity.subjects.own_model import load_own
from saliency_sanity.subjects.small_networks import TRAINABLE
from saliency_sanity.subjects.training.checkpoints import (
    load_bare,
    load_trained,
    read_record,
    trained_path,
    training_command,
)
from saliency_sanity.subjects.training.recipe import (
    Recipe,
    parse_weights,
    unknown_weights,
    weights_name,
)
from saliency_sanity.subjects.weights import is_path

# For somebody's own file, too, that a name leads to.
ensure_torchvision()

# Networks of this project, on Fashion-MNIST unless told otherwise; Inception v3 is torchvision's.
_SMALL = [name for name in TRAINABLE if name != "inception_v3"]

# What files of weights are called.
_WEIGHTS_FILES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")


def model_names() -> list[str]:
    """Names ``load_model`` knows: EfficientNet-Lite0, ours, every torchvision classifier."""
    from saliency_sanity.subjects.torchvision_models import torchvision_names

    return ["efficientnet_lite0", *_SMALL, *torchvision_names()]


def _of_library(name: str, weights: str, seed: int) -> Classifier:
    """A network of timm or torchvision, which networks of this project need not wait for."""
    from saliency_sanity.subjects import timm_models, torchvision_models

    if name.startswith("timm:"):
        return timm_models.timm_model(name.removeprefix("timm:"), weights, seed)
    if name == "efficientnet_lite0":
        return timm_models.efficientnet_lite0(weights, seed)
    if name == "inception_v3" and weights == "tf_in1k":
        return timm_models.inception_tf()
    if name in torchvision_models.torchvision_names():
        return torchvision_models.torchvision_model(name, weights, seed)
    if "/" in name or Path(name).is_file() or Path(name).suffix in _WEIGHTS_FILES:
        raise ValueError(
            f"model {name!r} is a file; name the network that its weights belong to and give them "
            f"as weights: load_model('resnet18', {name!r})"
        )
    valid = ["timm:NAME", "package.module:function", *model_names()]
    raise ValueError(unknown("model", name, valid))


def _trainable(name: str, weights: str, seed: int) -> Classifier | None:
    """A network that this project trains; None where ``weights`` are torchvision's."""
    small = name in _SMALL
    if small and weights == "default":
        weights = "fashion_mnist"
    if parse_weights(weights):
        return load_trained(name, trained_path(name, weights), weights)
    if is_path(weights) and read_record(Path(weights).expanduser()) is not None:
        return load_trained(name, Path(weights).expanduser(), weights)
    if not small:
        return None
    if weights != "none" and not is_path(weights):
        valid = ["default", "none", "path/to/weights.safetensors"]
        raise ValueError(unknown_weights(name, weights, valid))
    return load_bare(name, weights, seed)


def choose_device(device: str) -> torch.device:
    """The device of that name; ``auto`` takes a GPU where there is one.

    Raises ValueError for a device that is unknown or not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device {device!r} cannot be used: {str(error).splitlines()[0]}; "
            "valid are 'auto', 'cpu' and, with a GPU, 'cuda'"
        ) from error
    return chosen


def load_model(
    name: str,
    weights: str | Path = "default",
    device: str = "auto",
    seed: int = 0,
    *,
    scaling: Scaling | None = None,
    size: int = 0,
    cam_layer: str | None = None,
) -> Classifier:
    """Load a classifier by name, in evaluation mode on ``device``.

    ``weights`` is ``default`` (installed for efficientnet_lite0, ``fashion_mnist`` for cnn, mlp and
    vit, downloaded and checksummed for torchvision's), a torchvision entry such as
    ``IMAGENET1K_V1``, ``tf_in1k`` for timm's port of the papers' own Inception v3,
    ``DATASET[-permuted|-negatives][-SEED]`` for a cnn, mlp, vit or inception_v3 trained by this
    project (``mnist``, ``fashion_mnist-permuted-1``, ``pairs_shape``), the path of such a file or
    of a state dict, or ``none`` for random weights drawn with ``seed``. Inputs are scaled as
    ``Classifier.scaling`` says. ``Classifier.untrained`` draws as the architecture's constructor
    does, for Inception v3 as the papers' code does.

    ``timm:NAME`` is any classifier of timm, with the weights of its tag, a file or ``none``.
    ``package.module:function`` is somebody's own: the Classifier or the bare network that the
    function returns. For a bare one alone ``scaling`` and ``size`` have to be given, and
    ``cam_layer`` can be.

    Raises ValueError for unknown names and unusable files, FileNotFoundError, and
    WeightsUnavailable where a download is needed and fails. [szegedy2016rethinking],
    [tan2019efficientnet], [adebayo2018code]
    """
    place = choose_device(device)
    weights = str(weights)
    own = ":" in name and not name.startswith("timm:")
    if not own and (scaling or size or cam_layer):
        raise ValueError(
            f"scaling, size and cam_layer of {name!r} are known; give them only for a bare network "
            "of your own, package.module:function"
        )
    if own:
        classifier = load_own(name, weights, seed, scaling=scaling, size=size, cam_layer=cam_layer)
    else:
        ours = _trainable(name, weights, seed) if name in TRAINABLE else None
        classifier = ours or _of_library(name, weights, seed)
    if not own and not name.startswith("timm:"):
        # Where the network is this library's own and known to work so: 2 % faster on a CPU.
        classifier.network.to(memory_format=torch.channels_last)
    return classifier.to(place)


def load_replicates(
    name: str, dataset: str, count: int, device: str = "auto"
) -> dict[str, list[Classifier]]:
    """Load networks trained on ``true`` and on ``permuted`` labels, ``count`` of each.

    They differ in their seeds, 0, 1, …. Raises FileNotFoundError, which says how to train all
    that are missing, ValueError for a count below 1, and what ``load_model`` raises.
    """
    _check_count(count)
    kinds = {
        labels: [Recipe(name, dataset, labels=labels, seed=seed) for seed in range(count)]
        for labels in ("true", "permuted")
    }
    return _all_trained(kinds, device)


def load_tasks(
    name: str, datasets: Sequence[str], count: int, device: str = "auto"
) -> dict[str, list[Classifier]]:
    """Load networks trained on each of some data sets, ``count`` of each, by data set.

    They differ in their seeds, 0, 1, …. Raises as ``load_replicates``.
    """
    _check_count(count)
    kinds = {data: [Recipe(name, data, seed=seed) for seed in range(count)] for data in datasets}
    return _all_trained(kinds, device)


def _check_count(count: int) -> None:
    if count < 1:
        raise ValueError(f"{count} networks of each kind; valid are 1 and more")


def _all_trained(kinds: Mapping[str, Sequence[Recipe]], device: str) -> dict[str, list[Classifier]]:
    """The networks of recipes by kind; FileNotFoundError, with the commands, for those missing."""
    wanted = [recipe for recipes in kinds.values() for recipe in recipes]
    missing = [r for r in wanted if not trained_path(r.network, r.weights).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(wanted)} networks are not trained yet; train them with: "
            + "; ".join(map(training_command, missing))
        )
    return {
        kind: [load_model(recipe.network, recipe.weights, device) for recipe in recipes]
        for kind, recipes in kinds.items()
    }


def trained_again(classifier: Classifier, count: int, device: str = "auto") -> list[Classifier]:
    """The other trainings of a network trained here, of seeds 1, 2, … where ``count`` is 2, 3, ….

    None where ``count`` is 1. Raises ValueError for a count below 1 and for a network that was not
    trained here or not with seed 0, and FileNotFoundError, which says how to train the missing.
    """
    if count < 1:
        raise ValueError(f"{count} trainings of the network; valid are 1 and more")
    if count == 1:
        return []
    trained = parse_weights(classifier.weights)
    if classifier.provenance is None or not trained or trained["seed"]:
        raise ValueError(
            f"{count} trainings of {classifier.name}, but its weights {classifier.weights!r} are "
            "not those of a network trained here with seed 0; set trainings to 1"
        )
    names = [weights_name(**trained | {"seed": seed}) for seed in range(1, count)]
    return [load_model(classifier.name, name, device) for name in names]
