import math

import numpy as np
import pandas as pd
import pytest
import torch
from saliency_sanity.similarity.metrics import metric
from saliency_sanity.verdict.interval import interval
from saliency_sanity.verdict.obstacle import Note, NoteKind, Obstacle
from saliency_sanity.verdict.reading import Cascade, by_image, cascade, read, table
from saliency_sanity.verdict.robustness import at_margin
from saliency_sanity.verdict.wording import EDGE_WORDS, reasons, why


def population(seed, *, images=20, seeds=4, kappa=0.3, chance=0.2, between_seeds=0.02):
    """Similarities [R,N,N] of a population with this kappa, noisy in images, seeds and pairs."""
    rng = np.random.default_rng(seed)
    values = chance + 0.05 * rng.normal(size=(seeds, images, images))
    i = np.arange(images)
    values[:, i, i] = (
        chance
        + kappa * (1 - chance)
        + 0.08 * rng.normal(size=images)
        + between_seeds * rng.normal(size=(seeds, 1))
        + 0.05 * rng.normal(size=(seeds, images))
    )
    return values


def fields(reading):
    return np.array([x for x in reading.row().values() if not isinstance(x, str)], float)


def noise(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_means_and_kappa_by_hand():
    values = np.array([[[0.9, 0.1, 0.3], [0.2, 0.8, 0.0], [0.2, 0.4, 0.7]]])
    reading = read(values)
    assert reading.similarity == pytest.approx(0.8)
    assert reading.chance == pytest.approx(0.2)
    assert reading.kappa == pytest.approx(0.75)
    assert (reading.images, reading.seeds) == (3, 1)
    np.testing.assert_allclose([reading.chance_low, reading.chance_high], [0.105, 0.295])


def test_where_every_picture_says_the_same_nothing_is_uncertain():
    values = np.full((3, 8, 8), 0.2)
    values[:, np.arange(8), np.arange(8)] = 0.9
    reading = read(values)
    np.testing.assert_allclose([reading.kappa, reading.low, reading.high], 0.875, rtol=1e-12)


def test_with_one_chance_for_all_both_intervals_are_the_same_interval():
    values = population(0)
    values[:, ~np.eye(20, dtype=bool)] = 0.2
    reading = read(values)
    assert reading.similarity_low < reading.similarity < reading.similarity_high
    ours = [reading.similarity_low, reading.similarity_high]
    np.testing.assert_allclose(ours, 0.2 + 0.8 * np.array([reading.low, reading.high]), rtol=1e-12)


def test_the_interval_of_the_similarity_is_that_of_the_diagonal_alone():
    values = population(0)
    reading = read(values)
    own = np.diagonal(values, axis1=1, axis2=2)
    ours = (reading.similarity, reading.similarity_low, reading.similarity_high)
    assert ours == interval(own)
    # What lies off the diagonal is no part of it, whatever it does to kappa.
    values[:, ~np.eye(20, dtype=bool)] = 0.6
    other = read(values)
    assert (other.similarity, other.similarity_low, other.similarity_high) == ours
    assert other.low != reading.low


def test_identical_maps_are_picture_driven():
    maps = noise(8, 1, 20, 20, seed=0)
    reading = read(torch.stack([metric("spearman_abs").matrix(maps, maps)] * 2))
    assert reading.kappa == pytest.approx(1)
    assert reading.verdict == "above"
    assert reading.words() == "picture-driven"
    assert reading.words(EDGE_WORDS) == "edge-like"


def test_independent_noise_responds():
    first = noise(12, 1, 30, 30, seed=0)
    values = torch.stack(
        [metric("spearman_abs").matrix(first, noise(12, 1, 30, 30, seed=s)) for s in (1, 2, 3)]
    )
    reading = read(values)
    assert abs(reading.kappa) < 0.03
    assert reading.low < 0 < reading.high
    assert reading.words() == "responds"
    assert reading.words(EDGE_WORDS) == "not edge-like"


def test_noise_times_pictures_is_picture_driven_and_the_prior_explains_it():
    keep = torch.rand(12, 1, 30, 30, generator=torch.Generator().manual_seed(9)) < 0.3
    x = noise(12, 1, 30, 30, seed=8).abs() * keep

    def against(first, seeds):
        matrix = metric("spearman_abs", "paper").matrix
        return torch.stack([matrix(x * first, x * noise(12, 1, 30, 30, seed=s)) for s in seeds])

    trained = against(noise(12, 1, 30, 30, seed=0), (1, 2, 3))
    prior = against(noise(12, 1, 30, 30, seed=4), (5, 6, 7))
    reading = read(trained, prior)
    assert reading.similarity > 0.9
    assert reading.verdict == "above"
    assert reading.explained_by_prior
    assert reading.words() == "picture-driven; input and architecture explain it"
    assert reading.prior_kappa == pytest.approx(reading.kappa, abs=0.05)
    assert reading.excess == pytest.approx(reading.kappa - reading.prior_kappa)
    # A prior in which nothing is left of the picture explains nothing.
    nothing = read(trained, population(0, images=12, kappa=0.0))
    assert not nothing.explained_by_prior
    assert nothing.words() == "picture-driven"
    assert not read(trained).explained_by_prior


def test_a_template_shared_by_all_pictures_is_inconclusive():
    template = noise(1, 1, 30, 30, seed=0)
    maps = template + 1e-3 * noise(10, 1, 30, 30, seed=1)
    reading = read(metric("spearman_signed", "paper").matrix(maps, maps))
    assert reading.similarity == pytest.approx(1)
    assert reading.verdict == "inconclusive"
    assert reading.obstacle is Obstacle.NO_ROOM
    assert "chance is" in why(reading.row())
    assert "inconclusive (chance is" in reading.words()


def test_chance_of_exactly_one_is_no_infinity():
    reading = read(np.ones((2, 6, 6)))
    assert reading.verdict == "inconclusive"
    assert math.isnan(reading.kappa)
    assert not np.isinf(fields(reading)).any()


@pytest.mark.parametrize("images", [1, 2, 4])
def test_too_few_images_are_inconclusive(images):
    values = np.full((3, images, images), 0.1)
    values[:, np.arange(images), np.arange(images)] = 1.0
    reading = read(values)
    assert reading.verdict == "inconclusive"
    assert reading.obstacle is Obstacle.FEW_IMAGES
    assert (
        why(reading.row())
        == f"too few images: {images} with a defined similarity, where 5 are needed"
    )
    assert not np.isinf(fields(reading)).any()


def test_wide_interval_is_inconclusive_and_says_so():
    reading = read(population(0, images=6, kappa=0.1))
    assert reading.low < 0.1 < reading.high
    assert reading.words() == "inconclusive (the interval includes the margin 0.1)"


def test_both_intervals_hold_what_is_true_and_are_as_wide_as_estimates_vary():
    readings = [read(population(k)) for k in range(200)]
    coverage = np.mean([r.low <= 0.3 <= r.high for r in readings])
    assert 0.91 <= coverage < 1
    # The similarity itself is known likewise: 0.2 + 0.3 (1 - 0.2).
    coverage = np.mean([r.similarity_low <= 0.44 <= r.similarity_high for r in readings])
    assert 0.91 <= coverage < 1
    # The width is that of the estimates, not of the population.
    spread = np.std([r.kappa for r in readings])
    width = np.mean([r.high - r.low for r in readings])
    assert 0.9 < width / (2 * 1.96 * spread) < 1.5


def test_networks_vary_too():
    # Images agree, networks do not.
    values = np.full((5, 20, 20), 0.2)
    i = np.arange(20)
    values[:, i, i] = np.array([0.5, 0.6, 0.7, 0.8, 0.9])[:, None]
    many = read(values)
    assert many.high - many.low > 0.3
    one = read(values.mean(axis=0))
    assert one.high - one.low < 1e-9
    assert one.kappa == pytest.approx(many.kappa)
    assert (one.obstacle, one.notes) == (None, (Note(NoteKind.ONE_NETWORK),))
    assert reasons(one.row()) == "one seed: the interval is for this network"
    assert (many.obstacle, many.notes, reasons(many.row())) == (None, (), "")


def test_nothing_is_drawn_and_the_prior_does_not_disturb_a_reading():
    values, prior = population(0), population(1)
    np.random.seed(0)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    alone, beside = read(values), read(values, prior)
    np.testing.assert_array_equal(fields(read(values, prior)), fields(beside))
    assert (alone.low, alone.high) == (beside.low, beside.high)
    assert np.random.random() == expected  # noqa: NPY002


def test_a_prior_of_the_same_networks_is_the_closer_known():
    values = population(0, seeds=5, kappa=0.9, between_seeds=0.1)
    prior = values - 0.3 * np.eye(20)
    apart, same = read(values, prior), read(values, prior, paired=True)
    assert same.excess == apart.excess
    assert same.excess_high - same.excess_low < 0.3 * (apart.excess_high - apart.excess_low)
    assert same.prior_high - same.prior_low < apart.prior_high - apart.prior_low
    with pytest.raises(ValueError, match="4 networks in the prior cannot be the 5 read"):
        read(values, prior[:4], paired=True)


@pytest.mark.parametrize(("seeds", "pairs", "said"), [(3, 2, True), (2, 2, False), (3, 1, False)])
def test_of_few_networks_it_is_not_said_that_the_prior_explains(seeds, pairs, said):
    own, prior = population(0, seeds=2, kappa=0.9)
    reading = read(np.tile(own, (seeds, 1, 1)), np.tile(prior, (pairs, 1, 1)))
    assert reading.verdict == "above"
    assert reading.excess_high < reading.margin
    assert reading.explained_by_prior is said
    assert ("explain" in reading.words()) is said


def test_one_network_may_leave_out_its_axis():
    values = population(0, seeds=1)
    np.testing.assert_array_equal(fields(read(values)), fields(read(values[0])))
    np.testing.assert_array_equal(fields(read(values)), fields(read(torch.from_numpy(values))))


def test_undefined_entries_are_left_out_and_counted():
    values = population(0)
    values[0, 3, 3] = np.nan
    values[1, 2, 5] = np.nan
    values[2, 2, 6] = np.inf
    reading = read(values)
    assert (reading.undefined_diagonal, reading.undefined_off_diagonal) == (1, 2)
    off = ~np.eye(20, dtype=bool)[None] & np.isfinite(values)
    assert reading.chance == pytest.approx(values[off].mean())
    diagonal = np.diagonal(values, axis1=1, axis2=2)
    assert reading.similarity == pytest.approx(np.nanmean(diagonal))
    assert reading.images == 20


def test_an_image_without_any_map_is_as_if_it_were_not_there():
    values = population(0, images=12)
    values[:, 4] = values[:, :, 4] = np.nan
    without = np.delete(np.delete(values, 4, axis=1), 4, axis=2)
    ours, expected = read(values), read(without)
    assert ours.images == expected.images == 11
    for name in ("similarity", "chance", "kappa", "low", "high", "chance_low", "chance_high"):
        assert getattr(ours, name) == pytest.approx(getattr(expected, name), rel=1e-12)


def test_nothing_defined_is_inconclusive():
    for values in (np.full((2, 8, 8), np.nan), np.where(np.eye(8), 0.5, np.nan)):
        reading = read(values)
        assert reading.verdict == "inconclusive"
        assert reading.obstacle
        assert why(reading.row())
        assert math.isnan(reading.kappa)
    assert (reading.similarity, reading.similarity_low, reading.similarity_high) == (0.5, 0.5, 0.5)
    nothing = read(np.full((2, 8, 8), np.nan))
    assert math.isnan(nothing.similarity_low)
    assert math.isnan(nothing.similarity_high)


def test_few_defined_among_many_are_too_few():
    values = population(0, images=20, kappa=1.0)
    values[:, np.arange(3, 20), np.arange(3, 20)] = np.nan
    reading = read(values)
    assert (reading.obstacle, reading.notes) == (
        Obstacle.FEW_IMAGES,
        (Note(NoteKind.OF_IMAGES, 20),),
    )
    assert (
        why(reading.row())
        == "too few images: 3 of 20 with a defined similarity, where 5 are needed"
    )


@pytest.mark.parametrize("kept", [6, 20, 38])
def test_what_stays_above_stays_so_with_maps_that_vanished_counted_as_changed(kept):
    values = population(0, seeds=2, images=40, kappa=0.9)
    values[:, :, kept:] = np.nan
    reading = read(values)
    filled = values.copy()
    filled[:, np.arange(kept, 40), np.arange(kept, 40)] = reading.chance
    expected = read(filled)
    assert reading.kappa == pytest.approx(expected.kappa * 40 / kept)
    assert reading.sure_low == pytest.approx(expected.low)
    assert reading.sure_low < reading.low
    assert (reading.images, reading.undefined_diagonal) == (kept, 2 * (40 - kept))
    # Of the maps that are left, all is clear; of all pictures only if enough are left.
    assert reading.low > 0.1
    assert reading.p >= expected.p
    assert (reading.verdict == "above") == (expected.low > 0.1) == (kept > 6)
    again = at_margin(table({"x": reading}), 0.05).iloc[0]
    other = read(values, margin=0.05)
    assert (again["verdict"], again["obstacle"]) == (other.verdict, other.row()["obstacle"])


def test_a_map_that_vanished_takes_nothing_from_what_lies_below():
    values = population(0, images=20, kappa=0.0)
    own = read(values)
    values[:, :, 12:] = np.nan
    assert own.verdict == read(values).verdict == "below"
    assert own.sure_low == own.low


def test_settings_move_the_verdict():
    values = population(0, kappa=0.3)
    assert read(values, margin=0.1).verdict == "above"
    assert read(values, margin=0.6).verdict == "below"
    narrow, wide = read(values, confidence=0.5), read(values, confidence=0.99)
    assert narrow.high - narrow.low < wide.high - wide.low


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.zeros((2, 3, 4)), {}, r"similarity has shape \(2, 3, 4\)"),
        (np.zeros(3), {}, r"similarity has shape \(3,\)"),
        (np.zeros((2, 6, 6)), {"prior": np.zeros((2, 5, 5))}, r"prior has shape \(2, 5, 5\)"),
        (np.zeros((6, 6)), {"margin": 0}, "margin is 0"),
        (np.zeros((6, 6)), {"confidence": 95}, "confidence is 95"),
    ],
)
def test_bad_input_is_named(values, options, message):
    with pytest.raises(ValueError, match=message):
        read(values, **options)


