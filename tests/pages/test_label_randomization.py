"""The notebook on random labels: what was memorized decides what may be concluded."""

import contextlib
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from made.places import ROOT
from pandas.testing import assert_frame_equal
from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.book.runs.runner import run_notebook
from saliency_sanity.subjects.training.checkpoints import trained_path
from saliency_sanity.subjects.training.loop import train
from saliency_sanity.subjects.training.recipe import Recipe

SOURCE = Path("notebooks/03_label_randomization.ipynb")
NAME = SOURCE.stem
TINY = {"batch": 20, "learning_rate": 1e-3, "weight_decay": 0.0, "target_accuracy": 0.95}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A tree of its own, with two networks of each kind that know a handful of pictures."""
    root = tmp_path_factory.mktemp("labels")
    for name in ("config", "notebooks"):
        shutil.copytree(ROOT / name, root / name)
    with contextlib.chdir(root):
        for labels in ("true", "permuted"):
            for seed in range(2):
                recipe = Recipe("cnn", labels=labels, seed=seed, images=60, epochs=60.0, **TINY)
                record = train(recipe, trained_path("cnn", recipe.weights), progress=False)
                assert record["target_reached"], (labels, seed)
        yield root


def run(results, **parameters):
    given = {
        "image_count": 10,
        "methods": ["gradient", "gradient_x_input", "input", "input_x_noise", "noise"],
        "metrics": ["spearman_abs", "spearman_signed"],
        "results": str(results),
    }
    output = results.parent / "executed.ipynb"
    run_notebook(SOURCE, output, given | parameters, profile="smoke", progress=False)
    cells = nbformat.read(output, 4).cells
    said = " ".join(str(cell.get("outputs", "")) for cell in cells)
    readings = pd.read_parquet(results / f"tables/{NAME}-readings.parquet")
    return readings, ClaimTable.read(results / f"claims/{NAME}.json"), said


def test_known_answers_and_a_run_that_lost_half_of_its_maps(checkout, tmp_path):
    readings, claims, said = run(tmp_path / "results")
    rows = readings.set_index(["method", "metric"])
    for metric in ("spearman_abs", "spearman_signed"):
        assert rows.loc[("input", metric), "verdict"] == "above"
        assert rows.loc[("noise", metric), "verdict"] == "below"
    assert rows.loc[("input_x_noise", "spearman_abs"), "verdict"] == "above"
    assert rows.loc[("gradient_x_input", "spearman_abs"), "noise_excess_high"] < 0.1
    verdicts = {claim.id: claim.verdict for claim in claims}
    assert verdicts["the input dominates products"] == "reproduced"
    assert "Not memorized" not in said
    assert "as much or more" in said
    kept = sorted((tmp_path / "results/store").rglob("*.safetensors"))
    # Methods of the page, then two of them with two other choices of class, of which one is the
    # first network's own.
    assert len(kept) == 5 * 4 + 2 * 2 * 4 - 2
    for path in kept[::2]:
        path.unlink()
    again, same, _ = run(tmp_path / "results")
    assert_frame_equal(again, readings, check_exact=True)
    assert same == claims


def test_without_memory_there_is_no_conclusion(checkout, tmp_path):
    readings, claims, said = run(tmp_path / "results", memorized=1.1)
    assert set(readings["verdict"]) == {"inconclusive"}
    assert {claim.verdict for claim in claims} == {"not tested"}
    assert "Not memorized" in said
    assert "picture-driven: none" in said
