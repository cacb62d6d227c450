"""A network by package.module:function, with what belongs to it."""

import sys

import pytest
import torch
from made.networks import draw
from saliency_sanity import Classifier, Scaling, load_model, weights_hash
from saliency_sanity._plugins import find

SCALING = Scaling((0.5,) * 3, (0.5,) * 3)

SOURCE = """
import torch
from saliency_sanity import Classifier, Scaling
from torch import nn


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))


def build():
    return Net()


def twin(seed):
    return torch.manual_seed(seed) and Net().eval()


def whole(untrained=None):
    scaling = Scaling((0.0,) * 3, (1.0,) * 3)
    return Classifier(
        Net(), name="mine", weights="trained", scaling=scaling, size=8, cam_layer="0",
        untrained=untrained,
    )


def with_untrained():
    return whole(twin)


def sized(size):
    return Net()


def nothing():
    return {"a": 1}


network = Net()
number = 3
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "my_net.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_net", None)


@pytest.mark.parametrize("name", ["build", "Net", "network"])
def test_a_bare_network_is_given_its_scaling(mine, name):
    path = f"my_net:{name}"
    model = load_model(path, device="cpu", scaling=SCALING, size=8, cam_layer="0")
    assert isinstance(model, Classifier)
    assert (model.name, model.weights, model.size, model.cam_layer) == (path, "default", 8, "0")
    assert model.scaling == SCALING
    assert not any(module.training for module in model.modules())
    assert model.logits(draw(2, 3, 8, 8)).shape == (2, 5)
    assert model.class_name(3) == "class 3"


def test_a_classifier_is_taken_as_it_is(mine):
    model = load_model("my_net:whole", device="cpu")
    assert (model.name, model.weights, model.size, model.cam_layer) == ("mine", "trained", 8, "0")
    with pytest.raises(ValueError, match=r"'my_net:whole' is a Classifier.*leave out"):
        load_model("my_net:whole", scaling=SCALING)


def test_what_the_function_draws_is_that_of_the_seed(mine):
    hashes = []
    for seed in (0, 0, 1):
        model = load_model("my_net:build", device="cpu", seed=seed, scaling=SCALING, size=8)
        hashes.append(weights_hash(model))
        torch.rand(2)
        before = torch.get_rng_state()
    assert hashes[0] == hashes[1] != hashes[2]
    load_model("my_net:build", device="cpu", scaling=SCALING, size=8)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_state_dict_goes_into_it(mine, tmp_path):
    given = {"device": "cpu", "scaling": SCALING, "size": 8}
    saved = load_model("my_net:build", seed=3, **given)
    path = tmp_path / "mine.pth"
    torch.save(saved.network.state_dict(), path)
    loaded = load_model("my_net:build", path, **given)
    assert loaded.weights == str(path)
    assert weights_hash(loaded) == weights_hash(saved)
    assert load_model("my_net:whole", path, device="cpu").weights == str(path)


def test_random_weights_are_those_of_untrained(mine):
    model = load_model("my_net:with_untrained", "none", device="cpu", seed=4)
    assert model.weights == "none"
    assert weights_hash(model.network) == weights_hash(model.untrained(4))
    with pytest.raises(ValueError, match=r"'none' of 'my_net:whole'.*untrained="):
        load_model("my_net:whole", "none", device="cpu")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("my_net:biuld", ValueError, r"unknown model in my_net 'biuld'. Nearest: build"),
        ("my_net:number", ValueError, "unknown model in my_net 'number'"),
        ("my_nett:build", ValueError, r"module 'my_nett' cannot be imported .* PYTHONPATH"),
        ("my_net:build", ValueError, r"bare Net, .*Classifier\(network.* scaling and size"),
        ("my_net:sized", TypeError, "cannot be called without arguments.*'size'"),
        ("my_net:nothing", TypeError, "gave dict; valid are a torch.nn.Module"),
    ],
)
def test_what_cannot_be_loaded_says_what_to_do(mine, name, error, message):
    with pytest.raises(error, match=message):
        load_model(name, device="cpu")


def test_unknown_weights_list_the_valid_ones(mine):
    with pytest.raises(ValueError, match=r"weights of my_net:whole 'defualt'. Nearest: default"):
        load_model("my_net:whole", "defualt")


@pytest.mark.parametrize("given", [{"scaling": SCALING}, {"size": 8}, {"cam_layer": "layer4"}])
def test_what_is_known_of_a_named_network_is_not_given(given):
    with pytest.raises(ValueError, match=r"of 'resnet18' are known.*package.module:function"):
        load_model("resnet18", "none", device="cpu", **given)


def test_an_error_in_somebodys_function_comes_as_it_is(mine):
    sys.path_importer_cache.clear()
    import my_net

    my_net.build = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        load_model("my_net:build")


def test_where_somebodys_function_failed_is_noted(mine, tmp_path):
    (tmp_path / "my_net.py").write_text(
        SOURCE + "\n\ndef loaded():\n    return torch.load('nowhere.pt')\n"
    )
    line = len((tmp_path / "my_net.py").read_text().splitlines())
    with pytest.raises(FileNotFoundError) as failed:
        load_model("my_net:loaded", device="cpu")
    (note,) = failed.value.__notes__
    where = f"model 'my_net:loaded' raised FileNotFoundError in my_net.py, line {line}: "
    assert note.startswith(f"{where}return torch.load('nowhere.pt'): [Errno 2]")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 / 0\n", r"raised ZeroDivisionError in my_broken.py, line 1: 1 / 0: division by zero"),
        ("def f(:\n", r"raised SyntaxError: .*my_broken.py"),
    ],
)
def test_a_module_that_fails_is_named_with_the_line(text, said, tmp_path, monkeypatch):
    (tmp_path / "my_broken.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=rf"method 'my_broken:f': module 'my_broken' {said}"):
        find("method", "my_broken:f")


def test_a_name_is_found_in_a_package():
    assert find("method", "torch.nn:ReLU") is torch.nn.ReLU


@pytest.mark.parametrize("end", ["sys.exit()", "sys.exit(2)", "raise SystemExit('usage: x')"])
def test_a_module_that_ends_the_program_is_named(end, tmp_path, monkeypatch):
    (tmp_path / "my_script.py").write_text(f"import sys\n{end}\n")
    monkeypatch.syspath_prepend(tmp_path)
    for kind, load in (("model", load_model), ("method", lambda path: find("method", path))):
        with pytest.raises(ValueError, match=rf"{kind} 'my_script:run'.*sys.exit.*__main__"):
            load("my_script:run")
