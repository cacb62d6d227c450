"""The eMPRT and sMPRT: their formulas in plain loops, Quantus where it is installed."""

import math

import numpy as np
import pytest
import torch
from made.networks import draw, relative
from saliency_sanity import resolve
from saliency_sanity._random import generator, normal
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.probes.complexity import (
    STATISTICS,
    SUMMED_RANKS,
    Denoised,
    Rise,
    RiseKind,
    absolute_entropy,
    alike,
    efficient_mprt,
    entropy,
    noise_rises,
    relative_rise,
    rise_kinds,
    rises,
    signed_entropy,
    smooth_mprt,
)
from saliency_sanity.randomization.blocks import find_blocks
from saliency_sanity.randomization.schemes import Randomization, Randomizer
from scipy import stats

TARGET = torch.tensor([0, 1, 2])


@pytest.fixture
def x():
    return draw(3, 3, 24, 24, dtype=torch.float64)


def counted(values, bins=100):
    """The entropy of a histogram, counted value by value."""
    low, high = min(values), max(values)
    counts = [0] * bins
    for value in values:
        counts[min(int((value - low) / (high - low) * bins), bins - 1)] += 1
    return -sum(n / len(values) * math.log(n / len(values)) for n in counts if n)


def second_moment(maps):
    """Quantus' normalisation: over all axes of the batch."""
    return maps / np.sqrt(np.mean(maps**2))


@pytest.mark.parametrize("bins", [1, 10, 100])
def test_entropy_is_that_of_a_histogram_counted_by_hand(bins):
    maps = draw(4, 1, 20, 20, dtype=torch.float64)
    expected = [counted(one.flatten().tolist(), bins) for one in maps]
    assert entropy(maps, bins).numpy() == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert np.array_equal(entropy(maps, bins), entropy(maps.numpy(), bins))


def test_entropy_runs_from_0_to_that_of_equal_bins():
    even = torch.arange(1000, dtype=torch.float64).reshape(1, -1)
    assert entropy(even)[0] == pytest.approx(math.log(100), rel=1e-12)
    assert entropy(torch.full((2, 1, 5, 5), 3.0)).tolist() == [0, 0]


def test_neither_scale_nor_shift_nor_order_changes_it():
    # Values on a grid of powers of two, so that moving them rounds nothing.
    maps = (draw(5, 1, 16, 16, dtype=torch.float64) * 1024).round() / 1024
    shuffled = maps.flatten(1)[:, torch.randperm(256, generator=generator("order"))]
    for other in (maps * 8, maps + 2, shuffled):
        assert torch.equal(entropy(other), entropy(maps))
    # What the published code divides by, over the batch, or each map by its own.
    scaled = second_moment(maps.numpy())
    assert entropy(scaled).numpy() == pytest.approx(entropy(maps).numpy(), rel=1e-12)
    risen = relative_rise(*(entropy(one) for one in (maps[:2].numpy(), maps[2:4].numpy())))
    again = [entropy(second_moment(one.numpy())) for one in (maps[:2], maps[2:4])]
    assert relative_rise(*again) == pytest.approx(risen, rel=1e-12)


def test_what_is_not_finite_has_none_and_a_hair_of_range_is_enough():
    maps = torch.ones(3, 1, 2, 2, dtype=torch.float64)
    maps[0, 0, 0, 0] = torch.nan
    maps[1, 0, 0, 0] = torch.inf
    maps[2, 0, 0, 0] = np.nextafter(1, 2)
    found = entropy(maps)
    assert found[:2].isnan().all()
    assert found[2] == pytest.approx(counted([0, 0, 0, 1]))


@pytest.mark.parametrize("maps", [torch.zeros(4), torch.zeros(0, 3, 3), torch.zeros(2, 0)])
def test_no_maps_are_refused(maps):
    with pytest.raises(ValueError, match=r"expected \[N"):
        entropy(maps)


