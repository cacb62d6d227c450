"""A peer's method by name is the peer called by hand, as its documentation does."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from made.networks import SCALING, calibrate, draw, relative, seeded
from made.peers import each, installed, needs
from saliency_sanity import Classifier, resolve
from torch import nn

SIZE = 16
X, TARGET = draw(2, 3, SIZE, SIZE), torch.tensor([1, 3])
MANY = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
MASK = (torch.arange(SIZE)[:, None] // 8 * 2 + torch.arange(SIZE)[None] // 8)[None, None]
WINDOWS = {"sliding_window_shapes": (3, 8, 8), "strides": (3, 4, 4)}
CLOSE = 1e-6


def plain() -> nn.Sequential:
    """A network as documentations have it: modules in a row."""
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)]
    return seeded(nn.Sequential(*layers)).eval()


@pytest.fixture
def model():
    return plain()


def unseeded(call):
    """What a call gives with all generators at 0, which it leaves as they were."""
    kept = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            np.random.seed(0)  # noqa: NPY002
            random.seed(0)
            return call()
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002


def agree(name, parameters, model, call) -> None:
    """The adapter's maps are those of ``call(picture, class)``, picture by picture."""
    ours = resolve(name, **parameters)(model, X, TARGET)
    pairs = zip(X.split(1), TARGET.tolist(), strict=True)
    theirs = [unseeded(partial(call, x.clone(), c)) for x, c in pairs]
    theirs = torch.cat(
        [torch.as_tensor(one).detach().reshape(1, *ours.shape[1:]) for one in theirs]
    )
    assert relative(ours, theirs.to(ours)) < CLOSE


