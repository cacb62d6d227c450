"""Classifiers by name: what belongs to them, where their weights come from."""

import socket
from urllib.error import URLError

import huggingface_hub
import pytest
import torch
import torchvision
from made.networks import draw, relative
from saliency_sanity import Classifier, WeightsUnavailable, load_model, weights_hash
from saliency_sanity.networks.classifier import Scaling, submodule
from saliency_sanity.subjects import timm_models, weights
from saliency_sanity.subjects.models import choose_device, model_names
from saliency_sanity.subjects.photographs import load_photographs
from saliency_sanity.subjects.timm_models import imagenet_classes
from saliency_sanity.subjects.torchvision_models import cam_layer


def test_lite0_knows_the_photographs(efficientnet):
    photographs = load_photographs(size=efficientnet.size)
    found = efficientnet.predict(efficientnet.scaling.to_network(photographs.pixels))
    right = sum(int(a == b) for a, b in zip(found.tolist(), photographs.labels, strict=True))
    assert len(photographs) == 20
    assert right >= 18


def test_lite0_agrees_with_the_labels_given_to_scikit_images_pictures(efficientnet):
    photographs = load_photographs("skimage", size=efficientnet.size)
    found = efficientnet.predict(efficientnet.scaling.to_network(photographs.pixels)).tolist()
    labelled = [(a, b) for a, b in zip(found, photographs.labels, strict=True) if b is not None]
    assert len(labelled) == 2
    assert all(a == b for a, b in labelled), labelled


def test_lite0_is_complete(efficientnet):
    assert isinstance(efficientnet, Classifier)
    assert (efficientnet.name, efficientnet.weights) == ("efficientnet_lite0", "imagenet")
    assert efficientnet.scaling.input_range == (-1, 1)
    assert efficientnet.size == 224
    assert len(efficientnet.class_names) == 1000
    assert efficientnet.class_name(630) == "Loafer"
    assert efficientnet.class_name(5000) == "class 5000"
    again = load_model("efficientnet_lite0", "imagenet", device="cpu")
    assert weights_hash(again) == weights_hash(efficientnet)


METADATA = {
    "resnet18": 224,
    "vgg11": 224,
    "densenet121": 224,
    "mobilenet_v3_small": 224,
    "convnext_tiny": 224,
    "vit_b_32": 224,
}


@pytest.mark.parametrize("name", METADATA)
def test_torchvision_classifier_is_complete(name):
    model = load_model(name, "none", device="cpu")
    assert (model.name, model.weights, model.size) == (name, "none", METADATA[name])
    assert model.scaling.mean == pytest.approx((0.485, 0.456, 0.406))
    assert model.scaling.std == pytest.approx((0.229, 0.224, 0.225))
    assert model.class_names == imagenet_classes()
    assert not any(module.training for module in model.modules())
    size = 224 if name.startswith("vit") else 64
    assert model.logits(draw(1, 3, size, size)).shape == (1, 1000)


def test_inception_takes_its_inputs_between_minus_one_and_one(inception):
    assert inception.scaling.input_range == (-1, 1)
    assert inception.size == 299
    assert inception.network.AuxLogits is None
    assert not inception.network.transform_input
    assert inception.cam_layer == "Mixed_7c"


OURS = ("efficientnet_lite0", "cnn", "mlp", "vit")


# All RegNets are one class, and it cannot be built without memory.
@pytest.mark.parametrize(
    "name", [n for n in model_names() if n not in OURS and not n.startswith("regnet")]
)
def test_default_cam_layer_exists(name):
    layer = cam_layer(name)
    if layer is None:
        assert name.startswith(("swin", "maxvit"))
        return
    options = {"aux_logits": False, "init_weights": False}
    options = options if name in ("inception_v3", "googlenet") else {}
    with torch.device("meta"):
        network = torchvision.models.get_model(name, weights=None, **options)
    assert submodule(network, layer) is network.get_submodule(layer)


def test_default_cam_layer_is_the_last_one_with_places():
    for name in ("regnet_y_400mf", "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5"):
        model = load_model(name, "none", device="cpu")
        seen = []
        submodule(model, model.cam_layer).register_forward_hook(lambda m, i, o, s=seen: s.append(o))
        model.logits(draw(1, 3, 64, 64))
        assert len(seen) == 1, name
        assert seen[0].ndim == 4, name
        assert seen[0].shape[-1] == 2, name


def test_random_weights_are_those_of_the_seed_and_of_nothing_else():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = weights_hash(load_model("resnet18", "none", device="cpu"))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert weights_hash(load_model("resnet18", "none", device="cpu")) == first
    assert weights_hash(load_model("resnet18", "none", device="cpu", seed=1)) != first
    lite = [load_model("efficientnet_lite0", "none", "cpu", seed) for seed in (0, 0, 1)]
    hashes = [weights_hash(model) for model in lite]
    assert hashes[0] == hashes[1] != hashes[2]


