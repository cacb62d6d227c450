"""What is said of a grid of maps agrees with the readings behind it."""

import numpy as np
import pandas as pd
import pytest
from saliency_sanity.book.chapters.edge_detectors.page import edge_sentence
from saliency_sanity.book.chapters.stage_maps import grid_caption, kappas_by_stage, kept_sentence
from saliency_sanity.verdict.wording import foremost


def readings(*verdicts, metric="hog"):
    kappas = np.linspace(0.1, 0.9, len(verdicts))
    names = [f"M{n}" for n in range(len(verdicts))]
    return pd.DataFrame(
        {"method": names, "metric": metric, "verdict": verdicts, "kappa": kappas, "stage": "all"}
    )


@pytest.mark.parametrize(
    ("count", "said"), [(0, ""), (1, "M0"), (3, "M2, M1 and M0"), (5, "M4, M3 and 3 others")]
)
def test_methods_are_named_by_kappa_and_none_is_lost(count, said):
    assert foremost(readings(*["above"] * count)) == said


def test_a_finding_counts_the_verdicts_of_its_similarity_only():
    rows = readings("below", "above", "cannot tell", "above")
    other = readings(*["above"] * 4, metric="ssim")
    said = kept_sentence(pd.concat([rows, other]), "hog")
    assert "2 of 4 methods" in said
    assert said.endswith("M3 and M1.")
    assert "all 4 methods" in kept_sentence(other, "ssim")
    assert "none of 2 methods surely" in kept_sentence(readings("below", "inconclusive"), "hog")
    assert "2 of 4 methods" in edge_sentence(rows)
    assert edge_sentence(readings("below")).startswith("None of 1")


def test_kappas_stand_by_stage_after_the_original_which_has_none():
    rows = pd.concat([readings("below", "above"), readings("above", "below")])
    rows["kappa"] = [0.5, -0.001, np.nan, 1.0]
    rows["images"] = 20
    assert kappas_by_stage(rows, "hog") == {
        "M0": ["", "κ 0.50", "κ –"],
        "M1": ["", "κ 0.00", "κ 1.00"],
    }
    assert kappas_by_stage(rows, "ssim") == {}
    rows["images"] = [20, 8, 0, 20]
    fewer = {"M0": ["", "κ 0.50", "κ – (0 of 20)"], "M1": ["", "κ 0.00 (8 of 20)", "κ 1.00"]}
    assert kappas_by_stage(rows, "hog") == fewer, "maps that are gone are not among the mean"


def test_a_caption_explains_the_colours_that_are_there_and_kappa():
    both, signed = grid_caption("hog", 7), grid_caption("hog", 7, ("signed",))
    assert "HOG correlation, mean over 7 pictures" in both
    assert "In brackets: over how many" in both
    assert "black is zero" in both
    assert "black is zero" not in signed
    assert "white zero" in signed
