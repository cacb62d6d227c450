"""The entry point only: what the benchmarks measure is never asserted."""

import json
import sys
import types

import pandas as pd
import pytest

import benchmarks.__main__ as entry


@pytest.fixture
def modules(monkeypatch):
    """Three benchmarks: one that works, one that fails, one that returns nothing."""

    def add(name, run):
        module = types.ModuleType(f"benchmarks.{name}")
        module.run = run
        monkeypatch.setitem(sys.modules, module.__name__, module)

    add("quick", lambda: pd.DataFrame({"what": ["metric"], "median": [1.25]}))
    add("broken", lambda: 1 / 0)
    add("silent", lambda: None)
    monkeypatch.setattr(entry, "benchmark_names", lambda folder: ["broken", "quick", "silent"])


def test_a_failing_benchmark_is_named_and_the_others_are_shown(modules, tmp_path, capsys):
    assert entry.main(["--results", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "metric" in said.out
    assert "1.25" in said.out
    assert "benchmark broken failed: ZeroDivisionError" in said.err
    assert "benchmark silent failed: TypeError" in said.err
    content = json.loads((tmp_path / "benchmarks.json").read_text())
    assert content["benchmarks"] == {"quick": [{"what": "metric", "median": 1.25}]}
    assert set(content["failed"]) == {"broken", "silent"}
    assert content["provenance"]["cpus"] >= 1


def test_one_benchmark_runs_by_name(modules, tmp_path):
    assert entry.main(["quick", "--results", str(tmp_path)]) == 0
    assert list(json.loads((tmp_path / "benchmarks.json").read_text())["benchmarks"]) == ["quick"]


def test_an_unknown_benchmark_and_an_unusable_folder_are_bad_input(modules, tmp_path, capsys):
    assert entry.main(["quikc", "--results", str(tmp_path)]) == 2
    assert "Nearest: quick" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert entry.main(["--results", str(tmp_path / "file")]) == 2
    assert "file" in capsys.readouterr().err
