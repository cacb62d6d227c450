import dataclasses
import warnings

import numpy as np
import pytest
import torch
from saliency_sanity.similarity.metrics import METRICS, PRESETS, Metric, metric, similarity_matrix
from saliency_sanity.similarity.prepare import Prepare
from saliency_sanity.similarity.rank import Pearson, Ranks
from saliency_sanity.similarity.ssim import Ssim, Uniform
from scipy.stats import pearsonr, spearmanr
from skimage.feature import hog
from skimage.metrics import structural_similarity

RNG = np.random.default_rng(4)
SIDE = 299
DENSE = RNG.standard_t(3, size=(2, 3, SIDE, SIDE))
MAPS = {
    "dense": DENSE,
    "sparse": np.where(RNG.random(DENSE.shape[-2:]) < 0.94, 0.0, DENSE),
    "tie-heavy": np.clip(np.round(DENSE), -2, 2),
    "signed": DENSE - 0.5,
}
EVERY = [(name, preset) for name in METRICS for preset in PRESETS]


def partner(maps):
    """Maps that agree with `maps` in part, keep zeros, and keep sums of whole numbers exact."""
    return np.where(maps == 0, 0.0, np.roll(maps, 1, axis=-1) + 0.75 * maps)


def unit(m):
    return (m - m.min()) / np.ptp(m)


def signed_unit(m):
    return m / abs(m).max()


def absolute_p99(m):
    m = np.abs(m).sum(0)
    return np.clip((m - m.min()) / (np.percentile(m, 99) - m.min()), 0, 1)


def diverging_p99(m):
    m = m.sum(0)
    s = abs(np.percentile(m, 99))
    return np.clip((m + s) / (2 * s), -1, 1)


def spearman(a, b):
    return spearmanr(a.ravel(), b.ravel()).statistic


def descriptor(m):
    return hog(m, pixels_per_cell=(16, 16), channel_axis=0)


# What the reference code, or the paper's text, computes for one pair [C,H,W].
ORACLES = {
    ("spearman_abs", "reference-code"): lambda a, b: spearman(absolute_p99(a), absolute_p99(b)),
    ("spearman_abs", "paper"): lambda a, b: spearman(np.abs(a).sum(0), np.abs(b).sum(0)),
    ("spearman_signed", "reference-code"): lambda a, b: spearman(
        diverging_p99(a), diverging_p99(b)
    ),
    ("spearman_signed", "paper"): lambda a, b: spearman(a.sum(0), b.sum(0)),
    ("ssim", "reference-code"): lambda a, b: structural_similarity(
        unit(a), unit(b), gaussian_weights=True, data_range=2, channel_axis=0
    ),
    ("ssim", "paper"): lambda a, b: structural_similarity(
        signed_unit(a), signed_unit(b), win_size=5, data_range=2, channel_axis=0
    ),
    ("hog", "reference-code"): lambda a, b: spearman(descriptor(unit(a)), descriptor(unit(b))),
    ("hog", "paper"): lambda a, b: (
        pearsonr(descriptor(signed_unit(a)), descriptor(signed_unit(b))).statistic
    ),
}


def small(*shape, seed=5):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=EVERY, ids=lambda x: f"{x[0]}-{x[1]}")
def every(request):
    return metric(*request.param)


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_equals_scipy_and_scikit_image(name, preset, kind):
    a = MAPS[kind]
    b = partner(a)
    if kind == "sparse" and (name, preset) == ("spearman_signed", "reference-code"):
        # Where the 99th percentile is small the reference divides by it; it must not be zero here.
        assert all(np.percentile(m.sum(0), 99) > 0 for m in (*a, *b))
    expected = [ORACLES[name, preset](x, y) for x, y in zip(a, b, strict=True)]
    assert (abs(np.array(expected)) > 1e-3).all()
    ours = metric(name, preset)(torch.from_numpy(a), torch.from_numpy(b))
    assert ours.dtype == torch.float64
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_an_accelerator_gives_the_same_numbers_there(every):
    a, b = torch.from_numpy(DENSE), torch.from_numpy(partner(DENSE))
    there = every(a.cuda(), b.cuda())
    assert there.device.type == "cuda"
    np.testing.assert_allclose(there.cpu(), every(a, b), rtol=1e-6)
    matrix = every.matrix(a.cuda(), b.cuda())
    np.testing.assert_allclose(matrix.cpu(), every.matrix(a, b), rtol=1e-6, atol=1e-9)


