import math

import numpy as np
import pytest
import torch
from saliency_sanity.similarity.metrics import metric, similarity_matrix
from saliency_sanity.similarity.rank import PixelSpearman
from scipy.stats import spearmanr

NAMES = {False: "spearman_abs", True: "spearman_signed"}


def noise(*shape, seed, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pictures(count, share=0.2, size=32, seed=0):
    """Pictures [N,1,H,W] of which a share of the pixels is not zero."""
    x = torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(seed))
    keep = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed + 1)) < share
    return (x * keep).double()


def summed(maps, signed):
    return (maps if signed else maps.abs()).sum(dim=1).numpy()


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("channels", [(1, 1), (3, 3), (1, 3), (3, 1)])
def test_every_entry_is_scipys_on_the_pixels_of_its_row(signed, channels):
    a, b = noise(4, channels[0], 15, 17, seed=1), noise(5, channels[1], 15, 17, seed=2)
    b[:4] += 0.7 * a.mean(dim=1, keepdim=True)
    a[1], b[2] = a[1].round(), b[2].round()  # many ties
    share = torch.tensor([0.1, 0.3, 0.5, 0.9])[:, None, None]
    where = torch.rand(4, 15, 17, generator=torch.Generator().manual_seed(3)) < share
    ours = PixelSpearman(where, signed).matrix(a, b)
    assert ours.dtype == torch.float64
    left, right = summed(a, signed), summed(b, signed)
    for i in range(4):
        here = where[i].numpy()
        expected = [spearmanr(left[i][here], row[here]).statistic for row in right]
        np.testing.assert_allclose(ours[i], expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("signed", [False, True])
def test_over_all_pixels_it_is_the_metric_of_the_paper(signed):
    a, b = noise(6, 3, 20, 20, seed=1), noise(7, 3, 20, 20, seed=2)
    a[2], b[3, 0, 0, 0], b[4] = 0.0, math.nan, 1.0
    ours = PixelSpearman(torch.ones(6, 20, 20, dtype=torch.bool), signed).matrix(a, b)
    expected = metric(NAMES[signed], "paper").matrix(a, b)
    assert expected.isnan().sum() == 7 + 2 * 5
    np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-13)


def test_what_lies_outside_does_not_count():
    a, b = noise(3, 1, 12, 12, seed=1), noise(3, 1, 12, 12, seed=2)
    where = pictures(3, 0.4, 12)[:, 0] != 0
    outside = ~where[:, None]
    before = PixelSpearman(where, signed=True).matrix(a, b)
    changed = PixelSpearman(where, signed=True).matrix(torch.where(outside, 1e6, a), b)
    assert torch.equal(before, changed)
    # In b each row sees pixels of its own, so only what lies outside of all may change.
    nowhere = outside.all(dim=0, keepdim=True)
    assert nowhere.any()
    assert torch.equal(
        before, PixelSpearman(where, signed=True).matrix(a, torch.where(nowhere, -1e6, b))
    )


def test_noise_times_a_sparse_picture_agrees_only_through_the_zeros():
    x = pictures(6, 0.2, 64)
    a, b = x * noise(*x.shape, seed=3), x * noise(*x.shape, seed=4)
    own = metric("spearman_abs", "paper")(a, b)
    restricted = PixelSpearman(x[:, 0] != 0, signed=False).matrix(a, b).diagonal()
    assert own.min() > 0.95
    # What is left is the size of the input, as for a dense picture.
    dense = pictures(6, 1.0, 64)
    left = metric("spearman_abs", "paper")(
        dense * noise(*x.shape, seed=3), dense * noise(*x.shape, seed=4)
    )
    assert restricted.mean().item() == pytest.approx(left.mean().item(), abs=0.05)
    assert restricted.max() < 0.6
    signed = PixelSpearman(x[:, 0] != 0, signed=True).matrix(a, b)
    assert signed.abs().max() < 0.15


def test_too_few_pixels_and_maps_constant_on_them_are_undefined():
    a, b = noise(4, 1, 8, 8, seed=1), noise(5, 1, 8, 8, seed=2)
    where = torch.zeros(4, 8, 8, dtype=torch.bool)
    where[1, 0, :2] = where[2, 0, :3] = where[3, :4] = True
    a[3, :, :4] = 0.3
    b[4, :, 0, :3] = 0.1
    defined = ~PixelSpearman(where, signed=False).matrix(a, b).isnan()
    assert defined.any(dim=1).tolist() == [False, False, True, False]
    assert defined[2].tolist() == [True] * 4 + [False]
    b[0, 0, 7, 7] = math.inf
    assert PixelSpearman(where, signed=False).matrix(a, b)[2, 0].isnan()


