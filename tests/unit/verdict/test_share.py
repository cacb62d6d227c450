"""Shares of another detector's kappa: against Fieller's quadratic, by simulation, and in words."""

import numpy as np
import pandas as pd
import pytest
from saliency_sanity.verdict.interval import Estimate
from saliency_sanity.verdict.obstacle import Obstacle
from saliency_sanity.verdict.reading import read, table
from saliency_sanity.verdict.robustness import (
    LINES,
    at_level,
    at_line,
    at_margin,
    held_against,
    robustness,
)
from saliency_sanity.verdict.share import _limits, read_share
from saliency_sanity.verdict.wording import EDGE_WORDS, said, share_text, summary, why
from scipy import stats


def square(own: np.ndarray, seed: int = 0, spread: float = 0.01) -> np.ndarray:
    """Similarities with these on the diagonal, [R,N] or [N], and nothing but noise beside it."""
    own = np.atleast_2d(own)
    noise = spread * np.random.default_rng((seed, 1)).standard_normal((*own.shape, own.shape[1]))
    places = np.arange(own.shape[1])
    noise[:, places, places] = own
    return noise


def drawn(seed: int, share: float, images: int = 12, skewed: bool = False) -> tuple:
    """Own similarities of a map and a detector whose means are 0.3 times the share and 0.3."""
    rng = np.random.default_rng(seed)
    shared, mine, other = (
        rng.gamma(1.5, size=images) / 1.5 - 1 if skewed else rng.standard_normal(images)
        for _ in range(3)
    )
    return 0.3 * share + 0.06 * (shared + mine), 0.3 + 0.05 * (shared + other)


@pytest.mark.parametrize("share", [-0.4, 0.3, 1.2])
def test_limits_are_fiellers_roots_where_nothing_is_skewed(share):
    rng = np.random.default_rng(1)
    half = rng.standard_normal((2, 7)) @ np.diag(np.linspace(0.5, 1.5, 7))
    own, whole = np.concatenate([half, -half], axis=1) / 100
    a, b, n = 0.3 * share, 0.3, own.size

    def made(value: float, adds: np.ndarray) -> Estimate:
        return Estimate.of(value, adds[None], np.ones((1, n), dtype=bool))

    t = stats.t.ppf(0.975, n - 1)
    v, w, c = (n / (n - 1) * float(p @ q) for p, q in ((own, own), (whole, whole), (own, whole)))
    roots = np.roots([b**2 - t**2 * w, 2 * (t**2 * c - a * b), a**2 - t**2 * v])
    assert _limits(made(a, own), made(b, whole), 0.95) == pytest.approx(sorted(roots.real))


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_interval_holds_the_true_share_about_as_often_as_it_says(skewed, share):
    rounds = 250
    held = 0
    for seed in range(rounds):
        own, whole = drawn(seed, share, skewed=skewed)
        found = read_share(square(own, seed), square(whole, seed + rounds))
        held += found.share_low <= share <= found.share_high
    assert 0.91 < held / rounds <= 0.99


def test_at_the_line_wrong_verdicts_are_rare_on_either_side():
    verdicts = [
        read_share(square(own, seed), square(whole, seed + 500)).verdict
        for seed in range(200)
        for own, whole in [drawn(seed, 0.5)]
    ]
    assert verdicts.count("above") <= 12
    assert verdicts.count("below") <= 12
    assert verdicts.count("inconclusive") > 170


def test_a_map_that_is_always_so_much_of_the_detector_has_that_share_exactly():
    _, whole = drawn(0, 1)
    detector = square(whole, spread=0)
    for share in (0.2, 1.0, 2.5):
        found = read_share(share * detector, detector)
        assert (found.share, found.share_low, found.share_high) == pytest.approx((share,) * 3)
        assert found.verdict == ("below" if share < 0.5 else "above")
        assert (found.kappa, found.ceiling) == pytest.approx((share * whole.mean(), whole.mean()))


def test_pairing_tells_what_two_separate_intervals_would_not():
    rng = np.random.default_rng(0)
    whole = 0.3 + 0.12 * rng.standard_normal(12)
    own = 0.62 * whole + 0.01 * rng.standard_normal(12)
    found = read_share(square(own), square(whole, 1))
    assert found.low < 0.5 * found.ceiling_high, "the two intervals overlap"
    assert found.verdict == "above"


def test_one_draw_of_the_detector_serves_every_network():
    rng = np.random.default_rng(0)
    networks = 0.1 + 0.03 * rng.standard_normal((4, 10)) + 0.04 * rng.standard_normal((4, 1))
    detector = square(0.3 + 0.03 * rng.standard_normal(10), 1)
    once = read_share(square(networks), detector)
    again = read_share(square(networks), np.repeat(detector, 4, axis=0))
    assert once.share_low == pytest.approx(again.share_low)
    alone = read_share(square(networks.mean(0)), detector)
    assert once.share_high - once.share_low > alone.share_high - alone.share_low
    with pytest.raises(ValueError, match="same images"):
        read_share(square(networks), detector[:, :9, :9])
    with pytest.raises(ValueError, match="line is 0"):
        read_share(square(networks), detector, line=0)


