"""The page on randomization: its parameters are the notebook's, and wrong ones are refused."""

import json
from dataclasses import fields

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from made.pages import parameters
from saliency_sanity._errors import InputError
from saliency_sanity.book.chapters.cascade.layers import ONE_LAYER
from saliency_sanity.book.chapters.cascade.page import Cascade
from saliency_sanity.book.chapters.published import published
from saliency_sanity.verdict.wording import kappa_text


def page(folder, **given):
    small = {
        "model": "cnn",
        "weights": "none",
        "images": "fashion_mnist",
        "image_count": 3,
        "methods": ["gradient", "noise"],
        "metrics": ["spearman_abs"],
        "device": "cpu",
        "results": str(folder / "results"),
    }
    return Cascade.of(parameters(Cascade.notebook, **(small | given)))


def test_its_parameters_are_those_of_the_notebook():
    assert {field.name for field in fields(Cascade)} == set(parameters(Cascade.notebook))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"methods": ["gradeint"]}, r"unknown method 'gradeint'\. Nearest: gradient"),
        ({"metrics": ["spearman"]}, r"unknown metric 'spearman'\. Nearest: spearman_abs"),
        ({"preset": "papers"}, r"unknown preset 'papers'\. Nearest: paper"),
        ({"scheme": "initialiser"}, r"unknown randomization scheme 'init.*Nearest: initializer"),
        ({"batch_norm": "keeps"}, r"'keeps'\. Nearest: keep"),
        ({"order": "topdown"}, r"unknown order 'topdown'\. Nearest: top_down"),
        ({"explained_class": "fixd"}, r"unknown explained class 'fixd'\. Nearest: fixed"),
        ({"model": "cnm"}, r"Nearest: cnn"),
        ({"image_count": 3000}, r"3000 photographs asked for, fashion_mnist has 2000"),
        ({"shown": 0}, r"shown is 0; valid are 1 to 3, the pictures there are"),
        ({"shown": 4}, r"shown is 4; valid are 1 to 3, the pictures there are"),
        ({"seeds": 0}, r"0 random networks; at least 1 is needed, 2 for a prior"),
        ({"stage_limit": 1}, r"stage limit 1; 0 for all, or at least 2"),
        ({"group": 1}, r"group 1; .* give at least 2, as 32, or 0 for all pictures together"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_explained(tmp_path, given, says):
    with pytest.raises(ValueError, match=says):
        page(tmp_path, **given)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_shard_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"shard '3/2' does not exist; valid are 1/2 to 2/2"):
        page(tmp_path, shard="3/2").share()


def test_a_parameter_that_the_notebook_lacks_is_named(tmp_path):
    given = parameters(Cascade.notebook, results=str(tmp_path))
    del given["order"]
    with pytest.raises(NameError, match=r"02_cascading_randomization: .* no parameter order"):
        Cascade.of(given)


def test_shares_and_what_they_leave_are_those_of_the_run_that_follows(tmp_path):
    settings = {"stage_limit": 2, "seeds": 1, "group": 2, "shown": 1}
    alone = page(tmp_path / "alone", **settings)
    for shard in ("1/2", "2/2"):
        assert str(page(tmp_path, shard=shard, **settings).share()).startswith(f"Shard {shard}: ")
    together = page(tmp_path, **settings)
    assert together.table.equals(alone.table)
    assert together.left_out() == []


def test_what_cannot_be_compared_or_was_not_published_leaves_its_section_empty(tmp_path):
    settings = {"order": "bottom_up", "stage_limit": 2, "seeds": 1, "shown": 1, "choices": []}
    made = page(tmp_path, **settings)
    assert made.hidden_choices() == []
    assert made.their_numbers() == made.beside_published() == []
    assert made.against_published() is None
    made.write_all()
    assert not (tmp_path / "results" / "claims").exists(), "nobody claimed anything of this order"
    assert {path.name for path in (tmp_path / "results" / "tables").iterdir()} == {
        "02_cascading_randomization.parquet",
        "02_cascading_randomization-readings.parquet",
        "02_cascading_randomization-refused.parquet",
    }


def test_the_upper_half_stands_beside_the_last_stage(tmp_path):
    made = page(tmp_path, image_count=5, seeds=2, shown=1)
    assert made.table["random"].unique().tolist() == [0.25, 0.5, 0.75, 1.0]
    rows = made.table[made.table["metric"] == "spearman_abs"]
    rows = rows[rows["random"] == 0.5].set_index("method")
    shown = made.verdicts().data.set_index("method")["kappa, upper half random"]
    numbers = made.numbers()
    for method in ("gradient", "noise"):
        assert shown[made.titles[method]] == kappa_text(rows.loc[method])
        upper = numbers[f"upper_{method}_spearman_abs"]
        assert upper == pytest.approx(rows.loc[method, "kappa"], abs=0.006)


