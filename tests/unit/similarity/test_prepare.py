import numpy as np
import pytest
import torch
from saliency_sanity.similarity import prepare as maps


@pytest.fixture
def raw():
    return np.random.default_rng(0).standard_t(3, size=(3, 3, 40, 30))


def test_percentile_is_numpys(raw):
    for q in (0, 37.3, 99, 100):
        expected = np.percentile(raw.reshape(3, -1), q, axis=1)
        np.testing.assert_allclose(maps.percentile(raw, q), expected, rtol=1e-12)
        ours = maps.percentile(torch.from_numpy(raw), q).numpy()
        np.testing.assert_allclose(ours, expected, rtol=1e-12)


@pytest.mark.parametrize("q", [0, 50, 98.7, 99, 99.99, 100])
def test_percentile_of_large_maps(q):
    rng = np.random.default_rng(1)
    dense = rng.standard_t(3, size=(60, 71))
    cases = np.stack(
        [
            dense,
            np.where(rng.random(dense.shape) < 0.94, 0, dense),
            np.where(rng.random(dense.shape) < 0.995, 0, dense),
            -abs(dense).round(),
            np.sort(dense.ravel()).reshape(dense.shape),
            np.full_like(dense, 0.3),
            np.where(dense > 1, np.inf, dense),
            np.where(np.arange(71) == 5, np.nan, dense),
        ]
    )
    with np.errstate(invalid="ignore"):
        expected = np.percentile(cases.reshape(len(cases), -1), q, axis=1)
        found = maps.percentile(cases, q)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_array_equal(maps.percentile(cases[2:3], q), found[2:3])


def test_percentile_outside_0_to_100_names_it(raw):
    with pytest.raises(ValueError, match="percentile 101"):
        maps.percentile(raw, 101)


def test_absolute_preparation_is_the_reference_codes(raw):
    # Sum of absolute values, (m - min) / (p99 - min), clipped to [0, 1].
    expected = []
    for image in raw:
        m = np.abs(image).sum(0)
        low, high = m.min(), np.percentile(m, 99)
        expected.append(np.clip((m - low) / (high - low), 0, 1))
    ours = maps.unit_range(maps.clip_above(maps.absolute_sum(raw), 99))
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-15)


def test_diverging_clip_keeps_what_the_reference_code_keeps(raw):
    for image, ours in zip(raw, maps.clip_diverging(maps.signed_sum(raw), 99), strict=True):
        m = image.sum(0)
        s = abs(np.percentile(m, 99))
        reference = np.clip((m + s) / (2 * s), -1, 1)
        np.testing.assert_allclose((ours + s) / (2 * s), reference, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "function",
    [
        maps.absolute_picture,
        maps.signed_picture,
        maps.unit_range,
        maps.signed_range,
        maps.clip_above,
        maps.clip_diverging,
        maps.undefined,
    ],
)
def test_each_image_by_itself_and_input_unchanged(function, raw):
    before = raw.copy()
    whole = function(raw)
    single = np.concatenate([function(raw[i : i + 1]) for i in range(len(raw))])
    np.testing.assert_array_equal(whole, single)
    np.testing.assert_array_equal(raw, before)
    tensor = function(torch.from_numpy(raw))
    np.testing.assert_allclose(tensor.numpy(), whole, rtol=1e-12, atol=1e-15)


def test_signed_picture_has_zero_in_the_middle(raw):
    picture = maps.signed_picture(raw)
    assert picture.min() == -1
    assert picture.max() == 1
    np.testing.assert_allclose(maps.signed_picture(-raw), -picture)
    summed = raw.sum(1)
    assert (np.sign(picture) == np.sign(summed)).all()


def test_signed_picture_of_a_sparse_map_shows_what_there_is():
    raw = np.zeros((1, 20, 20))
    raw[0, 3, 4] = -2.0
    assert maps.signed_picture(raw)[0, 3, 4] == -1


def test_zero_map_is_shown_as_zero():
    for picture in (maps.absolute_picture, maps.signed_picture):
        assert (picture(np.zeros((2, 3, 8, 8))) == 0).all()


def test_signed_range_keeps_zero_and_unit_range_spans(raw):
    raw[:, :, 0, 0] = 0
    scaled = maps.signed_range(raw)
    assert (scaled[:, :, 0, 0] == 0).all()
    assert (abs(scaled).max(axis=(1, 2, 3)) == 1).all()
    unit = maps.unit_range(raw)
    assert (unit.min(axis=(1, 2, 3)) == 0).all()
    assert (unit.max(axis=(1, 2, 3)) == 1).all()


