import json
import os
import platform
import socket
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import saliency_sanity._provenance as module
import torch
from bs4 import BeautifulSoup
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from saliency_sanity._provenance import provenance
from saliency_sanity.book.runs.provenance import provenance_box, record


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    return subprocess.run(
        ["git", *identity, "-C", str(folder), *words], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "module.py").write_text("one = 1\n")
    git(tmp_path, "add", "module.py")
    git(tmp_path, "commit", "-q", "-m", "first")
    module._commit_of.cache_clear()
    yield tmp_path
    module._commit_of.cache_clear()


def test_it_says_what_was_run_and_on_what():
    content = provenance(parameters={"samples": 15}, seeds=[np.int64(0), 1], images=20)
    # PyPI names a build without what it is for.
    assert torch.__version__.startswith(content["versions"]["torch"])
    assert content["versions"]["numpy"] == np.__version__
    assert content["python"] == platform.python_version()
    assert content["threads"] == torch.get_num_threads()
    assert content["parameters"] == {"samples": 15}
    assert content["seeds"] == [0, 1]
    assert content["images"] == 20
    assert json.loads(json.dumps(content)) == content


def test_it_names_neither_host_nor_folders():
    text = json.dumps(provenance())
    assert socket.gethostname() not in text
    for folder in (Path.home(), Path.cwd(), Path(module.__file__).parent):
        assert str(folder) not in text


def test_the_duration_counts_from_the_given_start():
    content = provenance(started=datetime.now(UTC) - timedelta(seconds=90))
    assert content["seconds"] == pytest.approx(90, abs=30)
    with pytest.raises(ValueError, match="zone"):
        provenance(started=datetime(2026, 1, 1))


def test_without_a_start_neither_start_nor_duration_is_told():
    content = provenance()
    assert (content["started"], content["seconds"]) == (None, None)
    assert not {"Started", "Duration"} & dict(provenance_box(content).rows()).keys()


def test_the_commit_is_that_of_the_checkout(checkout):
    found = module._commit_of(checkout / "module.py")
    assert found == {"id": git(checkout, "rev-parse", "HEAD"), "dirty": False}


def test_a_change_makes_the_checkout_dirty(checkout):
    (checkout / "module.py").write_text("one = 2\n")
    assert module._commit_of(checkout / "module.py")["dirty"] is True


def test_an_installed_copy_inside_another_repository_has_no_commit(checkout):
    installed = checkout / "site-packages"
    installed.mkdir()
    (installed / "module.py").write_text("")
    assert module._commit_of(installed / "module.py") is None


def test_outside_a_checkout_or_without_git_there_is_no_commit(tmp_path, checkout, monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    assert module._commit_of(checkout / "module.py") is None


def test_the_box_shows_every_line_escaped_in_html_markdown_and_plain():
    box = provenance_box(parameters={"name": "<b>x</b>"}, seeds=[3], image_count=20)
    page = BeautifulSoup(box._repr_html_(), "html.parser")
    heads = {row.th.text: row.td.text for row in page.find_all("tr")}
    assert page.find("b") is None
    assert heads["Parameters"] == "name = <b>x</b>"
    assert heads["Seeds"] == "3"
    assert heads["Image count"] == "20"
    assert all(head["scope"] == "row" for head in page.find_all("th"))
    assert all(head in box._repr_markdown_() and head in repr(box) for head in heads)


def test_the_box_takes_finished_content_or_its_parts():
    content = provenance(seeds=[5])
    assert provenance_box(content).content == content
    with pytest.raises(TypeError, match="not both"):
        provenance_box(content, seeds=[5])


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (119.9, "2 min 0 s")]
)
def test_durations_read_well(seconds, text):
    assert dict(provenance_box({"seconds": seconds}).rows())["Duration"] == text


@pytest.fixture
def shell():
    shell = InteractiveShell.instance()
    yield shell
    InteractiveShell.clear_instance()


@pytest.mark.parametrize(
    ("value", "format", "text"),
    [
        (0.123456, ".3f", "0.123"),
        (np.float64(-0.5), ".2f", "-0.50"),
        (torch.tensor(2.0), ".1f", "2.0"),
        (np.int64(7), "d", "7"),
        (float("nan"), ".3f", "nan"),
        ("Sobel", "s", "Sobel"),
    ],
)
def test_a_recorded_value_is_what_the_book_pastes(shell, value, format, text):
    """The book's own extraction and formatting are the oracle."""
    from myst_nb.core.variables import format_plain_text
    from myst_nb.ext.glue import extract_glue_data_cell
    from nbformat.v4 import new_code_cell, new_output

    with capture_output() as captured:
        record("key", value)
    (shown,) = captured.outputs
    output = new_output("display_data", data=shown.data, metadata=shown.metadata)
    cell = new_code_cell("", outputs=[output])
    ((key, found),) = extract_glue_data_cell(cell)
    assert key == "key"
    assert format_plain_text(found["data"]["text/plain"], format) == text
    assert cell.outputs == [], "nothing is shown where the value is recorded"


def test_outside_a_notebook_a_record_shows_nothing(capsys):
    record("key", 1.0)
    assert capsys.readouterr().out == ""


def test_only_numbers_and_texts_are_recorded():
    with pytest.raises(TypeError, match=r"'key'.*list"):
        record("key", [1.0])
