"""What is claimed of image recovery, from planted similarities."""

import numpy as np
import pytest
import torch
from saliency_sanity.book.chapters.claims import ClaimTable, tried
from saliency_sanity.book.chapters.image_recovery.claims import (
    ATTACK,
    CLASS,
    DENSE,
    NOISE,
    PLAIN,
    POOLED,
    Held,
    adversarial_claims,
    recovery_claims,
)
from saliency_sanity.probes.recovery import Recovered

PICTURES, NETWORKS = 8, 3


def planted(own, other=0.0, shape=(NETWORKS, PICTURES), seed=0):
    """Similarities [R, N, N] about these, a hundredth apart, or [N, N]."""
    draws = np.random.default_rng(seed).normal(0, 0.01, (*shape, shape[-1]))
    return draws + np.where(np.eye(shape[-1], dtype=bool), own, other)


def found(own, across=0.0, limit=None):
    limits = np.full((NETWORKS, PICTURES), own if limit is None else limit)
    return Recovered(planted(own), limits, planted(across, seed=1), torch.zeros(1, 3, 2, 2))


def kind(guided, gradient=0.01, deconvnet=0.01, across=0.9, limit=None):
    return {
        "guided_backprop": found(guided, across, limit),
        "gradient": found(gradient),
        "deconvnet": found(deconvnet),
    }


AS_SAID = {
    (PLAIN, 16): kind(0.5),
    (PLAIN, 64): kind(0.8, limit=0.9),
    (POOLED, 64): kind(0.5, deconvnet=0.4),
    (DENSE, 500): kind(0.05),
}
EXPECTED = {(PLAIN, 16): 0.51, (PLAIN, 64): 0.79, (DENSE, 500): 0.06}


def claimed(changed=(), expected=EXPECTED, margin=0.1, level=0.05):
    claims = ClaimTable("page")
    foreseen = {key: np.full(PICTURES, value) for key, value in expected.items()}
    recovery_claims(claims, Held(AS_SAID | dict(changed), foreseen, margin, level))
    return {claim.id: claim for claim in claims}


def test_what_the_paper_shows_is_reproduced_where_it_is_so():
    claims = claimed()
    assert {claim.verdict for claim in claims.values()} == {"reproduced"}
    assert set(claims) == {
        "image recovery",
        "Gradient, no recovery",
        "DeconvNet, no recovery",
        "any class",
        "max pooling, DeconvNet, 64 filters",
        "max pooling, the others, 64 filters",
        "no local connections, 500 units",
        "the limit",
        "foreseen without a fit",
        "a matter of degree",
    }
    assert "0.50 with 16, 0.80 with 64" in claims["image recovery"].measured


@pytest.mark.parametrize(
    ("changed", "id", "verdict"),
    [
        ({(PLAIN, 64): kind(0.3, limit=0.4)}, "image recovery", "not reproduced"),
        ({(PLAIN, 64): kind(0.5, limit=0.6)}, "image recovery", "inconclusive"),
        ({(PLAIN, 16): kind(0.5, gradient=0.3)}, "Gradient, no recovery", "not reproduced"),
        ({(PLAIN, 64): kind(0.8, deconvnet=0.1)}, "DeconvNet, no recovery", "inconclusive"),
        ({(PLAIN, 64): kind(0.8, across=0.1)}, "any class", "not reproduced"),
        ({(PLAIN, 64): kind(0.8, across=0.5)}, "any class", "inconclusive"),
        ({(POOLED, 64): kind(0.5)}, "max pooling, DeconvNet, 64 filters", "not reproduced"),
        (
            {(POOLED, 64): kind(0.5, gradient=0.3, deconvnet=0.4)},
            "max pooling, the others, 64 filters",
            "not reproduced",
        ),
        (
            {(POOLED, 64): kind(0.02, deconvnet=0.4)},
            "max pooling, the others, 64 filters",
            "not reproduced",
        ),
        ({(DENSE, 500): kind(0.2)}, "no local connections, 500 units", "not reproduced"),
        ({(DENSE, 500): kind(0.7)}, "a matter of degree", "not reproduced"),
        ({(DENSE, 500): kind(0.5)}, "a matter of degree", "inconclusive"),
        ({(PLAIN, 64): kind(0.8, limit=0.7)}, "the limit", "not reproduced"),
        ({(PLAIN, 64): kind(0.7, limit=0.8)}, "foreseen without a fit", "not reproduced"),
    ],
)
def test_each_verdict_follows_its_own_numbers(changed, id, verdict):
    assert claimed(changed)[id].verdict == verdict


