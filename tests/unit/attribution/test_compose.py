"""What the compositions must satisfy, whatever the network."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made.networks import SCALING, draw, relative, small
from saliency_sanity import Classifier, chunk_limit, resolve
from saliency_sanity._errors import NotApplicable
from saliency_sanity._random import generator
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.attribution.competition import Compete
from saliency_sanity.attribution.compose import (
    NoiseAverage,
    NoiseVariance,
    PathAverage,
    Product,
    Rectified,
    ReferenceAverage,
    Squared,
    TimesInput,
    baseline_of,
    quadrature,
)
from saliency_sanity.attribution.controls import Input, Noise
from saliency_sanity.attribution.rectgrad import Threshold
from saliency_sanity.attribution.rectifiers import Guided
from saliency_sanity.subjects.toys import Linear
from torch import nn

X = draw(3, 3, 16, 16, dtype=torch.float64)
TARGET = torch.tensor([0, 4, 2])


class Homogeneous(nn.Module):
    """Rectifiers and no bias: f(a x) = a f(x) for a > 0."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(draw(8, 3, 3, 3, seed=1, dtype=torch.float64))
        self.last = nn.Parameter(draw(5, 8, seed=2, dtype=torch.float64))

    def forward(self, x):
        features = F.max_pool2d(F.relu(F.conv2d(x, self.first)), 2)
        return features.mean((2, 3)) @ self.last.T


