"""Claims on edges: only of what was run, each with the verdict that its readings give."""

import pandas as pd
import pytest
from made.boards import reading
from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.book.chapters.edge_detectors.claims import (
    layer_claims,
    picture_claims,
    product_claims,
)

LIKE, UNLIKE = (0.7, 0.9), (-0.02, 0.04)


def readings(**intervals) -> pd.DataFrame:
    return pd.DataFrame(
        [
            reading(name, "spearman_abs", interval, similarity=0.6, chance=0.2)
            for name, interval in intervals.items()
        ]
    )


def verdicts(claims: ClaimTable) -> dict[str, str]:
    return {claim.id: claim.verdict for claim in claims}


@pytest.fixture
def claims():
    return ClaimTable("test")


def test_two_methods_like_the_edges_are_enough_and_controls_do_not_count(claims):
    found = readings(gradient=LIKE, sobel=LIKE, guided_backprop=UNLIKE)
    picture_claims(claims, found, ["spearman_abs"])
    first, guided = claims
    assert first.measured.startswith("1 edge-like, 0 inconclusive, 1 not; highest Gradient")
    assert first.verdict == "inconclusive", "two methods that disagree, and one is not several"
    assert guided.verdict == "not reproduced"
    more = ClaimTable("more")
    picture_claims(more, readings(gradient=LIKE, smoothgrad=LIKE), ["spearman_abs"])
    assert verdicts(more) == {"figure 1, by rank correlation, absolute": "reproduced"}


def test_products_are_claimed_only_where_they_were_run(claims):
    product_claims(claims, readings(gradient=LIKE), readings(a=LIKE, b=LIKE), "spearman_abs")
    assert verdicts(claims) == {"figure 19": "reproduced"}
    both = ClaimTable("both")
    found = readings(gradient_x_input=LIKE, integrated_gradients=UNLIKE)
    product_claims(both, found, readings(a=LIKE).iloc[:0], "spearman_abs")
    assert verdicts(both) == {"figure 37B": "inconclusive"}


@pytest.mark.parametrize(("error", "verdict"), [(1e-9, "reproduced"), (1e-3, "not reproduced")])
def test_what_was_derived_is_reproduced_if_it_agrees(claims, error, verdict):
    found = readings(**{"G": UNLIKE, "jumps of G": LIKE})
    layer_claims(claims, found, "spearman_abs", error, error)
    assert verdicts(claims) == {
        "figure 7": "reproduced",
        "section 5.3, convolution": verdict,
        "section 5.3, linear": verdict,
    }
