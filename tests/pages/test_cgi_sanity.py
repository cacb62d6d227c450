"""The notebook on competition: known answers, the same twice, methods that do not apply."""

import contextlib
from pathlib import Path

import pandas as pd
import pytest
from made.checkouts import copied
from made.pages import small_page_of
from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.book.chapters.competition import Competition
from saliency_sanity.book.runs.runner import run_notebook
from saliency_sanity.probes.survival import survival_null
from saliency_sanity.subjects.training.checkpoints import trained_path
from saliency_sanity.subjects.training.loop import train
from saliency_sanity.subjects.training.recipe import Recipe

SOURCE = Path("notebooks/04_cgi_sanity.ipynb")
NAME = SOURCE.stem

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A tree of its own, with a network of each kind that knows a handful of pictures."""
    root = copied(tmp_path_factory.mktemp("cgi"), "config", "notebooks")
    with contextlib.chdir(root):
        for labels in ("true", "permuted"):
            recipe = Recipe(
                "cnn",
                labels=labels,
                images=60,
                epochs=60.0,
                batch=20,
                learning_rate=1e-3,
                weight_decay=0.0,
                target_accuracy=0.95,
            )
            train(recipe, trained_path("cnn", recipe.weights), progress=False)
        yield root


SCALE = {
    "model": "cnn",
    "weights": "fashion_mnist",
    "images": "fashion_mnist",
    "image_count": 8,
    "bases": ["gradient_x_input", "lrp_epsilon"],
    "metrics": ["spearman_abs"],
    "top": 0,
    "pairs": 1,
    "seeds": 5,
}


def test_known_answers(checkout, tmp_path):
    results = tmp_path / "results"
    given = SCALE | {"results": str(results)}
    run_notebook(SOURCE, tmp_path / "executed.ipynb", given, profile="smoke", progress=False)
    readings, survival = (
        pd.read_parquet(results / f"tables/{NAME}-{what}.parquet")
        for what in ("readings", "survival")
    )
    claims = {c.id: c.verdict for c in ClaimTable.read(results / f"claims/{NAME}.json")}
    last = readings[readings["position"] == readings["position"].max()]
    rows = last.set_index(["method", "metric"])
    assert rows.loc[("gradient_x_input", "spearman_abs"), "verdict"] == "above"
    assert rows.loc[("input_x_noise", "spearman_abs"), "verdict"] == "above"
    assert rows.loc[("competitive_noise", "spearman_abs"), "verdict"] == "below"
    assert claims["noise passes, too"] == "reproduced"
    # Without ε in the way, LRP is gradient ⊙ input, and so are their survivors.
    counts = survival[survival["quantity"] == "survivors"].pivot(
        index="position", columns="method", values="value"
    )
    product, relevance = counts["competitive_gradient_x_input"], counts["competitive_lrp_epsilon"]
    assert relevance.to_numpy() == pytest.approx(product.to_numpy(), rel=0.02)
    assert counts["competitive_noise"].to_numpy() == pytest.approx(survival_null(10), rel=0.1)
    assert product.iloc[-1] == pytest.approx(survival_null(10), rel=0.25)


def test_few_labels_compete_and_nothing_is_said_of_exact_chance(checkout, tmp_path, capsys):
    page = small_page_of(Competition, tmp_path, **SCALE | {"top": 3, "pairs": 0})
    assert not any("by chance" in claim.id or "random labels" in claim.id for claim in page.claims)
    assert page.label_table() is None
    assert page.label_bars() is None
    assert "none with permuted labels" in capsys.readouterr().out
    noise = page.survival[page.survival["method"] == "competitive_noise"]
    noise = noise[noise["quantity"] == "survivors"]["value"]
    assert noise.to_numpy() == pytest.approx(survival_null(3), rel=0.1)


def test_a_method_that_does_not_apply_is_left_out_with_its_twin(checkout, tmp_path, capsys):
    given = {"model": "timm:convnextv2_atto", "weights": "none", "images": "foolbox"}
    scale = {"image_count": 3, "top": 2, "pairs": 0, "stage_limit": 2}
    page = small_page_of(Competition, tmp_path, **SCALE | given | scale)
    page.maps()
    assert "left out: LRP-ε" in capsys.readouterr().out
    methods = set(page.survival["method"])
    assert "competitive_lrp_epsilon" not in methods
    assert "competitive_gradient_x_input" in methods
