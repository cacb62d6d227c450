"""Notebooks from parameters to tables: the same twice, anybody's method, refusals that are said."""

import nbformat
import pandas as pd
import pytest
from made.pages import small_page_of
from pandas.testing import assert_frame_equal
from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.book.chapters.edge_detectors.page import EdgeDetectors
from saliency_sanity.book.runs.runner import NotebookFailedError, run_notebook

SOURCE = "notebooks/01_edge_detectors.ipynb"
OWN = """
def halved(model, x, target):
    return x.detach() / 2
"""


SCALE = {"shown": 2, "filters": 2, "untrained": []}


def run(folder, **parameters):
    output = folder / "executed.ipynb"
    run_notebook(
        SOURCE,
        output,
        SCALE | {"results": str(folder / "results")} | parameters,
        profile="smoke",
        progress=False,
    )
    return output


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    """The notebook, and its page without a kernel; one of the methods is somebody's own."""
    folders = [tmp_path_factory.mktemp("run") for _ in range(2)]
    patch = pytest.MonkeyPatch()
    (folders[0] / "my_methods.py").write_text(OWN)
    patch.setenv("PYTHONPATH", str(folders[0]))
    methods = ["smoothgrad", "guided_backprop", "my_methods:halved", "input", "sobel"]
    run(folders[0], image_count=6, methods=methods)
    patch.syspath_prepend(folders[0])
    given = {"image_count": 6, "methods": methods}
    small_page_of(EdgeDetectors, folders[1], **SCALE | given).write_all()
    patch.undo()
    return folders


@pytest.mark.slow
def test_the_same_command_gives_the_same_bits(twice):
    tables = [
        pd.read_parquet(folder / "results" / "tables" / "01_edge_detectors.parquet")
        for folder in twice
    ]
    assert len(tables[0]) == 2 * 5 * 4 * 6, "references, methods, metrics, photographs"
    assert_frame_equal(*tables, check_exact=True)
    assert set(tables[0].loc[tables[0]["method"] == "my_methods:halved", "repr"]) == {
        "my_methods:halved"
    }
    claims = [folder / "results" / "claims" / "01_edge_detectors.json" for folder in twice]
    assert claims[0].read_bytes() == claims[1].read_bytes()


@pytest.mark.slow
def test_somebodys_own_method_is_measured_like_any_other(twice):
    table = pd.read_parquet(twice[0] / "results" / "tables" / "01_edge_detectors.parquet")
    edges = table[table["reference"] == "edges"].set_index("method")
    ours, known = edges.loc["my_methods:halved"], edges.loc["input"]
    assert ours["similarity"].to_numpy() == pytest.approx(known["similarity"].to_numpy(), rel=1e-9)


@pytest.mark.slow
def test_the_claims_rest_on_what_was_run(twice):
    claims = {
        claim.id: claim
        for claim in ClaimTable.read(twice[0] / "results" / "claims" / "01_edge_detectors.json")
    }
    assert claims["section 5.3, convolution"].verdict == "reproduced"
    assert claims["figure 19"].verdict == "reproduced"
    assert "figure 37B" not in claims, "neither of its methods was run"


@pytest.mark.slow
def test_a_method_that_does_not_apply_is_left_out_and_said_to_be(tmp_path):
    page = small_page_of(
        EdgeDetectors,
        tmp_path,
        model="swin_t",
        weights="none",
        methods=["gradient", "guided_backprop", "grad_cam"],
        metrics=["spearman_abs"],
        **SCALE,
    )
    said = "\n".join(page.left_out())
    assert "left out: Guided backpropagation: Guided() needs rectifiers" in said
    assert "left out: Grad-CAM: Grad-CAM needs a layer" in said
    assert set(page.readings["method"]) == {"gradient"}


@pytest.mark.slow
def test_an_unknown_name_stops_the_notebook_before_it_computes(tmp_path):
    with pytest.raises(NotebookFailedError, match=r"unknown method 'gradeint'\. Nearest: gradient"):
        run(tmp_path, methods=["gradeint"])
    cells = nbformat.read(tmp_path / "executed.log.ipynb", as_version=4).cells
    assert not any("left_out" in cell.source and cell.get("outputs") for cell in cells)
