"""Training: repeatable, resumable after a kill, honest about itself."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from saliency_sanity import load_model, weights_hash
from saliency_sanity._random import generator
from saliency_sanity.subjects.datasets import load_dataset
from saliency_sanity.subjects.training import loop as training
from saliency_sanity.subjects.training.checkpoints import read_record
from saliency_sanity.subjects.training.loop import train, training_labels
from saliency_sanity.subjects.training.recipe import Recipe
from saliency_sanity.subjects.weights import read_weights

TINY = {"images": 60, "epochs": 2.5, "batch": 16, "learning_rate": 1e-3}
QUICK = Recipe("cnn", **TINY, augmentation="flip-shift", schedule="one-cycle")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished") / "cnn.safetensors"
    return path, train(QUICK, path, progress=False)


def same(a: Path, b: Path) -> bool:
    ours, theirs = read_weights(a), read_weights(b)
    assert ours.keys() == theirs.keys()
    return all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_same_recipe_gives_the_same_bits_whatever_the_global_state(finished, tmp_path):
    path, record = finished
    torch.manual_seed(7)
    torch.rand(3)
    before = torch.get_rng_state()
    again = train(QUICK, tmp_path / "again.safetensors", progress=False)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(path, tmp_path / "again.safetensors")
    changing = ("started", "seconds")
    assert {k: v for k, v in again.items() if k not in changing} == {
        k: v for k, v in record.items() if k not in changing
    }


def test_another_seed_gives_another_network(finished, tmp_path):
    recipe = Recipe("cnn", **{**TINY, "epochs": 0.1}, seed=1)
    train(recipe, tmp_path / "other.safetensors", progress=False)
    assert not same(finished[0], tmp_path / "other.safetensors")


def test_record_says_what_was_done(finished):
    path, record = finished
    assert read_record(path) == record
    # 2.5 epochs of 60 pictures in full batches of 16.
    assert (record["steps"], record["epochs"]) == (10, pytest.approx(160 / 60))
    assert (record["images"], record["train_count"], record["test_count"]) == (60, 60, 2000)
    assert (record["network"], record["size"], record["channels"]) == ("cnn", 28, 1)
    assert record["parameters"]["learning_rate"] == 1e-3
    assert record["labels_changed"] == 0
    assert (record["target_accuracy"], record["target_reached"]) == (0, None)
    assert record["seconds"] > 0
    assert record["versions"]["torch"]
    assert str(path.parent) not in json.dumps(record)
    assert list(path.parent.iterdir()) == [path], "neither checkpoint nor temporary files"


def test_negatives_are_learned_and_counted(tmp_path):
    path = tmp_path / "negatives.safetensors"
    recipe = Recipe("cnn", **TINY, negatives=True)
    record = train(recipe, path, progress=False)
    run = training._Run(recipe, torch.full((400, 28, 28), 10, dtype=torch.uint8), None, path)
    shown = run._augmented(run.images)
    assert sorted(shown.unique().tolist()) == [10, 245]
    assert 140 < (shown[:, 0, 0] == 245).sum() < 260, "about half of them"
    model = load_model("cnn", str(path), device="cpu")
    for name, data, sides in (
        ("test_accuracy", load_dataset(split="test"), (False,)),
        ("negatives_test_accuracy", load_dataset(split="test"), (True,)),
        ("train_accuracy", load_dataset(split="train", count=60), (False, True)),
    ):
        raw = data.images[:, None].float() / 255
        right = [model.predict(1 - raw if turn else raw) == data.labels for turn in sides]
        assert record[name] == pytest.approx(torch.cat(right).double().mean().item(), abs=1e-3)


def test_accuracies_are_those_of_the_file(finished):
    path, record = finished
    model = load_model("cnn", str(path), device="cpu")
    for split, count in (("test", 2000), ("train", 60)):
        data = load_dataset(split=split, count=count)
        found = model.predict(data.images[:, None].float() / 255)
        right = (found == data.labels).double().mean().item()
        assert record[f"{split}_accuracy"] == pytest.approx(right)
    assert model.accuracy == record["test_accuracy"]


def test_a_cnn_learns(tmp_path):
    recipe = Recipe("cnn", images=1000, epochs=3, batch=50, learning_rate=1e-3)
    record = train(recipe, tmp_path / "cnn.safetensors", progress=False)
    assert record["test_accuracy"] > 0.7
    chance = load_model("cnn", "none", device="cpu")
    data = load_dataset(split="test", count=500)
    found = chance.predict(data.images[:, None].float() / 255)
    assert (found == data.labels).double().mean() < 0.3


def test_a_transformer_learns_and_gives_the_same_bits_again(tmp_path):
    recipe = Recipe("vit", images=60, epochs=25, batch=20, size=8, weight_decay=0.0)
    records = [train(recipe, tmp_path / f"{i}.safetensors", progress=False) for i in range(2)]
    assert records[0]["weights_hash"] == records[1]["weights_hash"]
    assert records[0]["train_accuracy"] > 0.5
    model = load_model("vit", str(tmp_path / "0.safetensors"), device="cpu")
    assert (model.size, model.cam_layer) == (8, "blocks.3.norm1")
    assert model.accuracy == records[0]["test_accuracy"]


def test_the_first_step_is_adams(tmp_path):
    """The first update of Adam is the rate times the sign of the gradient, whatever its size."""
    recipe = Recipe("mlp", images=60, epochs=0.1, batch=20, learning_rate=1e-3)
    path = tmp_path / "mlp.safetensors"
    assert train(recipe, path, progress=False)["steps"] == 1
    fresh = load_model("mlp", "none", device="cpu").untrained(recipe.seed)
    data = load_dataset(count=60)
    taken = torch.randperm(60, generator=generator(0, "order", 0))[:20]
    logits = fresh(data.images[taken, None].float() / 255)
    torch.nn.functional.cross_entropy(logits, data.labels[taken]).backward()
    trained = read_weights(path)
    for key, parameter in fresh.named_parameters():
        large = parameter.grad.abs() > 1e-5
        assert large.any()
        moved = (trained[key] - parameter)[large]
        assert torch.allclose(moved, -1e-3 * parameter.grad.sign()[large], rtol=2e-2)


def test_epochs_show_every_picture_once():
    run = training._Run.__new__(training._Run)
    run.recipe, run.images, run._orders = Recipe("cnn", batch=7), torch.zeros(30, 28, 28), {}
    row = torch.cat([run._indices(step) for step in range(13)])
    for epoch in range(3):
        assert torch.equal(row[30 * epoch : 30 * (epoch + 1)].sort()[0], torch.arange(30))
    assert not torch.equal(row[:30], row[30:60])
    run.recipe, run._orders = Recipe("cnn", batch=70), {}
    assert run._indices(3).bincount(minlength=30).min() >= 2
    late = run._indices(3)
    run._orders = {}
    assert torch.equal(run._indices(3), late), "no step depends on those before it"


def test_batch_norms_get_the_statistics_of_the_finished_weights(tmp_path, monkeypatch):
    # How much of 2000 test pictures is right takes longest, and is no matter here.
    monkeypatch.setattr(
        training._Run, "predicted", lambda self, images: torch.zeros(len(images), dtype=torch.int64)
    )
    recipe = Recipe("inception_v3", images=40, epochs=0.8, batch=8, learning_rate=1e-3)
    path = tmp_path / "inception.safetensors"
    record = train(recipe, path, progress=False)
    model = load_model("inception_v3", str(path), device="cpu")
    assert (model.size, model.scaling.input_range) == (75, (-1, 1))
    assert model.class_names == load_dataset(count=1).class_names
    assert record["steps"] == 4
    x = training.to_pixels(load_dataset(count=40).images, 75, 3)
    first = model.network.Conv2d_1a_3x3
    seen = first.conv(model.scaling.to_network(x)).detach()
    assert torch.allclose(first.bn.running_mean, seen.mean((0, 2, 3)), rtol=1e-3, atol=1e-5)
    assert torch.allclose(first.bn.running_var, seen.var((0, 2, 3)), rtol=1e-2, atol=1e-6)
    fresh = model.untrained(0)
    assert list(fresh.state_dict()) == list(model.network.state_dict())
    assert fresh.fc.out_features == 10


def test_permuted_labels_keep_their_counts():
    labels = load_dataset(count=500).labels
    permuted = training_labels(Recipe("cnn", labels="permuted"), labels)
    assert torch.equal(permuted.bincount(), labels.bincount())
    assert 0.8 < (permuted != labels).double().mean() < 0.97
    again = training_labels(Recipe("cnn", labels="permuted"), labels)
    other = training_labels(Recipe("cnn", labels="permuted", seed=1), labels)
    assert torch.equal(again, permuted)
    assert not torch.equal(other, permuted)
    assert training_labels(Recipe("cnn"), labels) is labels
    with pytest.raises(ValueError, match=r"permutation of 9 labels with seed 0 leaves all of them"):
        training_labels(Recipe("cnn", labels="permuted"), torch.zeros(9, dtype=torch.int64))


def test_permuted_labels_are_learnt_by_heart_until_the_target(tmp_path):
    recipe = Recipe(
        "mlp", images=50, labels="permuted", epochs=60, batch=10, learning_rate=1e-3,
        target_accuracy=0.95,
    )  # fmt: skip
    record = train(recipe, tmp_path / "mlp.safetensors", progress=False)
    assert record["train_accuracy"] >= 0.95
    assert record["test_accuracy"] < 0.35
    assert 1 < record["epochs"] < 60
    assert record["epochs"] == int(record["epochs"]), "it ends with an epoch"
    assert record["labels_changed"] > 0.7
    assert (record["target_accuracy"], record["target_reached"]) == (0.95, True)


def test_a_target_that_is_not_reached_is_said(tmp_path):
    recipe = Recipe("mlp", images=50, labels="permuted", epochs=1, batch=10, target_accuracy=1.0)
    record = train(recipe, tmp_path / "mlp.safetensors", progress=False)
    assert record["train_accuracy"] < 1
    assert (record["target_accuracy"], record["target_reached"]) == (1, False)
    assert record["epochs"] == 1


def test_a_target_is_measured_on_all_pictures_with_the_weights_as_they_are(tmp_path, monkeypatch):
    """What was right on the way is no proof: training ends only where the measurement says so."""
    data = load_dataset(count=2100)
    recipe = Recipe("mlp", images=2100, epochs=6, batch=50, learning_rate=1e-3, target_accuracy=0.6)
    measured = []
    predicted = training._Run.predicted

    def low_at_first(self, images):
        found = predicted(self, images)
        measured.append((len(images), self.step))
        return torch.zeros_like(found) if len(measured) == 1 else found

    monkeypatch.setattr(training._Run, "predicted", low_at_first)
    record = train(recipe, tmp_path / "mlp.safetensors", progress=False)
    epochs = [step // 42 for pictures, step in measured if pictures == 2100][:2]
    assert epochs[1] == epochs[0] + 1 == record["epochs"], "one epoch more than the first reading"
    assert record["train_count"] == 2100
    monkeypatch.undo()
    model = load_model("mlp", str(tmp_path / "mlp.safetensors"), device="cpu")
    right = model.predict(data.images[:, None].float() / 255) == data.labels
    assert record["train_accuracy"] == pytest.approx(right.double().mean().item())
    assert record["target_reached"] is True


def test_measuring_on_the_way_changes_nothing(tmp_path, monkeypatch):
    """Batch norms are measured in another mode than they learn in, and go back to it."""
    values = {"images": 16, "epochs": 2, "batch": 8, "learning_rate": 1e-4}
    plain, watched = tmp_path / "plain.safetensors", tmp_path / "watched.safetensors"
    measured = []
    predicted = training._Run.predicted

    def never_right(self, images):
        predicted(self, images[:16])
        measured.append(self.step)
        return torch.full((len(images),), -1)

    monkeypatch.setattr(training._Run, "predicted", never_right)
    train(Recipe("inception_v3", **values), plain, progress=False)
    assert set(measured) == {4}, "only at the end"
    recipe = Recipe("inception_v3", **values, target_accuracy=1e-9)
    assert train(recipe, watched, progress=False)["target_reached"] is False
    assert min(measured) < 4, "also on the way"
    assert same(plain, watched)


def test_divergence_is_said_and_writes_nothing(tmp_path):
    recipe = Recipe("cnn", images=60, epochs=20, optimizer="sgd", learning_rate=1e6)
    with pytest.raises(ValueError, match=r"diverged.* smaller learning_rate than 1000000.0"):
        train(recipe, tmp_path / "cnn.safetensors", progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"images": 10_001}, r"10001 pictures asked for, .* has 10000"),
        ({"dataset": "mnist"}, r"mnist is not embedded"),
        ({"images": 1, "labels": "permuted"}, r"permutation of 1 labels"),
    ],
)
def test_refused_before_any_work(values, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train(Recipe("cnn", **values), tmp_path / "cnn.safetensors", progress=False)
    with pytest.raises(ValueError, match=r"must end in '.safetensors'"):
        train(Recipe("cnn"), tmp_path / "cnn.pth")
    assert list(tmp_path.iterdir()) == []


def interrupted(recipe: Recipe, path: Path, after: int, monkeypatch) -> None:
    """Leave a checkpoint of ``after`` steps behind."""
    advance = training._Run._advance

    def stop(self):
        if self.step == after:
            raise KeyboardInterrupt
        return advance(self)

    with monkeypatch.context() as patch:
        patch.setattr(training._Run, "_advance", stop)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, path, progress=False, checkpoint_seconds=0)


LONG = Recipe("cnn", **TINY | {"epochs": 16}, augmentation="flip-shift", schedule="one-cycle")
KILLED = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from saliency_sanity.subjects.training.recipe import Recipe
from saliency_sanity.subjects.training.loop import train
recipe = Recipe("cnn", images=60, epochs=16, batch=16, learning_rate=1e-3,
                augmentation="flip-shift", schedule="one-cycle")
train(recipe, Path(sys.argv[1]), progress=False, checkpoint_seconds=0)
"""


