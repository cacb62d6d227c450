"""What a map cannot see: planted maps whose shares and changes are known."""

import numpy as np
import pytest
import torch
from made.networks import draw
from saliency_sanity.probes.units import (
    Gap,
    gap,
    moved_table,
    region_table,
)
from saliency_sanity.verdict.obstacle import LEAST_IMAGES

MASK = torch.zeros(6, 8, 8, dtype=torch.bool)
MASK[:, :2] = True  # a quarter of the picture


def test_region_table_says_what_was_planted():
    uniform = torch.ones(6, 3, 8, 8)
    inside = uniform * MASK[:, None]
    half = torch.where(MASK[:, None], 3 * uniform, uniform)  # as much inside as outside
    table = region_table(
        {("a", "black"): uniform, ("b", "black"): inside, ("c", "white"): half}, MASK
    )
    rows = table.set_index(["method", "zero"])
    assert rows["value"].tolist() == pytest.approx([0.25, 1, 0.5])
    assert rows["density"].tolist() == pytest.approx([1, 4, 2])
    assert (rows["area"] == 0.25).all()
    assert rows["low"].tolist() == pytest.approx(rows["high"].tolist())
    assert (rows["images"] == 6).all()


def test_intervals_of_shares_hold_the_mean_and_shrink_with_images():
    maps = draw(60, 1, 8, 8).abs() ** 3
    mask = MASK[:1].expand(60, 8, 8)
    wide, narrow = (region_table({("a", "black"): maps[:n]}, mask[:n]).iloc[0] for n in (6, 60))
    for row in (wide, narrow):
        assert row["low"] < row["value"] < row["high"]
        assert row["density_low"] == pytest.approx(4 * row["low"])
    assert narrow["high"] - narrow["low"] < wide["high"] - wide["low"]


def test_a_map_of_zeros_has_no_share_and_is_not_counted():
    maps = torch.ones(6, 1, 8, 8)
    maps[0] = 0
    row = region_table({("a", "black"): maps}, MASK).iloc[0]
    assert row["images"] == 5
    assert row["value"] == pytest.approx(0.25)


def test_gap_is_paired():
    base = np.array([1.0, 10, 100, 1000, 10000, 100000])
    found = gap(base + 0.5, base)
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert found.verdict == "reproduced"
    assert gap(base, base + 0.5).verdict == "not reproduced"
    assert str(found) == "0.50 (0.50 to 0.50)"


def test_gap_without_a_decision():
    assert gap([1.0] * (LEAST_IMAGES - 1), [0.0] * (LEAST_IMAGES - 1)).verdict == "inconclusive"
    assert gap([1.0, -1, 1, -1, 1, -1], [0.0] * 6).verdict == "inconclusive"
    known = gap([1.0, np.nan, 1, 1, 1, 1], [0.0] * 6)
    assert (known.images, known.verdict) == (5, "reproduced")
    assert Gap(0.0, -1, 1, 10).verdict == "inconclusive"


def test_unmoved_maps_are_the_same_and_others_are_at_chance():
    maps, other = draw(8, 3, 16, 16), draw(8, 3, 16, 16, seed=1)
    rows = moved_table(
        {"kept": maps, "sign": maps, "other": maps, "lost": maps},
        {"kept": 5 * maps, "sign": -maps, "other": other},
    ).set_index("method")
    assert list(rows.index) == ["kept", "sign", "other"]
    assert rows.loc[["kept", "sign"], "kappa"].tolist() == pytest.approx([1, 1])
    assert rows.loc["other", "verdict"] == "below"


def test_only_where_the_first_map_is_not_zero_counts():
    kept = (draw(8, 1, 16, 16, seed=2) > 1).float()
    maps, other = draw(8, 1, 16, 16).abs() * kept, draw(8, 1, 16, 16, seed=1).abs() * kept
    # By all pixels the common zeros would make these nearly the same.
    assert moved_table({"a": maps}, {"a": other}).loc[0, "similarity"] == pytest.approx(0, abs=0.15)
