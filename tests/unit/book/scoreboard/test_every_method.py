"""The page on every method: budgets, twins, libraries that lack, and faults that stop nothing."""

import importlib.util
import sys
from dataclasses import fields

import numpy as np
import pytest
import torch
from made.networks import draw
from made.pages import page_of, parameters
from made.peers import needs
from PIL import Image
from saliency_sanity.book.scoreboard import every_method
from saliency_sanity.book.scoreboard.every_method import EveryMethod, every_peer
from saliency_sanity.book.scoreboard.twins import OMITTED, difference, twins
from saliency_sanity.experiments import cascade

MINE = """
import torch
from saliency_sanity import Classifier, Scaling


def net():
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU(), torch.nn.Conv2d(6, 8, 3), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(3), torch.nn.Flatten(), torch.nn.Linear(72, 5),
    )
    scaling = Scaling((0.5,) * 3, (0.25,) * 3)
    return Classifier(
        layers, name="mine", weights="mine", scaling=scaling, size=24, cam_layer="2"
    )


def other():
    found = net()
    found.name = "other"
    return found
"""
SCALE = {"samples": 2, "steps": 2, "masks": 3, "stage_limit": 3, "seeds": 1}
OWN = ["gradient", "smoothgrad", "rise", "grad_cam", "attention", "sobel", "noise"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with somebody's networks and pictures, as the current one."""
    (tmp_path / "mine_every.py").write_text(MINE)
    (tmp_path / "pictures").mkdir()
    random = np.random.default_rng(0)
    for i in range(6):
        pixels = random.integers(0, 255, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("mine_every", None)


def page(place, networks=("net",), **given):
    count = len(networks)
    small = SCALE | {
        "networks": [f"mine_every:{name}" for name in networks],
        "images": [str(place / "pictures")] * count,
        "image_counts": [0] * count,
        "budgets": [20] * count,
        "ceilings": [0] * count,
        "methods": OWN,
    }
    return page_of(EveryMethod, place, **small | given)


def test_its_parameters_are_those_of_the_notebook():
    assert {field.name for field in fields(EveryMethod)} == set(parameters(EveryMethod.notebook))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"budgets": [1, 2]}, "budgets has 2 entries, but there are 1 networks: .* or one for all"),
        ({"budgets": [0]}, "at least one pass"),
        ({"networks": []}, "name each once, and at least one"),
        ({"methods": ["gradiant"]}, "unknown method 'gradiant'"),
        ({"methods": ["gradient", "shap:Deep"]}, "DeepExplainer"),
    ],
)
def test_what_does_not_go_together_is_said_first(place, wrong, message):
    with pytest.raises((ValueError, ImportError), match=message):
        page(place, **{"networks": ("net",)} | wrong)


def test_what_is_beyond_the_budget_has_a_price_and_no_row(place):
    made = page(place, ("net", "other"), budgets=[2, 20])
    made.write_all()
    prices = made.prices.set_index(["network", "method"])
    assert prices.loc[("other", "gradient"), "passes"] == 1
    assert prices.loc[("other", "smoothgrad"), "passes"] == 2
    assert "budget of 2 passes" in prices.loc[("mine", "rise"), "why"]
    assert "class token" in prices.loc[("mine", "attention"), "why"]
    rows = set(zip(made.board["method"], made.board["check"], strict=True))
    assert ("rise", "cascade_photographs_other") in rows
    assert ("rise", "cascade_photographs_mine") not in rows
    assert "more than 2 passes" in made.dear()[0].data
    assert "-p budgets '[2500, 2500]'" in made.dear()[-1].data
    assert not {name for name, _ in rows} & {"attention"}
    # Columns of one question stand beside each other.
    questions = [check.question for check in made.checks]
    assert questions == sorted(questions, key=questions.index)
    assert len(questions) == 2 * len(set(questions))
    assert len({(check.question, check.title) for check in made.checks}) == len(questions)
    assert {check.subject for check in made.checks} == {"mine", "other"}
    assert '"margins": ["0.1", "0.05", "0.2"]' in made.card()._repr_html_()
    assert all(made.blank.values())
    assert "methods on 2 networks" in made.summary().data


def test_a_library_that_lacks_is_a_line_and_no_end(place, monkeypatch):
    real = importlib.util.find_spec
    hidden = lambda name, *given: None if name == "captum" else real(name, *given)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    made = page(place, methods=["gradient", "captum:DeepLift", "captum:LRP"])
    assert list(made.there) == ["gradient"]
    said = [line.data for line in made.absent()]
    assert any("pip install" in line for line in said)
    assert made.twins.empty


@needs("captum")
def test_a_fault_of_a_library_is_a_reason(place, monkeypatch):
    made = page(place, methods=["gradient", "captum:DeepLift"])

    def broken(method, *_):
        raise RuntimeError(f"no way for {method}")

    monkeypatch.setattr(every_method, "price", broken)
    subject = made.subjects[0]
    assert "fails with RuntimeError: no way" in made._price("captum:DeepLift", subject, 9)[1]
    with pytest.raises(RuntimeError, match="no way"):
        made._price("gradient", subject, 9)


@needs("captum")
def test_twins_are_compared_and_share_a_row(place):
    made = page(place, methods=["gradient", "captum:Saliency", "captum:LRP", "lrp_epsilon"])
    found = made.twins.set_index("peer")["difference"]
    assert found["captum:Saliency"] < 1e-6
    assert made.same["captum:Saliency"] == "gradient"
    assert "captum:Saliency" not in made.rows


@needs("captum")
def test_twins_that_differ_stand_side_by_side(place):
    made = page(place, methods=["deconvnet", "captum:Deconvolution", "gradient"])
    made.twins.loc[made.twins["peer"] == "captum:Deconvolution", "difference"] = 0.5
    (row,) = made.differing.to_dict("records")
    assert (row["own"], row["peer"], row["difference"]) == (
        "deconvnet",
        "captum:Deconvolution",
        0.5,
    )
    assert "inconclusive" in row["here"] or "respond" in row["here"] or "picture" in row["here"]
    assert len(made.differing_maps().axes) == 3
    made.twins["difference"] = 0.0
    del made.differing
    assert made.differing_maps() is None


@needs("captum")
def test_what_was_made_is_found_again(place, monkeypatch):
    first = page(place, methods=["gradient", "captum:Deconvolution"])
    board = first.board
    again = page(place, methods=["gradient", "captum:Deconvolution"])
    _ = again.prices, again.examinations[0].explained

    def never(*_):
        raise AssertionError("a map of the cascade was made a second time")

    monkeypatch.setattr(cascade, "mapped", never)
    assert again.board.equals(board)


def test_every_twin_and_every_method_left_out_exists(place):
    known = {*every_peer(), *OMITTED}
    made = page(place)
    assert {twin.peer for twin in twins(made.subjects[0].classifier)} <= known
    assert not {*every_peer()} & {*OMITTED}
    assert len(known) >= 30


def test_a_difference_has_no_unit_and_counts_the_worst_picture():
    ours = draw(2, 3, 4, 4)
    assert difference(ours, 5 * ours) < 1e-7
    theirs = ours.clone()
    theirs[1, 0, 0, 0] = theirs[1].abs().max() * 3
    expected = max(
        float((one / one.abs().max() - other / other.abs().max()).abs().max())
        for one, other in zip(ours.double(), theirs.double(), strict=True)
    )
    assert difference(ours, theirs) == pytest.approx(expected)
    assert difference(torch.zeros(1, 1, 2, 2), torch.zeros(1, 3, 2, 2)) == 0