def test_grad_cam_is_tried_at_each_resolution_of_a_network_that_has_no_batch_norms(tmp_path):
    made = page(tmp_path, image_count=5, seeds=2, shown=1, methods=["gradient", "grad_cam"])
    assert made.norms() == []
    assert made.differences() is None
    assert made.cam_layers == {"hidden2": (14, 14), "hidden1": (28, 28)}
    shown = made.layers().data
    assert shown.index.tolist() == ["hidden2, 14 × 14", "hidden1, 28 × 28"]
    rows = made.table[made.table["metric"] == "spearman_abs"]
    rows = rows[rows["method"] == "grad_cam"].set_index("stage")
    stages = [made.outcome.stages[0], made.outcome.stages[-1]]
    for stage in stages:
        cell = shown.loc["hidden2, 14 × 14", f"Grad-CAM, {stage}"]
        assert cell.startswith(kappa_text(rows.loc[stage])), "the page's own layer"
    reasons = {c.of + c.about: c.reason for c in made.claims}
    assert "the layer that Grad-CAM looks at" in reasons["weights-changeGrad-CAM"]
    assert "layer" not in reasons["weights-changeGradient"]


@pytest.mark.parametrize("given", [{"methods": ["gradient"]}, {"order": "bottom_up"}])
def test_without_a_claim_on_grad_cam_no_layer_is_tried(tmp_path, given):
    made = page(tmp_path, **{"methods": ["gradient", "grad_cam"], "seeds": 1, "shown": 1} | given)
    assert made.layers().data == ONE_LAYER


def test_the_first_picture_says_kappa_of_its_methods_stage_by_stage(tmp_path):
    methods = ["sobel", "gradient", "gradient_x_input", "guided_backprop", "noise"]
    settings = {"methods": methods, "seeds": 1, "shown": 1, "choices": []}
    made = page(tmp_path, **settings)
    made.write_all()
    kept = tmp_path / "results/figures" / f"{made.name}-hero.html"
    assert kept.stat().st_size <= 300_000
    hero = BeautifulSoup(kept.read_text("utf8"), "html.parser")
    names = [node.text for node in hero.select(".name")]
    assert names == ["Gradient", "Guided backpropagation", "Gradient ⊙ input", "Sobel edges"]
    keys = ["gradient", "guided_backprop", "gradient_x_input", "sobel"]
    for node, key in zip(hero.select(".map"), keys, strict=True):
        same = (made.table["method"] == key) & (made.table["metric"] == "spearman_abs")
        rows = made.table[same].sort_values("position")
        first, *rest = json.loads(node["data-stages"])
        assert first["kappa"] == "1"
        assert [float(one["kappa"]) for one in rest] == pytest.approx(
            rows["kappa"].round(2).tolist(), abs=1e-6
        )
        assert all("3 pictures and 1 random network" in one["title"] for one in rest)
    assert made.card.stat().st_size <= 300_000


def test_a_run_without_those_methods_or_from_below_has_no_first_picture(tmp_path):
    for given in ({}, {"methods": ["gradient"], "order": "bottom_up"}):
        made = page(tmp_path, seeds=1, shown=1, choices=[], stage_limit=2, **given)
        made.write_all()
    assert not list(tmp_path.rglob("*-hero.html"))
    assert not list(tmp_path.rglob("*-card.webp"))


def test_published_numbers_are_drawn_beside_ours_written_and_folded(tmp_path):
    made = page(tmp_path, image_count=4, seeds=1, shown=1, stage_limit=2, choices=[])
    known = made.beside.dropna(subset="published")
    theirs = published("cnn", "top_down")
    assert dict(zip(known["stage"], known["published"], strict=True)) == {
        stage: theirs.value("gradient", "spearman_abs", stage) for stage in made.outcome.stages
    }
    assert "first 10 test digits" in made.their_numbers()[0].data
    for figure in (made.curves(), made.against_published()):
        texts = [axes.get_title(loc="left") for axes in figure.axes]
        assert "Gradient" in texts
        plt.close(figure)
    made.write_all()
    path = tmp_path / "results/tables/02_cascading_randomization-beside-published.parquet"
    assert pd.read_parquet(path)["published"].tolist() == known["published"].tolist()
    (shown,) = made.beside_published()
    assert shown.data.index.names == ["method", "stage"]
