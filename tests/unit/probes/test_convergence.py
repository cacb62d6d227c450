"""Relevance of inner layers against products of matrices written out, and what becomes of it."""

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from made.networks import draw, relative, seeded, small
from saliency_sanity import resolve
from saliency_sanity._errors import NotApplicable
from saliency_sanity.attribution.deeplift import Multipliers
from saliency_sanity.attribution.lrp import Lrp
from saliency_sanity.probes.convergence import (
    FACTORS,
    chance,
    converging,
    cosines,
    inner_layers,
    inner_relevance,
    product_cosines,
)
from torch import nn

WIDTHS = (6, 7, 5, 4)
PATHS = ("1", "3", "5")  # layers of `dense`, from the pixels up


def dense(seed=0):
    """Three layers in a row, a rectifier between them; units that are on in part only."""
    layers = [nn.Flatten()]
    for before, after in pairwise(WIDTHS):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return seeded(nn.Sequential(*layers[:-1]), seed).double().eval()


def matrix(method, x, y, weight, z, start=None):
    """What a rectified layer does to relevance, as a matrix [inputs, outputs], in plain NumPy.

    ``x`` goes in, ``z`` is what its sums are and ``y`` what of it is left, all one-dimensional.
    """
    below = np.zeros((len(x), len(z)))
    for i in range(len(x)):
        for j in range(len(z)):
            w, share = weight[j, i], x[i] * weight[j, i]
            if method == "gradient" or method == "guided":
                below[i, j] = w
            elif method == "z":
                below[i, j] = share / z[j]
            elif method == "epsilon":
                below[i, j] = share / (z[j] + 0.25 * np.sign(z[j]))
            elif method in ("zplus", "alpha_beta"):
                alpha = 1 if method == "zplus" else 2
                parts = x * weight[j]
                plus, minus = parts[parts > 0].sum(), parts[parts < 0].sum()
                # What a bias adds takes its part.
                bias = z[j] - parts.sum()
                plus, minus = plus + max(bias, 0), minus + min(bias, 0)
                below[i, j] = alpha * max(share, 0) / plus if plus else 0
                if alpha > 1 and minus:
                    below[i, j] -= (alpha - 1) * min(share, 0) / minus
            elif method == "deeplift":
                moved = z[j] - start[1][j]
                below[i, j] = (x[i] - start[0][i]) * w / moved
    return below


METHODS = {
    "gradient": resolve("gradient"),
    "guided": resolve("guided_backprop"),
    "z": Lrp("epsilon", epsilon=1e-12),
    "epsilon": Lrp("epsilon", epsilon=0.25),
    "zplus": resolve("lrp_zplus"),
    "alpha_beta": resolve("lrp_alpha_beta"),
    "deeplift": resolve("deeplift"),
}


def forward(network, x):
    """Inputs and sums of each linear layer, in NumPy."""
    values = x.flatten().numpy()
    sums, inputs = [], []
    for layer in [part for part in network if isinstance(part, nn.Linear)]:
        inputs.append(values)
        sums.append(layer.weight.numpy() @ values + layer.bias.numpy())
        values = np.maximum(sums[-1], 0)
    return inputs, sums


def by_hand(network, method, x, relevance):
    """Relevance of hidden layers, from the top down, by matrices of each layer."""
    inputs, sums = forward(network, x)
    start_inputs, start_sums = forward(network, torch.zeros_like(x))
    weights = [part.weight.numpy() for part in network if isinstance(part, nn.Linear)]
    found = {}
    for layer in (2, 1):
        start = start_inputs[layer], start_sums[layer]
        own = matrix(method, inputs[layer], None, weights[layer], sums[layer], start)
        relevance = own @ relevance
        below = sums[layer - 1]
        if method in ("gradient", "guided"):
            relevance = relevance * (below > 0)
        if method == "guided":
            relevance = np.maximum(relevance, 0)
        found[layer - 1] = relevance
    return found


