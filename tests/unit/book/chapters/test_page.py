"""What all pages share."""

import pandas as pd
from saliency_sanity.book.chapters.page import verdict_counts, verdict_lists

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
    }
    assert verdict_counts(READINGS, "hog")["inconclusive_hog"] == 1