def test_table_has_a_row_for_each_reading():
    readings = {("gradient", "ssim"): read(population(0)), ("input", "hog"): read(population(1))}
    frame = table(readings, index=("method", "metric"))
    assert frame[["method", "metric"]].to_numpy().tolist() == [list(key) for key in readings]
    for row, reading in zip(frame.to_dict("records"), readings.values(), strict=True):
        assert row["words"] == reading.words()
        assert row["kappa"] == reading.kappa
    assert table({"gradient": read(population(0))})["what"].tolist() == ["gradient"]
    with pytest.raises(ValueError, match="2 parts for 1 names"):
        table(readings, index="method")


def test_cascade_has_an_area_and_a_first_stage():
    curve = {
        name: read(population(k, kappa=kappa))
        for k, (name, kappa) in enumerate({"none": 1.0, "top": 0.6, "all": 0.0}.items())
    }
    summary = cascade(curve)
    kappas = [reading.kappa for reading in curve.values()]
    assert summary.area == pytest.approx((kappas[0] / 2 + kappas[1] + kappas[2] / 2) / 2)
    assert summary.first_below == "all"
    stays = {str(k): read(population(k, kappa=1.0)) for k in range(3)}
    assert cascade(stays).first_below is None
    assert cascade(stays) == Cascade(pytest.approx(1, abs=0.05), None)
    with pytest.raises(ValueError, match="two stages"):
        cascade({"none": curve["none"]})


