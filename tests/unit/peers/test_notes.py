"""What is said of a peer beside its row is so in the version that is installed, and only there."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made.networks import draw, relative, seeded
from made.peers import METHODS, each, needs
from saliency_sanity import resolve
from saliency_sanity._errors import NotApplicable
from saliency_sanity.peers import notes
from torch import nn

X, TARGET = draw(2, 3, 12, 12), torch.tensor([1, 3])


class Net(nn.Module):
    """Three convolutions without biases; what is a module and what a function is chosen."""

    def __init__(self, skip=None, mean="module", relu=None, shared="", inplace=False):
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.b = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.c = self.b if shared == "conv" else nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.rectify = relu or nn.ReLU(inplace)
        again = self.rectify if shared == "relu" else copy.deepcopy(self.rectify)
        self.later, self.last = again, copy.deepcopy(self.rectify)
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 5, bias=False)
        self.skip, self.mean = skip, mean

    def forward(self, x):
        x = self.rectify(self.a(x))
        y = self.later(self.b(x))
        if self.skip is not None:
            y = x + y if self.skip == "add" else self.skip(x, y)
        y = self.last(self.c(y))
        return self.head(y.mean((2, 3)) if self.mean == "function" else self.pool(y).flatten(1))


class Function(nn.Module):
    """A module that has parts, which are not asked; what it does it does by a function."""

    def __init__(self, call):
        super().__init__()
        self.call, self.part = call, nn.Identity()

    def forward(self, *x):
        return self.call(*x)


def net(**options) -> Net:
    return seeded(Net(**options)).eval()


def twin(model: Net, **options) -> Net:
    """A network of the same weights."""
    found = Net(**options).eval()
    state = model.state_dict()
    found.load_state_dict({key: state[key] for key in found.state_dict()})
    return found


def said(name: str, model: nn.Module, **parameters) -> str:
    return " ".join(notes(resolve(name, **parameters), model, X))


def explained(name: str, model: nn.Module, **parameters):
    return resolve(name, **parameters)(model, X, TARGET)


def test_methods_of_our_own_have_no_notes():
    assert notes(resolve("gradient"), net(), X) == []


# What is said of these on any network is of the method, not of the network.
ALWAYS = (
    *("captum:Saliency", "captum:NoiseTunnel", "captum:LayerGradCam", "zennit:SmoothGrad"),
    *("zennit:IntegratedGradients", "zennit:Occlusion", "saliency:GuidedIG"),
    *("saliency:Occlusion", "shap:GradientExplainer", "pytorch_grad_cam:EigenCAM"),
    *("pytorch_grad_cam:KPCA_CAM", "pytorch_grad_cam:FEM", "pytorch_grad_cam:RandomCAM"),
    *("pytorch_grad_cam:EigenGradCAM", "pytorch_grad_cam:GuidedBackpropReLUModel"),
)


@pytest.mark.parametrize("name", each(name for name in METHODS if name not in ALWAYS))
def test_a_network_of_modules_used_once_has_no_notes(name):
    layer = {"layer": "b"} if "layer" in METHODS[name] or name.startswith("pytorch") else {}
    layer = {} if name.endswith("FullGrad") else layer
    assert said(name, net(), **METHODS[name] | layer) == ""


@pytest.mark.parametrize("relu", [Function(F.relu), nn.ReLU6()], ids=["function", "relu6"])
@pytest.mark.parametrize(
    "name",
    each(
        (
            *("captum:GuidedBackprop", "captum:Deconvolution", "zennit:GuidedBackprop"),
            *("zennit:DeconvNet", "pytorch_grad_cam:GuidedBackpropReLUModel"),
        )
    ),
)
def test_rules_for_rectifiers_reach_relu_modules_only(name, relu):
    model = net(relu=relu)
    gradient = resolve("gradient")(model, X, TARGET)
    assert relative(explained(name, model), gradient) < 1e-5
    assert "nn.ReLU modules only" in said(name, model)
    assert relative(explained(name, net()), resolve("gradient")(net(), X, TARGET)) > 0.01


@needs("captum")
@pytest.mark.parametrize(
    "relu", [Function(F.relu), nn.ReLU6(), nn.SiLU(), nn.GELU(), Function(F.silu)]
)
def test_captum_rescales_modules_of_some_kinds_only(relu):
    model = net(relu=relu)
    product = explained("captum:InputXGradient", model)
    assert relative(explained("captum:DeepLift", model), product) < 1e-5
    assert "hand down plain gradients" in said("captum:DeepLift", model)


@needs("captum")
def test_captum_gives_no_rule_to_modules_that_have_hooks():
    model = net()
    free = explained("captum:DeepLift", model, baselines=0.5)
    model.last.register_full_backward_hook(lambda *_: None)
    assert relative(explained("captum:DeepLift", model, baselines=0.5), free) > 0.01
    assert "backward hooks of others': last." in said("captum:DeepLift", model)


@needs("captum")
def test_captum_refuses_modules_that_are_used_twice():
    with pytest.raises(NotApplicable, match="captum:DeepLift cannot explain Net"):
        explained("captum:DeepLift", net(shared="relu"))
    with pytest.raises(NotApplicable, match="captum:LRP cannot explain Net"):
        explained("captum:LRP", net(shared="conv"))


@needs("captum")
def test_captum_relevance_is_lost_at_sums_and_averages_outside_of_modules():
    from captum.attr._utils.custom_modules import Addition_Module

    model = net(skip=Addition_Module())
    logit = model(X).gather(1, TARGET[:, None])[:, 0].detach()
    right = explained("captum:LRP", model)
    assert torch.allclose(right.sum((1, 2, 3)), logit, rtol=1e-3)
    assert said("captum:LRP", model) == ""

    added = twin(model, skip="add")
    assert (explained("captum:LRP", added).sum((1, 2, 3)) / logit - 1).abs().min() > 0.2
    assert "knows no sums" in said("captum:LRP", added)

    averaged = twin(model, skip=Addition_Module(), mean="function")
    found = explained("captum:LRP", averaged)
    assert torch.allclose(found.sum((1, 2, 3)), logit, rtol=1e-3)
    assert torch.cosine_similarity(found.flatten(1), right.flatten(1)).max() < 0.5
    assert "knows no averages" in said("captum:LRP", averaged)


@needs("captum")
def test_captum_takes_noise_and_signs_as_its_notes_say():
    flat = torch.ones(1, 3, 12, 12)  # whose range is 0
    noisy = resolve("captum:NoiseTunnel", attribution_method="Saliency", nt_samples=20)
    plain, model = resolve("captum:Saliency"), net()
    assert relative(noisy(model, flat, TARGET[:1]), plain(model, flat, TARGET[:1])) > 0.01
    assert (noisy(model, X, TARGET) >= 0).all()
    assert "not as a share" in " ".join(notes(noisy, model, X))
    assert "absolute values" in said("captum:Saliency", model)
    assert "absolute values" not in said("captum:Saliency", model, abs=False)
    assert said("captum:LayerGradCam", model, layer="b", relu_attributions=True) == ""
    assert (explained("captum:LayerGradCam", model, layer="b") < 0).any()


CAMS = ("GradCAM", "LayerCAM", "HiResCAM", "GradCAMPlusPlus", "EigenCAM", "ScoreCAM")


@pytest.mark.parametrize("name", each(f"pytorch_grad_cam:{name}" for name in CAMS))
def test_a_layer_overwritten_in_place_is_read_afterwards(name):
    apart = net()
    model = twin(apart, inplace=True)
    assert "overwritten in place" not in said(name, apart, layer="c")
    assert "overwritten in place" in said(name, model, layer="c")
    before, after = (explained(name, one, layer="c") for one in (apart, model))
    # Products place by place are 0 where the rectifier was off, whatever stood there.
    harmless = name.endswith(("LayerCAM", "HiResCAM"))
    assert (relative(after, before) < 1e-5) is harmless
    assert ("changes nothing" in said(name, model, layer="c")) is harmless


class Pointwise(nn.Module):
    """What sees each pixel alone, so that mirrored pictures have mirrored activations."""

    def __init__(self, seed):
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            self.b = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 12, 1), nn.ReLU())
            self.last = nn.Linear(12, 2)

    def forward(self, x):
        return self.last(self.b(x).mean((2, 3)))


@pytest.mark.parametrize("name", each(["pytorch_grad_cam:EigenCAM"]))
def test_maps_by_decomposition_have_the_sign_that_it_happens_to_return(name):
    method, x = resolve(name, layer="b"), X[:1].clone()
    x[:, :, 2:7, 1:6] += 2
    alike = []
    for seed in range(40):
        model = Pointwise(seed)
        there, back = (method(model, one, TARGET[:1]) for one in (x, x.flip(-1)))
        alike.append(torch.allclose(there, back.flip(-1), atol=1e-3))
    assert 0 < sum(alike) < len(alike)
    assert "leaves the map's sign to the decomposition" in said(name, net(), layer="b")
    assert "sign" in said("pytorch_grad_cam:GradCAM", net(), layer="b", eigen_smooth=True)
    assert "sign" not in said("pytorch_grad_cam:GradCAM", net(), layer="b")


@needs("pytorch_grad_cam")
def test_the_guided_wrapper_by_hand():
    from pytorch_grad_cam import GuidedBackpropReLUModel

    x, guided = X.clone(), GuidedBackpropReLUModel(net())
    once = guided(x, target_category=1).copy()
    assert once.shape == (12, 12, 3)
    assert np.allclose(guided(x, target_category=1), 2 * once)
    assert "adds up over calls" in said("pytorch_grad_cam:GuidedBackpropReLUModel", net())


@needs("saliency")
def test_guided_ig_as_it_is_does_not_run_with_newer_numpy():
    from saliency.core import guided_ig

    image = X[0].permute(1, 2, 0).numpy()
    note = said("saliency:GuidedIG", net())
    if np.lib.NumpyVersion(np.__version__) < "2.4.0":
        assert note == ""
        return
    with pytest.raises(TypeError, match="interpolation"):
        guided_ig.guided_ig_impl(image, 0 * image, lambda x: np.ones_like(x), steps=2)
    assert "no longer takes" in note
    explained("saliency:GuidedIG", net(), x_steps=2)
    assert guided_ig.np is np


@needs("saliency")
def test_occlusion_sums_over_windows():
    class Sum(nn.Module):
        def forward(self, x):
            return x.sum((1, 2, 3))[:, None].expand(-1, 2)

    method = resolve("saliency:Occlusion", size=5)
    found = method(Sum(), torch.ones(1, 3, 12, 12), torch.tensor([1]))
    assert found[0, 0, 0, 0] < found[0, 0, 6, 6]
    assert "fewer" in said("saliency:Occlusion", net())


@needs("zennit")
def test_zennit_samples_steps_and_windows_by_hand():
    model = net()
    gradient = resolve("gradient")(model, X, TARGET)
    assert relative(explained("zennit:SmoothGrad", model, n_iter=1), gradient) < 1e-5
    assert relative(explained("zennit:SmoothGrad", model, n_iter=2), gradient) > 0.01
    right_end = X * gradient
    assert relative(explained("zennit:IntegratedGradients", model, n_iter=1), right_end) < 1e-5
    found = explained("zennit:Occlusion", model, window=4, stride=4)
    window = torch.zeros_like(X)
    window[..., 4:8, :4] = 1
    alone = model(X * window).gather(1, TARGET[:, None])[:, 0].detach()
    assert torch.allclose(found[:, 0, 5, 2], alone, atol=1e-5)


@needs("zennit")
def test_zennit_relevance_at_what_is_no_module():
    from zennit.layer import Sum

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.sum = Sum()

        def forward(self, x, y):
            return self.sum(torch.stack([x, y], -1))

    class Twice(Net):
        """Both summands are the same convolution's output, of two modules."""

        def forward(self, x):
            x = self.rectify(self.skip(self.a(x), self.b(x)))
            return self.head(self.pool(x).flatten(1))

    def build(skip):
        found = Twice(skip=skip)
        found.b = copy.deepcopy(found.a)
        seeded(found)
        found.b.weight = found.a.weight
        return found.eval()

    right, wrong = build(Module()), build(Function(torch.add))
    shares = explained("zennit:EpsilonPlus", right)
    assert relative(explained("zennit:EpsilonPlus", wrong), 2 * shares) < 1e-4
    assert said("zennit:EpsilonPlus", right) == ""
    assert "knows no sums" in said("zennit:EpsilonPlus", wrong)

    model = net()
    averaged = twin(model, mean="function")
    maps = [explained("zennit:EpsilonPlus", one) for one in (model, averaged)]
    assert relative(*maps) > 0.01
    assert "knows no averages" in said("zennit:EpsilonPlus", averaged)

    module, function = net(relu=nn.SiLU()), net(relu=Function(F.silu))
    maps = [explained("zennit:EpsilonPlus", one) for one in (module, function)]
    assert relative(*maps) > 0.01
    assert said("zennit:EpsilonPlus", module) == ""
    assert "gives no rule to functions: here silu" in said("zennit:EpsilonPlus", function)