CAPTUM = {
    "Saliency": {"abs": False},
    "InputXGradient": {},
    "IntegratedGradients": {"n_steps": 20, "method": "riemann_trapezoid"},
    "GradientShap": {"baselines": MANY, "n_samples": 7, "stdevs": 0.1},
    "DeepLift": {"baselines": 0.5},
    "DeepLiftShap": {"baselines": MANY},
    "GuidedBackprop": {},
    "Deconvolution": {},
    "Occlusion": WINDOWS,
    "FeatureAblation": {"feature_mask": MASK},
    "ShapleyValueSampling": {"feature_mask": MASK, "n_samples": 4},
    "KernelShap": {"feature_mask": MASK, "n_samples": 30},
    "Lime": {"feature_mask": MASK, "n_samples": 30},
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", each(f"captum:{name}" for name in CAPTUM))
def test_captum(name, model):
    from captum import attr

    kind, given = name.partition(":")[2], CAPTUM[name.partition(":")[2]]
    theirs = getattr(attr, kind)(model)
    agree(name, given, model, lambda x, c: theirs.attribute(x, target=c, **given))


def test_captum_relevance(model):
    from captum.attr import LRP

    model[5] = nn.Identity()  # which it has no rule for, as for Flatten
    kept = nn.Sequential(*model[:5], Squeezed(), model[6])
    with pytest.raises(ValueError, match="captum:LRP cannot explain Sequential: Module of type"):
        resolve("captum:LRP")(kept, X, TARGET)

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Sequential(*model[:5]), model[6]

        def forward(self, x):
            return self.head(self.body(x).flatten(1))

    flat = Flat().eval()
    agree("captum:LRP", {}, flat, lambda x, c: LRP(flat).attribute(x, target=c))


class Squeezed(nn.Module):
    def forward(self, x):
        return x.flatten(1)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_captum_layers(mode, model):
    from captum.attr import GuidedGradCam, LayerAttribution, LayerGradCam

    def grad_cam(x, c):
        found = LayerGradCam(model, model[2]).attribute(x, target=c, relu_attributions=True)
        return LayerAttribution.interpolate(found, (SIZE, SIZE), mode)

    given = {"layer": "2", "relu_attributions": True, "interpolate_mode": mode}
    agree("captum:LayerGradCam", given, model, grad_cam)
    guided = GuidedGradCam(model, model[2])
    given = {"layer": "2", "interpolate_mode": mode}
    agree(
        "captum:GuidedGradCam",
        given,
        model,
        lambda x, c: guided.attribute(x, target=c, interpolate_mode=mode),
    )


def test_captum_noise(model):
    from captum.attr import IntegratedGradients, NoiseTunnel

    given = {"nt_type": "smoothgrad_sq", "nt_samples": 3, "stdevs": 0.2, "n_steps": 5}
    theirs = NoiseTunnel(IntegratedGradients(model))
    agree(
        "captum:NoiseTunnel",
        given | {"attribution_method": "IntegratedGradients"},
        model,
        lambda x, c: theirs.attribute(x, target=c, **given),
    )


CAMS = (
    *("GradCAM", "GradCAMPlusPlus", "GradCAMElementWise", "HiResCAM", "LayerCAM", "XGradCAM"),
    *("ScoreCAM", "AblationCAM", "EigenCAM", "EigenGradCAM", "KPCA_CAM", "SegEigenCAM"),
    *("ShapleyCAM", "FEM", "RandomCAM", "FullGrad", "GuidedBackpropReLUModel"),
)


@pytest.mark.parametrize("name", each(f"pytorch_grad_cam:{name}" for name in CAMS))
def test_pytorch_grad_cam(name, model):
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    kind = name.partition(":")[2]
    layered = kind not in ("FullGrad", "GuidedBackpropReLUModel")

    def by_hand(x, c):
        given = {"target_layers": [model[0]] if layered else []} if kind in CAMS[:-1] else {}
        theirs = getattr(pytorch_grad_cam, kind)(model=model, **given)
        if kind == "GuidedBackpropReLUModel":
            return np.moveaxis(theirs(x, target_category=c), 2, 0)
        with theirs:
            return theirs(input_tensor=x, targets=[ClassifierOutputTarget(c)])

    agree(name, {"layer": "0"} if layered else {}, model, by_hand)


PAIR = {
    "GradientSaliency": {},
    "IntegratedGradients": {"x_steps": 8, "batch_size": 3},
    "GuidedIG": {"x_steps": 10, "max_dist": 0.5, "fraction": 0.4},
    "BlurIG": {"steps": 5},
    "XRAI": {},
    "Occlusion": {"size": 7},
}


@pytest.mark.parametrize("name", each(f"saliency:{name}" for name in PAIR))
def test_saliency(name, model, monkeypatch):
    from saliency import core

    def call(images, call_model_args=None, expected_keys=None):
        tensor = torch.tensor(np.transpose(images, (0, 3, 1, 2)), dtype=torch.float32)
        tensor.requires_grad_()
        output = model(tensor)[:, call_model_args["class"]]
        if expected_keys == [core.INPUT_OUTPUT_GRADIENTS]:
            (found,) = torch.autograd.grad(output.sum(), tensor)
            return {core.INPUT_OUTPUT_GRADIENTS: np.moveaxis(found.numpy(), 1, 3)}
        return {core.OUTPUT_LAYER_VALUES: output.detach().numpy()}

    kind, given = name.partition(":")[2], PAIR[name.partition(":")[2]]
    extra = {}
    if kind == "XRAI":
        extra = {"extra_parameters": core.XRAIParameters(steps=3, algorithm="fast")}
    if kind == "GuidedIG":
        # What the library was written for; NumPy 2.4 has dropped the older name.
        quantile = np.quantile
        monkeypatch.setattr(
            np, "quantile", lambda a, q, interpolation: quantile(a, q, method=interpolation)
        )

    def by_hand(x, c):
        image = np.transpose(x[0].numpy(), (1, 2, 0))
        found = getattr(core, kind)().GetMask(image, call, {"class": c}, **given, **extra)
        return np.moveaxis(found, 2, 0) if found.ndim == 3 else found

    ours = given | ({"steps": 3, "algorithm": "fast"} if extra else {})
    agree(name, ours, model, by_hand)


@needs("saliency")
def test_saliency_grad_cam(model):
    from saliency import core

    def by_hand(x, c):
        features = model[:1](x).detach().requires_grad_()
        (slope,) = torch.autograd.grad(model[1:](features)[0, c], features)

        def call(images, call_model_args=None, expected_keys=None):
            pair = (features.detach(), slope)
            return dict(zip(expected_keys, [t.permute(0, 2, 3, 1) for t in pair], strict=True))

        image = np.transpose(x[0].numpy(), (1, 2, 0))
        return core.GradCam().GetMask(image, call, three_dims=False)

    agree("saliency:GradCam", {"layer": "0"}, model, by_hand)


ZENNIT = {
    "EpsilonPlus": {"epsilon": 0.01},
    "EpsilonPlusFlat": {"epsilon": 0.01},
    "EpsilonAlpha2Beta1": {"stabilizer": 0.01},
    "EpsilonAlpha2Beta1Flat": {},
    "EpsilonGammaBox": {"low": -3.0, "high": 3.0},
    "ExcitationBackprop": {},
    "BetaSmooth": {"beta_smooth": 2.0},
    "DeconvNet": {},
    "GuidedBackprop": {},
}


@pytest.mark.parametrize("name", each(f"zennit:{name}" for name in ZENNIT))
def test_zennit_composites(name, model):
    from zennit import composites
    from zennit.attribution import Gradient

    kind = name.partition(":")[2]
    given = dict(ZENNIT[kind])

    def by_hand(x, c):
        bounds = {key: torch.full_like(x, given[key]) for key in ("low", "high") if key in given}
        composite = getattr(composites, kind)(**given | bounds)
        with Gradient(model=model, composite=composite) as attributor:
            _, relevance = attributor(x, torch.eye(5)[[c]])
        return relevance

    agree(name, given, model, by_hand)


@pytest.mark.parametrize("name", ["Gradient", "SmoothGrad", "IntegratedGradients", "Occlusion"])
def test_zennit_attributors(name, model):
    from zennit import attribution

    given = {"window": 4, "stride": 4} if name == "Occlusion" else {}

    def by_hand(x, c):
        start = torch.eye(5)[[c]]
        wanted = (lambda output: output * start) if name == "Occlusion" else start
        with getattr(attribution, name)(model=model, **given) as attributor:
            return attributor(x, wanted)[1]

    agree(f"zennit:{name}", given, model, by_hand)


def test_zennit_canonizers():
    from zennit.attribution import Gradient
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import EpsilonPlus

    layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5)]
    model = nn.Sequential(*layers)
    model(X)
    model = calibrate(seeded(model).eval(), SIZE)
    before = {key: value.clone() for key, value in model.state_dict().items()}

    def by_hand(x, c):
        composite = EpsilonPlus(canonizers=[SequentialMergeBatchNorm()])
        with Gradient(model=model, composite=composite) as attributor:
            return attributor(x, torch.eye(5)[[c]])[1]

    ours = resolve("zennit:EpsilonPlus", canonizers=["SequentialMergeBatchNorm"])
    ours(model, X, TARGET)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    agree("zennit:EpsilonPlus", {"canonizers": "SequentialMergeBatchNorm"}, model, by_hand)