def test_a_reading_prints_as_one_line_with_everything_that_decides():
    same = read(torch.eye(6, dtype=torch.float64))
    assert str(same) == (
        "similarity 1.00, chance 0.00, kappa 1.00 (1.00 to 1.00): above the margin 0.1"
    )
    few = str(read(torch.eye(3, dtype=torch.float64)))
    assert "inconclusive (too few images" in few


def in_groups(square, size):
    """The rows [R,N,P] of a square [R,N,N], one entry at a time."""
    seeds, images = square.shape[:2]
    rows = np.full((seeds, images, size), np.nan)
    for i in range(images):
        for j in range(images):
            if i // size == j // size:
                rows[:, i, j % size] = square[:, i, j]
    return rows


def masked(square, size):
    """The same with what lies in two groups undefined."""
    group = np.arange(square.shape[1]) // size
    return np.where(group[:, None] == group, square, np.nan)


@pytest.mark.parametrize("size", [2, 5, 7, 10, 19, 20])
def test_groups_are_read_as_a_square_in_which_other_pairs_are_undefined(size):
    square, prior = population(0), population(1, seeds=3, kappa=0.1)
    square[0, 3, 4], square[1, 6, 6] = np.nan, np.inf
    ours = read(in_groups(square, size), in_groups(prior, size))
    theirs = read(masked(square, size), masked(prior, size))
    for name, value in ours.row().items():
        if name != "undefined_off_diagonal":
            expected = theirs.row()[name]
            if not isinstance(value, str):
                expected = pytest.approx(expected, rel=1e-12, nan_ok=True)
            assert value == expected, name
    assert (ours.undefined_diagonal, ours.undefined_off_diagonal) == (1, int(size > 4))
    by_ours, by_theirs = by_image(in_groups(square, size)), by_image(masked(square, size))
    pd.testing.assert_frame_equal(by_ours, by_theirs, rtol=1e-12)


