"""The page on MPRT revisited: what it refuses, and known answers of a few methods."""

import numpy as np
import pandas as pd
import pytest
from made.pages import page_of, small_page_of
from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.book.chapters.mprt import MprtRevisited

GIVEN = {
    "model": "cnn",
    "weights": "none",
    "images": "fashion_mnist",
    "image_count": 6,
    "methods": ["gradient", "lrp_zplus", "sobel", "input", "noise"],
    "compared": ["gradient"],
}


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"methods": ["gradeint"], "compared": []}, "Nearest: gradient"),
        ({"compared": ["smoothgrad"]}, "unknown method to compare 'smoothgrad'"),
        ({"orders": []}, "orders is empty"),
        ({"orders": ["independent"]}, "unknown order 'independent'"),
        ({"seeds": 5, "smooth_seeds": 6}, "smooth_seeds 6; valid are 1 to 5"),
        ({"smooth_count": 7}, "smooth_count 7; valid are 0, for all, to 6"),
        ({"copies": 0}, "samples 0 must be at least 1"),
        ({"noise": -1.0}, "noise -1.0 must be at least 0"),
        ({"draws": 1}, "draws 1; an interval needs at least 2"),
        ({"compared": []}, "compared is empty"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, parameters, says):
    with pytest.raises(ValueError, match=says):
        page_of(MprtRevisited, tmp_path, **GIVEN | parameters)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    given = GIVEN | {"orders": ["bottom_up", "top_down"], "smooth_count": 5, "draws": 10}
    return small_page_of(MprtRevisited, tmp_path_factory.mktemp("mprt"), **given)


def test_what_is_known_beforehand_is_found(page):
    scores = page.scores.set_index("method")
    assert scores.loc["noise", "verdict"] == "below"
    for key in ("sobel", "input"):
        assert scores.loc[key, "verdict"] == "above"
        assert scores.loc[key, "emprt"] == 0
        assert scores.loc[key, "smprt"] == pytest.approx(1)
    assert scores.loc["lrp_zplus", "mprt"] > 0.5
    assert (scores[["emprt_low"]].to_numpy() <= scores[["emprt_high"]].to_numpy()).all()


def test_both_orders_end_in_the_same_network(page):
    first, second = (page.outcomes[order].matrices for order in page.orders)
    for key in first:
        assert np.array_equal(first[key][-1], second[key][-1])
    assert set(page.by_order) == {"bottom_up", "top_down"}


def test_every_section_shows_and_every_table_is_written(page):
    for section in (
        page.table, page.flipped, page.ranks, page.rises, page.histograms, page.beside_published,
        page.smooth_cases, page.bins, page.averages,
    ):  # fmt: skip
        assert section() is not None
    page.write_all()
    stem = page.folder / "tables" / page.name
    scores = pd.read_parquet(f"{stem}-scores.parquet")
    assert scores["method"].tolist() == page.scores["method"].tolist()
    assert {"kappa", "low", "high", "verdict", "smprt", "emprt", "flip_emprt"} <= set(scores)
    for what in ("noise", "quantus", "refused"):
        pd.read_parquet(f"{stem}-{what}.parquet")
    claims = {claim.of: claim.verdict for claim in ClaimTable.read(
        page.folder / "claims" / f"{page.name}.json"
    )}  # fmt: skip
    assert claims["emprt-tails"] == "reproduced"
    assert "emprt-guided-gradient" not in claims
    assert all(np.isfinite(value) for value in page.numbers().values())


def test_published_numbers_stand_beside_ours_where_there_are_any(page, tmp_path):
    shown = page.beside_published().data
    assert shown["method"].tolist() == ["Noise", "Gradient", "Gradient, absolute", "LRP-z⁺"]
    assert shown["eMPRT, published"].tolist()[-1] == "−0.067 ± 0.058"
    other = page_of(MprtRevisited, tmp_path, **GIVEN | {"images": "mnist"})
    assert "No network of the published table" in other.beside_published().data


def test_a_network_randomized_at_once_has_no_average(tmp_path):
    given = GIVEN | {"methods": ["gradient", "noise"], "orders": ["full"]}
    whole = small_page_of(MprtRevisited, tmp_path, **given)
    assert "no average" in whole.averages().data
    assert "mprt-top-down-keeps" not in {claim.of for claim in whole.claims}
