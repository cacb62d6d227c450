import pandas as pd
import pytest
import torch
from saliency_sanity.book.chapters.competition.removal import areas, removal_table


def test_a_random_order_stands_beside_the_maps_and_ends_are_the_same(small_net):
    x = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    target = small_net.predict(x)
    found = removal_table(small_net, x, target, {"own": x}, [0.0, 0.5, 1.0])
    assert found["method"].unique().tolist() == ["own", "random_order"]
    assert len(found) == 2 * 2 * 3
    ends = found.pivot(index="share", columns=["way", "method"], values="value")
    # Nothing deleted is all inserted, whatever the order is.
    assert ends.loc[0.0, "deleted"].to_numpy() == pytest.approx(
        ends.loc[1.0, "inserted"].to_numpy()
    )
    assert ends.loc[0.0, "deleted"].nunique() == ends.loc[1.0, "deleted"].nunique() == 1
    assert (found["low"] <= found["high"]).all()


def test_the_area_of_a_straight_line():
    rows = [
        ("own", way, share, share * end)
        for way, end in (("deleted", 1), ("inserted", 0.5))
        for share in (0.0, 0.25, 1.0)
    ]
    found = areas(pd.DataFrame(rows, columns=["method", "way", "share", "value"]))
    assert found.loc["own"].to_dict() == {
        "deleted": pytest.approx(0.5),
        "inserted": pytest.approx(0.25),
    }
