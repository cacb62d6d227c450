"""What is said of a grid of maps agrees with the readings behind it."""

import numpy as np
import pandas as pd
import pytest
from saliency_sanity.book.chapters.edge_detectors.page import edge_sentence
from saliency_sanity.book.chapters.stage_maps import (
    competing_sentence,
    grid_caption,
    kappas_by_stage,
    kept_sentence,
    own_sentence,
    row_name,
    stage_heads,
    upper_half,
)
from saliency_sanity.verdict.wording import foremost


def readings(*verdicts, metric="hog"):
    kappas = np.linspace(0.1, 0.9, len(verdicts))
    names = [f"M{n}" for n in range(len(verdicts))]
    return pd.DataFrame(
        {"method": names, "metric": metric, "verdict": verdicts, "kappa": kappas, "stage": "all"}
    ).assign(position=0, sure_low=kappas - 0.05)


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
    assert edge_sentence(pd.concat([rows, other]), ["ssim", "hog"]).endswith(
        "are the maps of all 4 methods by SSIM (M3, M2 and 2 others), and of 2 by HOG correlation "
        "(M3 and M1)."
    )
    assert edge_sentence(readings("below"), ["hog"]).endswith(
        "of none of 1 methods by HOG correlation."
    )


def test_kappas_stand_by_stage_after_the_original_which_has_none():
    rows = pd.concat([readings("below", "above"), readings("above", "below")])
    rows["kappa"] = [0.5, -0.001, np.nan, 1.0]
    rows["images"] = 20
    assert kappas_by_stage(rows, "hog", 20) == {
        "M0": ["", "κ 0.50", "κ –, picture-driven"],
        "M1": ["", "κ 0.00", "κ 1.00, responds"],
    }
    assert kappas_by_stage(rows, "ssim", 20) == {}
    rows["images"] = [20, 8, 0, 20]
    fewer = {
        "M0": ["", "κ 0.50", "κ – (0 of 20), picture-driven"],
        "M1": ["", "κ 0.00 (8 of 20)", "κ 1.00, responds"],
    }
    assert kappas_by_stage(rows, "hog", 20) == fewer, "maps that are gone are not among the mean"
    rows["images"] = 19
    assert kappas_by_stage(rows, "hog", 20)["M0"][1] == "κ 0.50 (19 of 20)"
    rows["verdict"] = "cannot tell"
    assert kappas_by_stage(rows, "hog", 20)["M0"][2] == "κ – (19 of 20), cannot tell"


def test_the_upper_half_is_told_before_the_whole_network():
    stages = pd.concat(
        [
            readings("above", "above", "above").assign(stage=stage, position=at, random=share)
            for at, (stage, share) in enumerate({"fc": 0.25, "mid": 0.5, "stem": 1.0}.items())
        ]
    )
    half = upper_half(stages, "top_down")
    assert half == "mid"
    assert upper_half(stages, "independent") is upper_half(stages, "bottom_up") is None
    assert stage_heads(["fc", "mid", "stem"], half) == [
        "fc",
        "mid (half random)",
        "stem (all random)",
    ]
    # Of 0.1, 0.5 and 0.9 only the last lies above one half with its interval.
    assert kept_sentence(stages, "hog", half) == (
        "With the upper half random, most is left of the maps of 1 of 3 methods: M2. With "
        "everything random, something is left of all: M2, M1 and M0."
    )
    none = kept_sentence(stages.assign(verdict="below"), "hog", half)
    assert none.endswith("With everything random, none surely keeps anything.")
    low = stages.assign(sure_low=0.4)
    assert kept_sentence(low, "hog", half).startswith(
        "With the upper half random, none of 3 methods surely keeps most of its map. With "
    )


def test_ones_own_method_is_told_by_its_kappa_at_both_stages():
    stages = pd.concat(
        [
            readings("above", "inconclusive").assign(stage=stage, position=at, low=0.0, high=1.0)
            for at, stage in enumerate(("fc", "mid", "stem"))
        ]
    ).sort_values("position", ascending=False)
    stages.loc[stages["stage"] == "mid", "kappa"] = 0.25
    assert own_sentence(stages, "hog", "M1", "mid") == (
        "With the upper half random, kappa of M1 is 0.25 (0.00 to 1.00). With everything random, "
        "it is 0.90 (0.00 to 1.00): inconclusive."
    )
    assert own_sentence(stages, "hog", "M0", None) == (
        "With the whole network random, kappa of M0 is 0.10 (0.00 to 1.00): picture-driven."
    )
    assert own_sentence(stages, "hog", "M9", "mid") == "M9 does not apply to this network."
    assert (row_name("Noise", control=True), row_name("M", control=False)) == (
        "Noise, control",
        "M",
    )


def test_competition_is_told_by_the_methods_that_keep_their_maps_in_spite_of_it():
    rows = readings("above", "below", "above", "above")
    twins = {"M1": "M0", "M3": "M2"}
    assert competing_sentence(rows, "hog", twins) == (
        "With the whole network random, something is left of the maps of all 2 methods; in "
        "competition that is sure of 1: M2."
    )
    one = {"M1": "M0"}
    endings = {
        ("above", "below"): "the maps of 1 of 1 methods; in competition that is sure of none.",
        ("below", "below"): "none of 1 methods surely keeps anything of its map, "
        "in competition or without.",
        ("below", "above"): "surely keeps anything of its map, but in competition 1: M0.",
    }
    for verdicts, ending in endings.items():
        assert competing_sentence(readings(*verdicts), "hog", one).endswith(ending)


def test_a_caption_explains_the_colours_and_kappa_and_what_is_missing():
    rows = readings("below", "above").assign(images=7)
    said = grid_caption(rows, "hog", 7, 0.1)
    assert "HOG correlation, mean over 7 pictures" in said
    assert "above the margin 0.1," in said
    assert "black is zero" in said
    assert "white zero" in said
    assert "of how many pictures" not in said
    assert "Most is left" not in said
    assert "Most is left where it lies above 0.5" in grid_caption(rows, "hog", 7, 0.1, "mid")
    assert "of how many pictures" in grid_caption(rows.assign(images=[7, 5]), "hog", 7, 0.1)