class Smooth(nn.Module):
    """No kinks: what is left of IG's error is the quadrature's."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(draw(8, 3, 3, 3, seed=1, dtype=torch.float64) / 3)
        self.last = nn.Parameter(draw(5, 8, seed=2, dtype=torch.float64))

    def forward(self, x):
        return torch.tanh(F.conv2d(x, self.first)).mean((2, 3)) @ self.last.T


def logit(model, x):
    with torch.no_grad():
        return model(x).gather(1, TARGET[:, None])[:, 0]


def completeness(model, steps, rule, baseline=None):
    """The error of sum(map) = logit(x) - logit(baseline), relative to the largest change."""
    maps = resolve("integrated_gradients", steps=steps, rule=rule, baseline=baseline)(
        model, X, TARGET
    )
    start = torch.zeros_like(X) + baseline_of(model, X, baseline)
    change = logit(model, X) - logit(model, start)
    return relative(maps.sum((1, 2, 3)), change)


@pytest.mark.parametrize("rule", ["endpoints", "midpoint", "trapezoid", "gauss-legendre"])
def test_integrated_gradients_become_complete_with_steps(rule):
    errors = [completeness(Smooth(), steps, rule) for steps in (4, 16, 64)]
    assert errors[0] > errors[1] > errors[2] or errors[1] < 1e-9
    assert errors[2] < (0.05 if rule == "endpoints" else 1e-3)


def test_integrated_gradients_become_complete_on_kinks_and_from_a_colour(small_net_double):
    errors = [completeness(small_net_double, n, "midpoint", (0.9, 0.1, 0.4)) for n in (4, 32, 256)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-2


@pytest.mark.parametrize(("rule", "error"), [("midpoint", 4.0), ("trapezoid", 4.0)])
def test_quadrature_converges_in_its_order(rule, error):
    errors = [completeness(Smooth(), steps, rule) for steps in (17, 33)]
    assert errors[0] / errors[1] == pytest.approx(error, rel=0.1)


@pytest.mark.parametrize("rule", ["endpoints", "midpoint", "trapezoid", "gauss-legendre"])
@pytest.mark.parametrize("steps", [2, 5, 50])
def test_quadrature_integrates_what_it_must(rule, steps):
    points, weights = map(np.array, quadrature(rule, steps))
    assert len(points) == len(weights) == steps
    assert points.min() >= 0
    assert points.max() <= 1
    assert weights.sum() == pytest.approx(1)
    assert (weights * points).sum() == pytest.approx(1 / 2)
    if rule == "gauss-legendre":
        degree = 2 * steps - 1
        assert (weights * points**degree).sum() == pytest.approx(1 / (degree + 1))
    if rule == "endpoints":
        assert points.tolist() == np.linspace(0, 1, steps).tolist()


def test_integrated_gradients_are_exact_for_a_linear_model():
    model = Linear((3, 16, 16), classes=5).double()
    weight = model.weight[TARGET].detach()
    for rule in ("endpoints", "midpoint", "gauss-legendre"):
        found = resolve("integrated_gradients", steps=3, rule=rule)(model, X, TARGET)
        assert relative(found, weight * X) < 1e-12


def test_integrated_gradients_of_a_homogeneous_network_are_gradient_x_input():
    # On a ray from zero the gradient of such a network never changes.
    found = resolve("integrated_gradients", steps=4, rule="midpoint")(Homogeneous(), X, TARGET)
    assert relative(found, resolve("gradient_x_input")(Homogeneous(), X, TARGET)) < 1e-12


def test_gradient_x_input_of_a_homogeneous_network_sums_to_the_logit():
    model = Homogeneous()
    maps = TimesInput(Gradient())(model, X, TARGET)
    assert relative(maps.sum((1, 2, 3)), logit(model, X)) < 1e-12


def test_gradient_is_the_limit_of_differences():
    model, direction, step = Smooth(), draw(3, 3, 16, 16, seed=5, dtype=torch.float64), 1e-5
    change = (logit(model, X + step * direction) - logit(model, X - step * direction)) / (2 * step)
    found = (Gradient()(model, X, TARGET) * direction).sum((1, 2, 3))
    assert relative(found, change) < 1e-7


def test_smoothgrad_without_noise_is_the_gradient(small_net_double):
    gradient = Gradient()(small_net_double, X, TARGET)
    for samples in (1, 4):
        found = NoiseAverage(Gradient(), samples=samples, noise=0)(small_net_double, X, TARGET)
        assert relative(found, gradient) < 1e-12
    found = NoiseAverage(Gradient(), samples=1, noise=0.15)(small_net_double, X, TARGET)
    assert relative(found, gradient) > 1e-2, "no noise-free sample among them"
    flat = torch.full_like(X, 0.3)
    found = NoiseAverage(Gradient(), samples=2)(small_net_double, flat, TARGET)
    assert relative(found, Gradient()(small_net_double, flat, TARGET)) < 1e-12


def test_smoothgrad_is_the_signed_mean_over_the_same_noisy_copies(small_net_double):
    """Every sample seen as a map of its own: mean and variance follow."""
    seen = []

    def watching(model, x, target):
        seen.append(x)
        return Gradient()(model, x, target)

    with chunk_limit(3):
        mean = NoiseAverage(watching, samples=6, noise=0.2)(small_net_double, X, TARGET)
        spread = NoiseVariance(watching, samples=6, noise=0.2)(small_net_double, X, TARGET)
    assert len(seen) == 12
    assert all(torch.equal(a, b) for a, b in zip(seen[:6], seen[6:], strict=True))
    maps = torch.stack([Gradient()(small_net_double, x, TARGET) for x in seen[:6]])
    assert relative(mean, maps.mean(0)) < 1e-12
    assert relative(spread, maps.var(0, correction=0)) < 1e-12


def noisy(x, **options):
    """The noise a method adds to ``x``, one tensor a sample."""
    seen = []

    def watching(model, inputs, target):
        seen.append(inputs)
        return inputs

    with chunk_limit(len(x)):
        NoiseAverage(watching, **options)(nn.Identity(), x, torch.zeros(len(x), dtype=torch.int64))
    return [inputs - x for inputs in seen]


def test_noise_has_the_stated_spread_and_no_two_samples_share_it():
    x = draw(2, 3, 64, 64, dtype=torch.float64)
    x[1] *= 7
    first, second = noisy(x, samples=2, noise=0.15)
    ranges = x.amax((1, 2, 3)) - x.amin((1, 2, 3))
    for image in range(2):
        sigma = first[image].std().item()
        assert sigma == pytest.approx(0.15 * ranges[image].item(), rel=0.03)
        assert abs(first[image].mean().item()) < 0.05 * sigma
    correlation = torch.corrcoef(torch.stack([first[0].flatten(), second[0].flatten()]))[0, 1]
    assert abs(correlation.item()) < 0.05
    (other,) = noisy(x, samples=1, noise=0.15, seed=1)
    correlation = torch.corrcoef(torch.stack([first[0].flatten(), other[0].flatten()]))[0, 1]
    assert abs(correlation.item()) < 0.05


def test_noise_follows_the_scale_of_each_image_and_ignores_its_offset_and_mates():
    (base,) = noisy(X, samples=1)
    (scaled,) = noisy(X * 5, samples=1)
    assert relative(scaled, base * 5) < 1e-12
    (shifted,) = noisy(X + 3, samples=1)
    assert relative(shifted, base) < 1e-12
    (alone,) = noisy(X[2:], samples=1)
    (turned,) = noisy(X.flip(0), samples=1)
    assert torch.equal(alone[0], base[2])
    assert torch.equal(turned.flip(0), base)


def test_more_samples_begin_with_the_fewer():
    few, many = noisy(X, samples=2), noisy(X, samples=5)
    assert all(torch.equal(a, b) for a, b in zip(few, many, strict=False))


def test_smoothgrad_of_a_linear_model_is_its_weight():
    model = Linear((3, 16, 16), classes=5).double()
    weight = model.weight[TARGET].detach()
    assert relative(NoiseAverage(Gradient(), samples=7)(model, X, TARGET), weight) < 1e-12
    spread = NoiseVariance(Gradient(), samples=7)(model, X, TARGET)
    assert spread.abs().max() < 1e-25 * weight.abs().max()


def test_vargrad_is_never_negative_and_survives_a_large_mean():
    offset = 1e5

    def shifted(model, x, target):
        return x.float() + offset

    x = draw(2, 3, 8, 8)
    target = torch.zeros(2, dtype=torch.int64)
    found = NoiseVariance(shifted, samples=40)(nn.Identity(), x, target)
    assert (found >= 0).all()
    with chunk_limit(2):
        seen = []
        NoiseAverage(lambda model, x, target: seen.append(x) or x, samples=40)(
            nn.Identity(), x, target
        )
    exact = torch.stack([(s + offset).double() for s in seen]).var(0, correction=0)
    assert relative(found.double(), exact) < 1e-2
    # The textbook shortcut E[x^2] - E[x]^2 is lost here, so that this case does tell.
    maps = torch.stack([s + offset for s in seen])
    shortcut = (maps**2).mean(0) - maps.mean(0) ** 2
    assert relative(shortcut.double(), exact) > 1


def test_rectified_commutes_with_what_is_outside(small_net_double):
    outer = Rectified(NoiseAverage(Gradient(), samples=3), Guided())
    inner = NoiseAverage(Rectified(Gradient(), Guided()), samples=3)
    args = small_net_double, X, TARGET
    assert relative(outer(*args), inner(*args)) < 1e-12
    assert relative(outer(*args), NoiseAverage(Gradient(), samples=3)(*args)) > 1e-2


def test_product_multiplies_and_spreads_a_single_channel(small_net_double):
    args = small_net_double, X, TARGET
    found = Product(Gradient(), resolve("grad_cam"))(*args)
    assert found.shape == X.shape
    assert relative(found, Gradient()(*args) * resolve("grad_cam")(*args)) < 1e-12
    assert relative(Product(Gradient(), Input())(*args), TimesInput(Gradient())(*args)) < 1e-12


@pytest.mark.parametrize("colour", [0.25, (0.1, 0.5, 0.9)])
def test_baseline_is_a_colour_in_raw_units(colour, small_net_double):
    colours = (colour,) * 3 if isinstance(colour, float) else colour
    raw = torch.tensor(colours, dtype=X.dtype).view(3, 1, 1).expand(3, 16, 16)
    start = SCALING.to_network(raw)
    found = TimesInput(Gradient(), colour)(small_net_double, X, TARGET)
    assert relative(found, Gradient()(small_net_double, X, TARGET) * (X - start)) < 1e-12
    at_baseline = resolve("integrated_gradients", steps=2, baseline=colour)
    assert not at_baseline(small_net_double, start[None], TARGET[:1]).abs().max() > 1e-12


def test_baseline_of_an_unknown_scaling_is_refused():
    with pytest.raises(ValueError, match=r"baseline 0.5 is in raw pixel units.*Classifier"):
        TimesInput(Gradient(), 0.5)(Homogeneous(), X, TARGET)


@pytest.mark.parametrize("colour", [(0.1, 0.2), (0.1,) * 4])
def test_baseline_of_the_wrong_number_of_channels_is_refused(colour, small_net_double):
    with pytest.raises(ValueError, match=r"baseline .* each of 3 channels"):
        TimesInput(Gradient(), colour)(small_net_double, X, TARGET)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NoiseAverage(Gradient(), samples=0), "samples 0 must be at least 1"),
        (lambda: NoiseVariance(Gradient(), samples=1), "samples 1 must be at least 2"),
        (lambda: NoiseAverage(Gradient(), noise=-0.1), "noise -0.1 must be at least 0"),
        (lambda: NoiseAverage(Gradient(), noise=float("nan")), "noise nan"),
        (lambda: PathAverage(Gradient(), steps=0, rule="midpoint"), "steps 0 must be at least 1"),
        (lambda: PathAverage(Gradient(), steps=1), "steps 1 must be at least 2"),
        (lambda: PathAverage(Gradient(), rule="midpiont"), "'midpiont'. Nearest: midpoint"),
    ],
)
def test_impossible_settings_are_refused_when_they_are_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_repr_is_the_whole_recipe():
    method = resolve("ig_smoothgrad", samples=4, steps=6, baseline=0.5)
    # Everything the recipe names is at hand here, so that it can be read back.
    assert eval(repr(method)) == method
    assert method != resolve("ig_smoothgrad", samples=4, steps=7, baseline=0.5)


def test_methods_do_not_share_state_between_models():
    method = resolve("guided_backprop")
    first, second = small(torch.float64), small(torch.float64, seed=1)
    alone = method(first, X, TARGET)
    method(second, X, TARGET)
    assert torch.equal(method(first, X, TARGET), alone)


def test_one_method_may_ask_two_models(small_net_double):
    other = small(torch.float64, seed=1)

    def contrast(model, x, target):
        return Gradient()(model, x, target) - Gradient()(other, x, target)

    other.train()
    found = NoiseAverage(contrast, samples=2)(small_net_double, X, TARGET)
    mean = NoiseAverage(Gradient(), samples=2)
    expected = mean(small_net_double, X, TARGET) - mean(other, X, TARGET)
    assert relative(found, expected) < 1e-12
    assert other.training


def test_noise_control_is_of_the_model_only(small_net_double):
    noise = Noise()(small_net_double, X, TARGET)
    assert torch.equal(noise[0], noise[1])
    assert torch.equal(noise, Noise()(small_net_double, X + 1, TARGET * 0))
    assert isinstance(small_net_double, Classifier)
    for other in (
        Noise()(small(torch.float64, seed=1), X, TARGET),
        Noise(seed=1)(small_net_double, X, TARGET),
    ):
        pair = torch.stack([other[0].flatten(), noise[0].flatten()])
        assert abs(torch.corrcoef(pair)[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("numpy", "python"),
    [
        (NoiseAverage(Gradient(), np.int64(3), np.float32(0.25), np.int32(1)),
         NoiseAverage(Gradient(), 3, 0.25, 1)),
        (NoiseVariance(Gradient(), np.uint8(3), np.int64(0)), NoiseVariance(Gradient(), 3, 0)),
        (PathAverage(Gradient(), np.int16(4), baseline=np.float64(0.5)),
         PathAverage(Gradient(), 4, baseline=0.5)),
        (TimesInput(Gradient(), np.array([0.1, 0.5, 1.0])),
         TimesInput(Gradient(), (0.1, 0.5, 1.0))),
        (TimesInput(Gradient(), [0.25, 0.5, 1.0]), TimesInput(Gradient(), (0.25, 0.5, 1.0))),
        (Compete(Gradient(), np.int64(2)), Compete(Gradient(), 2)),
        (Threshold(np.float64(98.0)), Threshold(98.0)),
    ],
)  # fmt: skip
def test_a_number_of_numpy_is_the_same_number(numpy, python):
    assert repr(numpy) == repr(python)
    assert numpy == python


def test_a_seed_of_numpy_draws_the_same():
    assert generator(np.int64(5), "a").initial_seed() == generator(5, "a").initial_seed()


@pytest.mark.parametrize(
    "colour",
    [255, -0.1, 1.01, float("nan"), float("inf"), (0.5, 0.5, 128), [0.1, np.nan, 0.2], "black",
     True, np.array([0, 255, 0])],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("method", ["gradient_x_input", "integrated_gradients", "cgi"])
def test_no_colour_is_refused_before_anything_runs(method, colour):
    with pytest.raises(ValueError, match=r"no raw colour.*divide by 255"):
        resolve(method, baseline=colour)


@pytest.mark.parametrize("samples", [np.float64(5), True, np.bool_(True), "5", 2.0])
def test_what_counts_nothing_is_no_number_of_samples(samples):
    with pytest.raises(TypeError, match=r"samples .* must be int"):
        NoiseAverage(Gradient(), samples)


@pytest.mark.parametrize("noise", [float("nan"), float("inf"), np.float64("nan"), -0.1])
def test_noise_is_finite_and_not_negative(noise):
    with pytest.raises(ValueError, match=r"noise .* must be at least 0, and finite"):
        NoiseAverage(Gradient(), 5, noise)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [PathAverage, NoiseAverage, NoiseVariance])
def test_many_maps_of_half_precision_are_summed_in_single(kind, dtype):
    copies, given = 400, []

    def steady(model, x, target):
        given.append(1 + draw(*x.shape, seed=len(given)).to(dtype) / 8)
        return given[-1]

    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2)).to(dtype)
    x, target = draw(1, 3, 4, 4).to(dtype), torch.tensor([0])
    method = kind(steady, copies)
    if kind is NoiseVariance and dtype == torch.float16:
        with pytest.raises(NotApplicable, match="which float16 cannot tell from zero"):
            method(model, x, target)
        return
    found = method(model, x, target)
    maps = torch.cat(given).double()[:, None].unflatten(0, (copies, 1)).squeeze(2)
    plain = maps.var(0, correction=0) if kind is NoiseVariance else maps.mean(0)
    assert found.dtype == dtype
    assert relative(found.double(), plain) < 2 * torch.finfo(dtype).eps


def test_squared_average_is_variance_and_squared_mean(small_net_double):
    noisy = {"samples": 6, "noise": 0.3, "seed": 4}
    squared, mean, variance = (
        resolve(name, **noisy)(small_net_double, X, TARGET)
        for name in ("smoothgrad_squared", "smoothgrad", "vargrad")
    )
    assert relative(squared, variance + mean**2) < 1e-12


def test_float16_is_not_squared(small_net):
    with pytest.raises(NotApplicable, match="float16 cannot tell from zero"):
        Squared(Gradient())(small().half(), X.half(), TARGET)


def test_expected_gradients_of_a_linear_network_need_one_sample_a_reference():
    model = Linear((3, 16, 16)).double()
    references = draw(4, 3, 16, 16, seed=5, dtype=torch.float64)
    found = ReferenceAverage(Gradient(), 200, 1, references)(model, X, TARGET * 0)
    weights = Gradient()(model, X, TARGET * 0)
    shares = found[0] / weights[0]
    # x less a mean of references that are drawn about as often each.
    basis = references.flatten(1).T
    counts = torch.linalg.lstsq(basis, (X[0] - shares).flatten()[:, None]).solution.flatten()
    assert counts.sum().item() == pytest.approx(1)
    assert ((counts - 1 / 4).abs() < 0.1).all()
    assert torch.allclose(counts * 200, (counts * 200).round(), atol=1e-6)


def test_expected_gradients_sum_to_the_change_from_flat_pictures():
    model, rows, columns = Smooth(), range(0, 16, 5), range(0, 16, 5)
    found = resolve("expected_gradients", samples=4000, seed=1)(model, X, TARGET)
    flat = [X[:, :, row, column, None, None].expand_as(X) for row in rows for column in columns]
    change = logit(model, X) - sum(logit(model, start) for start in flat) / len(flat)
    spread = torch.stack([logit(model, start) for start in flat]).std(0)
    assert ((found.sum((1, 2, 3)) - change).abs() < spread + 0.1 * change.abs()).all()


def test_references_are_part_of_the_description_and_of_the_pictures_size(small_net_double):
    draws = [draw(4, 3, 16, 16, seed=seed, dtype=torch.float64) for seed in (0, 0, 1)]
    one, same, other = (ReferenceAverage(Gradient(), 2, 0, each) for each in draws)
    assert one == same != other
    assert repr(one) == repr(same) != repr(other)
    maps = [each(small_net_double, X, TARGET) for each in (one, other)]
    assert relative(*maps) > 0.1
    with pytest.raises(ValueError, match=r"must be \[M, 3, 16, 16\]"):
        ReferenceAverage(Gradient(), 2, 0, draws[0][:, :, :8])(small_net_double, X, TARGET)