@needs("shap")
@pytest.mark.parametrize("name", ["GradientExplainer", "DeepExplainer"])
def test_shap_of_all_classes(name, model):
    import shap

    given = {"nsamples": 20} if name == "GradientExplainer" else {}
    draws = {"rseed": 0} if given else {}

    def by_hand(x, c):
        explainer = getattr(shap, name)(model, MANY.clone())
        return explainer.shap_values(x, **given, **draws)[..., c]

    agree(f"shap:{name}", given | {"data": MANY}, model, by_hand)


@needs("shap")
@pytest.mark.parametrize("mask", [0.25, "blur(4, 4)"])
def test_shap_of_parts(mask, model):
    import shap

    def by_hand(x, c):
        image = x[0].permute(1, 2, 0).numpy()

        def f(images):
            with torch.no_grad():
                return model(torch.tensor(images).permute(0, 3, 1, 2)).numpy()

        explainer = shap.Explainer(
            f, shap.maskers.Image(mask, image.shape), output_names=[*"abcde"]
        )
        found = explainer(image[None], max_evals=60, batch_size=10, outputs=[c], silent=True)
        return np.moveaxis(found.values[0, ..., 0], 2, 0)

    agree("shap:PartitionExplainer", {"mask_value": mask, "max_evals": 60}, model, by_hand)


@pytest.mark.skipif(not installed("captum"), reason="captum is not installed")
def test_references_are_five_greys_where_none_are_given(model):
    wrapped = Classifier(model, name="plain", weights="random", scaling=SCALING, size=SIZE)
    greys = torch.linspace(0, 1, 5).view(5, 1, 1, 1).expand(5, 3, SIZE, SIZE)
    given = resolve("captum:DeepLiftShap", baselines=SCALING.to_network(greys))
    found = resolve("captum:DeepLiftShap")(wrapped, X, TARGET)
    assert relative(found, given(wrapped, X, TARGET)) < CLOSE
    with pytest.raises(ValueError, match="black and white are not known; give baselines"):
        resolve("captum:DeepLiftShap")(model, X, TARGET)
    two = resolve("captum:DeepLiftShap", baselines=[-1, 1])(model, X, TARGET)
    colours = torch.stack([torch.full((3, SIZE, SIZE), value) for value in (-1.0, 1.0)])
    assert torch.equal(two, resolve("captum:DeepLiftShap", baselines=colours)(model, X, TARGET))
