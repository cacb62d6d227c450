from dataclasses import replace
from pathlib import Path

import pytest
from made.notebooks import cases, notebook, profile
from made.places import ROOT
from saliency_sanity._errors import InputError
from saliency_sanity.book.runs.cases import find_case
from saliency_sanity.book.runs.profiles import (
    check_recipe,
    profile_copies,
    profile_networks,
    profile_parameters,
    profile_recipe,
    read_profile,
)
from saliency_sanity.subjects.datasets import TASKS
from saliency_sanity.subjects.training.recipe import Recipe


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
        ({"one": {"profile": "paper"}}, "one: 'profile' is set by the runner"),
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
        ({"needs": ["cnn-permuted"]}, r"profile 'quick' does not train: .*'cnn-permuted'"),
        ({"needs": ["cnn"], "replicates": "rate"}, r"'odd' of one: 'replicates' names 'rate'"),
        ({"needs": ["cnn"], "replicates": "x"}, r"'odd' of one: 'replicates' names no parameter"),
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


@pytest.fixture
def trained(tree) -> Path:
    """Cases that need up to three networks of a kind; quick and paper train them differently."""
    notebook(tree / "notebooks" / "one.ipynb", parameters=CASED)
    pairs = {"title": "Pairs", "needs": ["cnn", "cnn-permuted"], "replicates": "count"}
    two = pairs | {"title": "Two", "needs": ["cnn"], "parameters": {"count": 2}}
    single = {"title": "One", "needs": ["inception_v3", "cnn"]}
    paper = {"title": "Full", "needs": ["mlp"], "profiles": ["paper"]}
    cases(tree / "notebooks", one={"pairs": pairs, "two": two, "single": single, "full": paper})
    networks = {"cnn": {"epochs": 2}, "cnn-permuted": {"epochs": 9, "target_accuracy": 0.9}}
    networks |= {"inception_v3": {"epochs": 1}}
    profile(tree / "config", "quick", networks=networks, one={}, two={})
    networks = {key: {} for key in [*networks, "mlp"]}
    entries = {"one": {"count": 4}, "one-pairs": {"count": 1}, "two": {}}
    profile(tree / "config", "paper", networks=networks, **entries)
    return tree


def networks_of(tree: Path, name: str, *copies: str) -> dict:
    found = profile_copies(name, tree / "config", tree / "notebooks")
    taken = {copy: case for copy, case in found.items() if not copies or copy in copies}
    return profile_networks(name, tree / "config", tree / "notebooks", taken)


def test_a_profile_trains_what_its_copies_need_and_the_longest_first(trained):
    found = networks_of(trained, "quick")
    assert list(found) == [
        "inception_v3-fashion_mnist",
        *(f"cnn-fashion_mnist-permuted{seed}" for seed in ("", "-1", "-2")),
        *(f"cnn-fashion_mnist{seed}" for seed in ("", "-1", "-2")),
    ]
    permuted = found["cnn-fashion_mnist-permuted-2"]
    assert (permuted.key, permuted.seed, permuted.epochs) == ("cnn-permuted", 2, 9)
    assert permuted.target_accuracy == 0.9
    assert found["cnn-fashion_mnist-1"] == Recipe("cnn", epochs=2, seed=1)


def test_each_copy_has_networks_of_its_own_number(trained):
    assert len(networks_of(trained, "quick", "one-pairs")) == 6, "the notebook's default"
    assert list(networks_of(trained, "quick", "one-two")) == [
        "cnn-fashion_mnist",
        "cnn-fashion_mnist-1",
    ]
    assert set(networks_of(trained, "paper", "one-pairs")) == {
        "cnn-fashion_mnist",
        "cnn-fashion_mnist-permuted",
    }
    assert list(networks_of(trained, "paper", "one-two"))[-1] == "cnn-fashion_mnist-3"
    assert list(networks_of(trained, "paper", "one-full")) == ["mlp-fashion_mnist"]
    assert networks_of(trained, "paper", "two") == {}


def test_names_follow_the_data_that_a_profile_trains_on(trained):
    networks = {"cnn": {"dataset": "mnist", "source": "download"}, "cnn-permuted": {}}
    networks |= {"inception_v3": {}}
    profile(trained / "config", "quick", networks=networks, one={"count": 1}, two={})
    assert "cnn-mnist" in networks_of(trained, "quick")


@pytest.mark.parametrize(
    ("networks", "says"),
    [
        ({"cnn-permutd": {}}, r"profile 'quick', cnn-permutd: .*Nearest: cnn-permuted"),
        ({"cnn": {"seed": 1}}, r"profile 'quick', cnn: 'seed' is not .*'replicates' says"),
        ({"cnn": {"labels": "permuted"}}, r"'labels' is not .*name the entry NETWORK-permuted"),
        ({"cnn-permuted": {"labels": "true"}}, r"cnn-permuted: 'labels' is not the profile's"),
        ({"cnn": {"negatives": True}}, r"'negatives' is not .*name the entry NETWORK-negatives"),
        ({"mlp": {"epochs": 0}}, r"profile 'quick', mlp: 'epochs' must be a positive .* not 0.0"),
    ],
)
def test_every_network_of_a_profile_is_checked(trained, networks, says):
    """Also those that no copy needs."""
    others = {"cnn": {}, "cnn-permuted": {}, "inception_v3": {}}
    profile(trained / "config", "quick", networks=others | networks, one={}, two={})
    with pytest.raises(InputError, match=says):
        networks_of(trained, "quick")


