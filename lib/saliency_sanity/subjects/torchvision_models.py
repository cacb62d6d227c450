"""Classifiers of torchvision by its own names."""

from functools import partial
from pathlib import Path

from saliency_sanity._errors import unknown
from saliency_sanity._random import built
from saliency_sanity.networks.classifier import Classifier, Scaling
from saliency_sanity.networks.compat import ensure_torchvision
from saliency_sanity.subjects.small_networks import build_untrained
from saliency_sanity.subjects.training.recipe import unknown_weights
from saliency_sanity.subjects.weights import download, fill, is_path, read_weights

ensure_torchvision()

import torchvision  # noqa: E402

_HALF = Scaling((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

# Where Grad-CAM looks unless told otherwise: the last feature maps before pooling. Longest prefix
# of the model's name wins; networks without spatial features at the end have none. Only the class
# token leaves a vision transformer's last block: there it is the norm before its attention.
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
    "vit_b": "encoder.layers.encoder_layer_11.ln_1",
    "vit_l": "encoder.layers.encoder_layer_23.ln_1",
    "vit_h": "encoder.layers.encoder_layer_31.ln_1",
}


def torchvision_names() -> list[str]:
    """Names of all its classifiers."""
    return torchvision.models.list_models(module=torchvision.models)


def cam_layer(name: str) -> str | None:
    """The default Grad-CAM layer of a named network, None where there is none."""
    prefixes = [prefix for prefix in _CAM_LAYERS if name.startswith(prefix)]
    return _CAM_LAYERS[max(prefixes, key=len)] if prefixes else None


def torchvision_model(name: str, weights: str, seed: int) -> Classifier:
    """One of them; ``weights`` are an entry of its own, ``default``, a file, or ``none``.

    Random weights are drawn with ``seed``. Raises ValueError for unknown ``weights`` and files that
    do not fit, WeightsUnavailable where a download fails.
    """
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
                    raise ValueError(unknown_weights(name, weights, [*valid, "tf_in1k"]))
                raise ValueError(unknown(f"weights of {name}", weights, valid))
            entry = entries[weights]
        weights = entry.name
        state = download(
            name,
            weights,
            lambda: entry.get_state_dict(progress=True, check_hash=True, weights_only=True),
        )
    if state is not None:
        fill(network, state, weights, without=auxiliary)
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
