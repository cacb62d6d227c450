"""What all pages share."""

import pandas as pd
from saliency_sanity.book.chapters.page import pictures_used, verdict_counts, verdict_lists

READINGS = pd.DataFrame(
    [
        ("Gradient", "ssim", "below"),
        ("Grad-CAM", "ssim", "below"),
        ("Guided backpropagation", "ssim", "above"),
        ("Gradient", "hog", "inconclusive"),
    ],
    columns=["method", "metric", "verdict"],
)


def test_methods_are_listed_by_their_verdict():
    assert verdict_lists(READINGS, "ssim").data == (
        "By SSIM: **picture-driven: Guided backpropagation; responds: Gradient · Grad-CAM; "
        "open: none**."
    )


def test_verdicts_are_counted_each_under_its_name():
    assert verdict_counts(READINGS, "ssim") == {
        "above_ssim": 1,
        "below_ssim": 2,
        "inconclusive_ssim": 0,
        "cannot_tell_ssim": 0,
    }
    assert verdict_counts(READINGS, "hog")["inconclusive_hog"] == 1


def test_pages_say_in_what_groups_many_pictures_are_compared():
    assert pictures_used("mnist", 32) == "mnist, 32 pictures"
    assert pictures_used("mnist", 33) == "mnist, 33 pictures, compared in groups of 32"
    assert "9 test pictures, compared in groups of 4" in pictures_used("x", 9, 4, "test pictures")
    assert pictures_used("mnist", 33, 0) == "mnist, 33 pictures"