@pytest.mark.parametrize("shape", [(4, 1), (2, 4, 1), (2, 3, 4), (3, 4), (2, 0, 0)])
def test_what_is_neither_a_square_nor_groups_is_refused(shape):
    with pytest.raises(ValueError, match=r"or \[R,N,P\], each image beside those of its group"):
        read(np.zeros(shape))


def test_a_last_group_that_is_not_filled_up_with_nan_is_refused():
    rows = in_groups(population(0), 8)
    rows[1, 18, 6] = 0.1
    with pytest.raises(ValueError, match="NaN where the last is smaller"):
        read(rows)


@pytest.mark.parametrize("symmetric", [False, True])
def test_chance_from_groups_varies_as_much_more_as_is_said(symmetric):
    """A row's effect, a column's, and a rest, in many populations."""
    images, size, runs, rest = 24, 6, 4000, 0.2
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(runs, images, images))
    if symmetric:
        noise = (noise + noise.transpose(0, 2, 1)) / np.sqrt(2)
    row, column = 0.1 * rng.normal(size=(2, runs, images))
    square = row[:, :, None] + column[:, None] + rest * noise
    i = np.arange(images)
    other, group = ~np.eye(images, dtype=bool), i[:, None] // size == i // size
    of_all, of_groups = (square[:, pairs].mean(1) for pairs in (other, other & group))
    extra = rest**2 * (1 + symmetric) * (1 / (size - 1) - 1 / (images - 1)) / images
    found = of_groups.var() - of_all.var()
    assert found == pytest.approx(extra, rel=0.15)
    # Both have the same mean, and what groups add has nothing to do with the rest.
    assert np.corrcoef(of_groups - of_all, of_all)[0, 1] == pytest.approx(0, abs=0.05)


