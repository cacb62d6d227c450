from pathlib import Path

import pytest
from generated import cases, notebook, profile
from saliency_sanity.cases import find_case
from saliency_sanity.parameters import InputError
from saliency_sanity.profiles import (
    profile_copies,
    profile_parameters,
    profile_recipe,
    read_profile,
)


@pytest.fixture
def tree(tmp_path) -> Path:
    notebook(tmp_path / "notebooks" / "one.ipynb")
    notebook(tmp_path / "notebooks" / "two.ipynb")
    profile(tmp_path / "config", "quick", one={"count": 2, "rate": "1e-3"}, two={})
    return tmp_path


def test_a_profile_gives_checked_values(tree):
    source = tree / "notebooks" / "one.ipynb"
    assert profile_parameters("quick", tree / "config", source) == {"count": 2, "rate": 0.001}
    assert profile_parameters("quick", tree / "config", tree / "notebooks" / "two.ipynb") == {}


def test_an_unknown_profile_lists_the_valid_ones(tree):
    profile(tree / "config", "paper", one={}, two={})
    with pytest.raises(InputError, match=r"profile 'quikc'.*Nearest: quick.*Valid: paper, quick"):
        read_profile("quikc", tree / "config")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("notebooks: {one: {cuont: 2}, two: {}}", r"'quick'.*'cuont'.*Nearest: count"),
        ("notebooks: {one: {count: many}, two: {}}", "'count' is declared as int"),
        ("notebooks: {one: {}, too: {}}", r"unknown notebook 'too'.*Nearest: two"),
        ("notebooks: {two: {}}", "says nothing of notebook 'one'"),
        ("notebooks: {one: {}}\nnotebook: {}", "unknown key 'notebook'"),
        ("one: {}", "'notebooks' is missing"),
        ("notebooks: [one]", "'notebooks' must map"),
        ("notebooks: {one: 3}", "'notebooks' must map"),
        ("notebooks: {one: {}}\nnetworks: [cnn]", "'networks' must map"),
        ("notebooks: {one: {}}\nnetworks: {cnn: 3}", "'networks' must map"),
        ("notebooks: {one: {}}\nnetwork: {cnn: {}}", "unknown key 'network'.*Nearest: networks"),
        ("notebooks: {", "is not YAML"),
        ("", "'notebooks' is missing"),
    ],
)
def test_a_profile_with_anything_else_is_refused(tree, text, says):
    (tree / "config" / "quick.yaml").write_text(text)
    with pytest.raises(InputError, match=says):
        profile_parameters("quick", tree / "config", tree / "notebooks" / "one.ipynb")


@pytest.fixture
def many(tree) -> Path:
    """Notebook one has two cases, of which one needs a network and runs in profile paper only."""
    notebook(tree / "notebooks" / "one.ipynb", parameters=CASED)
    small = {"title": "Small", "parameters": {"name": "small", "count": 5, "rate": 0.25}}
    large = {"title": "Large", "needs": ["cnn"], "profiles": ["paper"]}
    cases(tree / "notebooks", one={"small": small, "large": large})
    entries = {"one": {"count": 6, "flag": False}, "one-small": {"flag": True}, "two": {}}
    profile(tree / "config", "quick", **entries)
    profile(tree / "config", "paper", networks={"cnn": {}}, one={}, two={})
    return tree


CASED = """\
count: int = 3
rate: float = 0.5
name: str = "plain"
flag: bool = True
case: str = ""
"""


def test_an_entry_for_a_case_wins_over_that_for_its_notebook(many):
    source, config = many / "notebooks" / "one.ipynb", many / "config"
    assert profile_parameters("quick", config, source) == {"count": 6, "flag": False}
    small = find_case(source, "small")
    assert profile_parameters("quick", config, source, small) == {"count": 6, "flag": True}


def test_either_entry_is_enough_for_a_case(many):
    source, config = many / "notebooks" / "one.ipynb", many / "config"
    profile(config, "quick", **{"one-small": {"count": 9}, "two": {}})
    assert profile_parameters("quick", config, source, find_case(source, "small")) == {"count": 9}
    with pytest.raises(InputError, match="says nothing of notebook 'one'"):
        profile_parameters("quick", config, source, find_case(source, "large"))


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"one-smal": {}}, r"unknown notebook 'one-smal'\. Nearest: one-small"),
        ({"one-small": {"cuont": 1}}, r"'quick', one-small: unknown parameter 'cuont'"),
        ({"one-small": {"case": "large"}}, "one-small: 'case' is set by the runner"),
        ({"one": {"case": "large"}}, "one: 'case' is set by the runner"),
    ],
)
def test_entries_for_cases_are_checked(many, entries, says):
    profile(many / "config", "quick", **({"one": {}, "two": {}} | entries))
    with pytest.raises(InputError, match=says):
        profile_copies("quick", many / "config", many / "notebooks")


def test_the_copies_of_a_profile_are_its_cases_and_the_notebooks_without(many):
    copies = profile_copies("quick", many / "config", many / "notebooks")
    assert list(copies) == ["one-small", "two"]
    assert list(profile_copies("paper", many / "config", many / "notebooks")) == [
        "one-small",
        "one-large",
        "two",
    ]


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ({"profiles": ["quikc"]}, r"'odd' of one: unknown profile 'quikc'\. Nearest: quick"),
        ({"needs": ["cnm"]}, r"does not train: unknown network 'cnm'.*Valid: cnn"),
        ({"parameters": {"cuont": 1}}, r"'odd' of one: unknown parameter 'cuont'"),
        ({"parameters": {"count": "x"}}, r"'count' is declared as int"),
    ],
)
def test_what_a_case_names_must_be_there(many, case, says):
    cases(many / "notebooks", one={"odd": {"title": "Odd"} | case})
    profile(many / "config", "quick", networks={"cnn": {}}, one={}, two={})
    with pytest.raises(InputError, match=says):
        profile_copies("quick", many / "config", many / "notebooks")


def test_what_cannot_run_in_this_profile_is_checked_all_the_same(many):
    odd = {"title": "Odd", "profiles": ["paper"], "parameters": {"cuont": 1}}
    cases(many / "notebooks", one={"odd": odd})
    profile(many / "config", "quick", one={}, two={})
    with pytest.raises(InputError, match="unknown parameter 'cuont'"):
        profile_copies("quick", many / "config", many / "notebooks")


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ("cmn", r"profile 'tiny': unknown network 'cmn'\. Nearest: cnn"),
        ("mlp", r"profile 'tiny', mlp: unknown parameter 'epoch'\. Nearest: epochs"),
        ("inception_v3", r"parameter 'seed' is declared as int"),
        ("resnet", r"profile 'tiny', resnet: unknown network to train 'resnet'"),
        ("cnn", r"profile 'tiny', cnn: epochs 0.0 must be positive"),
    ],
)
def test_a_recipe_with_anything_else_is_refused(tmp_path, network, says):
    networks = {"cnn": {"epochs": 0}, "mlp": {"epoch": 1}, "inception_v3": {"seed": "x"}}
    networks["resnet"] = {}
    profile(tmp_path, "tiny", networks=networks)
    with pytest.raises(InputError, match=says):
        profile_recipe("tiny", tmp_path, network)


def test_a_recipe_comes_in_the_declared_types(tmp_path):
    profile(tmp_path, "tiny", networks={"cnn": {"epochs": 2, "seed": "3"}})
    recipe = profile_recipe("tiny", tmp_path, "cnn")
    assert recipe == {"epochs": 2.0, "seed": 3}
    assert type(recipe["epochs"]) is float