def test_where_the_detector_is_not_clearly_like_its_fellow_nobody_can_tell():
    own, _ = drawn(0, 0.1)
    weak = np.linspace(-0.1, 0.4, 12)  # 0.15, and the interval holds the margin
    found = read_share(square(own), square(weak, 1))
    row = found.row()
    assert (found.verdict, found.obstacle) == ("cannot tell", Obstacle.UNCLEAR_CEILING)
    assert np.isnan(found.p)
    assert why(row).startswith("the kappa of Canny's own edges is 0.15 (")
    assert why(row).endswith("), not clearly above the margin 0.1")
    assert said(row, EDGE_WORDS).startswith("cannot tell: the kappa of Canny's")
    nothing = read_share(square(own), square(np.linspace(-0.3, 0.3, 12), 1))
    assert np.isnan([nothing.share, nothing.share_low, nothing.share_high]).all()
    assert share_text(nothing.row()) == "–"
    none = read_share(square(own), np.full((12, 12), np.nan))  # not an edge in any picture
    assert none.verdict == "cannot tell"
    assert why(none.row()) == (
        "the kappa of Canny's own edges is undefined, not clearly above the margin 0.1"
    )


def test_what_keeps_every_reading_open_keeps_a_share_open():
    few = read_share(square(np.full(4, 0.3)), square(np.full(4, 0.3), 1))
    assert (few.verdict, few.obstacle) == ("inconclusive", Obstacle.FEW_IMAGES)
    assert np.isnan(few.share)
    same = read_share(np.full((1, 8, 8), 0.99), square(np.full(8, 0.3)))
    assert (same.verdict, same.obstacle) == ("inconclusive", Obstacle.NO_ROOM)


@pytest.mark.parametrize(("kept", "verdict"), [(8, "inconclusive"), (28, "above")])
def test_a_share_stays_above_its_line_with_maps_that_vanished_counted_as_no_edges(kept, verdict):
    own, whole = square(np.full(30, 0.4)), square(np.full(30, 0.4), 1)
    own[..., np.arange(kept, 30), :] = np.nan
    found = read_share(own, whole)
    row = found.row()
    assert found.share_low > found.share_line
    assert found.share_sure_low < found.share_low
    assert (found.verdict, found.share_sure_low > 0.5) == (verdict, verdict == "above")
    if kept == 8:
        assert found.obstacle is Obstacle.VANISHED
        assert why(row).startswith(
            "22 maps have no similarity, and counted as changed they may take the share"
        )
    frame = at_line(table({"x": found}), 0.05)
    assert (frame["verdict"].item(), frame["obstacle"].item()) == ("above", "")
    frame = at_line(frame, 0.5)
    assert (frame["verdict"].item(), frame["obstacle"].item()) == (verdict, row["obstacle"])


def test_a_reading_without_a_detector_is_the_same_but_for_its_verdict():
    own, whole = drawn(3, 0.5)
    found, plain = read_share(square(own), square(whole, 1)), read(square(own))
    for name in ("similarity", "chance", "kappa", "low", "high", "images", "seeds", "margin"):
        assert getattr(found, name) == getattr(plain, name)
    assert str(found).endswith(f"share of Canny's kappa {share_text(found.row())}")


@pytest.fixture(scope="module")
def squares():
    made = {
        f"m{seed}": drawn(seed, share)[0] for seed, share in enumerate(np.linspace(-0.2, 1.2, 12))
    }
    return {name: square(own, 7) for name, own in made.items()}, square(drawn(0, 1)[1], 8)


def readings(squares, **more) -> pd.DataFrame:
    maps, detector = squares
    found = {(name, "hog"): read_share(own, detector, **more) for name, own in maps.items()}
    return table(found, index=("method", "metric"))


def test_other_lines_margins_and_levels_judge_as_reading_anew_does(squares):
    found = readings(squares)
    assert set(found["verdict"]) == {"above", "below", "inconclusive"}
    columns = ["verdict", "obstacle"]
    for line in (*LINES, 0.9):
        anew = readings(squares, line=line)
        pd.testing.assert_frame_equal(at_line(found, line)[columns], anew[columns])
    for margin in (0.05, 0.2, 0.29):
        anew = readings(squares, margin=margin)
        pd.testing.assert_frame_equal(held_against(found, margin, 0.05)[columns], anew[columns])
    assert set(at_margin(found, 0.29)["verdict"]) == {"cannot tell"}
    for level in (0.2, 0.05, 0.01, 0.001):
        stays = readings(squares, confidence=1 - level)["verdict"]
        kept = at_level(found, level)["verdict"]
        decided = found["verdict"] != "inconclusive"
        assert kept[decided].tolist() == stays[decided].tolist()


def test_tables_have_a_column_for_the_share_and_count_other_lines(squares):
    found = readings(squares)
    html = summary(found, "hog", words=EDGE_WORDS).to_html()
    assert "share of Canny's" in html or "share of Canny&#x27;s" in html
    text = robustness(found)
    quarter, most = (
        (at_line(found, line)["verdict"] != found["verdict"]).sum() for line in (0.25, 0.75)
    )
    assert quarter
    assert most
    assert text.endswith(
        f"that another line would change: {quarter} with 0.25 and {most} with 0.75."
    )
    row = found[found["verdict"] == "inconclusive"].iloc[0]
    held = f"{row['share_low']:.2f} to {row['share_high']:.2f}, includes 0.5"
    assert why(row) == f"the interval of its share of Canny's kappa, {held}"