def test_few_pictures_decide_nothing():
    few = {
        key: {
            name: Recovered(
                run.similarity[:, :4, :4], run.limit[:, :4], run.classes[:, :4, :4], run.maps
            )
            for name, run in methods.items()
        }
        for key, methods in AS_SAID.items()
    }
    claims = claimed(few)
    exact = {"foreseen without a fit"}
    assert {claims[id].verdict for id in set(claims) - exact} == {"inconclusive"}


def test_without_pools_or_dense_networks_nothing_is_said_of_them():
    claims = ClaimTable("page")
    runs = {(PLAIN, 16): kind(0.5)}
    recovery_claims(claims, Held(runs, {(PLAIN, 16): np.full(PICTURES, 0.5)}))
    verdicts = {claim.id: claim.verdict for claim in claims}
    assert verdicts["image recovery"] == "not tested"
    assert not any("pooling" in id or "units" in id or "degree" in id for id in verdicts)


def test_another_margin_and_a_lower_level_are_tried():
    def made(margin, level):
        claims = ClaimTable("page")
        foreseen = {key: np.full(PICTURES, value) for key, value in EXPECTED.items()}
        runs = AS_SAID | {(DENSE, 500): kind(0.07)}
        recovery_claims(claims, Held(runs, foreseen, margin, level))
        return claims

    claims = {claim.id: claim for claim in tried(made, 0.1)}
    dense = claims["no local connections, 500 units"]
    assert dense.margins == {"0.05": "not reproduced", "0.2": "reproduced"}
    assert dense.level < 0.05
    assert claims["foreseen without a fit"].level is None


def attacked(method, noise, other, attack, chance=0.0):
    shape = (PICTURES,)
    values = {NOISE: noise, CLASS: other, ATTACK: attack}
    similarities = {
        (method, "spearman_abs", cause): planted(own, chance, shape, seed)
        for seed, (cause, own) in enumerate(values.items())
    }
    claims = ClaimTable("page")
    adversarial_claims(claims, similarities, 0.1, 0.05)
    return [claim.verdict for claim in claims]


@pytest.mark.parametrize(
    ("noise", "attack", "verdict"),
    [
        (0.6, 0.2, "reproduced"),
        (0.2, 0.2, "inconclusive"),  # noise takes as much
        (0.1, 0.3, "not reproduced"),  # noise takes more
        (0.9, 0.7, "not reproduced"),  # most is left
        (0.9, 0.5, "inconclusive"),
    ],
)
def test_the_gradient_changes_if_less_than_half_is_left_and_noise_leaves_more(
    noise, attack, verdict
):
    assert attacked("gradient", noise, 0.4, attack) == [verdict]


@pytest.mark.parametrize(
    ("attack", "verdict"), [(0.8, "reproduced"), (0.5, "inconclusive"), (0.2, "not reproduced")]
)
def test_guided_backpropagation_hardly_changes_if_most_is_left(attack, verdict):
    assert attacked("guided_backprop", 0.9, 0.99, attack) == [verdict, "reproduced"]
    assert attacked("guided_backprop", 0.9, 0.5, attack)[1] == "not reproduced"
    assert attacked("deconvnet", 0.9, 0.99, attack) == [verdict]


def test_where_all_pictures_have_one_map_nothing_can_be_told():
    assert attacked("deconvnet", 0.999, 0.999, 0.999, chance=0.99) == ["cannot tell"]


def test_of_other_methods_nothing_is_claimed():
    assert attacked("grad_cam", 0.9, 0.5, 0.5) == []
