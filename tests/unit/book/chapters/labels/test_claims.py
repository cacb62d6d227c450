"""Permuted labels: the paper's claims are decided by the intervals, and by nothing else."""

import numpy as np
import pandas as pd
import pytest
from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.book.chapters.labels.claims import beside_published, label_claims
from saliency_sanity.book.chapters.labels.table import undecided
from saliency_sanity.book.chapters.published import published_labels
from saliency_sanity.experiments.label_permutation import ACROSS, TRUE, Agreed
from saliency_sanity.experiments.label_permutation import PERMUTED as BOTH

MARGIN = 0.1
SIGNED = "spearman_signed"
# What the paper found, as kappa: across, two true-label seeds, two permuted-label ones.
FOUND = {
    ("gradient", "spearman_abs"): (0.05, 0.4, 0.1),
    ("smoothgrad", "spearman_abs"): (0.05, 0.4, 0.1),
    ("grad_cam", "spearman_abs"): (0.0, 0.6, 0.0),
    ("guided_backprop", "spearman_abs"): (0.5, 0.8, 0.5),
    ("gradient_x_input", "spearman_abs"): (0.9, 0.92, 0.9),
    ("gradient_x_input", SIGNED): (0.0, 0.4, 0.0),
    ("integrated_gradients", "spearman_abs"): (0.9, 0.92, 0.9),
    ("integrated_gradients", SIGNED): (0.0, 0.4, 0.0),
    ("ig_smoothgrad", "spearman_abs"): (0.5, 0.8, 0.5),
    ("input_x_noise", "spearman_abs"): (0.9, 0.9, 0.9),
}


def measured(levels, pairs=3, images=10):
    """Readings of pairs of networks whose maps agree by these kappas."""
    rng = np.random.default_rng(0)

    def squares(level, count):
        eye = np.eye(images)
        return level * eye + 0.01 * rng.standard_normal((count, images, images)) * (1 + eye)

    matrices = {}
    for (method, metric), (across, true, permuted) in levels.items():
        matrices[method, metric, ACROSS] = squares(across, pairs)
        matrices[method, metric, TRUE] = squares(true, pairs - 1)
        matrices[method, metric, BOTH] = squares(permuted, pairs - 1)
    agreed = Agreed(matrices, np.zeros((2 * pairs, images)), {}, {})
    return agreed.readings(margin=MARGIN)


def claimed(readings, *, memorized=True, published=None):
    claims = ClaimTable("labels")
    label_claims(claims, readings, published, MARGIN, memorized)
    return {claim.id: claim for claim in claims}


COVERS = "Guided backpropagation covers the object"
CHANGES = "Guided backpropagation changes"


def verdict(levels, start, **settings):
    """The verdict on the one claim whose name starts so."""
    (claim,) = (
        claim for id, claim in claimed(measured(FOUND | levels, **settings)).items()
        if id.startswith(start)
    )  # fmt: skip
    return claim.verdict


def test_what_the_paper_found_reproduces_every_claim():
    claims = claimed(measured(FOUND), published=published_labels("cnn", "mnist"))
    assert len(claims) == 8
    assert {claim.verdict for claim in claims.values()} == {"reproduced"}
    for claim in claims.values():
        assert claim.reason.startswith("reproduced if")
        assert "two seeds on true labels" in claim.measured
        assert "kappa 0" in claim.chance


def test_published_values_stand_in_what_the_paper_said():
    claims = claimed(measured(FOUND), published=published_labels("cnn", "mnist"))
    assert claims["Gradient changes"].paper_said == "changes a lot: Gradient 0.16 (a CNN on MNIST)"
    both = claims["Integrated gradients keeps the shape, not the signs"].paper_said
    assert "0.99" in both
    assert "0.13" in both


def test_without_published_values_the_words_stand_alone():
    assert claimed(measured(FOUND))["SmoothGrad changes"].paper_said == "changes a lot"


@pytest.mark.parametrize(
    ("levels", "start", "expected"),
    [
        ({("gradient", "spearman_abs"): (0.8, 0.9, 0.8)}, "Gradient changes", "not reproduced"),
        # As much changes between two seeds: the labels need not be the cause.
        ({("gradient", "spearman_abs"): (0.1, 0.1, 0.1)}, "Gradient changes", "inconclusive"),
        ({("grad_cam", "spearman_abs"): (0.4, 0.6, 0.4)}, "Grad-CAM", "not reproduced"),
        ({("grad_cam", "spearman_abs"): (0.1, 0.6, 0.1)}, "Grad-CAM", "inconclusive"),
        ({("guided_backprop", "spearman_abs"): (0.0, 0.8, 0.0)}, COVERS, "not reproduced"),
        ({("guided_backprop", "spearman_abs"): (0.0, 0.8, 0.0)}, CHANGES, "reproduced"),
        ({("guided_backprop", "spearman_abs"): (0.8, 0.8, 0.8)}, COVERS, "reproduced"),
        ({("guided_backprop", "spearman_abs"): (0.8, 0.8, 0.8)}, CHANGES, "not reproduced"),
        ({("gradient_x_input", "spearman_abs"): (0.0, 0.9, 0.0)}, "Gradient ⊙", "not reproduced"),
        ({("gradient_x_input", SIGNED): (0.3, 0.4, 0.0)}, "Gradient ⊙", "not reproduced"),
        ({("gradient_x_input", SIGNED): (0.1, 0.4, 0.0)}, "Gradient ⊙", "inconclusive"),
        ({("input_x_noise", "spearman_abs"): (0.2, 0.2, 0.2)}, "the input", "not reproduced"),
        ({("input_x_noise", "spearman_abs"): (0.8, 0.8, 0.8)}, "the input", "inconclusive"),
    ],
)
def test_other_readings_decide_otherwise(levels, start, expected):
    assert verdict(levels, start) == expected


