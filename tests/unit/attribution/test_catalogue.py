"""Methods by name, and cards that tell the truth about them."""

import ast
import inspect
import math
import re

import pytest
import torch
from made.networks import apt, draw
from made.places import ROOT
from saliency_sanity import CATALOGUE, resolve
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.book.site.pages import NEEDS

BOOK = ROOT / "book" / "references.bib"
every_card = pytest.mark.parametrize("card", CATALOGUE.values(), ids=CATALOGUE)


def parameters(card):
    return inspect.signature(card.build).parameters


def test_the_papers_methods_and_the_controls_are_listed():
    kinds = {
        kind: [n for n, c in CATALOGUE.items() if c.kind == kind] for kind in ("method", "control")
    }
    assert len(kinds["method"]) >= 10
    assert {"sobel", "canny", "input", "noise", "input_x_noise"} <= set(kinds["control"])
    assert len(kinds["method"]) + len(kinds["control"]) == len(CATALOGUE)
    assert len({card.abbreviation for card in CATALOGUE.values()}) == len(CATALOGUE)


@every_card
def test_card_names_every_parameter_with_its_true_default(card):
    assert set(card.defaults) == set(parameters(card))
    for name, parameter in parameters(card).items():
        assert parameter.default is not inspect.Parameter.empty
        if isinstance(parameter.default, int | float | str):
            first = re.split(r"[ (]", card.defaults[name])[0]
            plain = isinstance(parameter.default, bool | str)
            default = str(parameter.default) if plain else f"{parameter.default:g}"
            assert first.rstrip(":") == default


@every_card
def test_card_is_complete(card):
    assert card.name in CATALOGUE
    assert card.title
    assert card.summary.endswith(".")
    assert "$" not in card.formula
    assert card.formula.count("{") == card.formula.count("}")
    assert set(card.needs) <= set(NEEDS)
    assert ("layer" in parameters(card)) == ("layer" in card.needs)
    assert ("baseline" in parameters(card)) == ("baseline" in card.needs)
    counts = [parameters(card)[n].default for n in ("samples", "steps") if n in parameters(card)]
    if counts:
        assert card.passes == math.prod(counts)


@every_card
@pytest.mark.skipif(not BOOK.exists(), reason="the book has no bibliography yet")
def test_sources_are_in_the_bibliography(card):
    keys = set(re.findall(r"@\w+\{([^,\s]+),", BOOK.read_text()))
    assert set(card.sources) <= keys


@every_card
def test_sign_is_as_the_card_says(card):
    x, target = draw(2, 3, 16, 16), torch.tensor([0, 1])
    found = resolve(card.name)(apt(card.name), x, target)
    assert (found.min() < 0) == card.signed


@every_card
def test_description_holds_every_parameter_that_was_given(card):
    given = {
        "samples": 7,
        "steps": 9,
        "noise": 0.33,
        "seed": 42,
        "sigma": 3.5,
        "masks": 11,
        "grid": 3,
        "keep": 0.125,
        "window": 0.75,
        "stride": 0.5,
        "layer": "deep.er",
        "rule": "midpoint",
        "baseline": 0.625,
        "input_rule": "flat",
        "epsilon": 0.125,
        "alpha": 3.5,
        "top": 3,
        "per_channel": False,
        "per_label": True,
        "q": 87.5,
        "padding_trick": True,
        "proportional": True,
    }
    given = {key: value for key, value in given.items() if key in card.defaults}
    assert set(given) == set(card.defaults)
    described = repr(resolve(card.name, **given))
    ast.parse(described, mode="eval")
    for key, value in given.items():
        assert f"{key}={value!r}" in described
    assert resolve(card.name, **given) == resolve(card.name, **given)
    if given:
        assert described != repr(resolve(card.name))


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("smoothgard", {}, "unknown method 'smoothgard'. Nearest: smoothgrad"),
        ("SmoothGrad", {}, "Nearest: smoothgrad"),
        ("lime", {}, "package.module:function"),
        ("json", {}, "There is a module json: for its function json say json:json."),
        ("smoothgrad", {"sample": 3}, "parameter of smoothgrad 'sample'. Nearest: samples"),
        ("gradient", {"samples": 3}, "parameter of gradient 'samples'. Valid: none"),
        ("vargrad", {"samples": 1}, "samples 1 must be at least 2"),
        ("no_such_package.module:method", {}, "'no_such_package.module' cannot be imported"),
        ("math:squareroot", {}, "method in math 'squareroot'. Nearest: sqrt"),
        ("math:pi", {}, "unknown method in math 'pi'"),
    ],
)
def test_unknown_names_list_the_nearest(name, given, message):
    with pytest.raises(ValueError, match=message):
        resolve(name, **given)


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "my_saliency.py").write_text(
        "from dataclasses import dataclass\n"
        "def twice(model, x, target):\n    return 2 * x\n"
        "@dataclass(frozen=True)\nclass Times:\n    factor: float = 3.0\n"
        "    def __call__(self, model, x, target):\n        return self.factor * x\n"
        "ready = Times(5.0)\nnumber = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def test_somebodys_own_method(own, small_net):
    x, target = draw(1, 3, 16, 16), torch.tensor([0])
    for name, given, factor in (
        ("my_saliency:twice", {}, 2),
        ("my_saliency:Times", {}, 3),
        ("my_saliency:Times", {"factor": 4.0}, 4),
        ("my_saliency:ready", {}, 5),
    ):
        assert torch.equal(resolve(name, **given)(small_net, x, target), factor * x)
    with pytest.raises(ValueError, match="is a function and takes no parameters"):
        resolve("my_saliency:twice", factor=2)
    with pytest.raises(ValueError, match="unknown method in my_saliency 'number'"):
        resolve("my_saliency:number")
    with pytest.raises(ValueError, match=r"'thrice'. Nearest: twice"):
        resolve("my_saliency:thrice")


def test_default_composition_is_the_reference_codes():
    assert resolve("gradient") == Gradient()
    assert repr(resolve("smoothgrad")) == (
        "NoiseAverage(method=Gradient(), samples=50, noise=0.15, seed=0)"
    )
    assert repr(resolve("integrated_gradients")) == (
        "TimesInput(method=PathAverage(method=Gradient(), steps=50, rule='endpoints', "
        "baseline=None), baseline=None)"
    )
