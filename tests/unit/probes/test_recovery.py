"""Random networks that draw what they are shown: networks, closed form and count by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made.networks import draw
from saliency_sanity import resolve
from saliency_sanity.attribution.base import chunk_limit
from saliency_sanity.probes.recovery import (
    CORRELATION,
    SCALING,
    RandomConvolution,
    RandomDense,
    expected,
    recovered,
)
from torch import nn

METHODS = {name: resolve(name) for name in ("gradient", "guided_backprop", "deconvnet")}
GUIDED = METHODS["guided_backprop"]


def blurred(count=3, size=16, seed=0):
    """Pictures that are smooth, as photographs are, in grey levels about zero."""
    noise = draw(count, 3, size + 4, size + 4, seed=seed)
    return 300 * F.avg_pool2d(noise, 5, 1)


X = blurred()
TARGET = torch.tensor([0, 3, 1])


def correlation(a, b):
    return [np.corrcoef(one.flatten(), two.flatten())[0, 1] for one, two in zip(a, b, strict=True)]


@pytest.mark.parametrize("pool", [0, 3])
def test_a_convolution_is_that_of_plain_layers(pool):
    network = RandomConvolution(4, 16, kernel=5, pool=pool, classes=6, seed=2)
    convolution = nn.Conv2d(3, 4, 5, padding=2)
    top = nn.Linear(4 * 16 * 16, 6)
    with torch.no_grad():
        convolution.weight.copy_(network.hidden)
        convolution.bias.zero_()
        top.weight.copy_(network.top.flatten(1))
        top.bias.zero_()
    pooling = nn.MaxPool2d(pool, 1, pool // 2) if pool else nn.Identity()
    plain = nn.Sequential(convolution, nn.ReLU(), pooling, nn.Flatten(), top)
    torch.testing.assert_close(network(X), plain(X), rtol=1e-4, atol=1e-2)
    for method in METHODS.values():
        found, wanted = (method(one, X, TARGET) for one in (network, plain))
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_dense_network_is_that_of_plain_layers():
    network = RandomDense(20, 16, classes=6, seed=2)
    hidden, top = nn.Linear(3 * 16 * 16, 20), nn.Linear(20, 6)
    with torch.no_grad():
        hidden.weight.copy_(network.hidden.flatten(1))
        hidden.bias.fill_(1)
        top.weight.copy_(network.top)
        top.bias.zero_()
    plain = nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), top)
    torch.testing.assert_close(network(X), plain(X), rtol=1e-4, atol=1e-2)


def test_weights_are_cut_normals_of_the_seed_and_of_nothing_else():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    network = RandomConvolution(64, 16, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(network.hidden, RandomConvolution(64, 16, seed=1).hidden)
    assert not torch.equal(network.hidden, RandomConvolution(64, 16, seed=2).hidden)
    assert float(network.hidden.abs().max()) <= 0.2
    # A normal number cut at two of its spread keeps 0.8796 of it.
    assert float(network.hidden.std()) == pytest.approx(0.08796, rel=0.03)
    dense = RandomDense(2000, 8, seed=1)
    assert float(dense.top.std()) == pytest.approx(8.796, rel=0.03)
    assert not dense.hidden.requires_grad


@pytest.mark.parametrize("given", [{"kernel": 4}, {"pool": 2}])
def test_what_has_no_middle_is_refused(given):
    with pytest.raises(ValueError, match="give odd numbers"):
        RandomConvolution(2, 8, **given)


def patches(x, kernel):
    """Each place's patch of a picture [C, H, W] padded with zeros, and where its corner is."""
    reach = kernel // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            yield row, column, padded[:, row : row + kernel, column : column + kernel]


def laid_down(found, shape, kernel):
    """The sum of patches (row, column, patch), each where it was seen."""
    reach = kernel // 2
    total = np.zeros((shape[0], shape[1] + 2 * reach, shape[2] + 2 * reach))
    for row, column, patch in found:
        total[:, row : row + kernel, column : column + kernel] += patch
    return total[:, reach : reach + shape[1], reach : reach + shape[2]]


def test_the_closed_form_is_the_sum_of_patches_of_length_one():
    network = RandomConvolution(1, 16, kernel=5)
    x = X.clone()
    x[0, :, :8] = 0  # where nothing is, nothing is laid down
    for one, found in zip(x.double().numpy(), network.limit(x).numpy(), strict=True):
        scaled = (
            (row, column, patch / (np.linalg.norm(patch) or 1))
            for row, column, patch in patches(one, 5)
        )
        np.testing.assert_allclose(found, laid_down(scaled, one.shape, 5), rtol=1e-9, atol=1e-9)


