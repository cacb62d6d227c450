"""What is printed of a number is on its side of the line."""

import math

import numpy as np
import pytest
from saliency_sanity.verdict.reading import read, table
from saliency_sanity.verdict.robustness import robustness
from saliency_sanity.verdict.wording import cross_table, kappa_text, rounded


@pytest.mark.parametrize(
    ("value", "line", "shown"),
    [
        (0.104, 0.1, "0.104"),
        (0.0962, 0.1, "0.096"),
        (0.09996, 0.1, "0.1000"),  # at most four
        (0.10004, 0.1, "0.1000"),
        (0.1, 0.1, "0.10"),
        (0.106, 0.1, "0.11"),
        (0.094, 0.1, "0.09"),
        (0.052, 0.05, "0.052"),
        (-0.004, 0.1, "0.00"),
        (0.104, math.nan, "0.10"),
        (math.nan, 0.1, "–"),
    ],
)
def test_decimals_are_added_until_the_side_is_told(value, line, shown):
    assert rounded(value, line) == shown


def test_printed_numbers_never_contradict_the_line():
    for value in np.random.default_rng(0).uniform(0, 0.2, 500):
        shown = float(rounded(value, 0.1))
        if abs(value - 0.1) > 5e-5:
            assert (shown > 0.1) == (value > 0.1)
            assert (shown < 0.1) == (value < 0.1)


def test_two_rows_alike_with_other_verdicts_are_told_apart():
    above = {"kappa": 0.16, "low": 0.1034, "high": 0.22, "margin": 0.1}
    open_ = above | {"low": 0.0981}
    assert kappa_text(above) == "0.16 (0.103 to 0.22)"
    assert kappa_text(open_) == "0.16 (0.098 to 0.22)"
    assert (
        kappa_text({key: above[key] for key in ("kappa", "low", "high")}) == "0.16 (0.10 to 0.22)"
    )


def test_below_a_cross_table_stands_how_many_of_its_verdicts_stay():
    rng = np.random.default_rng(0)
    keys = [(method, metric) for method in "ab" for metric in "xyz"]
    levels = dict(zip(keys, (0.0, 0.1, 0.12, 0.3, 0.5, 0.9), strict=True))
    made = {
        key: read(level * np.eye(8) + 0.05 * rng.standard_normal((3, 8, 8)))
        for key, level in levels.items()
    }
    rows = table(made, index=("method", "metric"))
    shown = cross_table(rows, "method", "metric")
    assert shown.data.shape == (2, 3)
    assert shown.caption == robustness(rows)
    assert " when all verdicts of this table are tested together" in shown.caption