def test_no_bins_are_refused():
    with pytest.raises(ValueError, match="bins 0 must be at least 1"):
        entropy(torch.zeros(1, 4), 0)


def test_channels_are_summed_before_signs_go():
    maps = draw(3, 3, 12, 12, dtype=torch.float64)
    summed = maps.numpy().sum(1)
    assert torch.equal(signed_entropy(maps), entropy(summed))
    assert torch.equal(absolute_entropy(maps), entropy(abs(summed)))


def test_a_rise_is_relative_and_says_what_is_not_defined():
    before = np.array([2.0, 2.0, 0.0, 0.0, np.nan, 1.0])
    after = np.array([3.0, 2.0, 1.0, 0.0, 1.0, np.nan])
    found = relative_rise(before, after)
    assert found[:2].tolist() == [0.5, 0.0]
    assert np.isnan(found[2:]).all()
    kinds = ["defined", "defined", "flat map", "flat map", "not finite", "not finite"]
    assert rise_kinds(before, after).tolist() == kinds
    rise = Rise(before[None], after[None])
    assert [rise.count(kind) for kind in RiseKind] == [2, 2, 2]
    assert rise.mean()[0] == pytest.approx(0.25)


@pytest.mark.parametrize("method", ["sobel", "canny", "input"])
def test_what_does_not_see_the_network_rises_by_0(small_net_double, x, method):
    found = efficient_mprt(small_net_double, x, TARGET, resolve(method), seeds=2)
    assert found.values.tolist() == [[0.0] * 3] * 2
    assert found.mean() == (0, 0, 0)


def test_a_map_of_the_same_values_elsewhere_rises_by_0(small_net_double, x):
    """The network decides how pixels are shuffled: the map changes, its complexity does not."""

    def shuffled(model, x, target):
        weight = next(model.parameters())
        order = weight.flatten()[: x.shape[3]].argsort()
        return x[..., torch.cat([order, torch.arange(len(order), x.shape[3])])]

    found = efficient_mprt(small_net_double, x, TARGET, shuffled, seeds=2)
    assert (found.values == 0).all()
    assert (smooth_mprt(small_net_double, x, TARGET, shuffled, samples=2, seeds=2) < 0.9).all()


def test_a_flat_map_is_counted_and_left_out(small_net_double, x):
    def flat(model, x, target):
        return torch.cat([torch.ones_like(x[:1]), x[1:]])

    found = efficient_mprt(small_net_double, x, TARGET, flat, seeds=2)
    assert found.count(RiseKind.FLAT) == 2
    assert np.isnan(found.values[:, 0]).all()
    assert found.mean()[0] == 0


def whole(model, x, seed):
    """The randomizer of a network, wholly random."""
    blocks = find_blocks(model, x)
    randomizer = Randomizer(model, blocks, Randomization(), x)
    return randomizer, [block.name for block in blocks], seed


def test_efficient_mprt_is_the_formula_on_maps_before_and_after(small_net_double, x):
    model, method = small_net_double, Gradient()
    found = efficient_mprt(model, x, TARGET, method, seeds=2, seed=3)
    before = method(model, x, TARGET).sum(1)
    for row, seed in enumerate((3, 4)):
        randomizer, names, _ = whole(model, x, seed)
        with randomizer:
            randomizer.set(names, seed)
            after = method(model, x, TARGET).sum(1)
        for picture in range(3):
            first, second = (counted(maps[picture].flatten().tolist()) for maps in (before, after))
            expected = (second - first) / first
            assert found.values[row, picture] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def by_hand(method, model, x, target, samples, noise, seed, plain_last=True):
    """The mean map over noisy copies, copy by copy and picture by picture."""
    total = torch.zeros_like(method(model, x, target))
    for sample in range(samples):
        draws = normal(x.shape[1:], generator(seed, "denoising", sample)).to(x)
        for i in range(len(x)):
            spread = noise * (x[i].max() - x[i].min())
            last = plain_last and sample == samples - 1
            copy = x[i] if last else x[i] + spread * draws
            total[i] += method(model, copy[None], target[i : i + 1])[0]
    return total / samples


