"""The page for a reader's own method: a wrong name is one line, before anything long starts."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from made.pages import parameters
from PIL import Image
from saliency_sanity._errors import NotApplicable
from saliency_sanity.book.scoreboard import own_method
from saliency_sanity.book.scoreboard.own_method import OwnMethod
from saliency_sanity.contract.clauses import ContractError
from saliency_sanity.probes.complexity import signed_entropy
from saliency_sanity.randomization.blocks import find_blocks
from saliency_sanity.randomization.schemes import Randomization, Randomizer

MINE = """
import torch
from saliency_sanity import Classifier, Scaling


def plain(model, x, target):
    leaf = x.detach().clone().requires_grad_()
    return torch.autograd.grad(model(leaf).gather(1, target[:, None]).sum(), leaf)[0]


def coarse(model, x, target):
    return plain(model, x, target)[:, :, ::2, ::2]


class Squared(torch.nn.Module):
    def forward(self, x):
        return x.square()


def net():
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 5))
    scaling = Scaling((0.5,) * 3, (0.25,) * 3)
    return Classifier(layers, name="mine", weights="mine", scaling=scaling, size=32)


def normed():
    network = net()
    norm = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.BatchNorm2d(3)).eval()
    network.network = torch.nn.Sequential(norm, network.network)
    return network


def double():
    return net().double()


class Energies(torch.nn.Module):
    def forward(self, x):
        return torch.stack([x.sum((1, 2, 3)), x.square().sum((1, 2, 3))], 1)


def constant():
    network = net()
    network.network = Energies()
    return network


class Cut(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = net().network

    def forward(self, x):
        with torch.no_grad():
            return self.layers(x)


def cut():
    network = net()
    network.network = Cut()
    return network


def blank():
    network = net()
    network.weights = "none"
    return network
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with somebody's own method, network and pictures, as the current one."""
    (tmp_path / "mine_alone.py").write_text(MINE)
    (tmp_path / "pictures").mkdir()
    random = np.random.default_rng(0)
    for i in range(6):
        pixels = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def page(place, **given):
    small = {
        "method": "mine_alone:plain",
        "model": "mine_alone:net",
        "images": str(place / "pictures"),
        "beside": ["gradient", "noise"],
        "metrics": ["spearman_abs"],
        "device": "cpu",
        "results": str(place / "results"),
    }
    return OwnMethod.of(parameters(OwnMethod.notebook, **(small | given)))


def test_its_parameters_are_those_of_the_notebook():
    assert {field.name for field in fields(OwnMethod)} == set(parameters(OwnMethod.notebook))


def test_labels_of_other_classes_are_not_held_against_a_network(place):
    known = page(place, images="mnist", model="mine_alone:net").photographs.labels
    assert set(known) == {None}
    assert "of these pictures right" not in page(place, images="foolbox").facts


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "mine_alone:plan"}, "Nearest: plain"),
        ({"method": "nowhere:plain"}, "'nowhere' cannot be imported"),
        ({"model": "mine_alone:Squared"}, "bare Squared"),
        ({"beside": ["gradiant"]}, "unknown method 'gradiant'"),
        ({"metrics": ["hogg"]}, r"unknown metric 'hogg'\. Nearest: hog"),
        ({"shown": 0}, "valid are 1 and more"),
    ],
)
def test_a_wrong_name_is_one_line(place, wrong, message):
    with pytest.raises((ValueError, TypeError), match=message):
        page(place, **wrong)
    assert not list(place.rglob("*.parquet"))


def test_a_broken_contract_stops_the_page(place):
    with pytest.raises(ContractError, match="a value for every pixel"):
        page(place, method="mine_alone:coarse").contract()


@pytest.mark.parametrize("model", ["double", "constant"])
def test_a_network_in_double_precision_or_without_parameters_has_a_page(place, model):
    made = page(place, model=f"mine_alone:{model}", stage_limit=2, seeds=1, beside=["sobel"])
    assert all(violation.severity == "warning" for violation in made.contract())
    assert made.examination.explained.maps["mine_alone:plain"].dtype == made.x.dtype
    assert made.examination.edge_likeness is not None
    assert made.examination.likeness is not None
    if model == "double":
        assert made.x.dtype == torch.float64
        assert made.moved is not None
        assert len(made.examination.cascade)


