"""Classifiers of timm: how their pictures are scaled, and where weights come from."""

import socket
from urllib.error import URLError

import pytest
import torch
from made.networks import draw
from saliency_sanity import WeightsUnavailable, load_model, resolve, weights_hash
from saliency_sanity.networks.classifier import submodule
from saliency_sanity.subjects import timm_models
from saliency_sanity.subjects.timm_models import imagenet_classes, timm

IMAGENET = (0.485, 0.456, 0.406)
CHOSEN = {
    "resnet10t": (176, IMAGENET, "layer4"),
    "resnet18.tv_in1k": (224, IMAGENET, "layer4"),
    "vit_tiny_patch16_224": (224, (0.5,) * 3, "blocks.11.norm1"),
    "swin_tiny_patch4_window7_224": (224, IMAGENET, None),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_a_classifier_is_as_timm_says(name):
    size, mean, layer = CHOSEN[name]
    model = load_model(f"timm:{name}", "none", device="cpu", seed=1)
    assert (model.name, model.weights, model.size) == (f"timm:{name}", "none", size)
    assert model.scaling.mean == pytest.approx(mean)
    assert model.class_names == imagenet_classes()
    assert model.cam_layer == layer
    assert not any(module.training for module in model.modules())
    assert model.logits(draw(1, 3, size, size)).shape == (1, 1000)
    assert weights_hash(model.network) == weights_hash(model.untrained(1))
    assert weights_hash(model.network) != weights_hash(model.untrained(2))


def test_the_default_layer_suits_grad_cam():
    model = load_model("timm:resnet10t", "none", device="cpu")
    assert submodule(model, model.cam_layer) is model.network.layer4
    x = draw(2, 3, 64, 64)
    found = resolve("grad_cam")(model, x, model.predict(x))
    assert found.shape == (2, 1, 64, 64)


def test_other_classes_have_their_own_names():
    names = timm_models._class_names(timm_models._configuration("resnetv2_50x1_bit.goog_in21k"))
    assert len(names) == 21843
    assert len(set(names)) > 20000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("timm:resnet81",), r"unknown model of timm 'resnet81'. Nearest: resnet18"),
        (
            ("timm:resnet18.tv_in1",),
            r"'timm:resnet18.tv_in1'. Nearest: timm:resnet18.tv_in1k",
        ),
        (("timm:resnet18", "a2_in1k"), r"weights of timm:resnet18.*timm:resnet18.a2_in1k"),
        (("timm:vit_small_patch14_dinov2",), "gives features and no logits"),
        (("timm:resnet18", "nowhere.pth"), "nowhere.pth does not exist"),
    ],
)
def test_unknown_names_list_the_nearest(arguments, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_model(*arguments, device="cpu")


def test_a_network_without_weights_says_so():
    name = next(
        name for name in timm.list_models() if not timm.models.get_pretrained_cfg(name).has_weights
    )
    with pytest.raises(ValueError, match=f"timm has no weights for {name}.*'none'"):
        load_model(f"timm:{name}")


def test_a_file_goes_into_it_if_it_fits(tmp_path):
    saved = load_model("timm:resnet10t", "none", device="cpu", seed=5)
    path = tmp_path / "own.safetensors"
    from safetensors.torch import save_file

    save_file({k: v.contiguous() for k, v in saved.network.state_dict().items()}, path)
    loaded = load_model("timm:resnet10t", path, device="cpu")
    assert loaded.weights == str(path)
    assert weights_hash(loaded) == weights_hash(saved)
    with pytest.raises(ValueError, match="belong to another network"):
        load_model("timm:resnet14t", path)


@pytest.mark.parametrize("name", ["resnet10t.c3_in1k", "resnet18"])
def test_weights_are_those_of_the_hub(name, monkeypatch):
    wanted = []
    state = load_model(f"timm:{name}", "none", device="cpu", seed=7).network.state_dict()

    def hub(repository):
        wanted.append(repository)
        return dict(state)

    monkeypatch.setattr(timm_models, "hub_weights", hub)
    model = load_model(f"timm:{name}", device="cpu")
    tag = {"resnet18": "a1_in1k"}.get(name, "c3_in1k")
    assert wanted == [f"timm/{name.partition('.')[0]}.{tag}"]
    assert model.weights == tag
    found = model.network.state_dict()
    assert all(torch.equal(found[key], value) for key, value in state.items())
    assert "state_dict" not in model.network.pretrained_cfg


def test_no_network_says_what_to_do(monkeypatch):
    def refuse(repository):
        raise URLError(socket.gaierror(-3, "Temporary failure in name resolution"))

    monkeypatch.setattr(timm_models, "hub_weights", refuse)
    with pytest.raises(WeightsUnavailable) as caught:
        load_model("timm:resnet18", device="cpu")
    for part in ("'a1_in1k' of timm:resnet18", "name resolution", "give its path", "'none'"):
        assert part in str(caught.value)
