"""What all pages share."""

import pandas as pd
import pytest
import torch
from made.pages import parameters
from saliency_sanity._arithmetic import in_force, settings
from saliency_sanity.book.chapters import page
from saliency_sanity.book.chapters.page import (
    Page,
    at_least,
    bullets,
    counted,
    named,
    pictures_used,
    verdict_counts,
    verdict_lists,
)

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


def test_titles_of_figures_count_the_same_verdicts():
    assert counted(READINGS, "ssim") == "1 of 3 methods stay picture-driven, 2 respond"
    assert counted(READINGS, "hog") == (
        "0 of 1 methods stay picture-driven, 0 respond; open: 1 inconclusive"
    )


def test_a_finding_names_the_methods_of_each_verdict():
    readings = READINGS.assign(kappa=[0.01, 0.04, 0.6, 0.1])
    assert named(readings, "ssim") == (
        "1 of 3 methods stay picture-driven: Guided backpropagation. 2 of 3 methods respond: "
        "Grad-CAM and Gradient"
    )
    assert named(readings, "hog") == "1 of 1 methods are open: Gradient"


def test_verdicts_are_counted_each_under_its_name():
    assert verdict_counts(READINGS, "ssim") == {
        "above_ssim": 1,
        "below_ssim": 2,
        "inconclusive_ssim": 0,
        "cannot_tell_ssim": 0,
    }
    assert verdict_counts(READINGS, "hog")["inconclusive_hog"] == 1


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.988, "98.8%"), (0.98899, "98.8%"), (0.57, "57.0%"), (1, "100.0%"), (0.99999, "99.9%")],
)
def test_at_least_so_much_is_never_more(share, said):
    assert f"{at_least(share):.1%}" == said


def test_pages_say_in_what_groups_many_pictures_are_compared():
    assert pictures_used("mnist", 32) == "mnist, 32 pictures"
    assert pictures_used("mnist", 33) == "mnist, 33 pictures, compared in groups of 32"
    assert "9 test pictures, compared in groups of 4" in pictures_used("x", 9, 4, "test pictures")
    assert pictures_used("mnist", 33, 0) == "mnist, 33 pictures"


# Pages whose maps are compared with others, and which say in what arithmetic.
COMPARED = (
    "01_edge_detectors",
    "02_cascading_randomization",
    "03_label_randomization",
    "04_cgi_sanity",
    "05_input_bias",
    "07_your_own_method",
    "12_image_recovery",
)


@pytest.mark.parametrize("notebook", COMPARED)
def test_pages_that_compare_maps_take_a_precision_which_is_exact(notebook):
    assert parameters(notebook)["precision"] == "exact"


def test_a_page_says_in_what_arithmetic_it_was_made(tmp_path):
    common = {"margin": 0.1, "seed": 0, "device": "cpu", "results": str(tmp_path)}
    short = Page.of(common | {"precision": "bfloat16"})
    assert ("Arithmetic", "bfloat16") in short.provenance({}, (), "cpu").rows()
    assert "Arithmetic" not in dict(Page.of(common).provenance({}, (), None).rows())
    with pytest.raises(ValueError, match=r"precision 'half'.*Valid: exact, tf32, bfloat16"):
        Page.of(common | {"precision": "half"})


def test_in_a_notebook_all_is_exact_until_it_ends(tmp_path, monkeypatch):
    common = {"margin": 0.1, "seed": 0, "device": "cpu", "results": str(tmp_path)}
    cuda = torch.device("cuda")
    before = settings()
    Page.of(common)
    assert settings() == before
    monkeypatch.setattr(page, "get_ipython", object)
    page._in_this_process.cache_clear()
    try:
        Page.of(common), Page.of(common)
        assert (in_force(cuda)["conv"], in_force(cuda)["matmul"]) == ("ieee", "ieee")
    finally:
        page._process.close()
        page._in_this_process.cache_clear()
    assert settings() == before


def test_sentences_become_a_list_and_none_is_no_list():
    assert bullets(iter(["One.", "Two."])).data == "* One.\n* Two."
    assert bullets([]) is None
