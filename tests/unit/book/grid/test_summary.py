"""The summary of a grid: whose rows these are, and which cells are not in it."""

import pandas as pd
import pytest
from made.grids import grid_here
from saliency_sanity._files import write_json
from saliency_sanity.book.grid.spec import Grid
from saliency_sanity.book.grid.summary import gather, write_summary


@pytest.fixture
def grid(tmp_path, monkeypatch) -> Grid:
    monkeypatch.chdir(tmp_path)
    return grid_here(grid={"count": [1, 2]}, cases={"a": {"sizes": [5]}, "b": {"rate": 2}})


def done(grid: Grid, tables: dict[str, pd.DataFrame], **changed) -> None:
    """Let every cell have run, and written these tables with its number added to each value."""
    for number, cell in enumerate(grid.cells):
        record = grid.path("record", cell.name)
        record.parent.mkdir(parents=True, exist_ok=True)
        write_json({"parameters": {**cell.values, "results": "x", **changed}}, record)
        folder = grid.path("results", cell.name) / "tables"
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            table.assign(value=table["value"] + number).to_parquet(folder / f"{name}.parquet")


TABLE = pd.DataFrame({"method": ["gradient", "noise"], "value": [0.1, 0.2]})


def test_every_row_says_whose_it_is(grid):
    done(grid, {"one": TABLE})
    table, without = gather(grid, grid.cells)
    assert without == {}
    assert list(table.columns) == ["cell", "case", "count", "sizes", "rate", "method", "value"]
    assert len(table) == 8
    row = table.iloc[5]
    assert tuple(row[:-1]) == ("one-b-count=1", "b", 1, "[1, 2]", 2.0, "noise")
    assert row["value"] == pytest.approx(0.2 + 2)
    assert table["sizes"].tolist() == ["[5]"] * 4 + ["[1, 2]"] * 4


def test_a_column_of_the_notebook_keeps_its_name(grid):
    """How many seeds there were is a column of readings, and a parameter."""
    done(grid, {"one": TABLE.assign(count=[7, 8])})
    table, _ = gather(grid, grid.cells)
    assert table["count"].tolist() == [7, 8] * 4
    assert table["parameter_count"].tolist() == [1, 1, 2, 2] * 2


def test_readings_go_before_single_measurements(grid):
    done(grid, {"one": TABLE.assign(image=0), "one-readings": TABLE})
    table, without = gather(grid, grid.cells)
    assert "image" not in table
    assert (len(table), without) == (8, {})


def test_a_cell_without_a_table_is_named(grid):
    done(grid, {"one": TABLE})
    first, second = grid.cells[:2]
    for path in grid.path("results", first.name).rglob("*.parquet"):
        path.unlink()
    TABLE.to_parquet(grid.path("results", second.name) / "tables" / "two.parquet")
    table, without = gather(grid, grid.cells)
    assert set(table["cell"]) == {cell.name for cell in grid.cells[2:]}
    assert "none; one, or one that ends in -readings" in without[first.name]
    assert "one.parquet, two.parquet; one" in without[second.name]


def test_results_of_other_parameters_are_not_taken(grid):
    """Snakemake forgets what it made where its folder is deleted."""
    done(grid, {"one": TABLE}, rate=0.75)
    table, without = gather(grid, grid.cells)
    assert table.empty
    assert len(without) == 4
    assert all("made with other parameters" in reason for reason in without.values())


def test_cells_with_unlike_tables_fit_together(grid):
    """A network has no prior, a stage no obstacle: then a whole column is missing or empty."""
    done(grid, {"one": TABLE})
    other = TABLE.assign(prior=[0.5, float("nan")], value=[1.0, 2.0])
    other.to_parquet(grid.path("results", grid.cells[0].name) / "tables" / "one.parquet")
    empty = TABLE.assign(prior=float("nan"))
    empty.to_parquet(grid.path("results", grid.cells[1].name) / "tables" / "one.parquet")
    table, _ = gather(grid, grid.cells)
    assert table["prior"].notna().sum() == 1
    assert len(table) == 8


def test_both_files_hold_the_same_and_are_the_same_again(grid):
    done(grid, {"one": TABLE})
    table, _ = gather(grid, grid.cells)
    parquet, text = write_summary(grid, table)
    assert (parquet.name, text.name) == ("summary.parquet", "summary.csv")
    kept = parquet.read_bytes(), text.read_bytes()
    pd.testing.assert_frame_equal(pd.read_parquet(parquet), table)
    pd.testing.assert_frame_equal(pd.read_csv(text), table, check_dtype=False)
    write_summary(grid, gather(grid, grid.cells)[0])
    assert (parquet.read_bytes(), text.read_bytes()) == kept
    assert write_summary(grid, table.iloc[:0]) == []
    assert not parquet.exists(), "a summary of nothing would be an earlier one"
    assert not text.exists()
