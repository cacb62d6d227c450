"""Names and parameters of other libraries' methods: what is valid, and what an error says."""

import importlib
import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
from made.networks import draw, small
from made.peers import LIBRARIES, METHODS, each, needs
from saliency_sanity import resolve
from saliency_sanity._errors import NotApplicable
from saliency_sanity._hashing import named
from saliency_sanity.attribution.catalogue import title
from saliency_sanity.peers.adapter import Array
from torch import nn


def kinds(library: str) -> dict[str, type]:
    """Classes of the library that could be a method, by name."""
    if library == "captum":
        from captum import attr as home
        from captum.attr import Attribution as Base
    elif library == "pytorch_grad_cam":
        import pytorch_grad_cam as home
        from pytorch_grad_cam.base_cam import BaseCAM as Base
    elif library == "saliency":
        from saliency import core as home
        from saliency.core import CoreSaliency as Base
    elif library == "shap":
        import shap as home
        from shap import Explainer as Base
    else:
        from zennit import composites as home
        from zennit.core import Composite as Base
    found = {name: one for name, one in vars(home).items() if isinstance(one, type)}
    return {name: one for name, one in found.items() if issubclass(one, Base)}


BASES = {
    *("Attribution", "GradientAttribution", "PerturbationAttribution", "InternalAttribution"),
    *("NeuronAttribution", "LayerAttribution", "Composite"),
}


@pytest.mark.parametrize("library", [pytest.param(one, marks=needs(one)) for one in LIBRARIES])
def test_each_class_of_a_library_is_adapted_or_refused_with_the_reason(library):
    module = importlib.import_module(f"saliency_sanity.peers.{library}")
    listed = {*module.METHODS, *module.REFUSED}
    assert kinds(library).keys() - BASES <= listed
    assert not {*module.METHODS} & {*module.REFUSED}
    assert {f"{library}:{name}" for name in module.METHODS} <= METHODS.keys()
    for name, reason in module.REFUSED.items():
        with pytest.raises(ValueError, match=f"{library}:{name} is not adapted: ") as caught:
            resolve(f"{library}:{name}")
        assert reason in str(caught.value)


def test_at_least_thirty_methods_resolve():
    assert len(METHODS) >= 30


@pytest.mark.parametrize("name", each())
def test_a_method_without_required_parameters_resolves_without_any(name):
    if name != "captum:Occlusion":
        assert resolve(name).parameters == ()


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_that_is_missing_is_named_with_the_command_that_brings_it(library, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, package=None: None if name.split(".")[0] == library else find(name, package),
    )
    name = next(name for name in METHODS if name.startswith(f"{library}:"))
    with pytest.raises(ImportError, match=r"pip install 'saliency-sanity\[peers\]'") as caught:
        resolve(name)
    assert f"{name} needs {library}, which the core does without" in str(caught.value)


