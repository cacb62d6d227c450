"""The notebook on competition: known answers, the same twice, methods that do not apply."""

import contextlib
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from made.checkouts import copied
from saliency_sanity.book.chapters.claims import ClaimTable
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


def run(results, **parameters):
    given = {
        "model": "cnn",
        "weights": "fashion_mnist",
        "images": "fashion_mnist",
        "image_count": 8,
        "bases": ["gradient_x_input", "lrp_epsilon"],
        "metrics": ["spearman_abs"],
        "top": 0,
        "pairs": 1,
        "results": str(results),
    }
    output = results.parent / "executed.ipynb"
    run_notebook(SOURCE, output, given | parameters, profile="smoke", progress=False)
    cells = nbformat.read(output, 4).cells
    said = " ".join(str(cell.get("outputs", "")) for cell in cells)
    tables = results / "tables"
    return (
        pd.read_parquet(tables / f"{NAME}-readings.parquet"),
        pd.read_parquet(tables / f"{NAME}-survival.parquet"),
        {claim.id: claim.verdict for claim in ClaimTable.read(results / f"claims/{NAME}.json")},
        said,
    )


def test_known_answers(checkout, tmp_path):
    readings, survival, claims, _ = run(tmp_path / "results")
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


def test_few_labels_compete_and_nothing_is_said_of_exact_chance(checkout, tmp_path):
    _, survival, claims, said = run(tmp_path / "results", top=3, pairs=0)
    assert not any("by chance" in id or "random labels" in id for id in claims)
    assert "none with permuted labels" in said
    noise = survival[survival["method"] == "competitive_noise"]
    noise = noise[noise["quantity"] == "survivors"]["value"]
    assert noise.to_numpy() == pytest.approx(survival_null(3), rel=0.1)


def test_a_method_that_does_not_apply_is_left_out_with_its_twin(checkout, tmp_path):
    parameters = {"model": "mobilenet_v3_small", "weights": "none", "images": "foolbox"}
    _, survival, _, said = run(
        tmp_path / "results", **parameters, image_count=3, top=2, pairs=0, stage_limit=2
    )
    assert "left out: LRP-ε" in said
    assert "competitive_lrp_epsilon" not in set(survival["method"])
    assert "competitive_gradient_x_input" in set(survival["method"])
