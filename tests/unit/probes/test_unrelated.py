"""Noise of named distributions, and the table of what metrics say of unrelated maps."""

import numpy as np
import pytest
import torch
from saliency_sanity.probes.unrelated import (
    MARGINALS,
    NOISE,
    OTHER,
    SAME,
    noise,
    null_means,
    null_table,
    product_matrix,
)
from saliency_sanity.similarity.metrics import metric
from saliency_sanity.verdict.reading import read
from scipy import stats

ORACLES = {
    "uniform": stats.uniform(-1, 2),
    "gaussian": stats.norm(),
    "laplace": stats.laplace(),
    "student-t3": stats.t(3),
}


def absolute_rank(a, b):
    values = [
        stats.spearmanr(*(m.abs().sum(0).flatten().numpy() for m in pair)).statistic
        for pair in zip(a, b, strict=True)
    ]
    return torch.tensor(values, dtype=torch.float64)


def signed_rank(a, b):
    values = [
        stats.spearmanr(*(m.sum(0).flatten().numpy() for m in pair)).statistic
        for pair in zip(a, b, strict=True)
    ]
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("marginal", MARGINALS)
def test_marginals_are_those_of_scipy(marginal):
    draws = noise(marginal, (100_000,), 0).numpy()
    # The seed is fixed; 0.006 is the 0.1 % point of the statistic for this many draws.
    assert stats.kstest(draws, ORACLES[marginal].cdf).statistic < 0.006


@pytest.mark.parametrize("marginal", MARGINALS)
def test_noise_depends_on_its_keys_alone(marginal):
    first = noise(marginal, (50_000,), 0, "a")
    torch.manual_seed(1)
    assert torch.equal(noise(marginal, (50_000,), 0, "a"), first)
    other = noise(marginal, (50_000,), 0, "b")
    assert abs(stats.spearmanr(first, other).statistic) < 0.02


def test_unknown_marginal_names_the_nearest():
    with pytest.raises(ValueError, match="Nearest: laplace"):
        noise("laplac", (2,), 0)


def sparse_pictures(count=3, filled=0.19, size=48):
    key = torch.Generator().manual_seed(0)
    values = torch.rand(count, 1, size, size, generator=key)
    return values * (torch.rand(values.shape, generator=key) < filled)


def test_table_has_one_row_a_measurement():
    table = null_table(sparse_pictures(), {"abs": absolute_rank}, list("abc"), draws=2)
    assert len(table) == len(MARGINALS) * 2 * 3 * 3
    assert not table.duplicated(["maps", "marginal", "metric", "image", "draw"]).any()
    assert set(table["maps"]) == {NOISE, SAME, OTHER}


def test_the_input_makes_unrelated_noise_similar():
    """Products of a sparse picture with unrelated noise: absolute ranks see the picture."""
    measured = {"abs": absolute_rank, "signed": signed_rank}
    means = null_table(sparse_pictures(), measured).groupby(["metric", "maps"])["value"].mean()
    assert means["abs", SAME] > 0.98
    assert abs(means["abs", NOISE]) < 0.02
    assert abs(means["abs", OTHER]) < 0.05
    for maps in (NOISE, SAME, OTHER):
        assert abs(means["signed", maps]) < 0.02


def test_an_image_has_the_same_value_in_any_company():
    x = sparse_pictures()
    few = null_table(x[:2], {"abs": absolute_rank}, ["a", "b"], draws=1)
    many = null_table(x, {"abs": absolute_rank}, ["a", "b", "c"], draws=1)
    keys = ["maps", "marginal", "metric", "image", "draw"]
    both = few.merge(many, on=keys)
    own = both[both["maps"] != OTHER]
    assert len(own) == len(MARGINALS) * 2 * 2
    assert (own["value_x"] == own["value_y"]).all()


def test_refuses_what_cannot_be_paired():
    with pytest.raises(ValueError, match="at least 2"):
        null_table(sparse_pictures(1), {"abs": absolute_rank})
    with pytest.raises(ValueError, match="draws 0"):
        null_table(sparse_pictures(), {"abs": absolute_rank}, draws=0)


def test_the_product_is_picture_driven_in_size_and_responds_in_sign():
    x = 2 * sparse_pictures(8, filled=0.8) - 1
    size = read(product_matrix(x, metric("spearman_abs")))
    sign = read(product_matrix(x, metric("spearman_signed")))
    assert (size.verdict, sign.verdict) == ("above", "below")
    assert sign.low < 0 < sign.high


def test_the_matrix_takes_any_similarity():
    x = sparse_pictures()
    own = product_matrix(x, absolute_rank, seeds=2)
    assert own.shape == (2, 3, 3)
    np.testing.assert_allclose(own, product_matrix(x, metric("spearman_abs", "paper"), seeds=2))


def test_means_are_those_of_the_rows():
    table = null_table(sparse_pictures(), {"b": absolute_rank, "a": signed_rank}, draws=2)
    means = null_means(table)
    assert list(means.columns) == ["b", "a"]
    assert list(means.index) == [(m, n) for m in (NOISE, OTHER, SAME) for n in MARGINALS]
    rows = table.query("maps == @SAME and marginal == 'laplace' and metric == 'b'")
    assert means.loc[(SAME, "laplace"), "b"] == pytest.approx(rows["value"].mean(), rel=1e-12)