def test_no_networks_is_no_number_of_them(trained):
    others = {"cnn": {}, "cnn-permuted": {}, "inception_v3": {}}
    profile(trained / "config", "quick", networks=others, one={"count": 0}, two={})
    with pytest.raises(InputError, match=r"'pairs' of one takes 0 networks .*set it to 1 or more"):
        profile_copies("quick", trained / "config", trained / "notebooks")


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ("cmn", r"profile 'tiny': unknown network 'cmn'\. Nearest: cnn"),
        ("mlp", r"profile 'tiny', mlp: unknown parameter 'epoch'\. Nearest: epochs"),
        ("inception_v3", r"parameter 'batch' is declared as int"),
        ("resnet", r"profile 'tiny', resnet: unknown network to train 'resnet'"),
        ("cnn", r"profile 'tiny', cnn: 'epochs' must be a positive .* not 0.0"),
    ],
)
def test_a_recipe_with_anything_else_is_refused(tmp_path, network, says):
    networks = {"cnn": {"epochs": 0}, "mlp": {"epoch": 1}, "inception_v3": {"batch": "x"}}
    networks["resnet"] = {}
    profile(tmp_path, "tiny", networks=networks)
    with pytest.raises(InputError, match=says):
        profile_recipe("tiny", tmp_path, network)


def test_a_recipe_comes_in_the_declared_types(tmp_path):
    networks = {"cnn": {"epochs": 2, "batch": "3"}, "cnn-permuted": {}}
    profile(tmp_path, "tiny", networks=networks)
    recipe = profile_recipe("tiny", tmp_path, "cnn")
    assert recipe == Recipe("cnn", epochs=2.0, batch=3)
    assert type(recipe.epochs) is float
    assert profile_recipe("tiny", tmp_path, "cnn-permuted") == Recipe("cnn", labels="permuted")


def test_values_go_on_top_of_a_recipe():
    base = Recipe("cnn", labels="permuted", epochs=2)
    found = check_recipe("cnn-permuted", {"seed": "3"}, "here", base)
    assert found == Recipe("cnn", labels="permuted", epochs=2, seed=3)
    assert check_recipe("cnn", {"labels": "permuted"}, "here").key == "cnn-permuted"
    with pytest.raises(InputError, match=r"here: labels 'true': .* train cnn for true ones"):
        check_recipe("cnn-permuted", {"labels": "true"}, "here", base)
    assert check_recipe("cnn", {"negatives": "true"}, "here").key == "cnn-negatives"
    with pytest.raises(InputError, match=r"here: negatives false: .*; train cnn without"):
        check_recipe("cnn-negatives", {"negatives": "false"}, "here")


def test_a_task_has_an_entry_of_its_own(tmp_path):
    networks = {"cnn-halves": {"epochs": 2}, "mlp": {"dataset": "halves"}}
    networks["cnn-pairs_shape"] = {"dataset": "pairs_garment"}
    profile(tmp_path, "tiny", networks=networks)
    assert profile_recipe("tiny", tmp_path, "cnn-halves") == Recipe("cnn", "halves", epochs=2.0)
    with pytest.raises(InputError, match=r"mlp: dataset 'halves' is a task.* entry mlp-halves"):
        profile_recipe("tiny", tmp_path, "mlp")
    with pytest.raises(InputError, match=r"pairs_garment': this one learns pairs_shape; train cnn"):
        profile_recipe("tiny", tmp_path, "cnn-pairs_shape")


@pytest.mark.parametrize("name", ["smoke", "quick", "paper"])
def test_the_book_trains_a_network_for_each_task_and_seed(name):
    config, notebooks = ROOT / "config", ROOT / "notebooks"
    copies = profile_copies(name, config, notebooks)
    copy = "13_task_confounding-cnn"
    found = profile_networks(name, config, notebooks, {copy: copies[copy]})
    source = notebooks / "13_task_confounding.ipynb"
    count = profile_parameters(name, config, source, copies[copy])["trainings"]
    seeds = ["", *(f"-{seed}" for seed in range(1, count))]
    tasks = ("fashion_mnist", *TASKS)
    assert set(found) == {f"cnn-{task}{seed}" for task in tasks for seed in seeds}
    for stem, recipe in found.items():
        assert stem == f"cnn-{recipe.weights}"
        # The workflow trains by this command line.
        assert profile_recipe(name, config, recipe.key) == replace(recipe, seed=0)
