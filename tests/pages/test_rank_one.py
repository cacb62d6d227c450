"""The notebook on rank one: what is known beforehand of a network that nobody has trained."""

from pathlib import Path

import pandas as pd
import pytest
from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.book.runs.runner import run_notebook

SOURCE = Path("notebooks/11_rank_one.ipynb")
NAME = SOURCE.stem

pytestmark = pytest.mark.slow


def test_known_answers(tmp_path):
    results = tmp_path / "results"
    given = {
        "model": "cnn",
        "weights": "none",
        "images": "fashion_mnist",
        "image_count": 6,
        "bases": ["gradient", "guided_backprop", "lrp_z", "lrp_zplus", "deeplift"],
        "results": str(results),
    }
    run_notebook(SOURCE, tmp_path / "executed.ipynb", given, profile="smoke", progress=False)
    claims = {claim.id: claim for claim in ClaimTable.read(results / f"claims/{NAME}.json")}
    assert claims["non-negative factors"].verdict == "reproduced"
    rows = pd.read_parquet(results / f"tables/{NAME}-cosines.parquet")
    from_top = rows[rows["start"] == "softmax_linear"].set_index(["method", "layer"])["median"]
    # Put in alike for every method; below, z⁺ has more of one direction than the gradient.
    assert from_top.xs("softmax_linear", level="layer").nunique() == 1
    assert from_top["lrp_zplus", "hidden1"] > from_top["gradient", "hidden1"] + 0.1
    readings = pd.read_parquet(results / f"tables/{NAME}-another_label.parquet")
    either = readings[readings["flip"] == "either sign"].set_index("method")["similarity"]
    assert either["lrp_zplus"] > either["lrp_z"]