@pytest.mark.parametrize("plain_last", [True, False])
def test_denoised_is_the_mean_over_copies(small_net_double, x, plain_last):
    method = Denoised(Gradient(), samples=4, noise=0.2, seed=1, plain_last=plain_last)
    expected = by_hand(Gradient(), small_net_double, x, TARGET, 4, 0.2, 1, plain_last)
    assert relative(method(small_net_double, x, TARGET), expected) < 1e-12
    assert method.passes == 4


def test_one_sample_is_the_plain_map_or_a_noisy_one(small_net_double, x):
    plain = Gradient()(small_net_double, x, TARGET)
    assert torch.equal(Denoised(Gradient(), 1)(small_net_double, x, TARGET), plain)
    noisy = Denoised(Gradient(), 1, plain_last=False)(small_net_double, x, TARGET)
    assert relative(noisy, plain) > 0.01


def test_denoised_maps_do_not_depend_on_their_company_or_on_global_state(small_net, x):
    method = Denoised(resolve("smoothgrad", samples=2), 3)
    x, state = x.float(), torch.get_rng_state()
    together = method(small_net, x, TARGET)
    alone = torch.cat([method(small_net, x[i : i + 1], TARGET[i : i + 1]) for i in range(3)])
    assert relative(alone, together) < 1e-5
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("given", "says"),
    [({"samples": 0}, "samples 0"), ({"noise": -0.1}, "noise -0.1"), ({"noise": np.inf}, "noise")],
)
def test_what_cannot_be_averaged_is_refused(given, says):
    with pytest.raises(ValueError, match=says):
        Denoised(Gradient(), **given)


def test_summed_ranks_are_those_of_scipy():
    a, b = (draw(4, 3, 10, 10, seed=seed, dtype=torch.float64) for seed in (0, 1))
    expected = [
        stats.spearmanr(*(abs(m[i].numpy().sum(0)).ravel() for m in (a, b))).statistic
        for i in range(4)
    ]
    assert SUMMED_RANKS(a, b).numpy() == pytest.approx(expected, rel=1e-12, abs=1e-12)
    scaled = [second_moment(m.numpy()) for m in (a, b)]
    again = SUMMED_RANKS(*map(torch.from_numpy, scaled)).numpy()
    assert again == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_smooth_mprt_is_the_formula_on_maps_before_and_after(small_net_double, x):
    model, method, given = small_net_double, resolve("gradient_x_input"), (3, 0.1, 2)
    found = smooth_mprt(model, x, TARGET, method, samples=3, noise=0.1, seeds=1, seed=2)
    before = by_hand(method, model, x, TARGET, *given)
    randomizer, names, seed = whole(model, x, 2)
    with randomizer:
        randomizer.set(names, seed)
        after = by_hand(method, model, x, TARGET, *given)
    expected = [
        stats.spearmanr(*(abs(m[i].numpy().sum(0)).ravel() for m in (before, after))).statistic
        for i in range(3)
    ]
    assert found[0] == pytest.approx(expected, rel=1e-9)


def test_both_leave_the_network_as_it_was(small_net, x):
    x, kept = x.float(), {k: v.clone() for k, v in small_net.state_dict().items()}
    efficient_mprt(small_net, x, TARGET, Gradient(), seeds=1)
    smooth_mprt(small_net, x, TARGET, Gradient(), samples=2, seeds=1)
    assert all(torch.equal(v, kept[k]) for k, v in small_net.state_dict().items())


