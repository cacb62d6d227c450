"""Lines above the figures say what the numbers say."""

import numpy as np
import pandas as pd
import pytest
from saliency_sanity.book.chapters.scales.findings import (
    carried_finding,
    concord_finding,
    first_gone,
    inherited_finding,
    noise_finding,
    prepared_finding,
)
from saliency_sanity.probes.rankings import Concordance


@pytest.mark.parametrize(
    ("value", "spread", "ceiling", "says"),
    [
        (0.2, 0.1, 0.9, "otherwise"),
        (0.2, 0.1, 0.3, "perhaps alike"),
        (0.45, 0.1, 0.9, "perhaps alike"),
        (0.8, 0.1, 0.9, "alike"),
    ],
)
def test_rankings_are_alike_or_not(value, spread, ceiling, says):
    adds = spread / 4 * np.array([-1.0, 1.0, -1.0, 1.0])
    text = concord_finding(Concordance(value, 7, adds, (), ceiling))
    assert f"rank methods {says}: rank correlation {value:.2f} (" in text
    assert f"ceiling {ceiling:.2f}" in text


def test_numbers_below_zero_have_a_minus():
    text = concord_finding(Concordance(-0.3, 7, np.zeros(4), (), 0.9))
    assert "rank correlation −0.30 (−0.30 to −0.30;" in text


def test_the_rank_of_noise_is_told_by_similarity():
    table = pd.DataFrame({"method": ["noise", "one", "none"], "rank": [1.5, 1.5, np.nan]})
    text = noise_finding({"SSIM": table, "ranks": table}, "noise")
    assert text.endswith("has rank 1.5 of 2 by SSIM, 1.5 of 2 by ranks")


def test_one_rank_in_all_scalings_is_told_once():
    assert prepared_finding([2.0, 2.0, 2.0]).endswith("rank 2 however maps are scaled")
    assert "has rank 3, 1 and 2, depending on how" in prepared_finding([3.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ((0.4, 0.2, 0.6), "random ones keep some of the order"),
        ((0.0, -0.1, 0.1), "random ones show nothing of the order"),
        ((-0.4, -0.6, -0.2), "random ones rather reverse the order"),
    ],
)
def test_random_layers_keep_an_order_or_not(found, says):
    assert says in inherited_finding(found)


def test_the_share_that_stays_is_told_with_its_interval():
    assert carried_finding((0.57, 0.55, 0.59)).startswith("57% of the large channels")
    assert "(55% to 59%," in carried_finding((0.57, 0.55, 0.59))


def test_who_responds_first_is_counted_without_controls():
    rows = pd.DataFrame(
        [
            {"order": order, "method": method, "position": place, "verdict": verdict}
            for order in ("top_down", "bottom_up")
            for place in (0, 1)
            for method, verdict in (("one", "below"), ("two", "above"), ("noise", "below"))
        ]
    )
    text = first_gone(rows, ["noise"], "ranks")
    assert "1 of 2 from the logits down, 1 of 2 from the input up (ranks)" in text
