"""The notebook on random labels: what was memorized decides what may be concluded."""

import contextlib
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from made.checkouts import copied
from made.site import RESULTS, STAGE, smoke_site
from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.book.runs.runner import run_notebook
from saliency_sanity.subjects.training.checkpoints import read_record, trained_path
from saliency_sanity.subjects.training.loop import train
from saliency_sanity.subjects.training.recipe import Recipe

SOURCE = Path("notebooks/03_label_randomization.ipynb")
NAME = SOURCE.stem
TINY = {"batch": 20, "learning_rate": 1e-3, "weight_decay": 0.0, "target_accuracy": 0.95}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A tree of its own, with two networks of each kind that know a handful of pictures."""
    root = copied(tmp_path_factory.mktemp("labels"), "config", "notebooks")
    with contextlib.chdir(root):
        for labels in ("true", "permuted"):
            for seed in range(2):
                recipe = Recipe("cnn", labels=labels, seed=seed, images=60, epochs=60.0, **TINY)
                record = train(recipe, trained_path("cnn", recipe.weights), progress=False)
                assert record["target_reached"], (labels, seed)
        yield root


def read(results, copy, executed):
    """Readings and claims of a run, and all that its copy shows."""
    cells = nbformat.read(executed, 4).cells
    said = " ".join(str(cell.get("outputs", "")) for cell in cells)
    readings = pd.read_parquet(results / f"tables/{copy}-readings.parquet")
    return readings, ClaimTable.read(results / f"claims/{copy}.json"), said


def run(results, **parameters):
    given = {
        "image_count": 10,
        "methods": ["gradient", "gradient_x_input", "input", "input_x_noise", "noise"],
        "metrics": ["spearman_abs", "spearman_signed"],
        "results": str(results),
    }
    output = results.parent / "executed.ipynb"
    run_notebook(SOURCE, output, given | parameters, profile="smoke", progress=False)
    return read(results, NAME, output)


def test_known_answers(checkout, tmp_path):
    readings, claims, said = run(tmp_path / "results")
    rows = readings.set_index(["method", "metric"])
    for metric in ("spearman_abs", "spearman_signed"):
        assert rows.loc[("input", metric), "verdict"] == "above"
        # It differs as much between two networks that learned the same.
        assert rows.loc[("noise", metric), "verdict"] == "cannot tell"
    assert rows.loc[("input_x_noise", "spearman_abs"), "verdict"] == "above"
    assert rows.loc[("gradient_x_input", "spearman_abs"), "noise_excess_high"] < 0.1
    verdicts = {claim.id: claim.verdict for claim in claims}
    assert verdicts["the input dominates products"] == "reproduced"
    assert "Not memorized" not in said
    assert "as much or more" in said
    kept = list((tmp_path / "results/store").rglob("*.safetensors"))
    # Methods of the page, then two of them with two other choices of class, of which one is the
    # first network's own.
    assert len(kept) == 5 * 4 + 2 * 2 * 4 - 2


def test_the_workflow_trains_pairs_with_seeds_and_labels_of_their_own():
    smoke_site()
    hashes = set()
    for labels in ("true", "permuted"):
        for seed in range(2):
            stem = "cnn-fashion_mnist" + "-permuted" * (labels == "permuted") + "-1" * seed
            record = read_record(RESULTS / f"models/{stem}.safetensors")
            assert (record["labels"], record["seeds"]) == (labels, [seed])
            hashes.add(record["weights_hash"])
    assert len(hashes) == 4


def test_without_memory_there_is_no_conclusion():
    """An epoch of 500 pictures, as the small site has it, is none."""
    smoke_site()
    readings, claims, said = read(RESULTS, f"{NAME}-cnn", STAGE / f"notebooks/{NAME}-cnn.ipynb")
    assert set(readings["verdict"]) == {"inconclusive"}
    assert {claim.verdict for claim in claims} == {"not tested"}
    assert "Not memorized" in said
    assert "picture-driven: none" in said