def test_no_library_is_imported_before_one_of_its_methods_is_asked_for():
    code = (
        "import sys, saliency_sanity.peers, saliency_sanity as s; s.resolve('gradient'); "
        "import saliency_sanity.peers.adapter, saliency_sanity.peers.notes; "
        f"print([n for n in {[*LIBRARIES]} if n in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


NEAREST = {
    "captum:DeepLIFT": "DeepLift",
    "pytorch_grad_cam:GradCam": "GradCAM",
    "saliency:Xrai": "XRAI",
    "zennit:EpsilonPlusFlt": "EpsilonPlusFlat",
    "shap:GradExplainer": "GradientExplainer",
}


@pytest.mark.parametrize("name", each(NEAREST))
def test_a_class_that_does_not_exist_is_an_error_with_the_nearest_names(name):
    library, _, method = name.partition(":")
    with pytest.raises(ValueError, match=f"unknown method of {library} '{method}'") as caught:
        resolve(name)
    assert f"Nearest: {NEAREST[name]}" in str(caught.value)


UNKNOWN = {
    "captum:IntegratedGradients": ("steps", "n_steps"),
    "pytorch_grad_cam:AblationCAM": ("batch", "batch_size"),
    "saliency:XRAI": ("algoritm", "algorithm"),
    "zennit:EpsilonPlus": ("eps", "epsilon"),
    "shap:GradientExplainer": ("n_samples", "nsamples"),
}


@pytest.mark.parametrize("name", each(UNKNOWN))
def test_a_parameter_that_the_library_does_not_take_is_an_error_that_lists_those(name):
    key, valid = UNKNOWN[name]
    with pytest.raises(ValueError, match=f"unknown parameter of {name} '{key}'") as caught:
        resolve(name, **{key: 3})
    assert valid in str(caught.value)
    assert "seed" in str(caught.value)
    assert "call_model_function" not in str(caught.value)


@needs("captum")
def test_parameters_that_are_missing_or_cannot_be_recorded_are_errors():
    with pytest.raises(ValueError, match="captum:Occlusion has no default for sliding_window_sh"):
        resolve("captum:Occlusion")
    with pytest.raises(ValueError, match="baselines of captum:GradientShap is function"):
        resolve("captum:GradientShap", baselines=lambda x: x)
    with pytest.raises(ValueError, match="unknown method of captum 'Salience'"):
        resolve("captum:NoiseTunnel", attribution_method="Salience")
    with pytest.raises(ValueError, match="unknown parameter of captum:Saliency 'layer'"):
        resolve("captum:Saliency", layer="second")
    with pytest.raises(ValueError, match="1 superpixels: there must be at least 2"):
        resolve("captum:FeatureAblation", feature_mask=1)(
            small(), draw(1, 3, 16, 16), torch.tensor([0])
        )


@needs("zennit")
def test_a_canonizer_that_does_not_exist_is_an_error_that_lists_those():
    with pytest.raises(ValueError, match="unknown canonizer of zennit:EpsilonPlus 'ResNet'"):
        resolve("zennit:EpsilonPlus", canonizers=["ResNet"])


LAYERED = ("captum:LayerGradCam", "pytorch_grad_cam:LayerCAM", "saliency:GradCam")


@pytest.mark.parametrize("name", each(LAYERED))
def test_a_layer_is_checked_against_the_network(name):
    x, target = draw(1, 3, 16, 16), torch.tensor([0])
    with pytest.raises(ValueError, match=r"unknown layer 'secnd'. Nearest: second"):
        resolve(name, layer="secnd")(small(), x, target)
    with pytest.raises(NotApplicable, match=f"{name} needs a layer: SmallNet has no default"):
        resolve(name)(small().network, x, target)


@needs("captum")
def test_numbers_and_arrays_mean_the_same_wherever_they_come_from():
    one = resolve("captum:IntegratedGradients", n_steps=np.int64(5), baselines=np.float32(0.5))
    assert one == resolve("captum:IntegratedGradients", n_steps=5, baselines=0.5)
    x = torch.zeros(2, 3, 4, 4)
    arrays = [resolve("captum:DeepLiftShap", baselines=one) for one in (x, x.numpy(), x.clone())]
    assert len(set(arrays)) == 1
    assert repr(arrays[0]) == repr(arrays[1])
    assert arrays[0] != resolve("captum:DeepLiftShap", baselines=x + 1)
    assert isinstance(arrays[0].given["baselines"], Array)
    windows = {"sliding_window_shapes": [3, 8, 8], "strides": [3, 4, 4]}
    assert resolve("captum:Occlusion", **windows).parameters[0][1] == (3, 8, 8)


@needs("captum")
def test_a_peer_is_titled_by_its_class_and_library():
    assert title("captum:DeepLift") == "DeepLift (captum)"
    assert title("my_methods:DeepLift") == "DeepLift"


@pytest.mark.parametrize("kind", ["module", "package"])
def test_a_module_of_somebodys_own_of_a_peers_name_is_hers(kind, tmp_path, monkeypatch):
    path = tmp_path / ("saliency.py" if kind == "module" else "saliency/__init__.py")
    path.parent.mkdir(exist_ok=True)
    path.write_text("def mine(model, x, target):\n    return x\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "saliency"]:
        monkeypatch.delitem(sys.modules, name)
    try:
        assert resolve("saliency:mine")(nn.Identity(), 3, 0) == 3
    finally:
        sys.modules.pop("saliency", None)


def mirrored(tokens):
    return tokens.flip(-1)


@needs("pytorch_grad_cam")
def test_a_function_for_unusual_layers_is_called_and_its_code_is_in_the_key():
    x, target = draw(1, 3, 16, 16), torch.tensor([2])
    name, layer = "pytorch_grad_cam:GradCAMPlusPlus", {"layer": "first"}
    plain, flipped = (
        resolve(name, **layer, **one) for one in ({}, {"reshape_transform": mirrored})
    )
    maps = [method(small(), x, target) for method in (plain, flipped)]
    assert torch.allclose(maps[0].flip(-1), maps[1], atol=1e-5)
    (text, source), (_, none) = named(flipped), named(plain)
    assert "mirrored" in text
    assert source != none