def test_killed_training_goes_on_to_the_same_result(tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    checkpoint = cut.with_name(cut.name + ".checkpoint")
    train(LONG, whole, progress=False)
    process = subprocess.Popen([sys.executable, "-W", "error", "-c", KILLED, cut])
    while process.poll() is None and not checkpoint.exists():
        time.sleep(0.01)
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -9, "it was killed in the middle"
    killed = torch.load(checkpoint, weights_only=True)["progress"][0]
    assert 0 < killed < 60
    assert not cut.exists()
    interrupted(LONG, cut, killed + 2, monkeypatch)  # a second time
    assert torch.load(checkpoint, weights_only=True)["progress"][0] == killed + 2
    train(LONG, cut, progress=False)
    assert same(whole, cut)
    assert not checkpoint.exists()
    assert read_record(cut)["test_accuracy"] == read_record(whole)["test_accuracy"]


@pytest.mark.parametrize("damage", ["cut", "foreign", "other recipe"])
def test_checkpoint_that_cannot_be_used_is_named(damage, finished, tmp_path, monkeypatch):
    path = tmp_path / "cnn.safetensors"
    checkpoint = tmp_path / "cnn.safetensors.checkpoint"
    other = Recipe("cnn", **TINY, seed=9)
    interrupted(other if damage == "other recipe" else QUICK, path, 3, monkeypatch)
    if damage == "cut":
        checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    elif damage == "foreign":
        torch.save({"recipe": None}, checkpoint)
    with pytest.warns(UserWarning, match=r"checkpoint cnn.safetensors.checkpoint cannot be used"):
        train(QUICK, path, progress=False)
    assert same(path, finished[0])
    assert list(tmp_path.iterdir()) == [path]


def test_epoch_accuracy_survives_an_interruption(tmp_path, monkeypatch):
    recipe = Recipe("mlp", images=50, epochs=40, batch=10, learning_rate=1e-3, target_accuracy=0.9)
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    expected = train(recipe, whole, progress=False)
    assert 1 < expected["epochs"] < 40
    # In the middle of the last epoch, whose accuracy decides.
    interrupted(recipe, cut, expected["steps"] - 2, monkeypatch)
    assert train(recipe, cut, progress=False)["epochs"] == expected["epochs"]
    assert same(whole, cut)


def test_stale_temporary_files_go_and_recent_ones_stay(tmp_path):
    old, new = (tmp_path / f".cnn.safetensors.checkpoint.{name}.tmp" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    train(Recipe("cnn", **{**TINY, "epochs": 0.1}), tmp_path / "cnn.safetensors", progress=False)
    assert not old.exists()
    assert new.exists()


def test_training_leaves_the_saved_network_in_evaluation_mode(finished):
    model = load_model("cnn", str(finished[0]), device="cpu")
    assert not any(module.training for module in model.modules())
    assert len(weights_hash(model)) == 12