@needs("zennit")
def test_zennit_takes_the_calls_of_a_module_for_one():
    model = net(shared="conv")
    apart = copy.deepcopy(model)
    apart.c = copy.deepcopy(apart.b)
    maps = [explained("zennit:EpsilonPlus", one) for one in (model, apart)]
    assert relative(*maps) > 0.1
    assert "other calls, too: b" in said("zennit:EpsilonPlus", model)
    assert said("zennit:EpsilonPlus", apart) == ""
    assert said("zennit:GuidedBackprop", model) == ""
    rectifier = net(shared="relu")
    assert "other calls, too: rectify" in said("zennit:BetaSmooth", rectifier)
    assert said("zennit:EpsilonPlus", rectifier) == ""


@needs("zennit")
def test_zennit_hands_relevance_through_batch_norms():
    layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    model = seeded(nn.Sequential(*layers, nn.Flatten(), nn.Linear(6, 5))).eval()
    merged = {"canonizers": "SequentialMergeBatchNorm"}
    maps = [explained("zennit:EpsilonPlus", model, **one) for one in ({}, merged)]
    assert relative(*maps) > 0.01
    assert "through batch norms as it is" in said("zennit:EpsilonPlus", model)
    assert said("zennit:EpsilonPlus", model, **merged) == ""


@needs("shap")
def test_shap_refuses_by_its_own_check_what_it_has_no_rule_for():
    for model in (net(relu=Function(F.relu)), net(shared="relu")):
        with pytest.raises(NotApplicable, match="do not sum up"):
            explained("shap:DeepExplainer", model, data=[0.5, -0.5])
        assert said("shap:DeepExplainer", model, data=[0.5]) != ""
    with pytest.raises(NotApplicable, match="inplace"):
        explained("shap:DeepExplainer", net(inplace=True), data=[0.5])


@needs("shap")
def test_shap_draws_anew_unless_it_is_told_not_to():
    import shap

    explainer = shap.GradientExplainer(net(), torch.rand(4, 3, 12, 12))
    maps = [torch.as_tensor(explainer.shap_values(X, nsamples=10)) for _ in range(2)]
    assert relative(*maps) > 0.01
    assert "here it is the seed, 3" in said("shap:GradientExplainer", net(), data=[0], seed=3)
