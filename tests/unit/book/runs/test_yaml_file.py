"""Reading YAML: nothing is an empty mapping, and what is no YAML is told with its place."""

import pytest
from saliency_sanity._errors import InputError
from saliency_sanity.book.runs.yaml_file import read_yaml, write_yaml


def test_what_is_written_is_read_in_its_order(tmp_path):
    content = {"b": [1, 2.5, None], "a": {"é": True}}
    write_yaml(content, tmp_path / "some.yaml")
    found = read_yaml(tmp_path / "some.yaml")
    assert (found, list(found)) == (content, ["b", "a"])
    assert "é" in (tmp_path / "some.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["", "# nothing\n", "null"])
def test_nothing_is_an_empty_mapping(tmp_path, text):
    (tmp_path / "some.yaml").write_text(text)
    assert read_yaml(tmp_path / "some.yaml") == {}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a: 1\nb: [2", r"^some\.yaml is not YAML: line 2, column 6: while parsing .*expected"),
        (b"a: 1\n b: 2", r"^some\.yaml is not YAML: line 2, column 3: mapping values are not "),
        (b"a: \xff", r"^some\.yaml is not YAML: .*can't decode byte 0xff"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_place(tmp_path, content, says):
    (tmp_path / "some.yaml").write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read_yaml(tmp_path / "some.yaml")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"^profile 'some' is not YAML"):
        read_yaml(tmp_path / "some.yaml", "profile 'some'")


def test_a_file_that_is_not_there_is_for_the_caller_to_explain(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_yaml(tmp_path / "some.yaml")