def test_batch_is_its_images(every):
    a, b = small(5, 3, 60, 50), small(5, 3, 60, 50, seed=6)
    whole = every(a, b)
    single = torch.cat([every(a[i : i + 1], b[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(whole, single, rtol=1e-12, atol=1e-14)


def test_matrix_holds_the_call(every):
    a, b = small(3, 3, 50, 60), small(4, 3, 50, 60, seed=6)
    matrix = every.matrix(a, b)
    assert matrix.shape == (3, 4)
    assert matrix.dtype == torch.float64
    np.testing.assert_allclose(matrix.diagonal(), every(a, b[:3]), rtol=1e-10, atol=1e-13)
    # Through the general function, which calls the metric pair by pair.
    general = similarity_matrix(lambda x, y: every(x, y), a, b, chunk=5)
    np.testing.assert_allclose(matrix, general, rtol=1e-10, atol=1e-13)
    assert torch.equal(matrix, similarity_matrix(every, a, b))


@pytest.mark.parametrize("name", METRICS)
def test_a_matrix_of_some_maps_is_a_part_of_the_whole(name):
    a, b = small(19, 2, 50, 49), small(17, 2, 50, 49, seed=6)
    a[3] = 0
    whole = metric(name).matrix(a, b)
    part = metric(name).matrix(a[2:9], b[5:6])
    np.testing.assert_array_equal(part, whole[2:9, 5:6])
    described = metric(name).descriptors(a[2:9])
    again = metric(name).compare.matrix(described, metric(name).descriptors(b))
    np.testing.assert_array_equal(again, whole[2:9])


def test_a_map_is_like_itself_and_order_does_not_matter(every):
    a, b = small(2, 3, 60, 60), small(2, 3, 60, 60, seed=6)
    np.testing.assert_allclose(every(a, a), [1, 1], rtol=1e-12)
    np.testing.assert_allclose(every.matrix(a, a).diagonal(), [1, 1], rtol=1e-12)
    np.testing.assert_allclose(every(a, b), every(b, a), rtol=1e-10, atol=1e-13)


def test_the_size_of_a_map_does_not_matter(every):
    a, b = small(2, 3, 60, 60).double(), small(2, 3, 60, 60, seed=6).double()
    for factor in (1e-12, 1e9):
        np.testing.assert_allclose(every(factor * a, b), every(a, b), rtol=1e-9, atol=1e-12)


def test_undefined_maps_give_nan_and_only_they(every):
    a = small(7, 3, 60, 60)
    b = small(7, 3, 60, 60, seed=6)
    a[1] = 0
    a[2] = torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1)
    a[3, 0, 5, 5] = torch.nan
    b[4, 2, 0, 0] = torch.inf
    b[5] = 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values, matrix = every(a, b), every.matrix(a, b)
    lost = [False, True, True, True, True, True, False]
    assert values.isnan().tolist() == lost
    rows, columns = torch.tensor([0, 1, 1, 1, 0, 0, 0]), torch.tensor([0, 0, 0, 0, 1, 1, 0])
    assert torch.equal(matrix.isnan(), (rows[:, None] + columns[None]) > 0)
    np.testing.assert_allclose(values[[0, 6]], every(a[[0, 6]], b[[0, 6]]), rtol=1e-12, atol=1e-14)


def test_a_map_which_preparation_makes_constant_is_nan_not_an_error():
    a = torch.zeros(1, 1, 60, 60)
    a[..., 0, :3] = 1.0  # its 99th percentile is its minimum
    assert metric("spearman_abs")(a, small(1, 1, 60, 60)).isnan().all()
    assert not metric("spearman_abs", "paper")(a, small(1, 1, 60, 60)).isnan().any()


def test_one_channel_stands_for_its_repetition(every):
    a, b = small(2, 1, 60, 60), small(2, 3, 60, 60, seed=6)
    tiled = a.expand(-1, 3, -1, -1)
    np.testing.assert_allclose(every(a, b), every(tiled, b), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(every(b, a), every(b, tiled), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(every.matrix(a, b), every.matrix(tiled, b), rtol=1e-10, atol=1e-13)
    assert torch.equal(every(a[:, 0], b), every(a, b))


def test_place_matters_in_two_dimensions():
    # Ranks see a set of pairs; SSIM and HOG see where pixels are.
    smooth = torch.nn.functional.avg_pool2d(small(2, 3, 68, 68), 9, 1)
    other = smooth + 0.05 * small(2, 3, 60, 60, seed=6)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    for name in METRICS:
        before, after = (
            metric(name)(smooth, other),
            metric(name)(smooth[:, :, order], other[:, :, order]),
        )
        same = torch.allclose(before, after, rtol=1e-9)
        assert same == name.startswith("spearman"), name


@pytest.mark.parametrize("transform", [torch.exp, lambda m: 3 * m + 1, lambda m: m**3, torch.atan])
def test_increasing_transformations_leave_a_rank_correlation_of_one(transform):
    a = small(2, 60, 60).double()
    ours = metric("spearman_signed", "paper")(a, transform(a))
    np.testing.assert_allclose(ours, [1, 1], rtol=1e-12)


def test_sign_counts_where_the_card_says_so():
    a, b = small(2, 3, 60, 60), small(2, 3, 60, 60, seed=6) + 0.5 * small(2, 3, 60, 60)
    flips = small(2, 3, 60, 60, seed=7).sign()
    for name, preset in EVERY:
        same = torch.allclose(metric(name, preset)(a, b), metric(name, preset)(flips * a, b))
        assert same != METRICS[name].signed, name


def test_result_does_not_depend_on_threads(every):
    a, b = small(5, 3, 300, 120), small(5, 3, 300, 120, seed=6)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = every(a, b)
        torch.set_num_threads(2)
        assert torch.equal(every(a, b), one)
    finally:
        torch.set_num_threads(threads)


def test_inputs_of_every_precision_stay_as_they_are(every):
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        a, b = small(2, 3, 60, 60).to(dtype), small(2, 3, 60, 60, seed=6).to(dtype)
        before = a.clone()
        values = every(a.requires_grad_(), b)
        assert not values.requires_grad
        assert torch.equal(a, before)
        np.testing.assert_allclose(values, every(before.double(), b.double()), rtol=1e-12)


def test_numpy_maps_and_transposed_maps(every):
    a, b = small(2, 3, 60, 50), small(2, 3, 60, 50, seed=6)
    expected = every(a, b)
    assert torch.equal(every(a.numpy(), b.numpy()), expected)
    last = a.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert torch.equal(every(last, b), expected)
    assert torch.equal(every.matrix(last, b), every.matrix(a, b))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ((2, 3, 60, 60), r"\(3, 3, 60, 60\) and \(2, 3, 60, 60\) differ in the number of images"),
        ((3, 3, 60, 50), r"\(3, 3, 60, 60\) and \(3, 3, 60, 50\) differ in height or width"),
        ((3, 2, 60, 60), r"\(3, 3, 60, 60\) and \(3, 2, 60, 60\) differ in channels"),
        ((60, 60), r"\(60, 60\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(every, other, message):
    with pytest.raises(ValueError, match=message):
        every(small(3, 3, 60, 60), small(*other))


def test_integers_are_no_maps(every):
    with pytest.raises(TypeError, match=r"\(2, 60, 60\) have dtype torch.int64"):
        every(small(2, 60, 60), torch.ones(2, 60, 60, dtype=torch.int64))


def test_unknown_names_list_the_nearest():
    with pytest.raises(ValueError, match=r"'spearman_absolute'.*spearman_abs"):
        metric("spearman_absolute")
    with pytest.raises(ValueError, match=r"'reference'.*reference-code"):
        metric("ssim", "reference")
    with pytest.raises(ValueError, match=r"'absolut'.*absolute"):
        Prepare("absolut")
    with pytest.raises(ValueError, match="needs a sum over channels"):
        Prepare("each", clip=99)
    with pytest.raises(ValueError, match="clip=101 is no percentile"):
        Prepare("signed", clip=101)


def test_cards_tell_what_the_metrics_do():
    assert set(METRICS) == {"spearman_abs", "spearman_signed", "ssim", "hog"}
    for name, card in METRICS.items():
        assert card.name == name
        assert card.formula
        assert card.summary
        assert card.sources
        assert tuple(card.presets) == PRESETS
        settings = card.settings()
        assert settings["paper"] != settings["reference-code"]
        assert all(all(parts.values()) for parts in settings.values())
    assert (
        "sigma 1.5 (11 x 11 pixels), data range 2"
        in METRICS["ssim"].settings()["reference-code"]["compare"]
    )


def test_parts_combine_freely_and_the_repr_says_all():
    own = Metric(Prepare("absolute", clip=95.0, scale="unit"), (), Ssim(Uniform(7), 1.0))
    a, b = DENSE[:, :, :80, :80], partner(DENSE)[:, :, :80, :80]

    def prepared(m):
        m = np.abs(m).sum(0)
        return unit(np.minimum(m, np.percentile(m, 95)))

    expected = [
        structural_similarity(prepared(x), prepared(y), win_size=7, data_range=1)
        for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(own(a, b), expected, rtol=1e-9)
    assert eval(repr(own)) == own
    assert dataclasses.replace(own, describe=(Ranks(),), compare=Pearson()) != own


def test_matrix_of_somebodys_own_similarity():
    def own(a, b):
        assert len(a) <= 4
        return -(a - b).abs().mean(dim=(1, 2))

    a, b = small(3, 8, 9), small(5, 8, 9, seed=6)
    matrix = similarity_matrix(own, a, b, chunk=4)
    expected = -(a[:, None] - b[None]).abs().mean(dim=(2, 3))
    np.testing.assert_allclose(matrix, expected.double(), rtol=1e-6)
    with pytest.raises(ValueError, match=r"returned shape \(\) for 4 pairs"):
        similarity_matrix(lambda a, b: (a - b).mean(), a, b, chunk=4)
    with pytest.raises(ValueError, match="chunk is 0"):
        similarity_matrix(own, a, b, chunk=0)


def test_noise_times_a_sparse_input_is_alike_in_absolute_ranks_only():
    # papers' digest: 0.99 for an input with 19 % non-zero pixels, signed 0.
    x = torch.rand(4, 64, 64, generator=torch.Generator().manual_seed(0))
    x = x * (torch.rand(4, 64, 64, generator=torch.Generator().manual_seed(1)) < 0.19)
    u, v = small(4, 64, 64), small(4, 64, 64, seed=6)
    assert (metric("spearman_abs", "paper")(x * u, x * v) > 0.98).all()
    assert (metric("spearman_signed", "paper")(x * u, x * v).abs() < 0.1).all()