@pytest.mark.parametrize("method", ["gradient", "mine_alone:plain"])
def test_a_network_without_gradients_is_the_reason_and_not_the_method(place, method):
    made = page(place, model="mine_alone:cut", method=method)
    with pytest.raises(NotApplicable, match="nothing in the method needs mending"):
        made.contract()


@pytest.mark.parametrize(("model", "two"), [("net", False), ("normed", True)])
def test_the_upper_half_has_a_column_where_a_stage_has_it(place, model, two):
    """Of a single block nothing is left; that batch norms are kept is said where there are any."""
    made = page(place, model=f"mine_alone:{model}", seeds=1, beside=["sobel"])
    checks = {check.key: check for check in made.checks}
    assert ("upper_photographs" in checks) == two
    assert bool(checks["cascade_photographs"].kept) == two
    assert not checks["input_photographs"].kept


def test_the_method_of_a_file_is_shown_and_one_of_the_catalogue_is_not(place):
    assert "def plain(model, x, target):" in page(place).written.data
    assert page(place, method="gradient").written is None


def test_of_a_long_file_the_method_alone_is_shown(place, monkeypatch):
    assert "class Squared" in page(place).written.data
    monkeypatch.setattr(own_method, "_LONG", 9)
    shown = page(place).written.data
    assert shown.startswith("```python\ndef plain(model, x, target):")
    assert "class Squared" not in shown


def test_what_pictures_are_too_small_for_is_left_out(place):
    made = page(place, metrics=["spearman_abs", "hog"])
    assert made.too_small() == ["left out: HOG, which needs more than 32 px"]
    assert list(made.measures) == ["spearman_abs"]
    assert page(place).too_small() == []


def test_a_network_without_training_is_said_to_know_nothing(place):
    assert page(place).learned
    assert page(place).warnings() == []
    made = page(place, model="mine_alone:blank")
    assert not made.learned
    (warning,) = made.warnings()
    assert "**This network has learned nothing:" in warning.data


def test_pictures_of_one_class_are_said_to_be(place):
    made = page(place)
    assert len(made.target.unique()) > 1
    made.target = made.target.new_full((6,), 3)
    (warning,) = made.warnings()
    assert warning.data.startswith("**All 6 pictures are of one class to this network, ")


def test_what_critics_ask_is_in_the_row(place):
    made = page(place, model="mine_alone:normed", seeds=2, stage_limit=2, labels=1)
    keys = {check.key for check in made.checks}
    assert {"complexity_photographs", "label_photographs"} <= keys
    shown = made.critics().data
    assert list(shown.index) == [made.titles[name] for name in made.chosen]
    assert len(shown.columns) == 2
    # One label's map is not another's, and the picture is the same for all.
    labels = made.examination.other_label.set_index("method")
    assert labels.loc["gradient", "similarity"] < 1
    alone = page(place, model="mine_alone:normed", seeds=2, stage_limit=2, labels=0)
    assert "label_photographs" not in {check.key for check in alone.checks}
    assert len(alone.critics().data.columns) == 1


def test_entropies_are_those_of_the_maps(place):
    made = page(place, seeds=1, stage_limit=2, beside=[])
    own = made.chosen["mine_alone:plain"]
    before = signed_entropy(own(made.classifier, made.x, made.target))
    rows = made.examination.complexity
    blocks = find_blocks(made.classifier, made.x)
    with Randomizer(made.classifier, blocks, Randomization(), made.x) as randomizer:
        randomizer.set([block.name for block in blocks], made.seed)
        found = made.classifier.predict(made.x)
        after = signed_entropy(own(made.classifier, made.x, found))
    expected = ((after - before) / before).mean()
    assert rows.loc[0, "kappa"] == pytest.approx(float(expected), rel=1e-4)


def test_scales_are_said_or_why_not(place):
    assert "need two" in page(place, stage_limit=2, seeds=1).scales().data
    said = page(place, model="mine_alone:normed", stage_limit=2, seeds=1).scales().data
    assert "rank correlation of a channel's size" in said


def test_labels_are_counted_from_none(place):
    with pytest.raises(ValueError, match="labels is -1; valid are 0"):
        page(place, labels=-1)
