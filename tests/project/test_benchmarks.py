"""How benchmarks are run and what is written of them; what they measure is never asserted."""

import json
import sys
import types
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from made.networks import ModularNet, small

import benchmarks.__main__ as entry
from benchmarks import (
    _report,
    _timing,
    attribution,
    cascade,
    competition,
    metrics,
    rectgrad,
    scale,
)


@pytest.fixture
def modules(monkeypatch, tmp_path):
    """Three benchmarks: one that works, one that fails, one that returns nothing."""
    calls = []

    def add(name, run):
        module = types.ModuleType(f"benchmarks.{name}")
        module.run = lambda *given: calls.append((name, *given)) or run()
        monkeypatch.setitem(sys.modules, module.__name__, module)

    add("quick", lambda: pd.DataFrame([_timing.row("metric / loop", [1.25], [1.0], 1.1)]))
    add("broken", lambda: 1 / 0)
    add("silent", lambda: None)
    monkeypatch.setattr(entry, "benchmark_names", lambda folder: ["broken", "quick", "silent"])
    write = partial(_report.write, path=tmp_path / "RESULTS.md")
    monkeypatch.setattr(_report, "write", write)
    return calls


def test_a_failing_benchmark_is_named_and_the_others_are_shown(modules, tmp_path, capsys):
    assert entry.main(["--results", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "| metric / loop | 1.25 s | 1 s | 1.25 | 1.1 | no |" in said.out
    assert "benchmark broken failed: ZeroDivisionError" in said.err
    assert "benchmark silent failed: TypeError" in said.err
    content = json.loads((tmp_path / "benchmarks.json").read_text())
    (found,) = content["benchmarks"]["quick"]
    assert (found["what"], found["ratio"], found["met"]) == ("metric / loop", 1.25, False)
    assert set(content["failed"]) == {"broken", "silent"}
    assert content["provenance"]["cpus"] >= 1
    assert not (tmp_path / "RESULTS.md").exists(), "it was not asked for"


def test_one_benchmark_runs_by_name_on_a_device_and_shortly(modules, tmp_path):
    assert entry.main(["quick", "--results", str(tmp_path)]) == 0
    assert list(json.loads((tmp_path / "benchmarks.json").read_text())["benchmarks"]) == ["quick"]
    assert entry.main(["quick", "--device", "cpu", "--short", "--results", str(tmp_path)]) == 0
    assert modules == [("quick", "cpu", False), ("quick", "cpu", True)]


def test_an_unknown_benchmark_and_an_unusable_folder_are_bad_input(modules, tmp_path, capsys):
    assert entry.main(["quikc", "--results", str(tmp_path)]) == 2
    assert "Nearest: quick" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert entry.main(["--results", str(tmp_path / "file")]) == 2
    assert "file" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_one_error_before_anything_starts(modules, tmp_path, capsys):
    assert entry.main(["--device", "cuda", "--results", str(tmp_path / "new")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "device 'cuda' cannot be used" in line
    assert modules == []
    assert not (tmp_path / "new").exists()


# Sides


def test_sides_take_turns_and_the_first_round_is_dropped():
    seen = []
    sides = {name: partial(seen.append, name) for name in "ab"}
    times = _timing.timed(sides, 3, "cpu", "test")
    assert "".join(seen) == "abababab"
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 3, "b": 3}
    seen.clear()
    times = _timing.timed(sides, 2, "cpu", "test", warm_up=lambda: seen.append("w"))
    assert "".join(seen) == "wabab"
    assert len(times["a"]) == 2


def test_the_clock_counts_this_process_on_one_thread_and_waits_for_a_gpu(monkeypatch):
    assert _timing.clock_name("cpu") == "CPU time"  # tests have one thread
    assert _timing.clock_name("cuda") == "wall time"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert _timing.clock_name("cpu") == "wall time"
    order = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: order.append("synchronize"))
    sides = {"a": lambda: order.append("a")}
    _timing.timed(sides, 1, "cuda", "test", warm_up=lambda: None)
    assert order == ["synchronize", "a", "synchronize"]


def test_a_row_is_the_median_of_ratios_not_the_ratio_of_medians():
    row = _timing.row("what", [1.0, 4.0, 9.0], [1.0, 2.0, 10.0], 0.9)
    assert (row["ours"], row["theirs"], row["ratio"], row["met"]) == (4.0, 2.0, 1.0, False)
    assert _timing.row("what", [1.0], [2.0], 0.5)["met"] is True
    assert _timing.row("what", [1.0], [2.0])["met"] is None


def test_precision_is_the_same_on_both_sides_and_comes_back():
    def settings():
        cudnn = torch.backends.cudnn
        flags = (cudnn.enabled, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark)
        return (*flags, torch.get_float32_matmul_precision())

    before = settings()
    with _timing.exact("cuda"):
        assert settings() == (True, False, True, False, "highest")
    assert settings() == before
    with pytest.raises(ZeroDivisionError), _timing.exact("cuda"):
        1 / 0  # noqa: B018
    assert settings() == before
    with _timing.exact("cpu"):
        assert settings() == (True, False, *before[2:4], "highest")
    assert settings() == before


def test_a_function_runs_in_a_process_of_its_own():
    given = ("ssim", 1, 32, "CPU time")
    assert _timing.elsewhere(metrics.loop, *given)["values"] == metrics.loop(*given)["values"]


def test_what_quantus_measures_before_any_layer_is_no_layer(monkeypatch):
    class MPRT:
        def __init__(self, **options):
            pass

        def __call__(self, model, x_batch, **given):
            return {"original": [1.0], "head": [0.5], "second": [0.2], "first": [0.1]}

    stub = types.ModuleType("quantus")
    stub.MPRT, stub.explain = MPRT, None
    stub.similarity_func = types.SimpleNamespace(correlation_spearman=None)
    monkeypatch.setitem(sys.modules, "quantus", stub)

    def six_seconds(sides, *_):
        for side in sides.values():
            side()
        return {name: [6.0] for name in sides}

    seen, row = [], _timing.row
    monkeypatch.setattr(cascade, "row", lambda *given: seen.append(given) or row(*given))
    monkeypatch.setattr(cascade, "timed", six_seconds)
    cascade.quantus_row(build("cpu"), torch.zeros(1, 3, 48, 48), stages=2, rounds=1)
    ((_, ours, theirs, _),) = seen
    assert (ours, theirs) == ([3.0], [2.0]), "two stages, three layers"
    assert cascade.layers_walked({"head": [0.5], "second": [0.2]}) == 2, "before 0.6"


def build(device):
    return small(kind=ModularNet).to(device)


TINY = {
    "attribution": partial(
        attribution.run, build=build, layer="second", size=16, images=1, memory=False
    ),
    "cascade": partial(cascade.run, build=build, size=48, images=1, layers=False, memory=False),
    "competition": partial(competition.run, build=build, size=16, labels=5, looped=2, memory=False),
    "metrics": partial(metrics.run, count=2, side=64, matrix=2),
    "rectgrad": partial(rectgrad.run, build=build, size=16, images=1),
    "scale": partial(scale.run, counts=(3, 2), convolved=(3, 2), processes=False),
}


def test_every_benchmark_is_tried_here():
    assert list(TINY) == entry.benchmark_names(Path(entry.__file__).parent)


@pytest.mark.parametrize("name", TINY)
def test_every_benchmark_runs(name, monkeypatch):
    # Each loop is a process.
    monkeypatch.setattr(metrics, "LOOPS", {"hog": metrics.LOOPS["hog"]})
    table = TINY[name]("cpu", True)
    assert list(table) == ["what", "ours", "theirs", "unit", "ratio", "aim", "met"]
    assert (table["ratio"] > 0).all()
    assert table["what"].is_unique
    assert len(_report.shown(table).splitlines()) == 2 + len(table)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
@pytest.mark.parametrize("name", TINY)
def test_every_benchmark_runs_on_a_gpu(name):
    with _timing.exact("cuda"):
        table = TINY[name]("cuda", True)
    assert (table["ratio"] > 0).all()


def test_peaks_of_memory_are_found():
    risen, peak = scale.memory("cpu", 4)
    assert 0 <= risen < peak


# RESULTS.md


def table(what="metric / loop", ratio=0.5, aim=1.0):
    return pd.DataFrame([_timing.row(what, [ratio], [1.0], aim), _timing.row("other", [1], [1])])


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "RESULTS.md"
    there = ["metrics", "scale"]
    for device in _timing.DEVICES:
        parts = {name: _report.block(table(f"{name} {device}"), "somewhere") for name in there}
        _report.write(parts, device, there, path)
    return path


def test_a_run_on_one_device_keeps_what_the_other_measured(path):
    before = _report.blocks_in(path.read_text())
    assert {device: list(blocks) for device, blocks in before.items()} == {
        "cpu": ["metrics", "scale"],
        "cuda": ["metrics", "scale"],
    }
    new = {"scale": _report.block(table("new"), "elsewhere")}
    _report.write(new, "cpu", ["metrics", "scale"], path)
    after = _report.blocks_in(path.read_text())
    assert after["cuda"] == before["cuda"]
    assert after["cpu"]["metrics"] == before["cpu"]["metrics"]
    assert "| new | 0.5 s | 1 s | 0.5 | 1 | yes |" in after["cpu"]["scale"]
    assert "| other | 1 s | 1 s | 1 |  |  |" in after["cpu"]["scale"]
    assert "scale cpu" not in path.read_text()


def test_writing_twice_changes_nothing_and_benchmarks_that_are_gone_go(path):
    text = path.read_text()
    same = _report.blocks_in(text)["cuda"]
    assert _report.write(same, "cuda", ["metrics", "scale"], path).read_text() == text
    _report.write(same, "cuda", ["scale"], path)
    assert "metrics" not in path.read_text()


def test_the_file_is_replaced_whole_or_stays(path, monkeypatch):
    text = path.read_text()

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "replace", full)
    with pytest.raises(OSError, match=r"RESULTS\.md"):
        _report.write({"scale": "new\n"}, "cpu", ["metrics", "scale"], path)
    assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_the_command_writes_tables_and_failures_with_what_they_were_measured_on(modules, tmp_path):
    assert entry.main(["--write", "--short", "--results", str(tmp_path)]) == 1
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.startswith("# Benchmarks")
    blocks = _report.blocks_in(text)["cpu"]
    assert list(blocks) == ["broken", "quick", "silent"]
    assert "Failed: ZeroDivisionError" in blocks["broken"]
    assert "| metric / loop |" in blocks["quick"]
    for said in (f"torch {torch.__version__}", "float32", "CPU time", "--short", "1 CPU thread"):
        assert said in blocks["quick"]
