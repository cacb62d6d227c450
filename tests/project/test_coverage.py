"""How often intervals hold what is true: what the kept table shows, how it is made and shown."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made.places import ROOT
from saliency_sanity.book.site.coverage import (
    coverage_figure,
    findings,
    read_coverage,
    width_table,
)
from scipy import stats

from simulations.coverage import CELLS, Cell, drawn, main, simulated, standard


@pytest.fixture(scope="module")
def kept():
    return read_coverage(ROOT / "book")


def test_the_table_has_a_row_for_each_cell_and_says_what_made_it(kept):
    about, cells = kept
    assert about["runs"] >= 2000
    assert set(about) == {"runs", "seed", "date"}
    keys = cells[["kind", "pictures", "networks", "spread"]].itertuples(index=False, name=None)
    assert [Cell(*key) for key in keys] == list(CELLS)


def test_intervals_hold_what_the_page_says(kept):
    _, cells = kept
    covered = cells["covered"]
    assert covered.min() >= 0.92
    assert covered.between(0.93, 0.99).mean() >= 0.9
    assert covered.between(0.94, 0.99).all(), "a point below and four above"
    hard = (cells["kind"] == "gamma") & (cells["pictures"] <= 10)
    sides = cells[["below", "above"]]
    assert sides[~hard].max(axis=None) <= 0.05
    assert sides[hard]["below"].max() <= 0.08
    assert sides[hard]["above"].max() <= 0.025
    said = cells["excess"].notna()
    assert (said == (cells["networks"] > 2)).all()
    assert cells["excess"].min() >= 0.93


def test_what_is_found_is_that_of_the_table():
    shares = {"covered": [0.9412, 0.97], "below": [0.031, 0.01], "above": [0.0278, 0.02]}
    cells = pd.DataFrame(shares | {"networks": [2, 3], "excess": [np.nan, 0.96]})
    said = findings(cells)
    assert "94.1 to 97.0 %" in said
    assert "in at most 3.1 %" in said
    assert "in at most 2.8 %" in said
    assert "96.0 to 96.0 %, from 3 networks on" in said


def test_widths_are_as_the_page_says(kept):
    _, cells = kept
    key = ["kind", "pictures", "networks", "spread"]
    width = cells.set_index(key)["width"]
    assert width["normal", 20, 5, 0.06] <= 0.18
    for kind in ("normal", "lognormal", "gamma"):
        for pictures in (6, 10, 20, 50):
            five, two = (width[kind, pictures, networks, 0.06] for networks in (5, 2))
            assert five < two / 2


def test_the_same_seed_gives_the_same_rows_whatever_is_beside_them():
    chosen = [CELLS[0], Cell("gamma", 6, 3, 0.025)]
    both = simulated(20, 1, chosen)
    assert simulated(20, 1, chosen[1:]) == both[1:]
    assert simulated(20, 2, chosen[1:]) != both[1:]
    for row in both:
        assert row["covered"] + row["below"] + row["above"] == pytest.approx(1)


def test_draws_have_the_moments_that_are_said():
    rng = np.random.default_rng(0)
    for kind, skewness in (("normal", 0), ("lognormal", 1.75), ("gamma", 2.8)):
        values = standard(kind, rng, (400_000,))
        assert values.mean() == pytest.approx(0, abs=0.01)
        assert values.std() == pytest.approx(1, abs=0.02)
        assert stats.skew(values) == pytest.approx(skewness, abs=0.1)
    values, prior, truth, before = drawn(Cell("normal", 40, 8, 0.06), rng)
    assert (values.shape, prior.shape) == ((8, 40, 40), (7, 40, 40))
    assert truth == before == 0.1
    _, prior, truth, _ = drawn(Cell("normal", 10, 1, 0.06), rng)
    assert prior is None
    assert truth != 0.1


def test_the_command_writes_a_table_that_the_book_reads(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("simulations.coverage.CELLS", CELLS[:2])
    path = tmp_path / "coverage.json"
    assert main(["--runs", "5", "--seed", "3", "--output", str(path)]) == 0
    about, cells = read_coverage(tmp_path)
    assert (about["runs"], about["seed"], len(cells)) == (5, 3, 2)
    assert json.loads(path.read_text())["date"] == about["date"]
    assert main(["--runs", "0", "--output", str(path)]) == 2
    assert "runs must be 1 or more" in capsys.readouterr().err


def test_the_figure_has_a_point_for_each_cell_and_the_table_each_width(kept):
    about, cells = kept
    figure = coverage_figure(cells)
    low, high = figure.axes[0].get_ylim()
    points = [y for axes in figure.axes for line in axes.lines[2:] for y in line.get_ydata()]
    assert sorted(points) == sorted(cells["covered"])
    assert low < min(points)
    assert max(points) < high
    plt.close(figure)
    text = width_table(about, cells)
    rows = [line for line in text.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert len(rows) == 4
    for row in rows:
        pictures, *widths = (float(cell) for cell in row.strip("|").split("|"))
        mine = cells[(cells["kind"] == "normal") & (cells["pictures"] == pictures)]
        mine = mine[mine["spread"] != 0.025]
        assert widths == pytest.approx(mine["width"].tolist(), abs=0.005)
