"""Files of trained networks: what they say of themselves, refusals, and the way into a model."""

import json

import pytest
import torch
from made.networks import draw, relative
from safetensors.torch import save_file
from saliency_sanity import load_model, weights_hash
from saliency_sanity._files import ResultsError
from saliency_sanity.book.cli import main
from saliency_sanity.subjects.models import load_replicates
from saliency_sanity.subjects.small_networks import build_untrained
from saliency_sanity.subjects.training import loop as training
from saliency_sanity.subjects.training.checkpoints import (
    load_trained,
    read_record,
    trained_path,
    write_trained,
)

RECORD = {
    "network": "cnn",
    "dataset": "fashion_mnist",
    "classes": [f"garment {i}" for i in range(7)],
    "size": 32,
    "channels": 1,
    "test_accuracy": 0.75,
    "note": "Größe, ⊙",
}
# What the command line reads of a record.
DONE = {
    "test_accuracy": 0.1,
    "test_count": 20,
    "train_accuracy": 0.9,
    "train_count": 30,
    "target_accuracy": 0.0,
    "target_reached": None,
    "epochs": 2.0,
}


@pytest.fixture
def written(tmp_path):
    network = build_untrained("cnn", 5, size=32, classes=7)
    path = tmp_path / "results/models/cnn-fashion_mnist.safetensors"
    write_trained(network, path, RECORD)
    return network, path


def test_round_trip(written):
    network, path = written
    assert read_record(path) == RECORD | {"weights_hash": weights_hash(network)}
    model = load_model("cnn", path, device="cpu")
    assert weights_hash(model) == weights_hash(load_trained("cnn", path, "other"))
    x = draw(2, 1, 32, 32)
    assert relative(model(x), network(x)) < 1e-5
    assert (model.name, model.weights, model.size) == ("cnn", str(path), 32)
    assert (model.accuracy, model.provenance) == (0.75, read_record(path))
    assert model.class_name(6) == "garment 6"
    assert model.cam_layer == "hidden2"
    assert model.scaling.input_range == (0, 1)
    assert list(path.parent.iterdir()) == [path]


def test_untrained_twin_has_the_same_tensors(written):
    model = load_model("cnn", written[1], device="cpu")
    twin = model.untrained(3)
    assert {k: v.shape for k, v in twin.state_dict().items()} == {
        k: v.shape for k, v in model.network.state_dict().items()
    }
    assert twin is not model.untrained(3)


def test_default_weights_are_those_of_the_checkout(written, tmp_path, monkeypatch):
    (tmp_path / "_config.yml").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert trained_path("cnn", "fashion_mnist").samefile(written[1])
    named = load_model("cnn", device="cpu")
    assert named.weights == "fashion_mnist"
    assert weights_hash(named) == weights_hash(load_model("cnn", "fashion_mnist", device="cpu"))


@pytest.mark.parametrize(
    ("name", "weights", "file", "command"),
    [
        ("mlp", "default", "mlp-fashion_mnist", "mlp"),
        ("inception_v3", "fashion_mnist", "inception_v3-fashion_mnist", "inception_v3"),
        ("cnn", "fashion_mnist-2", "cnn-fashion_mnist-2", "cnn -p seed 2"),
        ("cnn", "fashion_mnist-permuted", "cnn-fashion_mnist-permuted", "cnn-permuted"),
        ("cnn", "fashion_mnist-negatives", "cnn-fashion_mnist-negatives", "cnn-negatives"),
        ("cnn", "pairs_shape-2", "cnn-pairs_shape-2", "cnn-pairs_shape -p seed 2"),
        (
            *("cnn", "fashion_mnist-permuted-1", "cnn-fashion_mnist-permuted-1"),
            "cnn-permuted -p seed 1",
        ),
        ("cnn", "mnist", "cnn-mnist", "cnn -p dataset mnist -p source download"),
        (
            *("mlp", "mnist-permuted-3", "mlp-mnist-permuted-3"),
            "mlp-permuted -p dataset mnist -p source download -p seed 3",
        ),
    ],
)
def test_absent_weights_come_with_the_command_that_trains_them(
    name, weights, file, command, tmp_path, monkeypatch
):
    (tmp_path / "_config.yml").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        load_model(name, weights, device="cpu")
    said = str(caught.value)
    network, space, settings = command.partition(" ")
    settings = space + settings
    assert said.partition("train them with: ")[2].partition("   (")[0] == (
        f"python -m saliency_sanity train {network} --profile quick{settings}"
    )
    assert ("make book" in said) == ("dataset" not in command), "the book trains no digits"
    assert f"(results/models/{file}.safetensors)" in said
    assert str(tmp_path) not in said
    asked = []
    monkeypatch.setattr(training, "train", lambda recipe, path, **_: asked.append(path) or DONE)
    assert main(["train", *command.split()]) == 0
    assert asked == [tmp_path / "results" / "models" / f"{file}.safetensors"]


def test_weights_of_a_name_load_from_its_file(written, tmp_path, monkeypatch):
    network, path = written
    (tmp_path / "_config.yml").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    trained_on = {"dataset": "fashion_mnist", "labels": "permuted", "seed": 1}
    named = trained_path("cnn", "fashion_mnist-permuted-1")
    write_trained(network, named, RECORD | {"parameters": trained_on})
    model = load_model("cnn", "fashion_mnist-permuted-1", device="cpu")
    assert model.weights == "fashion_mnist-permuted-1"
    assert weights_hash(model) == weights_hash(load_model("cnn", path, device="cpu"))
    for weights, says in (
        ("fashion_mnist-1", "trained with labels 'permuted', not 'true'"),
        ("fashion_mnist-permuted", "trained with seed 1, not 0"),
        ("mnist-permuted-1", "trained with dataset 'fashion_mnist', not 'mnist'"),
    ):
        wrong = trained_path("cnn", weights)
        wrong.write_bytes(named.read_bytes())
        with pytest.raises(ValueError, match=f"{says} as '{weights}' says"):
            load_model("cnn", weights, device="cpu")
        assert load_model("cnn", wrong, device="cpu").provenance["network"] == "cnn"


