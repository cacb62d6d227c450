import numpy as np
import pytest
import torch
from saliency_sanity.similarity.rank import Pearson, ranks
from scipy.stats import pearsonr, rankdata, spearmanr

RNG = np.random.default_rng(1)
SIZE = 299 * 299
DENSE = RNG.standard_t(3, size=SIZE)
ROWS = {
    "dense": DENSE,
    "sparse": np.where(RNG.random(SIZE) < 0.94, 0.0, DENSE),
    "five values": np.floor(RNG.random(SIZE) * 5),
    "signed zeros": np.where(RNG.random(SIZE) < 0.5, -0.0, 0.0) + (RNG.random(SIZE) > 0.9),
    "float32": DENSE.astype(np.float32),
    # Equal but for the last bits, where the sort keeps the index.
    "nearly equal": 1 + RNG.permutation(SIZE) * 2.0**-52,
    "huge and tiny": np.ldexp(RNG.random(SIZE) - 0.5, RNG.integers(-1000, 1000, SIZE)),
    "constant": np.full(SIZE, 0.1),
    "sorted": np.sort(DENSE)[::-1],
}


@pytest.mark.parametrize("name", ROWS)
def test_ranks_are_scipys_to_the_last_bit(name):
    row = ROWS[name]
    expected = rankdata(row)
    np.testing.assert_array_equal(ranks(row[None])[0], expected)
    np.testing.assert_array_equal(ranks(torch.from_numpy(row[None].copy()))[0], expected)


@pytest.mark.parametrize("size", [1, 2, 3, 16, 17])
def test_ranks_of_short_rows(size):
    rows = RNG.integers(0, 4, (50, size)).astype(float)
    expected = rankdata(rows, axis=1)
    np.testing.assert_array_equal(ranks(rows), expected)
    np.testing.assert_array_equal(ranks(torch.from_numpy(rows)), expected)


def test_ranks_of_many_rows_in_any_order_in_memory():
    # Ties, values that agree in their upper halves, and neither, side by side.
    rows = np.stack([ROWS[name][:3000] for name in ("dense", "five values", "nearly equal")])
    expected = rankdata(rows, axis=1)
    for laid_out in (rows, np.asfortranarray(rows), rows[:, ::-1][:, ::-1]):
        np.testing.assert_array_equal(ranks(laid_out), expected)


@pytest.mark.parametrize("bad", [np.nan, -np.nan])
def test_a_row_with_nan_is_nan_and_the_others_are_not(bad):
    rows = RNG.normal(size=(3, 100))
    rows[1, 5] = bad
    for result in (ranks(rows), ranks(torch.from_numpy(rows)).numpy()):
        assert np.isnan(result).all(axis=1).tolist() == [False, True, False]
        np.testing.assert_array_equal(result[[0, 2]], rankdata(rows[[0, 2]], axis=1))


def test_infinities_rank_at_the_ends():
    rows = np.array([[np.inf, 0.0, -np.inf, 1.0]])
    assert ranks(rows).tolist() == [[4, 2, 1, 3]]


def test_more_ties_than_a_32_bit_sum_of_ranks_can_hold():
    # Half of 299 x 299 pixels tie: their ranks sum to 1e9, the sum of squares to 5e13.
    a = np.where(RNG.random(SIZE) < 0.75, 0.0, DENSE)
    b = np.where(RNG.random(SIZE) < 0.75, 0.0, a + DENSE)
    assert (a == 0).sum() > 65536
    expected = spearmanr(a, b).statistic
    ours = Pearson().pairs(ranks(a[None]), ranks(b[None]))[0]
    np.testing.assert_allclose(ours, expected, rtol=1e-10)


def test_pearson_is_scipys_and_its_matrix_agrees():
    a, b = RNG.normal(size=(2, 4, 500))
    b += 0.5 * a
    pairs = Pearson().pairs(a, b)
    expected = [pearsonr(x, y).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(pairs, expected, rtol=1e-12)
    matrix = Pearson().matrix(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_allclose(matrix, np.corrcoef(a, b)[:4, 4:], rtol=1e-10)
    np.testing.assert_allclose(np.diag(matrix), pairs, rtol=1e-12)
    tensors = Pearson().pairs(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_allclose(tensors, pairs, rtol=1e-12)


def test_no_correlation_of_ranks_hangs_on_its_company():
    a, b = (torch.from_numpy(ranks(RNG.normal(size=(40, 5000)))) for _ in range(2))
    matrix = Pearson().matrix(a, b)
    for rows, columns in ((slice(0, 7), slice(0, 40)), (slice(5, 6), slice(3, 22))):
        assert torch.equal(Pearson().matrix(a[rows], b[columns]), matrix[rows, columns])
    assert torch.equal(Pearson().pairs(a, b), matrix.diagonal())
    np.testing.assert_array_equal(Pearson().pairs(a.numpy(), b.numpy()), matrix.diagonal())


def test_a_constant_row_correlates_with_nothing():
    a = RNG.normal(size=(2, 300))
    a[1] = 0.1  # its mean is not exactly 0.1
    assert np.isnan(Pearson().pairs(a, a)).tolist() == [False, True]
    matrix = Pearson().matrix(torch.from_numpy(a), torch.from_numpy(a))
    assert torch.isnan(matrix).tolist() == [[False, True], [True, True]]