@pytest.mark.parametrize("method", METHODS)
def test_relevance_is_handed_down_by_the_matrices_of_the_layers(method):
    with torch.no_grad():
        network = dense()
    x = draw(1, 1, 1, WIDTHS[0], dtype=torch.float64)
    # Relevance of a layer's sums and of its rectified sums is the same where a unit is on.
    with inner_relevance(METHODS[method], network, x, PATHS) as (values, handed):
        assert [value.shape[1] for value in values.values()] == [*WIDTHS[1:]]
        down = []
        for seed in range(3):
            given = draw(1, WIDTHS[-1], seed=seed, dtype=torch.float64)
            found = handed("5", given)
            with torch.no_grad():
                expected = by_hand(network, method, x, given[0].numpy())
            for path, layer in (("1", 0), ("3", 1)):
                theirs = torch.from_numpy(expected[layer])[None]
                assert relative(found[path], theirs) < 1e-5, (
                    path,
                    method,
                )  # denominators are moved from 0
            down.append(found["1"])
    ours = [float(cosines(*pair)) for pair in combinations(down, 2)]
    theirs = [
        abs(float(a.flatten() @ b.flatten() / a.norm() / b.norm()))
        for a, b in combinations(down, 2)
    ]
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_rectgrad_hands_down_what_its_threshold_leaves():
    with torch.no_grad():
        network = dense()
    x = draw(1, 1, 1, WIDTHS[0], dtype=torch.float64)
    given = draw(1, WIDTHS[-1], dtype=torch.float64)
    method = resolve("modified_rectgrad", q=50)
    with inner_relevance(method, network, x, PATHS) as (_, handed):
        found = handed("5", given)["3"][0].numpy()
    with torch.no_grad():
        _, sums = forward(network, x)
        gradient = network[5].weight.numpy().T @ given[0].numpy()
    product = gradient * np.maximum(sums[1], 0)
    expected = gradient * (product > np.sort(product)[len(product) // 2])
    assert found == pytest.approx(expected)
    assert 0 < np.count_nonzero(found) < len(found)


def test_a_start_may_be_any_layer_and_hands_down_only():
    model, x = small(), draw(2, 3, 16, 16)
    layers = [*inner_layers(model, x).values()]
    with inner_relevance(resolve("gradient"), model, x, layers) as (values, handed):
        assert not handed(layers[0], torch.ones_like(values[layers[0]]))
        found = handed(layers[1], torch.ones_like(values[layers[1]]))
    assert [*found] == layers[:1]
    assert found[layers[0]].shape == values[layers[0]].shape


@pytest.mark.parametrize("name", ["lrp_zplus", "deeplift", "modified_rectgrad"])
def test_the_logit_put_in_at_the_top_gives_the_map_of_its_layer(name):
    """The relevance of inner layers is the one on the way to the method's own map."""
    model, x = small(torch.float64), draw(2, 3, 16, 16, dtype=torch.float64)
    layers = inner_layers(model, x)
    method = resolve(name)
    with inner_relevance(method, model, x, [*layers.values()]) as (values, handed):
        logits = values[layers["head"]]
        given = torch.zeros_like(logits)
        products = name != "modified_rectgrad"
        first = logits - model(torch.zeros_like(x)) * (name == "deeplift")
        given[:, 1] = first[:, 1].detach() if products else 1
        found = handed(layers["head"], given)[layers["second"]]
    seen = []

    def keep(_module, _inputs, output):
        output.register_hook(lambda gradient: seen.append((output.detach(), gradient)))

    handle = model.network.second.register_forward_hook(keep)
    method(model, x, torch.ones(2, dtype=torch.long))
    handle.remove()
    output, gradient = seen[-1]
    start = 0
    if name == "deeplift":
        outputs = []
        handle = model.network.second.register_forward_hook(lambda *a: outputs.append(a[2]))
        model(torch.zeros_like(x))
        handle.remove()
        start = outputs[-1].detach()
    expected = gradient * (output - start) if products else gradient
    assert relative(found, expected) < 1e-6


def test_the_network_comes_back_as_it_was():
    model, x = small().train(), draw(2, 3, 16, 16)
    layers = [*inner_layers(model, x).values()]
    with inner_relevance(resolve("lrp_zplus"), model, x, layers):
        pass
    with (
        pytest.raises(RuntimeError, match="on purpose"),
        inner_relevance(resolve("deeplift"), model, x, layers),
    ):
        raise RuntimeError("on purpose")
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_what_hands_nothing_down_is_refused():
    model, x = small(), draw(2, 3, 16, 16)
    with (
        pytest.raises(NotApplicable, match="choose a gradient"),
        inner_relevance(resolve("grad_cam"), model, x, ["second"]),
    ):
        pass
    with (
        pytest.raises(NotApplicable, match="was called 2 times"),
        inner_relevance(resolve("gradient"), _Twice(), x, ["layer"]),
    ):
        pass
    with (
        pytest.raises(ValueError, match="unknown layer 'third'"),
        inner_relevance(resolve("gradient"), model, x, ["third"]),
    ):
        pass


def test_half_precision_and_networks_without_a_gradient_are_refused():
    model, x = small().half(), draw(2, 3, 16, 16).half()
    with (
        pytest.raises(NotApplicable, match=r"float16 cannot tell from zero"),
        inner_relevance(resolve("lrp_zplus"), model, x, ["second"]),
    ):
        pass
    with (
        pytest.raises(NotApplicable, match="no gradient of the logits"),
        inner_relevance(resolve("gradient"), _Cut(), draw(2, 3, 16, 16), ["layer"]),
    ):
        pass


class _Cut(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.layer(x.detach()).mean((2, 3)).detach()


class _Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.layer(self.layer(x)).mean((2, 3))


def test_cosines_are_of_channels_place_by_place():
    first, second = draw(2, 5, 3, 4), draw(2, 5, 3, 4, seed=1)
    found = cosines(first, second)
    assert found.shape == (2, 12)
    for image in range(2):
        for place in range(12):
            a, b = (one[image].flatten(1)[:, place] for one in (first, second))
            assert float(found[image, place]) == pytest.approx(
                abs(float(a @ b / a.norm() / b.norm())), rel=1e-5, abs=1e-6
            )
    # Neither size nor sign matters; what is zero has no direction.
    assert torch.allclose(cosines(first, -1e30 * first), torch.ones(2, 12))
    assert cosines(first, torch.zeros_like(first)).isnan().all()
    assert cosines(first[:, :, 0, 0], second[:, :, 0, 0]).shape == (2, 1)


@pytest.mark.parametrize("channels", [2, 3, 24, 500])
def test_chance_is_that_of_random_vectors(channels):
    found = cosines(draw(20000, channels), draw(20000, channels, seed=1)).numpy()
    for q in (50, 95):
        assert np.percentile(found, q) == pytest.approx(chance(channels, q), rel=0.05)
    assert chance(1) == 1
    with pytest.raises(ValueError, match="0 channels"):
        chance(0)


def test_products_without_negative_entries_have_one_direction_and_others_have_not():
    plain, signed = (product_cosines(kind, 30, 64, pairs=20) for kind in FACTORS)
    assert plain.shape == signed.shape == (31, 20)
    assert plain[-1].min() >= 0.999
    assert signed[-1].max() < 0.999
    assert np.median(signed[-1]) < 0.9
    # Before any factor both are random vectors.
    for one in (plain, signed):
        assert np.median(one[0]) == pytest.approx(chance(64), abs=0.06)
    # The same product, written out.
    assert np.array_equal(product_cosines("signed", 3, 64, pairs=20), signed[:4])
    with pytest.raises(ValueError, match="unknown kind of matrix"):
        product_cosines("positive", 3, 8)


def test_a_deep_network_without_negative_weights_converges_and_the_table_says_so():
    layers = []
    for before, after in pairwise((3, 12, 12, 12, 12)):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(12 * 64, 5, bias=False))
    network, x = seeded(network).eval(), draw(3, 3, 8, 8).abs()
    paths = inner_layers(network, x)
    methods = {"zplus": resolve("lrp_zplus"), "gradient": resolve("gradient")}
    found = converging(methods, network, x, paths, [*paths][-1:], draws=3)
    rows = found.pooled.set_index(["method", "layer"])
    assert rows.loc[("zplus", "0"), "median"] > 0.999
    assert rows.loc[("gradient", "0"), "median"] < 0.95
    assert rows.loc[("zplus", "0"), "chance"] == chance(12)
    assert (rows["low"] <= rows["median"]).all()
    assert (rows["median"] <= rows["high"]).all()
    assert len(found.pictures) == 2 * len(paths) * 3
    # A picture's cosines do not hang on its company, nor those of a method on others.
    alone = converging({"zplus": methods["zplus"]}, network, x[:1], paths, [*paths][-1:], draws=3)
    own = found.pictures[(found.pictures["method"] == "zplus") & (found.pictures["image"] == 0)]
    assert alone.pictures["cosine"].to_numpy() == pytest.approx(own["cosine"].to_numpy(), rel=1e-4)


def test_methods_that_do_not_apply_are_named():
    model, x = small(), draw(2, 3, 16, 16)
    paths = inner_layers(model, x)
    methods = {"gradient": resolve("gradient"), "grad_cam": resolve("grad_cam")}
    found = converging(methods, model, x, paths, [*paths][-1:], draws=2)
    assert [*found.refused] == ["grad_cam"]
    assert set(found.pooled["method"]) == {"gradient"}
    with pytest.raises(ValueError, match="draws 1 must be at least 2"):
        converging(methods, model, x, paths, [*paths][-1:], draws=1)
    with pytest.raises(ValueError, match="unknown layer"):
        converging(methods, model, x, paths, ["none such"], draws=2)
    with pytest.raises(NotApplicable, match="no method applies"):
        converging({"grad_cam": methods["grad_cam"]}, model, x, paths, [*paths][-1:], draws=2)


def test_the_baseline_counts_for_deeplift():
    with torch.no_grad():
        network = dense()
    x = draw(1, 1, 1, WIDTHS[0], dtype=torch.float64)
    given = draw(1, WIDTHS[-1], dtype=torch.float64)
    found = []
    for method in (Multipliers(), resolve("deeplift")):
        with inner_relevance(method, network, x, PATHS) as (_, handed):
            found.append(handed("5", given)["1"])
    assert torch.equal(*found)  # the last product with the picture does not matter