def test_guided_backpropagation_lays_down_filters_that_are_on_and_wanted():
    """The map by loops over places and filters: what the derivation starts from."""
    network = RandomConvolution(3, 8, kernel=3, classes=4, seed=4)
    x = blurred(1, 8, seed=3)
    maps = {name: method(network, x, TARGET[1:2])[0].numpy() for name, method in METHODS.items()}
    hidden, top = network.hidden.double().numpy(), network.top.double().numpy()[3]
    one = x[0].double().numpy()
    kept = {
        "gradient": lambda v, on: v * on,
        "guided_backprop": lambda v, on: max(v, 0) * on,
        "deconvnet": lambda v, on: max(v, 0),
    }
    for name, rule in kept.items():
        found = (
            (row, column, rule(top[k, row, column], float((w * patch).sum() > 0)) * w)
            for row, column, patch in patches(one, 3)
            for k, w in enumerate(hidden)
        )
        np.testing.assert_allclose(maps[name], laid_down(found, one.shape, 3), rtol=1e-4, atol=1e-6)


def test_filters_that_are_on_point_along_the_patch():
    """E[1(w . p > 0) w] = sigma p / (|p| sqrt(2 pi)), by drawing."""
    weights = RandomConvolution(40000, 1, kernel=5, classes=1).hidden.double().flatten(1).numpy()
    p = blurred(1, 5)[0].double().flatten().numpy()
    found = (weights * (weights @ p > 0)[:, None]).mean(0)
    wanted = weights.std() / math.sqrt(2 * math.pi) * p / np.linalg.norm(p)
    assert np.corrcoef(found, wanted)[0, 1] > 0.99
    assert found @ p == pytest.approx(wanted @ p, rel=0.02)


@pytest.mark.parametrize(
    "network", [RandomConvolution(3000, 8, classes=2, seed=3), RandomDense(20000, 6, classes=2)]
)
def test_the_moments_are_those_of_the_units_one_by_one(network):
    """What each unit lays down by itself, over all of them: its mean and its variance."""
    size = network.top.shape[-1] if network.top.ndim == 4 else 6
    x = blurred(1, size, seed=1)
    wanted = network.top[0].clamp_min(0)
    if isinstance(network, RandomConvolution):
        on = F.conv2d(x, network.hidden, padding=3)[0] > 0
        flipped = network.hidden.flip(2, 3)
        found = torch.cat(
            [
                F.conv2d((wanted[k] * on[k])[None, None], flipped[k][:, None], padding=3)
                for k in range(network.units)
            ]
        )
    else:
        on = (network.hidden.flatten(1) @ x.flatten()) + 1 > 0
        found = network.hidden * (wanted * on)[:, None, None, None]
    mean, variance = network.moments(x)
    got = found.double().mean(0)
    assert correlation([got.numpy()], mean.numpy())[0] > 0.9
    assert float((got * mean[0]).sum() / mean[0].square().sum()) == pytest.approx(1, abs=0.06)
    spread = float(found.double().var(0).mean())
    assert spread == pytest.approx(float(variance.expand_as(mean).mean()), rel=0.06)


@pytest.mark.parametrize("units", [16, 64, 512])
def test_the_correlation_of_convolutions_is_what_is_expected(units):
    networks = [RandomConvolution(units, 16, seed=seed) for seed in range(4)]
    found = np.mean([correlation(GUIDED(one, X, TARGET), X) for one in networks])
    assert found == pytest.approx(expected(networks[0], X).mean(), abs=0.04)


def test_the_size_of_filters_cancels():
    """Larger filters have more weights to point elsewhere, and see each pixel more often."""
    found = {}
    for kernel in (3, 5, 7):
        networks = [RandomConvolution(64, 24, kernel=kernel, seed=seed) for seed in range(3)]
        x = blurred(3, 24)
        maps = [(GUIDED(one, x, TARGET), one.limit(x)) for one in networks]
        found[kernel] = np.mean([correlation(*pair) for pair in maps])
    assert max(found.values()) - min(found.values()) < 0.06
    # N / (pi^2 C), signal over noise, for N = 64 and three channels.
    ratio = 64 / (3 * math.pi**2)
    assert found[5] == pytest.approx(math.sqrt(ratio / (1 + ratio)), abs=0.05)


