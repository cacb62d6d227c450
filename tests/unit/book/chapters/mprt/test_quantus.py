"""What Quantus computes: our formulas of it, and Quantus where it is installed."""

import numpy as np
import pytest
import torch
from made.networks import draw
from saliency_sanity import resolve
from saliency_sanity.book.chapters.mprt.quantus import (
    RULES,
    average_counting_untouched,
    bin_table,
    bins_by,
    smooth_table,
)
from saliency_sanity.probes.complexity import SUMMED_RANKS, Denoised, entropy, relative_rise

TARGET = torch.tensor([0, 1, 2])


@pytest.mark.parametrize("rule", RULES)
def test_rules_count_values_or_axes(rule):
    maps = np.random.default_rng(0).standard_t(2, size=(4, 50, 50))
    meant, given = (bins_by(rule, maps, as_quantus=own) for own in (False, True))
    assert 10 <= given < meant <= 200
    if rule in ("Square Root", "Sturges Formula", "Rice"):
        expected = {"Square Root": 50, "Sturges Formula": 12, "Rice": 27}  # of 2500
        assert (meant, given) == (expected[rule], 10)


@pytest.mark.parametrize("rule", RULES)
def test_rules_as_quantus_are_those_of_quantus(rule):
    constants = pytest.importorskip("quantus.helpers.constants")
    theirs = constants.AVAILABLE_N_BINS_ALGORITHMS[rule]
    for power in (1, 3, 5):
        maps = np.random.default_rng(power).normal(size=(3, 1, 20, 20)) ** power
        expected = max(min(theirs(maps), 200), 10)
        assert bins_by(rule, maps[:, 0], as_quantus=True) == expected


def test_a_table_of_bins_has_the_score_at_each():
    before = draw(3, 2, 32, 32, dtype=torch.float64)
    after = draw(3, 2, 32, 32, seed=1, dtype=torch.float64) ** 3
    found = bin_table(before, after).set_index("rule")
    assert found.loc["none: 100 bins", ["meant", "quantus"]].tolist() == [100, 100]
    assert len(found) == 1 + len(RULES)
    for _, row in found.iterrows():
        for bins, score in (("meant", "emprt_meant"), ("quantus", "emprt_quantus")):
            sides = (entropy(maps.sum(1), int(row[bins])) for maps in (before, after))
            assert row[score] == pytest.approx(float(np.mean(relative_rise(*sides))), rel=1e-12)
    # Moving or scaling all maps moves no bin.
    again = bin_table(before * 8, after * 8).set_index("rule")
    assert again.equals(found)


def test_an_average_with_the_untouched_network_is_nearer_to_1():
    by_stage = np.array([[0.5, 0.2], [0.1, 0.0], [0.0, -0.2]])
    assert average_counting_untouched(by_stage) == pytest.approx([1.6 / 4, 1.0 / 4])


def test_cases_of_smooth_mprt_are_what_they_say(small_net):
    x = draw(3, 3, 24, 24)
    methods = {key: resolve(key) for key in ("gradient", "gradient_x_input")}
    kept = {name: value.clone() for name, value in small_net.state_dict().items()}
    table, maps = smooth_table(small_net, x, TARGET, methods, samples=3, noise=0.1, seeds=2)
    assert all(torch.equal(v, kept[k]) for k, v in small_net.state_dict().items())
    found = table.set_index("case")
    # Of the gradient it makes no difference that the gradient stands in for it.
    assert found.loc["gradient", "gradient"] == found.loc["smprt", "gradient"]
    assert found.loc["gradient", "gradient_x_input"] == found.loc["smprt", "gradient"]
    assert found.loc["smprt", "gradient_x_input"] != found.loc["smprt", "gradient"]
    assert (found.loc["itself", list(methods)] < 0.999).all()
    plain = methods["gradient"](small_net, x, TARGET)
    assert torch.equal(maps["gradient"][0], plain)
    assert not torch.equal(maps["gradient"][1], plain)
    denoised = Denoised(methods["gradient"], 3)
    others = Denoised(methods["gradient"], 3, seed=1)
    own = SUMMED_RANKS(*(one(small_net, x, TARGET) for one in (denoised, others)))
    assert found.loc["itself", "gradient"] == pytest.approx(float(own.mean()), rel=1e-6)
