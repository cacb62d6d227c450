import pytest
from made.notebooks import notebook
from saliency_sanity._errors import InputError
from saliency_sanity.book.runs.parameters import Parameter, check_parameters, read_parameters


def test_parameters_come_with_type_default_and_comment(tmp_path):
    found = read_parameters(notebook(tmp_path / "n.ipynb"))
    assert list(found) == ["count", "rate", "name", "flag", "sizes"]
    assert found["count"] == Parameter("count", "int", 3, "how many")
    assert found["sizes"] == Parameter("sizes", "list", [1, 2], "of what")
    assert found["name"].comment == ""


def test_without_annotation_the_default_gives_the_type(tmp_path):
    found = read_parameters(notebook(tmp_path / "n.ipynb", parameters="a = 1\nb = 'x'\nc = -1.5"))
    assert {name: item.type for name, item in found.items()} == {
        "a": "int",
        "b": "str",
        "c": "float",
    }


@pytest.mark.parametrize(
    ("declared", "value", "converted"),
    [
        ("int", "15", 15),
        ("int", "-1", -1),
        ("int", 4, 4),
        ("float", "1e-3", 0.001),
        ("float", 2, 2.0),
        ("float", "2", 2.0),
        ("bool", "false", False),
        ("bool", "True", True),
        ("bool", "off", False),
        ("bool", True, True),
        ("str", "15", "15"),
        ("str", "", ""),
        ("list", "[1, 2.5]", [1, 2.5]),
        ("list", "['a']", ["a"]),
        ("list", "1, 2", [1, 2]),
        ("list", (1, 2), [1, 2]),
        ("list[int]", '["1", 2]', [1, 2]),
        ("list[str]", '["a"]', ["a"]),
    ],
)
def test_values_are_read_by_the_declared_type(declared, value, converted):
    result = Parameter("p", declared, None, "").convert(value)
    assert result == converted
    assert type(result) is type(converted)


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("int", "1.5"),
        ("int", 1.0),
        ("int", True),
        ("int", "many"),
        ("int", None),
        ("float", "fast"),
        ("float", "nan"),
        ("float", float("inf")),
        ("float", False),
        ("bool", "maybe"),
        ("bool", 1),
        ("str", 5),
        ("str", None),
        ("list", "{"),
        ("list", "x"),
        ("list", {"a": 1}),
        ("list[int]", ["a"]),
    ],
)
def test_other_values_are_refused_with_name_type_and_value(declared, value):
    with pytest.raises(InputError) as caught:
        Parameter("rate", declared, 0.5, "").convert(value)
    for part in ("'rate'", f"declared as {declared}", repr(value), "0.5"):
        assert part in str(caught.value)


def test_an_unknown_name_lists_the_nearest_and_the_valid_ones(tmp_path):
    declared = read_parameters(notebook(tmp_path / "n.ipynb"))
    with pytest.raises(InputError, match=r"n\.ipynb.*'cuont'.*Nearest: count.*sizes"):
        check_parameters(declared, {"cuont": 3}, "n.ipynb")


def in_r(path):
    path.write_text(notebook(path).read_text().replace('"language": "python"', '"language": "R"'))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, r"unknown notebook 'n\.ipynb'.*Nearest: m\.ipynb"),
        (lambda path: path.write_text("{}"), "is not a notebook"),
        (lambda path: path.write_bytes(b"\xff\x00"), "is not a notebook"),
        (lambda path: notebook(path, parameters=None), "no cell is tagged 'parameters'"),
        (lambda path: notebook(path, kernel=False), "names no kernel"),
        (in_r, r"n\.ipynb: the notebook is written in R; only Python can"),
        (lambda path: notebook(path, parameters="a: int = "), "not valid Python"),
        (lambda path: notebook(path, parameters="a: int | None = 1"), r"'a'.*'int \| None'"),
        (lambda path: notebook(path, parameters="a = None"), "'a' is declared as 'NoneType'"),
        (lambda path: notebook(path, parameters="a = b = 1"), "a = b = 1"),
        (lambda path: notebook(path, parameters="import os"), "import os"),
        (lambda path: notebook(path, parameters="a: int = len('x')"), "plain value"),
    ],
    ids=[
        *("missing", "empty", "bytes", "untagged", "no-kernel", "r", "syntax", "union", "none"),
        *("chain", "import", "call"),
    ],
)
def test_a_notebook_that_cannot_be_parametrized_is_refused(tmp_path, make, says):
    notebook(tmp_path / "m.ipynb")
    make(tmp_path / "n.ipynb")
    with pytest.raises(InputError, match=says):
        read_parameters(tmp_path / "n.ipynb")
