"""How Snakemake is asked to run a grid."""

import pytest
from made.grids import grid_here
from saliency_sanity.book.grid import run

RARELY = "1000/10s"


@pytest.mark.parametrize(("cells", "rarely"), [(2, False), (40, True)])
def test_many_cells_are_weighed_rarely_and_the_users_words_come_last(
    tmp_path, monkeypatch, cells, rarely
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

    assert (RARELY in command()) == rarely
    mine = command("--max-jobs-per-timespan", "3/1s")
    assert "3/1s" in mine
    assert not rarely or mine.index(RARELY) < mine.index("3/1s")
    assert RARELY not in command("--profile", "place")