UNTRAINED = [
    "resnet18",
    "inception_v3",
    "googlenet",
    "efficientnet_lite0",
    "vit_b_32",
    "mlp",
    "vit",
]


@pytest.mark.parametrize("name", UNTRAINED)
def test_untrained_twin_is_that_of_the_seed(name):
    model = load_model(name, "none", device="cpu")
    assert (model.accuracy, model.provenance) == (None, None)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    twin = model.untrained(1)
    assert torch.equal(torch.get_rng_state(), before)
    ours = {key: value.shape for key, value in model.network.state_dict().items()}
    assert {key: value.shape for key, value in twin.state_dict().items()} == ours
    assert not any(module.training for module in twin.modules())
    torch.rand(3)
    hashes = [weights_hash(network) for network in (twin, model.untrained(1), model.untrained(2))]
    assert hashes[0] == hashes[1] != hashes[2]
    # What the constructor draws, of Inception v3 the papers' code: torchvision's overflows.
    own = weights_hash(load_model(name, "none", device="cpu", seed=1).network)
    assert (own == hashes[0]) == (name != "inception_v3")


def test_untrained_inception_of_timm_is_the_papers_too(monkeypatch):
    monkeypatch.setattr(timm_models, "download", lambda *_: {})
    monkeypatch.setattr(timm_models, "fill", lambda *_: None)
    model = load_model("inception_v3", "tf_in1k", device="cpu")
    twin = model.untrained(1)
    assert list(twin.state_dict()) == list(model.network.state_dict())
    first = twin.Conv2d_1a_3x3.conv.weight
    assert first.std().item() == pytest.approx((2 / 27) ** 0.5, rel=0.1)
    assert torch.equal(first, model.untrained(1).Conv2d_1a_3x3.conv.weight)


def test_hash_sees_every_tensor_and_no_layout(efficientnet):
    model = load_model("resnet18", "none", device="cpu")
    seen = {weights_hash(model)}
    model.network.to(memory_format=torch.contiguous_format)
    assert {weights_hash(model)} == seen
    with torch.no_grad():
        model.network.layer3[0].conv1.weight[0, 0, 0, 0] += 1e-3
        seen.add(weights_hash(model))
        model.network.bn1.running_var[3] += 1e-3
        seen.add(weights_hash(model))
    seen.add(weights_hash(efficientnet))
    assert len(seen) == 4
    assert all(len(found) == 12 for found in seen)


@pytest.mark.parametrize("name", ["resnet18", "inception_v3", "efficientnet_lite0"])
def test_weights_file_round_trip(name, tmp_path, request):
    fixtures = {"inception_v3": "inception", "efficientnet_lite0": "efficientnet"}
    saved = request.getfixturevalue(fixtures.get(name, "resnet"))
    path = tmp_path / "own.pth"
    state = saved.network.state_dict()
    if name == "inception_v3":
        # A file of the whole network, with the auxiliary head that evaluation never uses.
        state = {**state, "AuxLogits.fc.weight": torch.ones(1000, 768)}
    torch.save(state, path)
    loaded = load_model(name, str(path), device="cpu")
    assert loaded.weights == str(path)
    assert weights_hash(loaded) == weights_hash(saved)
    x = draw(1, 3, 96, 96)
    assert relative(loaded.logits(x), saved.logits(x)) < 1e-6


