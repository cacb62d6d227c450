import pandas as pd
import pytest
from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.book.chapters.competition.claims import competition_claims

MARGIN, SHARE = 0.1, 0.2
TWINS = {"competitive_lrp_epsilon": "lrp_epsilon", "competitive_noise": "noise"}
TITLES = {"lrp_epsilon": "Product", "competitive_lrp_epsilon": "Product (competitive)"} | {
    "noise": "Noise",
    "competitive_noise": "Noise (competitive)",
}
LEVELS = {
    "lrp_epsilon": 0.8,
    "competitive_lrp_epsilon": 0.0,
    "noise": 0.0,
    "competitive_noise": 0.0,
}
PASSES = "Product passes layer randomization by competition, by rank correlation, absolute"
LABELS = "Product passes random labels by competition, by rank correlation, absolute"


def rows(levels, position=1):
    made = []
    for method, kappa in levels.items():
        low, high = kappa - 0.02, kappa + 0.02
        verdict = "below" if high < MARGIN else "above" if low > MARGIN else "inconclusive"
        made.append(
            {
                "method": method,
                "metric": "spearman_abs",
                "stage": "all",
                "position": position,
                "kappa": kappa,
                "low": low,
                "high": high,
                "similarity": kappa,
                "chance": 0.05,
                "verdict": verdict,
            }
        )
    return pd.DataFrame(made)


def survival(after=0.2, wide=0.01):
    values = {"original": 0.3, "logits": after, "all": after}
    made = []
    for position, (stage, value) in enumerate(values.items()):
        made.append(
            {
                "method": "competitive_lrp_epsilon",
                "quantity": "survivors",
                "stage": stage,
                "position": position,
                "value": value,
                "low": value - wide,
                "high": value + wide,
            }
        )
    return pd.DataFrame(made)


def claimed(levels=None, relabelled=None, left=None, **settings):
    claims = ClaimTable("page")
    readings = pd.concat(
        [rows(LEVELS | {"competitive_lrp_epsilon": 0.9}, 0), rows(LEVELS | (levels or {}))]
    )
    competition_claims(
        claims,
        readings,
        relabelled,
        TWINS,
        TITLES,
        survival() if left is None else left,
        share=SHARE,
        margin=MARGIN,
        **settings,
    )
    return {claim.id: claim for claim in claims}


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ({}, "reproduced"),
        ({"competitive_lrp_epsilon": 0.5}, "not reproduced"),
        ({"competitive_lrp_epsilon": 0.1}, "inconclusive"),
        ({"lrp_epsilon": 0.0}, "not tested"),
        ({"lrp_epsilon": 0.0, "competitive_lrp_epsilon": 0.5}, "not reproduced"),
        ({"lrp_epsilon": 0.1}, "inconclusive"),
    ],
)
def test_passing_is_read_at_the_last_stage(levels, expected):
    assert claimed(levels)[PASSES].verdict == expected


def test_labels_are_claims_of_their_own_where_there_are_such_networks():
    assert LABELS not in claimed()
    found = claimed(relabelled=rows(LEVELS | {"competitive_lrp_epsilon": 0.6}))
    assert found[LABELS].verdict == "not reproduced"
    assert found[PASSES].verdict == "reproduced"
    forgotten = claimed(relabelled=rows(LEVELS), memorized=False)[LABELS]
    assert forgotten.verdict == "not tested"
    assert forgotten.measured is None
    assert "not learned" in forgotten.reason


@pytest.mark.parametrize(
    ("after", "wide", "expected"),
    [
        (0.2, 0.01, "reproduced"),
        (0.215, 0.001, "reproduced"),
        (0.3, 0.01, "not reproduced"),
        (0.1, 0.01, "not reproduced"),
        (0.25, 0.05, "inconclusive"),
    ],
)
def test_survival_is_held_against_chance(after, wide, expected):
    claim = claimed(left=survival(after, wide))["Product (competitive) survives by chance"]
    assert claim.verdict == expected
    assert "0.3 before" in claim.measured


def test_chance_is_known_where_all_labels_compete_only():
    assert not any("by chance" in id for id in claimed(all_compete=False))


@pytest.mark.parametrize(("kappa", "expected"), [(0.0, "reproduced"), (0.5, "inconclusive")])
def test_noise_passes_too(kappa, expected):
    assert claimed({"competitive_noise": kappa})["noise passes, too"].verdict == expected
    assert not any("Noise passes" in id for id in claimed())


@pytest.mark.parametrize(
    ("chance", "verdict"), [(0.14, "inconclusive"), (0.11, "reproduced"), (0.17, "not reproduced")]
)
def test_the_overlap_is_held_against_its_own_chance(chance, verdict):
    found = {"method": "competitive_lrp_epsilon", "quantity": "overlap", "stage": "all"}
    row = found | {"position": 2, "value": 0.14, "low": 0.12, "high": 0.16, "chance": chance}
    left = pd.concat([survival(), pd.DataFrame([row])])
    claims = claimed(left=left)
    claim = claims["Product (competitive) keeps more of the same places than chance"]
    assert claim.verdict == verdict
    assert f"{chance:.3f}" in claim.chance


def test_sentences_of_the_paper_are_not_asked_of_rules_whose_maps_sum_up_to_nothing():
    twins = {"competitive_lrp_zplus": "lrp_zplus"}
    readings = rows({"lrp_zplus": 0.8, "competitive_lrp_zplus": 0.9})
    titles = dict.fromkeys((*twins, *twins.values()), "LRP-z⁺")
    claims = ClaimTable("page")
    empty = pd.DataFrame(columns=["method", "quantity"])
    competition_claims(
        claims, readings, None, twins, titles, empty, share=0.1, margin=0.1, all_compete=False
    )
    assert len(claims) == 0
