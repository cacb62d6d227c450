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
from saliency_sanity.verdict.robustness import at_line, at_margin

LIKE, UNLIKE = (0.7, 0.9), (-0.02, 0.04)


def readings(**intervals) -> pd.DataFrame:
    return pd.DataFrame(
        [
            reading(name, "spearman_abs", interval, similarity=0.6, chance=0.2)
            for name, interval in intervals.items()
        ]
    )


def shares(canny: float = 0.4, **intervals) -> pd.DataFrame:
    """Readings whose verdict is on the share of a kappa that is known exactly."""
    rows = readings(**intervals)
    rows = rows.assign(share_line=0.5, ceiling=canny, ceiling_low=canny, ceiling_high=canny)
    ends = {"share": "kappa", "share_low": "low", "share_high": "high", "share_sure_low": "low"}
    rows = rows.assign(**{share: rows[kappa] / canny for share, kappa in ends.items()})
    rows = rows.assign(verdict="inconclusive", obstacle="share_inside")
    return at_line(rows, 0.5)


def verdicts(claims: ClaimTable) -> dict[str, str]:
    return {claim.id: claim.verdict for claim in claims}


@pytest.fixture
def claims():
    return ClaimTable("test")


def test_two_methods_like_the_edges_are_enough_and_controls_do_not_count(claims):
    found = shares(gradient=LIKE, sobel=LIKE, guided_backprop=UNLIKE)
    picture_claims(claims, found, ["spearman_abs"])
    first, guided = claims
    assert first.measured == (
        "1 edge-like, 0 inconclusive, 1 not (1 with a line at 0.25, 1 with a line at 0.75 "
        "edge-like); highest Gradient, kappa 0.80 (0.70 to 0.90), 2.00 (1.75 to 2.25) of Canny's"
    )
    assert first.verdict == "inconclusive", "two methods that disagree, and one is not several"
    assert guided.verdict == "not reproduced"
    more = ClaimTable("more")
    picture_claims(more, shares(gradient=LIKE, smoothgrad=LIKE), ["spearman_abs"])
    assert verdicts(more) == {"figure 1, by rank correlation, absolute": "reproduced"}


@pytest.mark.parametrize(
    ("canny", "margin", "verdict"),
    [
        (0.2, 0.1, "reproduced"),  # 0.6 to 0.8 of it
        (0.25, 0.1, "inconclusive"),  # 0.48 to 0.64
        (0.4, 0.1, "not reproduced"),  # 0.3 to 0.4
        (0.2, 0.2, "cannot tell"),
    ],
)
def test_the_same_kappas_are_much_or_little_by_what_a_detector_has(claims, canny, margin, verdict):
    some = {"guided_backprop": (0.12, 0.16), "guided_grad_cam": (0.12, 0.16)}
    found = at_margin(shares(canny, **some), margin)
    picture_claims(claims, found, ["spearman_abs"])
    assert set(verdicts(claims).values()) == {verdict}
    assert ("2 cannot be told" in next(iter(claims)).measured) == (verdict == "cannot tell")


def test_products_are_claimed_only_where_they_were_run(claims):
    product_claims(claims, readings(gradient=LIKE), readings(a=LIKE, b=LIKE), "spearman_abs")
    assert verdicts(claims) == {"figure 19": "reproduced"}
    both = ClaimTable("both")
    found = readings(gradient_x_input=LIKE, integrated_gradients=UNLIKE)
    product_claims(both, found, readings(a=LIKE).iloc[:0], "spearman_abs")
    assert verdicts(both) == {"figure 37B": "inconclusive"}
    (claim,) = both
    assert claim.chance == "kappa 0"


def test_a_product_stands_beside_what_the_input_has_without_edges(claims):
    methods = dict.fromkeys(("gradient_x_input", "integrated_gradients"), (0.15, 0.25))
    found = readings(**methods, input=LIKE, input_x_noise=(0.2, 0.3))
    product_claims(claims, found, readings(a=LIKE).iloc[:0], "spearman_abs")
    (claim,) = claims
    assert claim.verdict == "reproduced"
    assert claim.chance == (
        "kappa 0; The input 0.80 (0.70 to 0.90); Input ⊙ noise 0.25 (0.20 to 0.30)"
    )


@pytest.mark.parametrize(("error", "verdict"), [(1e-9, "reproduced"), (1e-3, "not reproduced")])
def test_what_was_derived_is_reproduced_if_it_agrees(claims, error, verdict):
    found = shares(**{"G": UNLIKE, "jumps of G": LIKE})
    layer_claims(claims, found, "spearman_abs", error, error)
    assert verdicts(claims) == {
        "figure 7": "reproduced",
        "section 5.3, convolution": verdict,
        "section 5.3, linear": verdict,
    }