@pytest.mark.parametrize("units", [200, 4000])
def test_the_correlation_of_dense_networks_is_what_is_expected(units):
    networks = [RandomDense(units, 16, seed=seed) for seed in range(4)]
    found = np.mean([correlation(GUIDED(one, X, TARGET), X) for one in networks])
    assert found == pytest.approx(expected(networks[0], X).mean(), abs=0.04)


def test_guided_backpropagation_shows_the_picture_the_more_the_more_filters():
    own = {}
    for units in (8, 64, 512):
        runs = recovered(lambda s, n=units: RandomConvolution(n, 16, seed=s), range(3), METHODS, X)
        for name, found in runs.items():
            own[name, units] = np.diagonal(found.similarity, axis1=1, axis2=2).mean()
            limit = found.limit.mean()
        assert own["guided_backprop", units] > own["gradient", units] + 0.2
    assert own["guided_backprop", 8] + 0.15 < own["guided_backprop", 64]
    assert own["guided_backprop", 64] + 0.05 < own["guided_backprop", 512]
    assert abs(own["gradient", 512] - own["gradient", 8]) < 0.1
    assert abs(limit) < 0.2, "that of DeconvNet, the last"


def test_many_filters_come_to_the_closed_form_and_to_one_map_for_any_class():
    runs = recovered(lambda s: RandomConvolution(1024, 16, seed=s), [0], METHODS, X)
    guided, plain = runs["guided_backprop"], runs["gradient"]
    assert (guided.limit > 0.97).all()
    assert (guided.limit > np.diagonal(guided.similarity, axis1=1, axis2=2)).all()
    assert np.diagonal(guided.classes[0]).min() > 0.9
    assert abs(np.diagonal(plain.classes[0])).max() < 0.2


def test_max_pooling_lets_the_picture_into_deconvnet():
    def own(pool):
        runs = recovered(lambda s: RandomConvolution(128, 16, pool=pool, seed=s), [0], METHODS, X)
        return {name: np.diagonal(found.similarity[0]).mean() for name, found in runs.items()}

    without, pooled = own(0), own(5)
    assert abs(without["deconvnet"]) < 0.2
    assert pooled["deconvnet"] > without["deconvnet"] + 0.2
    assert abs(pooled["gradient"]) < 0.2
    assert pooled["guided_backprop"] > 0.4


def test_deconvnet_without_a_pool_does_not_see_the_picture():
    network = RandomConvolution(16, 16)
    one = TARGET[:1].expand(3)
    maps = METHODS["deconvnet"](network, X, one)
    torch.testing.assert_close(maps[1:], maps[:1].expand(2, -1, -1, -1))


def test_what_is_recovered_has_a_row_a_network_and_hangs_on_no_batch():
    def build(seed):
        return RandomConvolution(16, 16, seed=seed)

    found = recovered(build, [3, 4], METHODS, X)["guided_backprop"]
    assert found.similarity.shape == found.classes.shape == (2, 3, 3)
    assert found.limit.shape == (2, 3)
    network = build(4)
    target = network(X).argmax(1)
    maps = GUIDED(network, X, target)
    np.testing.assert_allclose(found.similarity[1], CORRELATION.matrix(maps, X), rtol=1e-9)
    np.testing.assert_allclose(found.limit[1], correlation(maps, network.limit(X)), rtol=1e-6)
    torch.testing.assert_close(found.maps, GUIDED(build(3), X, build(3)(X).argmax(1)))
    others = GUIDED(network, X, (target + 1) % 10)
    np.testing.assert_allclose(np.diagonal(found.classes[1]), correlation(maps, others), rtol=1e-6)
    with chunk_limit(1):
        again = recovered(build, [3, 4], METHODS, X)["guided_backprop"]
    np.testing.assert_allclose(again.similarity, found.similarity, rtol=1e-5, atol=1e-6)


def test_correlation_is_over_all_channels_and_of_any_contrast():
    other = X.flip(0)
    np.testing.assert_allclose(CORRELATION(X, other), correlation(X, other), rtol=1e-9)
    np.testing.assert_allclose(CORRELATION(7 * X + 3, X), 1, rtol=1e-9)


def test_pictures_are_grey_levels_less_the_mean_colour():
    white = SCALING.to_network(torch.ones(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(white, 255 - torch.tensor([123.68, 116.779, 103.939]))