def test_what_groups_add_is_in_the_interval():
    """Kappa from groups is covered as often as from all pairs, where pairs differ most of all."""
    truth, runs = 0.3, 150
    covered = {6: 0, 24: 0}
    for run in range(runs):
        square = population(run, images=24, seeds=1, between_seeds=0.0)
        rng = np.random.default_rng(1000 + run)
        square += np.where(np.eye(24, dtype=bool), 0, 0.4 * rng.normal(size=square.shape))
        for size in covered:
            reading = read(in_groups(square, size))
            covered[size] += reading.low <= truth <= reading.high
    assert covered[6] >= covered[24] - 0.03 * runs
    assert covered[6] >= 0.9 * runs


def by_loops(square):
    """Kappa of similarities [N,N], in plain loops."""
    n = len(square)
    own = sum(square[i][i] for i in range(n)) / n
    other = sum(square[i][j] for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return (own - other) / (1 - other)


def test_the_lowest_ceiling_counts_and_is_the_kappa_of_its_own_chance():
    kinds = {"arithmetic": 0.9, "random_arithmetic": 0.4, "seeds": 0.6}
    tops = {
        kind: population(seed, images=6, seeds=1, kappa=kappa)
        for seed, (kind, kappa) in enumerate(kinds.items())
    }
    own, plain = read(population(9), ceiling=tops), read(population(9))
    kappas = {kind: by_loops(square[0]) for kind, square in tops.items()}
    assert own.ceiling_kind == min(kappas, key=kappas.get)
    assert own.ceiling == pytest.approx(min(kappas.values()), abs=1e-12)
    alone = read(tops[own.ceiling_kind])
    limits = own.ceiling_similarity, own.ceiling_low, own.ceiling_high, own.ceiling_images
    assert limits == (alone.similarity, alone.low, alone.high, alone.images)
    # It stands beside the reading and moves nothing in it.
    without = {key: value for key, value in own.row().items() if not key.startswith("ceiling")}
    assert without == {key: plain.row()[key] for key in without}
    assert np.isnan(plain.ceiling)
    assert plain.ceiling_kind == ""


@pytest.mark.parametrize("top", [-0.1, 0.02, 0.15, 0.9])
def test_below_the_margin_a_ceiling_forbids_to_respond_and_nothing_else(top):
    seen = set()
    for seed in range(60):
        kappa = [0.0, 0.1, 0.3][seed % 3]
        square = population(seed, kappa=kappa, images=10)
        plain = read(square)
        tops = {"seeds": population(1000 + seed, images=6, seeds=1, kappa=top)}
        found = read(square, ceiling=tops)
        seen.add(found.verdict)
        low = by_loops(tops["seeds"][0]) < found.margin
        assert (plain.low, plain.high) == (found.low, found.high)
        if low and plain.verdict != "above":
            assert (found.verdict, found.obstacle) == ("cannot tell", Obstacle.LOW_CEILING)
        else:
            assert (found.verdict, found.obstacle) == (plain.verdict, plain.obstacle)
    assert "above" in seen
    assert ("below" in seen) == (top > 0.1)


def test_a_ceiling_without_room_or_similarities_is_none():
    square = population(0)
    full, empty = np.full((6, 6), 0.99) + 0.001 * np.eye(6), np.full((6, 6), np.nan)
    for top in (full, empty):
        assert read(square, ceiling={"arithmetic": top}).ceiling_kind == ""
    few = read(square[:, :3, :3], ceiling={"arithmetic": np.zeros((6, 6))})
    assert few.obstacle is Obstacle.FEW_IMAGES, "what was in the way before comes first"


def test_a_ceiling_has_a_known_kind_and_the_shape_of_similarities():
    with pytest.raises(ValueError, match=r"unknown ceiling 'seed'.*Nearest: seeds"):
        read(population(0), ceiling={"seed": np.eye(6)})
    with pytest.raises(ValueError, match="ceiling seeds has shape"):
        read(population(0), ceiling={"seeds": np.ones((2, 3, 4, 5))})


def test_no_interval_exceeds_what_a_similarity_can_be():
    """Few pictures with a long tail: what the skewness adds goes past 1 unless it is held."""
    rng = np.random.default_rng(3)
    square = 0.2 * rng.random((2, 6, 6))
    square[:, range(6), range(6)] = [0.05, 0.1, 0.1, 0.15, 0.1, 0.99]
    bounded = read(square, 0.5 * square, ceiling={"seeds": square})
    beyond = read(
        2 * square, square, ceiling={"seeds": 2 * square}
    )  # above 1, so no bound is known
    for key in ("similarity_high", "high", "ceiling_high"):
        assert getattr(bounded, key) == 1
        assert getattr(beyond, key) > 1
    assert bounded.low < bounded.kappa < 1
    assert read(np.stack([np.eye(6)] * 3)).high == 1