def test_of_an_experiment_they_are_its_last_stage(small_net, x):
    methods = {"gradient": Gradient(), "sobel": resolve("sobel")}
    experiment = Experiment(
        small_net, x.float(), TARGET, methods, {"ranks": SUMMED_RANKS}, explained="fixed", seeds=2,
        statistics=STATISTICS, ceiling=0,
    )  # fmt: skip
    outcome = experiment()
    alone = efficient_mprt(small_net, x.float(), TARGET, Gradient(), seeds=2)
    assert np.array_equal(rises(outcome)["gradient"].values, alone.values)
    assert set(rises(outcome, "entropy_absolute")) == set(methods)
    for stage in (0, -1):
        square = outcome.matrices["gradient", "ranks"][stage]
        own = alike(outcome, "ranks", stage)["gradient"]
        assert np.array_equal(own, np.einsum("rii->ri", square))
    assert (alike(outcome, "ranks")["sobel"] > 1 - 1e-12).all()


def test_noise_alone_rises_as_its_tails_grow_lighter():
    table = noise_rises((28, 28), draws=30).set_index(["before", "after"])
    assert table.loc[("student-t3", "gaussian"), "low"] > 0.1
    assert table.loc[("gaussian", "student-t3"), "high"] < -0.1
    assert abs(table.loc[("uniform", "uniform"), "value"]) < 0.01
    again = noise_rises((28, 28), draws=30).set_index(["before", "after"])
    assert table.equals(again)
    with pytest.raises(ValueError, match="draws 1 must be at least 2"):
        noise_rises((4, 4), draws=1)


def gradient_func(calls=None):
    def explain(model, inputs, targets, **_):
        leaf = torch.as_tensor(inputs).float().requires_grad_()
        score = model(leaf).gather(1, torch.as_tensor(targets)[:, None]).sum()
        found = torch.autograd.grad(score, leaf)[0].double().sum(1, keepdim=True).numpy()
        if calls is not None:
            calls.append(found)
        return found

    return explain


def quantus():
    return pytest.importorskip("quantus", reason="pip install 'saliency-sanity[bench]'")


@pytest.mark.parametrize("normalise", [True, False])
def test_efficient_mprt_is_quantus(small_net, x, normalise):
    quantus_ = quantus()
    calls: list[np.ndarray] = []
    score = quantus_.EfficientMPRT(
        complexity_func_kwargs={"n_bins": 100}, skip_layers=True, abs=False, normalise=normalise,
        disable_warnings=True, display_progressbar=False,
    )  # fmt: skip
    theirs = score(
        small_net, x.float().numpy(), TARGET.numpy(), channel_first=True,
        explain_func=gradient_func(calls),
    )  # fmt: skip
    # The maps of the network as it is come first, those of the random one last.
    ours = relative_rise(entropy(calls[0]).numpy(), entropy(calls[-1]).numpy())
    assert theirs == pytest.approx(ours, rel=1e-12, abs=1e-12)
    assert max(map(abs, ours)) > 1e-3


def test_smooth_mprt_is_quantus(small_net, x, monkeypatch):
    quantus_ = quantus()
    calls: list[np.ndarray] = []
    monkeypatch.setattr(quantus_, "explain", gradient_func(calls))
    score = quantus_.SmoothMPRT(
        nr_samples=4, skip_layers=True, disable_warnings=True, display_progressbar=False
    )
    theirs = score(
        small_net, x.float().numpy(), TARGET.numpy(), channel_first=True,
        explain_func=gradient_func(),
    )  # fmt: skip
    # Four copies for the network as it is, four again to compare it with itself, four at the end.
    first, *_, last = (np.mean(calls[i : i + 4], axis=0) for i in (0, 4, 8))
    assert len(calls) == 12
    ours = SUMMED_RANKS(*map(torch.from_numpy, (first, last))).numpy()
    assert list(theirs.values())[-1] == pytest.approx(ours, rel=1e-12, abs=1e-12)
    # Denoised adds what Quantus adds: the last copy is plain, the noise in units of the range.
    plain = Gradient()(small_net, x.float(), TARGET).double().sum(1, keepdim=True)
    assert relative(torch.from_numpy(calls[3]), plain) < 1e-5