def test_file_of_another_network_is_refused(tmp_path, vgg):
    path = tmp_path / "vgg.pth"
    torch.save(vgg.network.state_dict(), path)
    with pytest.raises(ValueError, match=r"vgg.pth belong to another network than ResNet"):
        load_model("resnet18", str(path))
    with pytest.raises(FileNotFoundError, match=r"none.pth does not exist"):
        load_model("resnet18", str(tmp_path / "none.pth"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet81",), r"unknown model 'resnet81'. Nearest: resnet18"),
        (("efficientnet_lite",), r"Nearest: efficientnet_lite0"),
        (("resnet18", "IMAGENET1K_V3"), r"weights of resnet18 'IMAGENET1K_V3'. Nearest: IMAGEN"),
        (("inception_v3", "tf_in1"), r"Nearest: tf_in1k"),
        (("inception_v3", "fashionmnist"), r"Nearest: fashion_mnist"),
        (("efficientnet_lite0", "nonne"), r"unknown weights 'nonne'. Nearest: none"),
        (("resnet18", "none", "gpu"), r"device 'gpu' cannot be used.*valid are 'auto', 'cpu'"),
        (("resnet18", "none", "cuda:99"), r"device 'cuda:99' cannot be used"),
    ],
)
def test_unknown_names_list_the_nearest(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_model(*arguments)


def test_automatic_device_is_there():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No cache, and no name that resolves; the list of tries."""
    tries = []

    def refuse(request, *args, **kwargs):
        tries.append(getattr(request, "full_url", request))
        raise URLError(socket.gaierror(-3, "Temporary failure in name resolution"))

    def miss(**kwargs):
        if not kwargs.get("local_files_only"):
            tries.append("the hub's client, which tries again and again")
        raise huggingface_hub.errors.LocalEntryNotFoundError("not in the cache")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    monkeypatch.setattr(weights, "urlopen", refuse)
    monkeypatch.setattr(weights, "hf_hub_download", miss)
    return tries


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("resnet18", "default"), ("inception_v3", "IMAGENET1K_V1"), ("inception_v3", "tf_in1k")],
)
def test_no_network_says_what_to_do_at_once(name, wanted, offline):
    before = torch.get_rng_state()
    with pytest.raises(WeightsUnavailable) as caught:
        load_model(name, wanted, device="cpu")
    message = str(caught.value)
    for part in (name, "name resolution", "give its path", "efficientnet_lite0", "weights='none'"):
        assert part in message
    assert len(offline) == 1, "nothing is tried twice"
    assert torch.equal(torch.get_rng_state(), before)


def test_installed_weights_need_no_network(offline):
    load_model("efficientnet_lite0", device="cpu")
    assert offline == []


def test_scaling_round_trip_and_range():
    scaling = Scaling((0.5, 0.2, 0.1), (0.5, 0.1, 0.4))
    raw = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = scaling.to_network(raw)
    assert relative(scaling.to_raw(x), raw) < 1e-12
    assert x[0, 1, 2, 3].item() == pytest.approx((raw[0, 1, 2, 3].item() - 0.2) / 0.1)
    assert scaling.input_range == pytest.approx((-2, 8))


@pytest.mark.parametrize("given", [((0.5,), (0.5, 0.5)), ((), ()), ((0.5,), (0.0,))])
def test_impossible_scaling_is_refused(given):
    with pytest.raises(ValueError, match=r"std"):
        Scaling(*given)


def test_submodule_is_that_of_the_network(resnet):
    assert submodule(resnet, "layer4.1") is resnet.network.layer4[1]
    assert submodule(resnet.network, "layer4.1") is resnet.network.layer4[1]
    for path in ("layer44", "", "network.layer4"):
        with pytest.raises(ValueError, match=f"unknown layer '{path}'"):
            submodule(resnet, path)


@pytest.mark.parametrize("name", ["x.ckpt", "x.pth", "runs/x", "saved"])
def test_a_file_instead_of_a_name_says_where_it_goes(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "saved").touch()
    with pytest.raises(ValueError, match=rf"model '{name}' is a file; .*load_model\('resnet18', "):
        load_model(name)


@pytest.mark.parametrize("file", ["x.ckpt", "x.pth", "x.ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "model._orig_mod."])
def test_a_checkpoint_without_a_slash_is_read(file, prefix, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved = load_model("mlp", "none", device="cpu", seed=3)
    state = {f"{prefix}{key}": value for key, value in saved.network.state_dict().items()}
    torch.save({"model_state_dict": state, "epoch": 3}, file)
    loaded = load_model("mlp", file, device="cpu")
    assert loaded.weights == file
    assert weights_hash(loaded) == weights_hash(saved)


def test_another_training_differs_in_its_seed(monkeypatch):
    from saliency_sanity.subjects import models

    trained = load_model("cnn", "none", device="cpu")
    trained.weights, trained.provenance = "fashion_mnist", {}
    asked = []
    monkeypatch.setattr(models, "load_model", lambda *given: asked.append(given) or given)
    assert models.trained_again(trained, 1) == []
    assert models.trained_again(trained, 3, "cpu") == asked
    assert asked == [("cnn", f"fashion_mnist-{seed}", "cpu") for seed in (1, 2)]


@pytest.mark.parametrize(
    ("weights", "record", "count", "says"),
    [
        ("fashion_mnist", {}, 0, "0 trainings of the network; valid are 1 and more"),
        ("none", None, 2, "2 trainings of cnn, but its weights 'none' are not those"),
        ("fashion_mnist-1", {}, 2, "'fashion_mnist-1' are not those of a network trained here"),
    ],
)
def test_a_network_without_another_training_says_so(weights, record, count, says):
    from saliency_sanity.subjects.models import trained_again

    classifier = load_model("cnn", "none", device="cpu")
    classifier.weights, classifier.provenance = weights, record
    with pytest.raises(ValueError, match=says):
        trained_again(classifier, count)
