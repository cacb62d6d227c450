"""What other libraries do, each line of the book's page by itself and without this project's code.

Not among the tests of this project, for what they are of is not its own: ``make differences``.
"""

import importlib
import warnings

import numpy as np
import pytest
import torch
from torch import nn


def library(name: str):
    """A module of a library, where that is installed."""
    return pytest.importorskip(name, reason="pip install 'saliency-sanity[peers,bench]'")


def net(*layers: nn.Module, seed: int = 0) -> nn.Module:
    """Layers before a dense one, with random weights, for pictures ``[N, 3, 16, 16]``."""
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Conv2d(3, 6, 3), *layers, nn.Flatten())
    width = body(torch.zeros(1, 3, 16, 16)).shape[1]
    return nn.Sequential(*body, nn.Linear(width, 5)).eval()


def pictures(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def slope(model: nn.Module, x: torch.Tensor, target: int = 1) -> torch.Tensor:
    leaf = x.detach().clone().requires_grad_()
    return torch.autograd.grad(model(leaf)[:, target].sum(), leaf)[0]


class Rectify(nn.Module):
    """A rectifier that is called as a function."""

    def forward(self, x):
        return nn.functional.relu(x)


class Skip(nn.Module):
    """x + f(x), the sum outside of modules."""

    def __init__(self):
        super().__init__()
        self.f, self.g = nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()

    def forward(self, x):
        return x + self.g(self.f(x))


class Skipping(nn.Module):
    """Six such blocks; what flattens is no module, since there is no rule for one."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 6, 3), nn.Linear(6 * 14 * 14, 5)
        self.blocks = nn.ModuleList(Skip() for _ in range(6))

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.last(x.flatten(1))


def test_captum_saliency_is_absolute():
    attr, model, x = library("captum.attr"), net(nn.ReLU()), pictures()
    found = attr.Saliency(model).attribute(x.requires_grad_(), target=1)
    assert torch.allclose(found, slope(model, x).abs())


def test_captum_noise_tunnel_averages_absolute_values():
    attr, model, x = library("captum.attr"), net(nn.ReLU()), pictures().requires_grad_()
    tunnel = attr.NoiseTunnel(attr.Saliency(model))
    assert (tunnel.attribute(x, target=1, nt_samples=8, stdevs=3.0) >= 0).all()
    # In units of the network: a picture of a hundredth of the contrast gets the same noise.
    torch.manual_seed(0)
    dim = tunnel.attribute(x / 100, target=1, nt_samples=8, stdevs=3.0)
    assert (dim - slope(model, x / 100).abs()).abs().max() > 0.1 * dim.abs().max()


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
@pytest.mark.parametrize("rectifier", [nn.ReLU6, Rectify])
def test_captum_guided_backprop_needs_modules(rectifier):
    attr, x = library("captum.attr"), pictures().requires_grad_()
    for kind in (attr.GuidedBackprop, attr.Deconvolution):
        model = net(rectifier(), nn.Conv2d(6, 6, 3), rectifier())
        assert torch.allclose(kind(model).attribute(x, target=1), slope(model, x))
        model = net(nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU())
        assert not torch.allclose(kind(model).attribute(x, target=1), slope(model, x))


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
@pytest.mark.parametrize("curve", [Rectify, nn.SiLU, nn.GELU])
def test_captum_deeplift_needs_modules(curve):
    attr, model, x = library("captum.attr"), net(curve()), pictures().requires_grad_()
    found = attr.DeepLift(model).attribute(x, target=1)
    assert torch.allclose(found, x * slope(model, x), atol=1e-6)
    model = net(nn.ReLU())
    found = attr.DeepLift(model).attribute(x, target=1)
    assert not torch.allclose(found, x * slope(model, x), atol=1e-6)


def test_captum_lrp_multiplies_at_sums():
    attr, x = library("captum.attr"), pictures(1)
    model = Skipping()
    found = attr.LRP(model).attribute(x, target=1).sum()
    assert abs(found) > 100 * model(x)[0, 1].abs()


def test_captum_grad_cam_keeps_negatives():
    attr, model, x = library("captum.attr"), net(nn.ReLU()), pictures()
    found = attr.LayerGradCam(model, model[0]).attribute(x, target=1)
    assert (found < 0).any()
    assert found.shape[2:] == (14, 14)


def cam_library():
    # torchvision has to come before anything else that may hide its operators.
    importlib.import_module("torchvision")
    return library("pytorch_grad_cam")


def test_grad_cam_guided_adds_up():
    home, x = cam_library(), pictures(1)
    guided = home.GuidedBackpropReLUModel(net(nn.ReLU()), "cpu")
    first = guided(x, target_category=1).copy()
    assert np.allclose(guided(x, target_category=1), 2 * first, rtol=1e-4)


def test_grad_cam_guided_explains_the_first():
    home, x = cam_library(), pictures(2)
    guided = home.GuidedBackpropReLUModel(net(nn.ReLU()), "cpu")
    both = guided(x.clone(), target_category=1)
    assert both.shape == (16, 16, 3)
    alone = guided(x[:1].clone(), target_category=1)
    assert np.allclose(both, alone, rtol=1e-4, atol=1e-7)


def test_grad_cam_reads_overwritten_layers():
    home, x = cam_library(), pictures(1)
    for inplace in (False, True):
        model = net(nn.ReLU(inplace=inplace))
        with home.GradCAM(model, [model[0]]) as cam:
            cam(x, [lambda logits: logits[1]])
            seen = cam.activations_and_grads.activations[0]
        assert bool((seen < 0).any()) is not inplace


def test_grad_cam_plus_plus_hangs_on_its_epsilon():
    home = cam_library()
    method = home.GradCAMPlusPlus(net(nn.ReLU()), [])
    values = np.ones((1, 2, 4, 4))
    for size, share in ((1.0, 1), (1e-4, 0.02)):
        slopes = np.full((1, 2, 4, 4), size)
        published = (slopes / (2 + slopes * values.sum((2, 3), keepdims=True))).sum((2, 3))
        found = method.get_cam_weights(None, None, None, values, slopes)
        assert found == pytest.approx(share * published, rel=0.05)


def test_eigen_cam_has_an_arbitrary_sign():
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

    draw = np.random.default_rng(0)
    values = np.maximum(draw.normal(size=(40, 12, 8, 8)), 0)
    values[:, :, 1:4, 1:4] += draw.uniform(size=(40, 12, 1, 1))
    pairs = zip(get_2d_projection(values), get_2d_projection(values[..., ::-1]), strict=True)
    cosines = [(one * other[:, ::-1]).sum() / (one**2).sum() for one, other in pairs]
    assert np.allclose(np.abs(cosines), 1, atol=1e-3)
    assert 0 < sum(value < 0 for value in cosines) < len(cosines)


def test_quantus_average_counts_the_unrandomized():
    quantus, model, x = library("quantus"), net(nn.ReLU()), pictures(3)
    given = {
        "normalise": False,
        "abs": False,
        "disable_warnings": True,
        "display_progressbar": False,
        "similarity_func": quantus.similarity_func.correlation_pearson,
    }

    def explain(model, inputs, targets, **_):
        return slope(model, torch.as_tensor(inputs)).numpy()

    def scores(**more):
        return quantus.MPRT(**given, **more)(
            model, x.numpy(), np.ones(3, dtype=int), explain_func=explain, channel_first=True
        )

    by_layer, averages = scores(), scores(return_average_correlation=True)
    assert np.allclose(by_layer["original"], 1)
    assert np.allclose(averages, np.mean([*by_layer.values()], axis=0))


def test_quantus_layers_of_one_shape_share_weights():
    wrapper = library("quantus.helpers.model.pytorch_model").PyTorchModel
    model = net(nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3))
    steps = wrapper(model, channel_first=True).get_random_layer_generator("top_down", seed=0)
    for _, last in steps:
        found = last
    assert torch.equal(found[2].weight, found[4].weight)


def test_quantus_normalises_over_the_batch():
    quantus = library("quantus")
    maps = np.ones((2, 1, 4, 4))
    maps[1] *= 5
    assert quantus.normalise_func.normalise_by_max(maps.copy())[0].max() == pytest.approx(0.2)


def quiet(quantus, name: str, **more):
    """One of its metrics without warnings and bars."""
    given = {"disable_warnings": True, "display_progressbar": False}
    return getattr(quantus, name)(**given | more)


def slopes(calls: list):
    """An ``explain_func`` that keeps what it gave."""

    def explain(model, inputs, targets, **_):
        calls.append(slope(model, torch.as_tensor(inputs).float()).sum(1, keepdim=True).numpy())
        return calls[-1]

    return explain


def test_quantus_smooth_ignores_explain_func():
    quantus, model, x = library("quantus"), net(nn.ReLU()), pictures(3)
    library("captum")
    calls, found = [], []
    for own in (slopes(calls), lambda inputs, **_: np.zeros_like(inputs)):
        np.random.seed(0)  # noqa: NPY002  which it draws from
        score = quiet(quantus, "SmoothMPRT", nr_samples=3, skip_layers=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = model, x.numpy(), np.ones(3, dtype=int)
            found.append(score(*given, explain_func=own, channel_first=True))
    assert not calls
    assert found[0].keys() == found[1].keys()
    assert all(np.allclose(found[0][key], found[1][key]) for key in found[0])


def smooth(monkeypatch, samples: int, **given):
    """Scores of ``SmoothMPRT``, and the maps that it asked for."""
    quantus, calls = library("quantus"), []
    monkeypatch.setattr(quantus, "explain", slopes(calls))
    np.random.seed(0)  # noqa: NPY002
    score = quiet(quantus, "SmoothMPRT", nr_samples=samples, skip_layers=True)
    found = score(
        net(nn.ReLU()), pictures(3).numpy(), np.ones(3, dtype=int), explain_func=slopes([]),
        channel_first=True, **given,
    )  # fmt: skip
    return found, calls


def test_quantus_smooth_last_copy_is_plain(monkeypatch):
    _, calls = smooth(monkeypatch, 3)
    plain = slope(net(nn.ReLU()), pictures(3)).sum(1, keepdim=True).numpy()
    assert np.allclose(calls[2], plain)
    assert not np.allclose(calls[1], plain)
    _, once = smooth(monkeypatch, 1)
    assert np.allclose(once[0], plain)


def test_quantus_smooth_is_not_like_itself(monkeypatch):
    found, _ = smooth(monkeypatch, 3)
    assert max(found["original"]) < 0.999


def test_quantus_smooth_takes_a_batch_as_it_is(monkeypatch):
    stats = library("scipy.stats")
    plain = slope(net(nn.ReLU()), pictures(3)).sum(1, keepdim=True).numpy()
    found, calls = smooth(monkeypatch, 4, a_batch=plain)
    averages = np.mean(calls[-4:], axis=0)
    pairs = zip(np.abs(plain), np.abs(averages), strict=True)
    expected = [stats.spearmanr(one.ravel(), other.ravel()).statistic for one, other in pairs]
    assert np.allclose(list(found.values())[-1], expected)


def test_quantus_bin_rules_count_axes():
    rules, random = library("quantus.functions.n_bins_func"), np.random.default_rng(0)
    for side in (8, 256):
        maps = random.normal(size=(2, 1, side, side))
        assert rules.square_root_choice(maps) == int(np.sqrt(3))
        assert rules.sturges_formula(maps) == int(np.log2(3) + 1)
        assert rules.rice_rule(maps) == int(2 * 3 ** (1 / 3))


def test_quantus_keeps_the_first_bins():
    quantus, model = library("quantus"), net(nn.ReLU())
    given = {"complexity_func_kwargs": {"rule": "Freedman Diaconis"}, "skip_layers": True}
    score = quiet(quantus, "EfficientMPRT", **given)
    rule = library("quantus.functions.n_bins_func").freedman_diaconis_rule
    bins, wanted = [], []
    for power in (5, 1):  # heavy tails, and thus many bins, then none
        maps = np.random.default_rng(0).normal(size=(3, 1, 16, 16)) ** power
        score(
            model, pictures(3).numpy(), np.ones(3, dtype=int), channel_first=True,
            explain_func=lambda inputs, maps=maps, **_: maps[: len(inputs)],
        )  # fmt: skip
        bins.append(score.complexity_func_kwargs["n_bins"])
        wanted.append(min(max(rule(maps), 10), 200))
    assert bins == [wanted[0]] * 2
    assert wanted[0] != wanted[1]


def test_quantus_flat_maps_divide_by_zero():
    quantus, model = library("quantus"), net(nn.ReLU())
    score = quiet(quantus, "EfficientMPRT", complexity_func_kwargs={"n_bins": 100})
    maps = np.random.default_rng(0).normal(size=(2, 1, 16, 16))
    maps[0] = 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = score(
            model, pictures(2).numpy(), np.ones(2, dtype=int), channel_first=True,
            explain_func=lambda **_: maps,
        )  # fmt: skip
    assert np.isnan(found[0])
    assert found[1] == 0


def test_saliency_bytes_wrap_around():
    core = library("saliency.core")

    def call(images, **_):
        return {"INPUT_OUTPUT_GRADIENTS": np.ones(np.shape(images))}

    dark = np.full((4, 4, 3), 10, dtype=np.uint8)
    bright = np.full((4, 4, 3), 20, dtype=np.uint8)
    method = core.IntegratedGradients()
    found = method.GetMask(dark, call, x_baseline=bright, x_steps=4)
    whole = method.GetMask(dark.astype(float), call, x_baseline=bright.astype(float), x_steps=4)
    assert np.allclose(whole, -10)
    assert np.allclose(found, 246)


def test_saliency_a_zero_map_is_nan():
    core = library("saliency.core")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = core.VisualizeImageGrayscale(np.zeros((4, 4, 3)))
    assert np.isnan(found).all()


def test_scipy_one_constant_map_spoils_a_batch():
    stats, random = library("scipy.stats"), np.random.default_rng(0)
    maps = random.normal(size=(4, 30))
    maps[0] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.ndim(stats.spearmanr(maps, axis=1).statistic) == 0
        maps[[0, 2]] = maps[[2, 0]]
        found = stats.spearmanr(maps, axis=1).statistic
    assert np.isfinite(np.delete(np.delete(found, 2, 0), 2, 1)).all()


def test_skimage_integers_are_all_alike():
    metrics, random = library("skimage.metrics"), np.random.default_rng(0)
    one, other = random.integers(0, 784, size=(2, 28, 28))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert metrics.structural_similarity(one, other) == pytest.approx(1)
    assert metrics.structural_similarity(one, other, data_range=783) < 0.5


def test_zennit_one_sample_has_no_noise():
    attribution = library("zennit.attribution")
    model, x = net(nn.ReLU()), pictures(1)
    start = torch.zeros(1, 5)
    start[0, 1] = 1
    with attribution.SmoothGrad(model, noise_level=0.5, n_iter=1) as method:
        _, found = method(x, start)
    assert torch.allclose(found, slope(model, x), atol=1e-6)


def test_zennit_integrates_from_the_right():
    attribution = library("zennit.attribution")
    model, x = net(nn.ReLU()), pictures(1)
    start = torch.zeros(1, 5)
    start[0, 1] = 1
    with attribution.IntegratedGradients(model, n_iter=2) as method:
        _, found = method(x, start)
    right = x * (slope(model, x / 2) + slope(model, x)) / 2
    assert torch.allclose(found, right, atol=1e-6)


def test_shap_draws_without_a_seed():
    shap, model, x = library("shap"), net(nn.ReLU()), pictures(1)
    explainer = shap.GradientExplainer(model, torch.zeros(2, 3, 16, 16))
    one, other = (explainer.shap_values(x, nsamples=20) for _ in range(2))
    assert not np.allclose(one, other)
    one, other = (explainer.shap_values(x, nsamples=20, rseed=1) for _ in range(2))
    assert np.allclose(one, other)