def test_a_map_agrees_with_itself_and_against_its_negative():
    a = noise(3, 1, 10, 10, seed=0)
    where = torch.ones(3, 10, 10, dtype=torch.bool)
    where[1, 3:] = False
    for signed, sign in ((True, -1), (False, 1)):
        np.testing.assert_allclose(
            PixelSpearman(where, signed=signed).matrix(a, a).diagonal(), 1, rtol=1e-12
        )
        np.testing.assert_allclose(
            PixelSpearman(where, signed=signed).matrix(a, -a).diagonal(), sign, rtol=1e-12
        )


def test_no_row_depends_on_the_others():
    a, b = noise(5, 3, 299, 299, seed=1), noise(2, 3, 299, 299, seed=2)
    where = noise(5, 299, 299, seed=3) > 1
    together = PixelSpearman(where, signed=True).matrix(a, b)
    for i in range(5):
        for j in range(2):
            one = PixelSpearman(where[i : i + 1], signed=True).matrix(a[i : i + 1], b[j : j + 1])
            assert one.item() == together[i, j].item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_dtypes_are_compared_in_float64(dtype):
    a, b = noise(2, 1, 9, 9, seed=1, dtype=dtype), noise(2, 1, 9, 9, seed=2, dtype=dtype)
    where = noise(2, 9, 9, seed=3) > 0
    assert torch.equal(
        PixelSpearman(where, signed=False).matrix(a, b),
        PixelSpearman(where, signed=False).matrix(a.double(), b.double()),
    )


def test_maps_may_leave_out_the_channel_and_be_numpy():
    a, b = noise(2, 9, 9, seed=1), noise(3, 9, 9, seed=2)
    where = noise(2, 9, 9, seed=3) > 0
    expected = PixelSpearman(where, signed=True).matrix(a[:, None], b[:, None])
    assert torch.equal(PixelSpearman(where, signed=True).matrix(a, b), expected)
    assert torch.equal(PixelSpearman(where, signed=True).matrix(a.numpy(), b.numpy()), expected)


@pytest.mark.gpu
def test_an_accelerator_gives_the_same():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    a, b = noise(4, 3, 30, 30, seed=1), noise(5, 3, 30, 30, seed=2)
    where = noise(4, 30, 30, seed=3) > 0
    where[1] = False
    ours = PixelSpearman(where.cuda(), signed=False).matrix(a.cuda(), b.cuda())
    np.testing.assert_allclose(
        ours.cpu(), PixelSpearman(where, signed=False).matrix(a, b), rtol=1e-9
    )


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        (torch.ones(2, 9, 9), TypeError, r"where has dtype torch.float32; expected booleans"),
        (torch.ones(3, 9, 9) > 0, ValueError, r"where has shape \(3, 9, 9\).*here \(2, 9, 9\)"),
        (torch.ones(2, 1, 9, 9) > 0, ValueError, r"where has shape \(2, 1, 9, 9\)"),
    ],
)
def test_a_mask_that_does_not_fit_is_named(where, error, message):
    with pytest.raises(error, match=message):
        PixelSpearman(where, signed=True).matrix(noise(2, 9, 9, seed=1), noise(3, 9, 9, seed=2))


def test_maps_that_do_not_fit_are_named():
    where = torch.ones(2, 9, 9, dtype=torch.bool)
    with pytest.raises(ValueError, match="differ in height or width"):
        PixelSpearman(where, signed=True).matrix(noise(2, 9, 9, seed=1), noise(3, 9, 8, seed=2))


def test_its_name_says_everything():
    where = torch.zeros(2, 3, 5, dtype=torch.bool)
    where[0, 1, 2:] = True
    name = repr(PixelSpearman(where, signed=True))
    assert name.startswith("PixelSpearman(signed=True, where=3 of 30 pixels, ")
    assert repr(PixelSpearman(where.clone(), signed=True)) == name
    others = [(where, False), (where.flip(0), True), (where.mT, True)]
    assert name not in [repr(PixelSpearman(*other)) for other in others]


def test_it_is_a_similarity_with_a_matrix_of_its_own():
    a, b = noise(3, 1, 9, 9, seed=1), noise(3, 1, 9, 9, seed=2)
    compare = PixelSpearman(noise(3, 9, 9, seed=3) > 0, signed=True)
    assert torch.equal(similarity_matrix(compare, a, b), compare.matrix(a, b))
