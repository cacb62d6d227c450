"""Values held against a line: rows that the scoreboard reads."""

import numpy as np
import pytest
from saliency_sanity.book.chapters.measured import measured
from saliency_sanity.book.scoreboard.columns import CRITICS
from saliency_sanity.book.scoreboard.table import score
from saliency_sanity.verdict.interval import interval


def values(mean, images=12, networks=4):
    random = np.random.default_rng(0)
    return mean + 0.1 * random.standard_normal((networks, images))


@pytest.mark.parametrize(
    ("given", "verdict", "obstacle"),
    [
        (values(0.5), "above", ""),
        (values(-0.5), "below", ""),
        (values(0.0), "inconclusive", "line_inside"),
        (values(0.5, images=4), "inconclusive", "few_images"),
        (np.full((4, 12), np.nan), "inconclusive", "few_images"),
    ],
)
def test_an_interval_lies_above_or_below_or_holds_the_line(given, verdict, obstacle):
    (row,) = measured({"gradient": given}, "moves", 0.0).to_dict("records")
    assert (row["verdict"], row["obstacle"]) == (verdict, obstacle)
    assert np.allclose([row["kappa"], row["low"], row["high"]], interval(given), equal_nan=True)


def test_limits_end_where_values_do():
    (row,) = measured({"gradient": values(0.98)}, "moves", 0.0, most=1.0).to_dict("records")
    assert row["high"] == 1.0
    assert row["low"] < row["kappa"] < 1.0


@pytest.mark.parametrize("check", CRITICS, ids=lambda check: check.key)
def test_the_scoreboard_has_words_for_it(check):
    found = {"gradient": values(check.line + 0.4), "noise": values(check.line - 0.4)}
    found["input"] = values(check.line)
    rows = score(check, measured(found, check.metric, check.line), check.source)
    above, below, open_ = rows.to_dict("records")
    assert (above["words"], below["words"]) == (check.words["above"], check.words["below"])
    assert above["standing"] == ("neutral" if not check.wanted else check.standing("above"))
    assert open_["standing"] == "open"
    assert f"includes {check.line:g}" in open_["words"]
