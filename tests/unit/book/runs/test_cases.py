"""Cases: read strictly, and marked so that copies of one notebook fit into one book."""

from pathlib import Path

import nbformat
import pytest
from made.notebooks import cases, notebook, text
from saliency_sanity._errors import InputError
from saliency_sanity.book.runs.cases import (
    Case,
    all_copies,
    find_case,
    read_cases,
)
from saliency_sanity.book.runs.copy_labels import marked

PHOTOS = {
    "title": "Photographs",
    "needs": ["cnn"],
    "profiles": ["paper"],
    "parameters": {"name": "photos"},
}


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("one", "two"):
        notebook(tmp_path / f"{name}.ipynb")
    cases(tmp_path, two={"photos": PHOTOS, "digits": {"title": " Digits "}})
    return tmp_path


def test_a_case_is_what_the_file_says(folder):
    found = find_case(folder / "two.ipynb", "photos")
    assert found == Case(
        *("two", "photos", "Photographs"),
        needs=("cnn",),
        profiles=("paper",),
        parameters={"name": "photos"},
    )
    assert found.copy == "two-photos"
    assert found.runs_in("paper")
    assert not found.runs_in("quick")
    digits = find_case(folder / "two.ipynb", "digits")
    assert digits == Case("two", "digits", "Digits")
    assert digits.runs_in("quick")


def test_copies_are_the_cases_in_their_order_then_the_notebooks_without(folder):
    assert list(all_copies(folder)) == ["two-photos", "two-digits", "one"]
    assert all_copies(folder)["one"] == Case("one")


def test_without_the_file_every_notebook_is_its_own_copy(folder):
    (folder / "cases.yaml").unlink()
    assert read_cases(folder) == {}
    assert list(all_copies(folder)) == ["one", "two"]


def test_a_notebook_without_cases_may_run_after_all_others(folder):
    (folder / "cases.yaml").write_text("one: {after: all}\ntwo: {a: {title: A}}\n")
    assert all_copies(folder) == {
        "two-a": Case("two", "a", "A"),
        "one": Case("one", after_all=True),
    }
    assert list(all_copies(folder)) == ["two-a", "one"]
    assert set(read_cases(folder)) == {"two"}, "it has no cases"
    with pytest.raises(InputError, match=r"unknown case 'after'"):
        find_case(folder / "one.ipynb", "after")


def test_so_may_all_cases_of_a_notebook(folder):
    (folder / "cases.yaml").write_text("two: {after: all, a: {title: A}, b: {title: B}}\n")
    copies = all_copies(folder)
    assert {copy: case.after_all for copy, case in copies.items()} == {
        "one": False, "two-a": True, "two-b": True
    }  # fmt: skip
    assert list(copies) == ["one", "two-a", "two-b"], "what runs last comes last"
    assert set(read_cases(folder)["two"]) == {"a", "b"}


def test_a_case_is_told_its_name_where_the_notebook_asks(folder):
    case = find_case(folder / "two.ipynb", "photos")
    assert case.values(folder / "two.ipynb") == {"name": "photos"}
    notebook(folder / "two.ipynb", parameters='name: str = "plain"\ncase: str = ""\n')
    assert case.values(folder / "two.ipynb") == {"name": "photos", "case": "photos"}
    assert Case("two").values(folder / "two.ipynb") == {}


def test_how_many_networks_a_case_takes(folder):
    source = folder / "two.ipynb"
    assert Case("two", "a", needs=("cnn",)).count(source, {"count": 7}) == 1
    many = Case("two", "a", needs=("cnn",), replicates="count")
    assert many.count(source, {}) == 3, "the notebook's default"
    assert many.count(source, {"count": 1, "rate": 2.0}) == 1
    own = Case("two", "a", needs=("cnn",), replicates="count", parameters={"count": "5"})
    assert own.count(source, {}) == 5
    assert own.count(source, {"count": 2}) == 2, "a profile wins over the case, as in a run"


@pytest.mark.parametrize(
    ("replicates", "given", "says"),
    [
        ("cuont", {}, r"names no parameter of the notebook: .*'cuont'\. Nearest: count"),
        ("name", {}, r"'replicates' names 'name', which is declared as str;"),
        ("flag", {}, r"'replicates' names 'flag', which is declared as bool;"),
        ("count", {"count": 0}, r"'a' of two takes 0 networks .*count = 0\); set it to 1 or more"),
        ("count", {"count": -1}, r"takes -1 networks"),
    ],
)
def test_a_number_of_networks_that_makes_no_sense_is_refused(folder, replicates, given, says):
    case = Case("two", "a", needs=("cnn",), replicates=replicates)
    with pytest.raises(InputError, match=says):
        case.count(folder / "two.ipynb", given)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("photo", r"two\.ipynb: unknown case 'photo'\. Nearest: photos\. Valid: photos, digits"),
        ("", "unknown case ''"),
    ],
)
def test_an_unknown_case_lists_those_there_are(folder, name, says):
    with pytest.raises(InputError, match=says):
        find_case(folder / "two.ipynb", name)


def test_a_notebook_without_its_cases_says_where_they_are(folder):
    (folder / "cases.yaml").unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"unknown case 'cnn'.*copy it from notebooks/ of a chec"):
        find_case(folder / "one.ipynb", "cnn")