@pytest.mark.parametrize("name", ["cnn", "inception_v3"])
@pytest.mark.parametrize(
    ("weights", "nearest"),
    [
        ("fashion_mnist-permutd", "fashion_mnist-permuted"),
        ("fashion_mnist-01", "fashion_mnist"),
        ("fashion_mnist-permuted-0", "fashion_mnist-permuted"),
    ],
)
def test_unknown_weights_list_the_nearest(name, weights, nearest):
    with pytest.raises(ValueError, match=f"weights of {name} '{weights}'. Nearest: {nearest}"):
        load_model(name, weights, device="cpu")


def test_file_of_another_network_is_refused(written):
    with pytest.raises(ValueError, match=r"holds a trained cnn, not mlp; load_model\('cnn', …\)"):
        load_model("mlp", written[1], device="cpu")
    with pytest.raises(ValueError, match=r"holds a trained cnn, not inception_v3"):
        load_model("inception_v3", written[1], device="cpu")


def test_small_networks_without_training():
    for name in ("cnn", "mlp"):
        model = load_model(name, "none", device="cpu", seed=2)
        assert weights_hash(model.network) == weights_hash(build_untrained(name, 2))
        assert (model.accuracy, model.provenance, model.size) == (None, None, 28)
        assert model.class_names == ()


def test_plain_state_dict_of_a_small_network(tmp_path):
    torch.save(build_untrained("mlp", 4).state_dict(), tmp_path / "own.pth")
    model = load_model("mlp", tmp_path / "own.pth", device="cpu")
    assert weights_hash(model.network) == weights_hash(build_untrained("mlp", 4))
    assert model.provenance is None
    with pytest.raises(ValueError, match=r"own.pth belong to another network than CNN"):
        load_model("cnn", tmp_path / "own.pth", device="cpu")
    with pytest.raises(FileNotFoundError, match=r"nowhere.pth does not exist"):
        load_model("cnn", tmp_path / "nowhere.pth", device="cpu")
    with pytest.raises(ValueError, match=r"unknown weights of cnn 'nonne'. Nearest: none"):
        load_model("cnn", "nonne", device="cpu")


@pytest.mark.parametrize("damage", ["cut", "text", "header", "lacking"])
def test_damaged_file_is_named(damage, written):
    network, path = written
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:3000])
    elif damage == "text":
        path.write_text("not tensors")
    else:
        record = "{" if damage == "header" else json.dumps({"network": "cnn"})
        save_file(network.state_dict(), path, metadata={"saliency_sanity": record})
    expected = "header lacks dataset, classes" if damage == "lacking" else "is damaged"
    with pytest.raises(ValueError, match=rf"cnn-fashion_mnist.safetensors.*{expected}"):
        load_model("cnn", path, device="cpu")


def test_file_of_somebody_else_has_no_record(written):
    network, path = written
    save_file(network.state_dict(), path)
    assert read_record(path) is None
    with pytest.raises(ValueError, match=r"was not written by .*train"):
        load_trained("cnn", path, "fashion_mnist")
    with pytest.raises(FileNotFoundError, match=r"nowhere.safetensors does not exist"):
        read_record(path.with_name("nowhere.safetensors"))


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    network = build_untrained("cnn", 0)
    with torch.no_grad():
        network.fc1.layer.bias[3] = torch.nan
    with pytest.raises(ValueError, match=r"1 tensors are not finite \(fc1.layer.bias"):
        write_trained(network, tmp_path / "cnn.safetensors", RECORD)
    assert list(tmp_path.iterdir()) == []


def test_failed_writing_leaves_the_old_file(written, monkeypatch):
    network, path = written
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("saliency_sanity.subjects.training.checkpoints.save_file", full)
    with pytest.raises(ResultsError, match=r"No space left"):
        write_trained(network, path, {**RECORD, "size": 28})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_byte_that_has_changed_in_a_tensor_is_found(written):
    path = written[1]
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="its tensors are not those that were trained"):
        load_model("cnn", path, device="cpu")


def test_replicates_come_in_pairs_or_with_the_commands_for_all_that_are_missing(
    tmp_path, monkeypatch
):
    (tmp_path / "_config.yml").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    record = {"dataset": "fashion_mnist", "classes": list("0123456789"), "test_accuracy": 0.5}
    record |= {"network": "cnn", "size": 28, "channels": 1}
    for seed, weights in enumerate(["fashion_mnist", "fashion_mnist-permuted"]):
        write_trained(build_untrained("cnn", seed), trained_path("cnn", weights), record)
    found = load_replicates("cnn", "fashion_mnist", 1, device="cpu")
    assert [model.weights for kind in found.values() for model in kind] == [
        "fashion_mnist",
        "fashion_mnist-permuted",
    ]
    assert list(found) == ["true", "permuted"]
    with pytest.raises(FileNotFoundError, match="2 of 4 networks") as caught:
        load_replicates("cnn", "fashion_mnist", 2, device="cpu")
    for command in ("train cnn --profile quick -p seed 1", "train cnn-permuted --profile quick -p"):
        assert command in str(caught.value)
    with pytest.raises(ValueError, match="0 networks of each kind"):
        load_replicates("cnn", "fashion_mnist", 0)