def test_what_is_held_against_another_line_than_the_margin_has_the_decimals_of_that_line():
    readings = measured(FOUND)
    own = readings["method"] == "gradient"
    readings.loc[own, ["low", "sure_low", "high", "true_low"]] = [0.1034, 0.1034, 0.4983, 0.1012]
    claim = claimed(readings)["Gradient changes"]
    assert "(0.10 to 0.498), two seeds" in claim.measured
    assert "(0.101 to" in claim.measured, "two seeds are held against the margin"


@pytest.mark.parametrize("start", ["Gradient changes", "Grad-CAM", COVERS, CHANGES, "Gradient ⊙"])
def test_too_few_images_decide_nothing(start):
    assert verdict({}, start, images=3) == "inconclusive"


def test_a_network_that_did_not_learn_tests_nothing():
    claims = claimed(measured(FOUND), memorized=False)
    assert list(claims) == list(claimed(measured(FOUND)))
    for claim in claims.values():
        assert claim.verdict == "not tested"
        assert "has not learned" in claim.reason
        assert claim.measured is None


def test_one_pair_of_networks_leaves_out_what_needs_a_second_seed():
    claims = claimed(measured(FOUND, pairs=1))
    assert CHANGES not in claims
    assert COVERS in claims
    assert "two seeds on true labels unknown" in claims["Gradient changes"].measured
    assert claims["Gradient changes"].verdict == "inconclusive"


@pytest.mark.parametrize(
    ("gone", "left"),
    [
        (lambda row: row["metric"] == SIGNED, {"Gradient", "SmoothGrad", "Grad-CAM", "Guided"}),
        (lambda row: row["metric"] == "spearman_abs", set()),
        (lambda row: row["method"] == "gradient", {"SmoothGrad", "Grad-CAM", "Guided"}),
    ],
)
def test_claims_on_what_is_not_there_are_left_out(gone, left):
    readings = measured(FOUND)
    readings = readings[~readings.apply(gone, axis=1)]
    found = {id.split()[0] for id in claimed(readings) if "shape" not in id}
    assert found - {"the"} == left


def test_without_the_control_nothing_is_said_of_products_with_noise():
    levels = {key: value for key, value in FOUND.items() if key[0] != "input_x_noise"}
    assert "the input dominates products" not in claimed(measured(levels))


def test_readings_of_another_margin_are_refused():
    with pytest.raises(ValueError, match=r"margin is 0\.2, but the readings have 0\.1"):
        label_claims(ClaimTable("labels"), measured(FOUND), None, 0.2, True)


def test_published_and_ours_stand_beside_each_other():
    readings = measured(FOUND)
    shown = beside_published(readings, published_labels("cnn", "fashion_mnist")).data
    assert shown.columns.tolist() == ["rank correlation, absolute", "rank correlation, signed"]
    assert "Smoothed integrated gradients" in shown.index
    assert "Input ⊙ noise" not in shown.index
    ours = readings.set_index(["method", "metric"]).loc[("gradient_x_input", SIGNED), "similarity"]
    cell = shown.loc["Gradient ⊙ input", "rank correlation, signed"]
    assert cell == f"0.02 | {abs(round(ours, 2)):.2f}"
    assert pd.isna(shown.loc["Gradient", "rank correlation, signed"])


def test_nothing_published_is_an_empty_table():
    readings = measured({("gradient", "ssim"): (0.5, 0.5, 0.5)})
    assert beside_published(readings, published_labels("mlp", "mnist")).data.empty


def test_without_memorized_labels_there_are_readings_but_no_verdicts():
    readings = measured(FOUND)
    rows = undecided(readings)
    assert list(rows.columns) == list(readings.columns)
    assert rows["kappa"].equals(readings["kappa"])
    assert set(rows["verdict"]) == {"inconclusive"}
    assert set(rows["obstacle"]) == {"not_memorized"}
    assert set(rows["notes"]) == {""}
    assert set(rows["words"]) == {"inconclusive (the permuted labels were not memorized)"}