def test_a_missing_notebook_is_named_rather_than_its_case(folder):
    with pytest.raises(InputError, match=r"unknown notebook 'tow\.ipynb'\. Nearest: two"):
        find_case(folder / "tow.ipynb", "photos")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("two: {", "is not YAML"),
        ("[two]", "must map each notebook's name"),
        ("two: {}", "must map each notebook's name"),
        ("two: [a]", "must map each notebook's name"),
        ("two: {a: b}", "'a' of two must map title, needs"),
        ("two: {A-b: {title: x}}", "'A-b' of two: a case's name has small letters"),
        ("two: {on: {title: x}}", "True of two: a case's name"),
        ("two: {a: {titel: x}}", r"'a' of two: unknown key 'titel'\. Nearest: title"),
        ("two: {a: {}}", "'title' is missing"),
        ("two: {a: {title: ' '}}", "'title' is missing"),
        ("two: {a: {title: x, needs: cnn}}", "'needs' must be a list of names, not 'cnn'"),
        ("two: {a: {title: x, replicates: count}}", "'replicates' must be .* not 'count' with"),
        ("two: {a: {title: x, needs: [cnn], replicates: 2}}", "'replicates' must be the name of"),
        ("two: {a: {title: x, profiles: [1]}}", "'profiles' must be a list"),
        ("two: {a: {title: x, parameters: [1]}}", "'parameters' must map"),
        ("two: {a: {title: x, parameters: {case: b}}}", "'case' and 'profile' not among them"),
        ("two: {a: {title: x, parameters: {profile: b}}}", "'profile' not among them"),
        ("two: {after: one}", "'after' of two is 'one'; the only value is 'all'"),
        ("two: {after: [one]}", r"'after' of two is \['one'\]; the only value"),
        ("two: {after: {title: x}}", "'after' of two is .*; the only value"),
        ("two: {after: all, a: {}}", "'title' is missing"),
        ("tow: {after: all}", r"unknown notebook 'tow'\. Nearest: two"),
        ("tow: {a: {title: x}}", r"unknown notebook 'tow'\. Nearest: two"),
    ],
)
def test_anything_else_in_the_file_is_refused(folder, content, says):
    (folder / "cases.yaml").write_text(content)
    with pytest.raises(InputError, match=says):
        all_copies(folder)


def test_two_copies_of_one_name_are_refused(folder):
    notebook(folder / "two-digits.ipynb")
    with pytest.raises(InputError, match="case 'digits' has the name of another copy, two-digits"):
        all_copies(folder)


TEXT = """\
Not a heading, and

# A heading with `code`

(a-target)=
## Next

$$
x = 1
$$ (an-equation)

```{table} Words
:name: a-table

| a |
| - |
```

{numref}`a-figure`, {numref}`Figures %s <a-figure>`, {ref}`words <a-target>`, {eq}`an-equation`,
[](#a-table), [words](#a-target); {numref}`elsewhere`, {ref}`a-target-elsewhere`, [](#elsewhere),
{cite:t}`a-figure`, `a-figure` and (a-target) are none of them.
"""
MARKED = """\
Not a heading, and

# A heading with `code`: Photographs

(a-target-photos)=
## Next

$$
x = 1
$$ (an-equation-photos)

```{table} Words
:name: a-table-photos

| a |
| - |
```

{numref}`a-figure-photos`, {numref}`Figures %s <a-figure-photos>`, {ref}`words <a-target-photos>`, \
{eq}`an-equation-photos`,
[](#a-table-photos), [words](#a-target-photos); {numref}`elsewhere`, {ref}`a-target-elsewhere`, \
[](#elsewhere),
{cite:t}`a-figure`, `a-figure` and (a-target) are none of them.
"""


def test_labels_and_what_points_to_them_get_the_name_of_the_case(folder):
    source = text(notebook(folder / "two.ipynb", "'{numref}`a-figure`'"), TEXT, "# Not the title")
    before = nbformat.read(source, as_version=4)
    figure = {"name": "a-figure", "caption": "See {numref}`a-figure` and {numref}`elsewhere`."}
    before.cells[-1].metadata["mystnb"] = {"figure": figure, "image": {"alt": "a-figure"}}
    kept = nbformat.writes(before)
    after = marked(before, find_case(source, "photos"))
    assert nbformat.writes(before) == kept, "the notebook given is changed"
    assert after.cells[0].source == MARKED
    assert after.cells[1].source == "# Not the title"
    assert after.cells[-1].source == "'{numref}`a-figure`'"
    assert after.cells[-1].metadata["mystnb"] == {
        "figure": {
            "name": "a-figure-photos",
            "caption": "See {numref}`a-figure-photos` and {numref}`elsewhere`.",
        },
        "image": {"alt": "a-figure"},
    }


def test_a_label_named_like_its_option_is_told_from_it(folder):
    source = text(notebook(folder / "two.ipynb"), "# x\n\n```{note}\n:name: name\n```\n")
    after = marked(nbformat.read(source, as_version=4), find_case(source, "photos"))
    assert ":name: name-photos\n" in after.cells[0].source


def test_a_notebook_without_heading_is_refused(folder):
    source = text(notebook(folder / "two.ipynb"), "## Too deep")
    with pytest.raises(InputError, match=r"two\.ipynb has no heading '# …'.*'photos'"):
        marked(nbformat.read(source, as_version=4), find_case(source, "photos"))
