"""Claims on rankings and scales: each verdict from numbers of which it is known what they say."""

import numpy as np
import pandas as pd
import pytest
from saliency_sanity.book.chapters.claims import LEVELS, ClaimTable
from saliency_sanity.book.chapters.scales.claims import held, scale_claims
from saliency_sanity.probes.rankings import Concordance
from saliency_sanity.probes.scales import KeptScales

WINS = "noise wins, by SSIM"
DIFFER = "rankings differ, by SSIM"
CARRY = "large channels stay influential"
LIKELY = "a large channel is more likely than not influential"
INHERIT = "random layers inherit scales"
RANKS = "the second moment leaves ranks alone"


def ranking(behind, width=0.02):
    """Noise at 0.1, and methods so far behind it."""
    rows = [("noise", 0.0, 0.0)] + [(f"m{i}", gap, width) for i, gap in enumerate(behind)]
    table = pd.DataFrame(
        [
            {
                "method": name,
                "value": 0.1 + gap,
                "low": 0.1 + gap - wide,
                "high": 0.1 + gap + wide,
                "behind": gap,
                "behind_low": gap - wide,
                "behind_high": gap + wide,
            }
            for name, gap, wide in rows
        ]
    )
    return table.assign(rank=table["value"].rank())


def kept(carried=0.6, top=0.7, norms=0.0, noise=0.02):
    """Three stages of a network with two layers, two random networks and five pictures."""
    rng = np.random.default_rng(0)
    levels = {"carried": carried, "top": top, "norms": norms, "influence": 0.0}
    values = {
        ("top_down", key): level + noise * rng.normal(size=(3, 2, 2, 5))
        for key, level in levels.items()
    }
    chances = {key: (0.25 if key[1] == "top" else 0) + 0 * array for key, array in values.items()}
    random = np.array([[False, False], [False, True], [True, True]])
    stages = {"top_down": ("c", "b", "a")}
    layers = ("a", "b")
    return KeptScales(layers, stages, {"top_down": random}, values, chances, np.full(2, 0.25))


def claimed(
    behind=(0.0, 0.3), width=0.02, concordance=0.1, spread=0.05, change=0.0, level=0.05, **given
):
    adds = spread / 10 * np.array([-1.0, 1.0, -1.0, 1.0, -1.0, 1.0])
    ceiling = given.pop("ceiling", 0.9)
    counts = {"pictures": 5, "networks": 2} | {
        key: given.pop(key) for key in ("pictures", "networks") if key in given
    }
    claims = ClaimTable("page")
    scale_claims(
        claims,
        {"ssim": ranking(behind, width)},
        {"ssim": Concordance(concordance, 7, adds, (), ceiling)},
        kept(**given),
        change,
        margin=0.1,
        level=level,
        **counts,
    )
    return {claim.id: claim for claim in claims}


@pytest.mark.parametrize(
    ("behind", "width", "expected"),
    [
        ((0.0, 0.3), 0.02, "reproduced"),
        ((-0.05, 0.3), 0.02, "reproduced"),
        ((-0.1, 0.3), 0.02, "inconclusive"),
        ((-0.2, 0.3), 0.02, "not reproduced"),
        ((0.0, 0.3), 0.2, "inconclusive"),
    ],
)
def test_noise_wins_unless_somebody_is_ahead(behind, width, expected):
    claim = claimed(behind, width)[WINS]
    assert claim.verdict == expected
    ahead = int(expected == "not reproduced")
    assert f"{ahead} ahead by more than 0.1" in claim.measured
    assert claim.by == "ssim"


@pytest.mark.parametrize(
    ("value", "spread", "expected"),
    [(0.1, 0.2, "reproduced"), (0.9, 0.05, "not reproduced"), (0.45, 0.2, "inconclusive")],
)
def test_rankings_differ_where_the_interval_is_below_a_half(value, spread, expected):
    claim = claimed(concordance=value, spread=spread)[DIFFER]
    assert claim.verdict == expected
    assert "over 7 methods; 5 pictures, 2 random networks" in claim.measured


@pytest.mark.parametrize(
    ("value", "ceiling", "expected"),
    [(0.1, 0.4, "cannot tell"), (0.1, np.nan, "cannot tell"), (0.9, 0.4, "not reproduced")],
)
def test_rankings_that_pictures_alone_would_part_tell_nothing(value, ceiling, expected):
    assert claimed(concordance=value, ceiling=ceiling)[DIFFER].verdict == expected


@pytest.mark.parametrize(
    ("claim", "given", "expected"),
    [
        (CARRY, {"carried": 0.6}, "reproduced"),
        (CARRY, {"carried": -0.2}, "not reproduced"),
        (CARRY, {"carried": 0.1}, "inconclusive"),
        (LIKELY, {"top": 0.7}, "reproduced"),
        (LIKELY, {"top": 0.3}, "not reproduced"),
        (LIKELY, {"top": 0.5}, "inconclusive"),
        (INHERIT, {"norms": 0.4}, "reproduced"),
        (INHERIT, {"norms": 0.0}, "not reproduced"),
        (RANKS, {"change": 1e-9}, "reproduced"),
        (RANKS, {"change": 1e-3}, "not reproduced"),
    ],
)
def test_scales_are_held_against_their_lines(claim, given, expected):
    assert claimed(**given)[claim].verdict == expected


def test_the_row_says_what_the_mean_over_stages_hides():
    claims = ClaimTable("page")
    scales = kept(noise=0.0)
    scales.values["top_down", "carried"][0] = 0.9
    scales.values["top_down", "carried"][1] = 0.3
    given = {"pictures": 5, "networks": 2, "margin": 0.1}
    scale_claims(claims, {}, {}, scales, 0.0, **given)
    measured = {claim.id: claim.measured for claim in claims}[CARRY]
    assert measured.startswith("rank correlation 0.60 (")
    assert "a mean over stages, 0.90 at the first and 0.30 at the last; 5 pictures" in measured


@pytest.mark.parametrize("given", [{"pictures": 4}, {"networks": 1}])
def test_few_pictures_or_one_network_decide_nothing_but_arithmetic(given):
    verdicts = {key: claim.verdict for key, claim in claimed(**given).items()}
    assert verdicts.pop(RANKS) == "reproduced"
    assert set(verdicts.values()) == {"inconclusive"}


def test_a_stricter_level_widens_what_is_told():
    loose, strict = (
        claimed(top=0.53, noise=0.04, level=level) for level in (LEVELS[0], LEVELS[-1])
    )
    assert loose[LIKELY].measured != strict[LIKELY].measured
    assert {loose[LIKELY].verdict, strict[LIKELY].verdict} <= {"reproduced", "inconclusive"}


def test_an_interval_without_ends_is_on_no_side():
    assert held(np.nan, np.nan, 0.5, many=True) == "inconclusive"
    assert held(0.6, 0.7, 0.5, many=True) == "above"
    assert held(0.3, 0.4, 0.5, many=True) == "below"
    assert held(0.6, 0.7, 0.5, many=False) == "inconclusive"