def test_undefined_is_a_property_of_the_map(raw):
    cases = np.stack([raw[0]] * 6)
    cases[1] = 0.3
    cases[2] = np.array([1.0, 2.0, 3.0])[:, None, None]  # every channel constant
    cases[3, 1, 2, 3] = np.nan
    cases[4, 0, 0, 0] = -np.inf
    cases[5, 1:] = 7.0  # one channel still changes
    expected = [False, True, True, True, True, False]
    assert maps.undefined(cases).tolist() == expected
    assert maps.undefined(torch.from_numpy(cases)).tolist() == expected
    blank = maps.blank_undefined(cases.astype(np.float32))
    assert blank.dtype == np.float64
    assert np.isnan(blank).all(axis=(1, 2, 3)).tolist() == expected
    assert np.isnan(blank).any(axis=(1, 2, 3)).tolist() == expected


def test_per_image_does_not_depend_on_the_chunk(monkeypatch):
    batch = torch.randn(7, 2, 5, 6, generator=torch.Generator().manual_seed(0))
    results = []
    for chunk in (1, 130, 10**6):
        monkeypatch.setattr(maps, "_CPU_CHUNK", chunk)
        results.append(maps.per_image(lambda x: x.sum(axis=(1, 2, 3)), batch))
    assert len(results[0]) == 7
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_per_image_raises_what_the_kernel_raises():
    def fail(_):
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        maps.per_image(fail, torch.zeros(3, 600, 600))


def test_raw_maps_names_shape_and_dtype():
    with pytest.raises(ValueError, match=r"\(4, 5\)"):
        maps.raw_maps(torch.zeros(4, 5))
    with pytest.raises(ValueError, match=r"\(0, 3, 5, 5\)"):
        maps.raw_maps(torch.zeros(0, 3, 5, 5))
    with pytest.raises(TypeError, match=r"\(1, 4, 5\) have dtype torch.uint8"):
        maps.raw_maps(torch.zeros(1, 4, 5, dtype=torch.uint8))
    held = torch.zeros(2, 4, 5, requires_grad=True)
    assert maps.raw_maps(held).shape == (2, 1, 4, 5)
    assert not maps.raw_maps(held).requires_grad


def test_the_second_moment_is_one_and_zero_stays(raw):
    raw[0, :, :3] = 0
    found = maps.second_moment(raw)
    for image, ours in zip(raw, found, strict=True):
        size = sum(float(value) ** 2 for value in image.ravel()) / image.size
        np.testing.assert_allclose(ours, image / size**0.5, rtol=1e-12)
    assert (found[0, :, :3] == 0).all()
    np.testing.assert_allclose(maps.second_moment(torch.from_numpy(raw)).numpy(), found, rtol=1e-12)
    assert (maps.second_moment(np.zeros((1, 1, 4, 4))) == 0).all()


@pytest.mark.parametrize("factor", [1e-200, 3.7, 1e200])
def test_the_second_moment_forgets_the_scale(raw, factor):
    np.testing.assert_allclose(
        maps.second_moment(raw * factor), maps.second_moment(raw), rtol=1e-12
    )


def test_the_second_moment_is_quantuss(raw):
    functions = pytest.importorskip("quantus.functions.normalise_func")
    theirs = functions.normalise_by_average_second_moment_estimate(raw, normalise_axes=[1, 2, 3])
    np.testing.assert_allclose(maps.second_moment(raw), theirs, rtol=1e-6)


@pytest.mark.parametrize("channels", ["absolute", "signed", "each"])
def test_the_second_moment_comes_before_absolute_values(raw, channels):
    scaled = maps.Prepare(channels, scale="second_moment")
    plain = maps.Prepare(channels)
    size = np.sqrt((raw**2).mean((1, 2, 3)))
    for image, ours, own in zip(plain(raw), scaled(raw), size, strict=True):
        np.testing.assert_allclose(ours, image / own, rtol=1e-12)
    assert str(scaled).startswith("raw map divided by the root of its mean square; ")


def test_the_second_moment_breaks_no_ties():
    levels = np.random.default_rng(2).integers(-8, 8, size=(2, 3, 30, 30)).astype(float)
    plain, scaled = (maps.Prepare("absolute", scale=s)(levels) for s in (None, "second_moment"))
    for before, after in zip(plain, scaled, strict=True):
        assert len(np.unique(before)) == len(np.unique(after)) < 26
        orders = (np.argsort(values, axis=None, kind="stable") for values in (before, after))
        np.testing.assert_array_equal(*orders)
