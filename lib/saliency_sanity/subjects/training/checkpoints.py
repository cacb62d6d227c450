"""Files of networks trained by this project: tensors, and in their header where they come from."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from saliency_sanity._files import checkout, replacing
from saliency_sanity._hashing import weights_hash
from saliency_sanity.networks.classifier import Classifier
from saliency_sanity.subjects.datasets import embedded_folder, made_of_embedded
from saliency_sanity.subjects.small_networks import TRAINABLE, build_untrained
from saliency_sanity.subjects.training.recipe import Recipe, parse_weights
from saliency_sanity.subjects.weights import fill, read_weights

_KEY = "saliency_sanity"
_NEEDED = ("network", "dataset", "classes", "size", "channels", "test_accuracy", "weights_hash")


def trained_path(network: str, weights: str) -> Path:
    """Where the workflow puts a trained network: ``results/models`` of the checkout.

    ``weights`` is a name of :func:`saliency_sanity.subjects.training.recipe.weights_name`.
    """
    return checkout() / "results" / "models" / f"{network}-{weights}.safetensors"


def write_trained(network: nn.Module, path: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write a network with ``record`` in the file's header, and give the header as written.

    The file is written whole or not at all; ``weights_hash`` is added to what it says.

    ``record`` holds what JSON can hold, among it ``network``, ``dataset``, ``classes`` (names),
    ``size``, ``channels`` and ``test_accuracy``. Raises ResultsError where the file cannot be
    written and ValueError for weights that are not finite.
    """
    state = {key: value.detach().contiguous() for key, value in network.state_dict().items()}
    broken = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise ValueError(
            f"{len(broken)} tensors are not finite ({broken[0]}, …): training diverged; "
            "choose a smaller learning rate"
        )
    # So that a byte that has changed is found when the file is read.
    record = {**record, "weights_hash": weights_hash(network)}
    header = {_KEY: json.dumps(record, ensure_ascii=False, allow_nan=False)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        save_file(state, temporary, metadata=header)
    return record


def read_record(path: Path) -> dict[str, Any] | None:
    """What a trained file says of itself; None for a file of somebody else's.

    Raises FileNotFoundError, and ValueError for a damaged file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"weights file {path} does not exist; check the path")
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, "pt") as opened:
            text = (opened.metadata() or {}).get(_KEY)
        if text is None:
            return None
        record = json.loads(text)
        missing = [key for key in _NEEDED if key not in record]
        if missing:
            raise ValueError(f"its header lacks {', '.join(missing)}")
    except (SafetensorError, ValueError, TypeError) as error:
        raise ValueError(
            f"weights file {path} is damaged: {error}; train it again or fetch it again"
        ) from error
    return record


def is_trained(recipe: Recipe, path: Path) -> bool:
    """Whether a file holds a network that was trained by just this recipe.

    Raises ValueError for a damaged file.
    """
    record = read_record(path) if path.is_file() else None
    return record is not None and record.get("parameters") == recipe.parameters


def load_trained(network: str, path: Path, weights: str) -> Classifier:
    """Load a file of :func:`write_trained` as a classifier that carries its record.

    ``weights`` is what the classifier says of them: a name of
    :func:`saliency_sanity.subjects.training.recipe.weights_name`, which the file has to keep,
    or its path.

    Raises FileNotFoundError, which says how to train it, and ValueError for a damaged file, for
    one that is not ours, for another network's and for one trained on something else.
    """
    named = parse_weights(weights)
    if named and not path.is_file():
        raise FileNotFoundError(_absent(Recipe(network, **named), path))
    record = read_record(path)
    if record is None:
        raise ValueError(
            f"weights file {path} was not written by `python -m saliency_sanity train`: "
            "its header does not say which classes and size it is for"
        )
    if record["network"] != network:
        raise ValueError(
            f"weights file {path} holds a trained {record['network']}, not {network}; "
            f"load_model({record['network']!r}, …) loads it"
        )
    if named:
        _check_name(path, weights, named, record)
    build = partial(
        build_untrained,
        network,
        size=record["size"],
        channels=record["channels"],
        classes=len(record["classes"]),
    )
    bare = build(0)
    fill(bare, read_weights(path), weights)
    if weights_hash(bare) != record["weights_hash"]:
        raise ValueError(
            f"weights file {path} is damaged: its tensors are not those that were trained "
            f"({weights_hash(bare)} instead of {record['weights_hash']}); train it again"
        )
    return _classifier(bare, network, weights, record["size"], build, record)


def _absent(recipe: Recipe, path: Path) -> str:
    """Say which command trains the network of a file that is not there."""
    book = "   (`make book` trains those that the book needs)" * embedded_folder().is_dir()
    return (
        f"weights {recipe.weights!r} of {recipe.network} are trained by this project and not there "
        f"yet ({'/'.join(path.parts[-3:])}); train them with: {training_command(recipe)}"
        f"{book * made_of_embedded(recipe.dataset)}"
    )


def training_command(recipe: Recipe) -> str:
    """The command that trains such a network in minutes."""
    command = f"python -m saliency_sanity train {recipe.key}"
    # Profiles come with a checkout, too.
    whole, embedded = embedded_folder().is_dir(), made_of_embedded(recipe.dataset)
    command += " --profile quick" * whole
    command += f" -p dataset {recipe.dataset}" * (not embedded)
    command += " -p source download" * (not (whole and embedded))
    return command + (f" -p seed {recipe.seed}" if recipe.seed else "")


def _check_name(
    path: Path, weights: str, named: Mapping[str, Any], record: Mapping[str, Any]
) -> None:
    """Refuse a file that was trained on something else than its name says."""
    # A file from elsewhere may say less of itself than those that training writes.
    found = {"dataset": record["dataset"], **record.get("parameters", {})}
    for key, value in named.items():
        if found.get(key, value) != value:
            raise ValueError(
                f"weights file {path} was trained with {key} {found[key]!r}, not {value!r} as "
                f"{weights!r} says; load it by its path, or train it again"
            )


def load_bare(network: str, weights: str, seed: int) -> Classifier:
    """A small network with weights ``none``, drawn with ``seed``, or from a plain state dict."""
    build = partial(build_untrained, network)
    bare = build(seed)
    if weights != "none":
        fill(bare, read_weights(Path(weights)), weights)
    return _classifier(bare, network, weights, TRAINABLE[network].size, build, None)


def _classifier(
    bare: nn.Module,
    network: str,
    weights: str,
    size: int,
    build: partial,
    record: dict[str, Any] | None,
) -> Classifier:
    kind = TRAINABLE[network]
    return Classifier(
        bare,
        name=network,
        weights=weights,
        scaling=kind.scaling,
        size=size,
        class_names=record["classes"] if record else (),
        cam_layer=kind.cam_layer,
        untrained=build,
        provenance=record,
    )
