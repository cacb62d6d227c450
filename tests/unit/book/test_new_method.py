"""The file for a method of one's own: it runs as it is, keeps the contract, and hides nothing."""

import json
import re
import sys

import pytest
import torch
from made.networks import draw, small
from made.places import ROOT
from saliency_sanity import resolve
from saliency_sanity._errors import InputError
from saliency_sanity.book.cli import main
from saliency_sanity.book.new_method import command, write_method
from saliency_sanity.book.scoreboard.own_method import OwnMethod
from saliency_sanity.contract.trial import check_method

PAGE = ROOT / "notebooks" / "07_your_own_method.ipynb"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("my_map", None)


def test_what_is_written_keeps_the_contract(place):
    path = write_method("my_map", place)
    assert path == place / "my_map.py"
    report = check_method(
        "my_map", resolve("my_map:my_map"), small(), draw(3, 3, 16, 16), torch.tensor([0, 1, 2])
    )
    assert not list(report)
    text = path.read_text()
    assert max(map(len, text.splitlines())) <= 100
    assert "{" not in text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("3x", "letters, digits and underscores"),
        ("my-map", "letters, digits and underscores"),
        ("lambda", "no word of Python's own"),
        ("torch", "another name, as my_torch"),
        ("../up", "letters, digits and underscores"),
    ],
)
def test_a_name_that_cannot_be_is_refused(name, said, place):
    with pytest.raises(InputError, match=said):
        write_method(name, place)
    assert not list(place.iterdir())


def test_a_file_is_never_written_over(place, capsys):
    (place / "my_map.py").write_text("mine")
    assert main(["new-method", "my_map"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert (place / "my_map.py").read_text() == "mine"


def test_a_folder_that_would_hide_the_file_is_said(place):
    (place / "pack").mkdir()
    with pytest.raises(InputError, match="pack is there already"):
        write_method("pack", place)


def test_the_next_command_is_said(place, capsys, monkeypatch):
    assert main(["new-method", "my_map"]) == 0
    assert "-p method my_map:my_map" in capsys.readouterr().out
    assert "run 07_your_own_method.ipynb " in command("my_map", "x"), "there is no checkout here"
    monkeypatch.chdir(ROOT)
    assert "run notebooks/07_your_own_method.ipynb --profile quick" in command("my_map", "x")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "my_map:mymap"}, "Nearest: my_map"),
        ({"method": "my_map"}, "say my_map:my_map"),
        (
            {"model": "my_map:network"},
            "raised KeyError in my_map.py, line 2: return {}['no']: 'no'",
        ),
        ({"method": "captum:DeepLit"}, "DeepLift"),
        ({"model": "resnet81"}, "Nearest: resnet18"),
        ({"images": "nowhere"}, "unknown source of photographs 'nowhere'"),
        ({"metrics": '["spearman"]'}, "unknown metric 'spearman'"),
    ],
)
def test_a_wrong_name_is_a_line_before_any_kernel(given, said, place, capsys, monkeypatch):
    write_method("my_map", place)
    with (place / "my_map.py").open("r+") as file:
        text = file.read()
        file.seek(0)
        file.write(f"def network():\n    return {{}}['no']\n\n\n{text}")
    monkeypatch.setattr("papermill.execute_notebook", None)  # a kernel would be another error
    words = [word for item in given.items() for word in ("-p", *item)]
    status = main(["run", str(PAGE), *words, "--output", str(place / "out" / "mine.ipynb")])
    error = capsys.readouterr().err
    assert status == 2
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert {path.name for path in place.iterdir()} - {"__pycache__"} == {"my_map.py"}


def test_a_name_and_its_value_are_two_words(place, capsys):
    assert main(["run", str(PAGE), "-p", "method=my_map:my_map"]) == 2
    said = capsys.readouterr().err
    assert said.strip().endswith("two words: -p method my_map:my_map")


def test_the_program_is_called_as_it_was(place, monkeypatch):
    (place / "bin").mkdir()
    program = place / "bin" / "saliency-sanity"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(place))
    assert command("my_map", "bin/saliency-sanity").startswith("bin/saliency-sanity run ")
    monkeypatch.setenv("PATH", str(place / "bin"))
    assert command("my_map", str(program)).startswith("saliency-sanity run ")
    module = command("my_map", "lib/saliency_sanity/__main__.py")
    assert module.startswith("python -m saliency_sanity run ")


def test_a_parameter_that_can_be_is_not_refused(place, monkeypatch):
    seen = []
    monkeypatch.setattr(OwnMethod, "of", seen.append)
    OwnMethod.check({"method": "gradient"})
    assert seen == [{"method": "gradient"}]


def test_the_page_and_the_readme_have_the_same_four_commands():
    blocks = []
    page = "".join(json.loads(PAGE.read_text(encoding="utf-8"))["cells"][0]["source"])
    for text in ((ROOT / "README.md").read_text(encoding="utf-8"), page):
        (block,) = [b for b in re.findall(r"```bash\n(.*?)```", text, re.S) if "new-method" in b]
        blocks.append(block.replace("\\\n", "").splitlines())
    assert blocks[0] == blocks[1]
    assert len(blocks[0]) == 4
