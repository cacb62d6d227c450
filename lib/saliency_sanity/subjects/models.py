"""Classifiers by name, with the weights that can be had without a network as the default."""

from functools import partial
from pathlib import Path

import torch

from saliency_sanity._errors import unknown
from saliency_sanity._random import built
from saliency_sanity.networks.classifier import Classifier, Scaling
from saliency_sanity.networks.compat import ensure_torchvision
from saliency_sanity.subjects.datasets import CLASS_NAMES
from saliency_sanity.subjects.own_model import load_own
from saliency_sanity.subjects.small_networks import TRAINABLE, build_untrained
from saliency_sanity.subjects.timm_models import efficientnet_lite0, inception_tf, timm_model
from saliency_sanity.subjects.training.checkpoints import (
    load_bare,
    load_trained,
    read_record,
    trained_path,
    training_command,
)
from saliency_sanity.subjects.training.recipe import Recipe, parse_weights, weights_name
from saliency_sanity.subjects.weights import (
    download,
    fill,
    is_path,
    read_weights,
)

ensure_torchvision()

import torchvision  # noqa: E402

_HALF = Scaling((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

# Where Grad-CAM looks unless told otherwise: the last feature maps before pooling. Longest prefix
# of the model's name wins; networks without spatial features at the end have none.
_CAM_LAYERS = {
    "inception_v3": "Mixed_7c",
    "googlenet": "inception5b",
    "resnet": "layer4",
    "resnext": "layer4",
    "wide_resnet": "layer4",
    "regnet": "trunk_output",
    "shufflenet": "conv5",
    "mnasnet": "layers",
    "alexnet": "features",
    "vgg": "features",
    "squeezenet": "features",
    "densenet": "features",
    "mobilenet": "features",
    "efficientnet": "features",
    "convnext": "features",
}

# Networks of this project, on Fashion-MNIST unless told otherwise; Inception v3 is torchvision's.
_SMALL = [name for name in TRAINABLE if name != "inception_v3"]


def model_names() -> list[str]:
    """Names ``load_model`` knows: EfficientNet-Lite0, cnn, mlp, every torchvision classifier."""
    theirs = torchvision.models.list_models(module=torchvision.models)
    return ["efficientnet_lite0", *_SMALL, *theirs]


def cam_layer(name: str) -> str | None:
    """The default Grad-CAM layer of a named network, None where there is none."""
    prefixes = [prefix for prefix in _CAM_LAYERS if name.startswith(prefix)]
    return _CAM_LAYERS[max(prefixes, key=len)] if prefixes else None


def _torchvision(name: str, weights: str, seed: int) -> Classifier:
    entries = torchvision.models.get_model_weights(name)
    options: dict[str, object] = {}
    auxiliary: tuple[str, ...] = ()
    if name in ("inception_v3", "googlenet"):
        # These rescale ImageNet-normalized inputs to [-1, 1] on entry. Fed [-1, 1] directly, the
        # input has one scaling, and a zero baseline means the same for both.
        options = {
            "aux_logits": False,
            "transform_input": False,
            "init_weights": weights == "none",
        }
        auxiliary = ("AuxLogits.", "aux1.", "aux2.")
    build = partial(torchvision.models.get_model, name, weights=None, **options)
    network = built(build, seed)
    entry = entries.DEFAULT
    if is_path(weights):
        state = read_weights(Path(weights))
    elif weights == "none":
        state = None
    else:
        if weights != "default":
            if weights not in entries.__members__:
                valid = [*entries.__members__, "default", "none", "path/to/state_dict.pth"]
                if name == "inception_v3":
                    raise ValueError(_unknown_trained(name, weights, [*valid, "tf_in1k"]))
                raise ValueError(unknown(f"weights of {name}", weights, valid))
            entry = entries[weights]
        weights = entry.name
        state = download(
            name,
            weights,
            lambda: entry.get_state_dict(progress=True, check_hash=True, weights_only=True),
        )
    if state is not None:
        kept = {key: value for key, value in state.items() if not key.startswith(auxiliary or "\0")}
        fill(network, kept, weights)
    transforms = entry.transforms()
    size = transforms.crop_size[0]
    if name == "inception_v3":
        # torchvision's own draw (spread 0.1 in every layer) overflows within a few blocks.
        untrained = partial(build_untrained, name, size=size, channels=3, classes=1000)
    elif name == "googlenet":
        untrained = partial(built, partial(build, init_weights=True))
    else:
        untrained = partial(built, build)
    return Classifier(
        network,
        name=name,
        weights=weights,
        scaling=_HALF if auxiliary else Scaling(tuple(transforms.mean), tuple(transforms.std)),
        size=size,
        class_names=entry.meta["categories"],
        cam_layer=cam_layer(name),
        untrained=untrained,
    )


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
        raise ValueError(_unknown_trained(name, weights, valid))
    return load_bare(name, weights, seed)


def _unknown_trained(name: str, weights: str, others: list[str]) -> str:
    ours = [weights_name(data, labels) for data in CLASS_NAMES for labels in ("true", "permuted")]
    example = weights_name("fashion_mnist", "permuted", 1)
    return (
        unknown(f"weights of {name}", weights, [*ours, *others])
        + f" A seed other than 0 follows the name of what was trained on, as in {example!r}."
    )


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

    ``weights`` is ``default`` (installed for efficientnet_lite0, ``fashion_mnist`` for cnn and mlp,
    downloaded and checksummed for torchvision's), a torchvision entry such as ``IMAGENET1K_V1``,
    ``tf_in1k`` for timm's port of the papers' own Inception v3, ``DATASET[-permuted][-SEED]`` for
    a cnn, mlp or inception_v3 trained by this project (``mnist``, ``fashion_mnist-permuted-1``),
    the path of such a file or of a state dict, or ``none`` for random weights drawn with ``seed``.
    Inputs are scaled as ``Classifier.scaling`` says. ``Classifier.untrained`` draws as the
    architecture's constructor does, for Inception v3 as the papers' code does.

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
    elif name.startswith("timm:"):
        classifier = timm_model(name.removeprefix("timm:"), weights, seed)
    elif name == "efficientnet_lite0":
        classifier = efficientnet_lite0(weights, seed)
    elif name == "inception_v3" and weights == "tf_in1k":
        classifier = inception_tf()
    elif name in TRAINABLE and (trainable := _trainable(name, weights, seed)):
        classifier = trainable
    elif name in model_names():
        classifier = _torchvision(name, weights, seed)
    else:
        valid = ["timm:NAME", "package.module:function", *model_names()]
        raise ValueError(unknown("model", name, valid))
    return classifier.to(place)


def load_replicates(
    name: str, dataset: str, count: int, device: str = "auto"
) -> dict[str, list[Classifier]]:
    """Load networks trained on ``true`` and on ``permuted`` labels, ``count`` of each.

    They differ in their seeds, 0, 1, …. Raises FileNotFoundError, which says how to train all
    that are missing, ValueError for a count below 1, and what ``load_model`` raises.
    """
    if count < 1:
        raise ValueError(f"{count} networks of each kind; valid are 1 and more")
    kinds = {
        labels: [Recipe(name, dataset, labels=labels, seed=seed) for seed in range(count)]
        for labels in ("true", "permuted")
    }
    wanted = [recipe for recipes in kinds.values() for recipe in recipes]
    missing = [recipe for recipe in wanted if not trained_path(name, recipe.weights).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(wanted)} networks are not trained yet; train them with: "
            + "; ".join(map(training_command, missing))
        )
    return {
        labels: [load_model(name, recipe.weights, device) for recipe in recipes]
        for labels, recipes in kinds.items()
    }
