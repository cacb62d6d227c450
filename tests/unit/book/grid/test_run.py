"""How Snakemake is asked to run a grid."""

import pytest
from made.grids import grid_here
from made.places import ROOT
from saliency_sanity.book.grid import run
from snakemake.cli import parse_args

PLAIN = ("--workflow-profile", "none")


@pytest.mark.parametrize(("cells", "plain"), [(2, True), (40, False)])
def test_many_cells_are_weighed_rarely_and_the_users_words_come_last(
    tmp_path, monkeypatch, cells, plain
):
    monkeypatch.chdir(tmp_path)
    run.WORKFLOW.parent.mkdir()
    run.WORKFLOW.touch()
    grid = grid_here(grid={"count": list(range(1, cells + 1))})
    asked = []
    monkeypatch.setattr(run, "plan", lambda grid, command: asked.append(command) or {})

    def command(*words: str) -> list[str]:
        run.run_grid(grid, 2, words, dry_run=True)
        return asked[-1]

    assert ("none" in command()) == plain
    assert command("--max-jobs-per-timespan", "3/1s")[-4:-2] == ["--max-jobs-per-timespan", "3/1s"]
    # A place has its own settings, and may say which of the workflow's hold.
    assert "none" in command("--profile", "place")
    mine = command("--workflow-profile", "mine")
    assert mine.index("none") < mine.index("mine")


@pytest.mark.parametrize("workflow", ["Snakefile", "grid.smk"])
def test_snakemake_finds_the_settings_of_the_workflow(workflow, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = ["--snakefile", f"workflow/{workflow}"]

    def seconds(*more: str) -> float:
        return parse_args([*words, *more])[1].max_jobs_per_timespan.timespan

    assert seconds() == seconds("--profile", "profiles/slurm") == 10
    assert seconds(*PLAIN) == seconds("--profile", "profiles/slurm", *PLAIN) == 1
    assert seconds("--max-jobs-per-timespan", "3/2s") == 2
