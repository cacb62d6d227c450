"""The page on rank one refuses what cannot be, and answers what is known of a plain network."""

import pandas as pd
import pytest
from made.pages import page_of
from saliency_sanity.attribution.lrp import Lrp
from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.book.chapters.rank_one import RankOne

GIVEN = {
    "model": "cnn",
    "weights": "none",
    "images": "fashion_mnist",
    "image_count": 6,
    "draws": 2,
    "labels": 1,
    "pairs": 5,
}


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"bases": ["gradeint"]}, "Nearest: gradient"),
        ({"draws": 1}, "draws is 1; valid are 2 and more"),
        ({"start_count": 0}, "start_count is 0"),
        ({"factors": 0}, "factors is 0"),
        ({"labels": 0}, "valid are 1 of 2 or more"),
        ({"size": -1}, "size is -1"),
        ({"apart": 0.995}, "0 < apart <= converged"),
        ({"converged": 1.1}, "0 < apart <= converged"),
        ({"alike": 0.0}, "alike is 0"),
        ({"epsilon": 0.0}, "epsilon 0.0 must be above 0"),
        ({"shown": 7}, "valid are 1 to 6"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, parameters, says):
    with pytest.raises(ValueError, match=says):
        page_of(RankOne, tmp_path, **GIVEN | parameters)


def test_starts_are_spread_over_the_upper_half_from_the_logits_down(tmp_path):
    page = page_of(RankOne, tmp_path, **GIVEN)
    assert [*page.layers] == ["hidden1", "hidden2", "fc1", "softmax_linear"]
    assert page.starts == ["softmax_linear", "fc1"]
    assert page.methods["lrp_z"] == Lrp("epsilon", epsilon=1e-12)
    assert page.methods["lrp_epsilon"] == Lrp("epsilon", epsilon=0.25)
    assert set(page.titles) == set(page.methods)
    assert "random weights" in page.network


def test_results_are_written_and_hold_what_is_known(tmp_path):
    page = page_of(RankOne, tmp_path, **GIVEN, case="small")
    page.factors_figure()
    page.convergence_figure()
    page.logits_figure()
    page.maps()
    page.write_all()
    tables = {
        what: pd.read_parquet(tmp_path / f"results/tables/11_rank_one-small-{what}.parquet")
        for what in ("another_label", "converged", "cosines", "pictures", "refused")
    }
    scores = tables["converged"].set_index("method")
    assert scores.loc["lrp_zplus", "value"] > scores.loc["gradient", "value"]
    assert ((scores["low"] <= scores["value"]) & (scores["value"] <= scores["high"])).all()
    assert set(tables["another_label"]["flip"]) == {"as it is", "either sign"}
    # No bias is 0 here, so LRP-z is not DeepLIFT; the sign of either makes no map less alike.
    plain, either = (
        rows.set_index("method")["similarity"]
        for _, rows in tables["another_label"].groupby("flip")
    )
    assert (either >= plain).all()
    assert tables["refused"].empty
    claims = ClaimTable.read(tmp_path / "results/claims/11_rank_one-small.json")
    assert len(claims) == 15
    numbers = page.numbers()
    assert numbers["pictures"] == 6
    assert numbers["cosine_lrp_zplus"] == pytest.approx(scores.loc["lrp_zplus", "value"], abs=1e-3)
    assert {"factors", "convergence", "logits"} == {
        path.stem.rpartition("-")[2] for path in (tmp_path / "results/figures").iterdir()
    }


def test_methods_that_do_not_apply_are_left_out_and_named(tmp_path, capsys):
    page = page_of(RankOne, tmp_path, **GIVEN | {"bases": ["gradient", "grad_cam", "lrp_zplus"]})
    page.convergence_figure()
    assert "left out: Grad-CAM" in capsys.readouterr().out
    assert [*page.applicable] == ["gradient", "lrp_zplus"]
    assert set(page.readings["method"]) == {"gradient", "lrp_zplus"}
    assert not [claim for claim in page.claims if "DeepLIFT" in claim.id]
