"""The notebook for a reader's own method: own files in, a row of the scoreboard out."""

import contextlib

import nbformat
import numpy as np
import pandas as pd
import pytest
from docutils.nodes import make_id
from made.notebooks import outputs
from made.places import ROOT
from PIL import Image
from saliency_sanity import load_model, load_photographs, resolve
from saliency_sanity.book.runs.runner import NotebookFailedError, run_notebook
from saliency_sanity.book.scoreboard.columns import own_checks
from saliency_sanity.book.scoreboard.table import score
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.experiments.outcome import stage_table
from saliency_sanity.probes.input_size import likeness_table
from saliency_sanity.similarity.metrics import metric

SOURCE = ROOT / "notebooks" / "07_your_own_method.ipynb"
KEYS = [
    *("edges", "cascade_photographs", "upper_photographs", "independent_cnn"),
    *("input_photographs", "units_photographs"),
    *("complexity_photographs", "label_photographs"),
]

MINE = """
import torch
from saliency_sanity import Classifier, Scaling


def plain(model, x, target):
    leaf = x.detach().clone().requires_grad_()
    return torch.autograd.grad(model(leaf).gather(1, target[:, None]).sum(), leaf)[0]


def product(model, x, target):
    return x * plain(model, x, target)


def coarse(model, x, target):
    return plain(model, x, target)[:, :, ::2, ::2]


def holes(model, x, target):
    return torch.full_like(x, torch.nan)


class Squared(torch.nn.Module):
    def forward(self, x):
        return x.square()


def net(*first):
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        *first, torch.nn.Conv2d(3, 8, 3, 2), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, 2),
        torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(5),
    )
    layers(torch.zeros(1, 3, 32, 32))
    scaling = Scaling((0.5,) * 3, (0.25,) * 3)
    return Classifier(layers, name="mine", weights="mine", scaling=scaling, size=32)


def squared():
    return net(Squared())
"""


def test_each_check_has_its_section():
    cells = nbformat.read(SOURCE, as_version=4).cells
    lines = [line for cell in cells for line in cell.source.splitlines()]
    sections = {make_id(line[3:]) for line in lines if line.startswith("## ")}
    checks = own_checks("n", norms=False)
    assert {check.source.anchor for check in checks} <= sections
    assert {check.title for check in checks} == {"by ranks", "by outlines", "n"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with somebody's own method, network and pictures, as the current one."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "mine.py").write_text(MINE)
    (folder / "pictures").mkdir()
    random = np.random.default_rng(0)
    for i in range(8):
        small = random.integers(0, 255, (6, 7, 3), dtype=np.uint8)
        Image.fromarray(small).resize((50, 40)).save(folder / "pictures" / f"{i}.png")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


def run(place, name, **parameters):
    given = {
        "method": "mine:plain",
        "model": "mine:net",
        "images": str(place / "pictures"),
        "image_count": 0,
        "beside": ["gradient", "input", "noise"],
        "metrics": ["spearman_abs"],
        "results": str(place / name),
    }
    output = place / f"{name}.ipynb"
    run_notebook(SOURCE, output, given | parameters, profile="smoke", progress=False)
    return output, pd.read_parquet(place / name / "tables" / "07_your_own_method.parquet")


@pytest.fixture(scope="module")
def page(place):
    return run(place, "page", method="mine:product")


@pytest.mark.slow
def test_the_row_is_what_the_library_says(place, page):
    _, board = page
    assert list(board["check"].unique()) == KEYS
    model = load_model("mine:net")
    x = model.scaling.to_network(load_photographs(str(place / "pictures"), size=32).pixels)
    own = {"mine:product": resolve("mine:product")}
    target = model.predict(x)
    measures = {"spearman_abs": metric("spearman_abs")}
    outcome = Experiment(model, x, target, own, measures, seeds=2, stage_limit=3)()
    read = {
        "cascade_photographs": stage_table(outcome.readings(), outcome.random),
        "upper_photographs": stage_table(outcome.readings(), outcome.random),
        "input_photographs": likeness_table(
            {name: method(model, x, target) for name, method in own.items()}, x
        ),
    }
    for check in own_checks("mine", norms=False):
        if check.key in read:
            (wanted,) = score(check, read[check.key], check.source).to_dict("records")
            ((_, found),) = board[
                (board["method"] == "mine:product") & (board["check"] == check.key)
            ].iterrows()
            for field in ("kappa", "low", "high"):
                assert found[field] == pytest.approx(wanted[field], abs=1e-6)
            assert found["verdict"] == wanted["verdict"]


@pytest.mark.slow
def test_a_product_with_the_input_is_found_out_by_the_units(page):
    executed, board = page
    standing = board.set_index(["method", "check"])["standing"]
    assert standing["mine:product", "units_photographs"] == "unwanted"
    assert standing["gradient", "units_photographs"] == "wanted"
    assert ("noise", "units_photographs") not in standing
    assert (
        board.loc[board["check"] == "edges", "standing"].isin(["neutral", "open", "cannot"]).all()
    )
    said = str(nbformat.read(executed, as_version=4).cells)
    wrong = (board[board["method"] == "mine:product"]["standing"] == "unwanted").sum()
    assert f"**product fails {wrong} of 6 checks" in said
    assert "def product(model, x, target):" in said, "the method's own file is not shown"
    assert "HOG" not in outputs(executed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "points"),
    [("mine:coarse", ["a value for every pixel", "[3, 3, 16, 16]"]), ("mine:holes", ["NaN"])],
)
def test_a_broken_contract_is_named_before_anything_long(place, method, points):
    with pytest.raises(NotebookFailedError, match="breaks the contract in 1 point") as caught:
        run(place, "broken", method=method)
    cells = nbformat.read(SOURCE, as_version=4).cells
    assert "page.contract()" in cells[caught.value.cell - 1].source
    for point in points:
        assert point in str(caught.value)
    assert not list((place / "broken").rglob("*.npz")), "an experiment has begun"
    assert not list((place / "broken").rglob("*.parquet"))


@pytest.mark.slow
def test_what_cannot_be_asked_of_a_network_is_left_out_with_the_reason(place):
    executed, board = run(place, "squared", model="mine:squared", metrics=["spearman_abs", "hog"])
    assert set(board["check"]) == set(KEYS) - {"units_photographs"}
    said = outputs(executed)
    assert "left out: other units: mine cannot be given other units" in said
    assert "left out: HOG, which needs more than 32 px" in said
