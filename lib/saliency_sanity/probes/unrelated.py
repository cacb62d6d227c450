"""Maps that have nothing to do with each other, and what the metrics say of them."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from saliency_sanity._errors import unknown
from saliency_sanity._random import generator
from saliency_sanity.similarity.metrics import similarity_rows

SAME, OTHER, NOISE = "product_same_picture", "product_other_picture", "noise"
MAPS_TITLES = {
    SAME: "input × noise, same picture",
    OTHER: "input × noise, other picture",
    NOISE: "noise",
}


def _gaussian(shape: Sequence[int], key: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=key, dtype=torch.float64, device="cpu")


def _uniform(shape: Sequence[int], key: torch.Generator) -> Tensor:
    return 2 * torch.rand(*shape, generator=key, dtype=torch.float64, device="cpu") - 1


def _laplace(shape: Sequence[int], key: torch.Generator) -> Tensor:
    # Inverse of the distribution function; 1 - |u| never is 0, since rand() excludes 1.
    u = _uniform(shape, key)
    return -u.sign() * torch.log1p(-u.abs().clamp(max=1 - 1e-16))


def _student_t3(shape: Sequence[int], key: torch.Generator) -> Tensor:
    # A Gaussian over the root of an independent mean of three squared Gaussians.
    numerator = _gaussian(shape, key)
    return numerator / _gaussian((3, *shape), key).square().mean(0).sqrt()


MARGINALS: dict[str, Callable[[Sequence[int], torch.Generator], Tensor]] = {
    "uniform": _uniform,
    "gaussian": _gaussian,
    "laplace": _laplace,
    "student-t3": _student_t3,
}


def noise(marginal: str, shape: Sequence[int], *keys: int | str) -> Tensor:
    """Independent values of one distribution, float64, determined by ``keys``.

    ``uniform`` in [-1, 1], ``gaussian`` and ``laplace`` of scale 1, ``student-t3`` with three
    degrees of freedom: in this order the tails grow heavier. Raises ValueError for another name.
    """
    if marginal not in MARGINALS:
        raise ValueError(unknown("marginal", marginal, MARGINALS))
    return MARGINALS[marginal](shape, generator("noise", marginal, *keys))


def null_table(
    x: Tensor,
    similarities: Mapping[str, Callable[[Tensor, Tensor], Tensor]],
    names: Sequence[str] | None = None,
    marginals: Sequence[str] = tuple(MARGINALS),
    draws: int = 3,
    seed: int = 0,
) -> pd.DataFrame:
    """Similarities of unrelated maps in the shape of ``x`` ``[N, C, H, W]``, network scaling.

    One row a measurement: ``maps`` is NOISE (two independent noise maps u, v), SAME
    (x_i u against x_i v) or OTHER (x_i u against the next picture's x_j v), and ``marginal`` the
    distribution of the noise; then ``metric`` (a key of ``similarities``), ``image``, ``draw`` and
    ``value``. Noise depends on the seed, the marginal, the draw and the image's name, not on how
    many images there are. Raises ValueError for fewer than two images or a draw count below one.
    """
    if len(x) < 2:
        raise ValueError(f"{len(x)} image: at least 2 are needed to pair different pictures")
    if draws < 1:
        raise ValueError(f"draws {draws} must be at least 1")
    names = [str(i) for i in range(len(x))] if names is None else list(names)
    shape = tuple(x.shape[1:])
    x = x.double()
    rows = []
    for marginal, draw in tqdm(list(product(marginals, range(draws))), desc="unrelated maps"):
        u, v = (
            torch.stack([noise(marginal, shape, seed, draw, name, side) for name in names])
            for side in ("u", "v")
        )
        pairs = {
            NOISE: (u, v),
            SAME: (x * u, x * v),
            OTHER: (x * u, (x * v).roll(-1, dims=0)),
        }
        for (maps, (a, b)), metric in product(pairs.items(), similarities):
            values = similarities[metric](a, b).tolist()
            for name, value in zip(names, values, strict=True):
                rows.append((maps, marginal, metric, name, draw, value))
    return pd.DataFrame(rows, columns=["maps", "marginal", "metric", "image", "draw", "value"])


def product_matrix(
    x: Tensor,
    similarity: Callable[[Tensor, Tensor], Tensor],
    seeds: int = 5,
    seed: int = 0,
    marginal: str = "gaussian",
) -> np.ndarray:
    """Similarities ``[seeds, N, P]`` of input times noise with input times other noise.

    ``x`` is ``[N, C, H, W]`` in network scaling. Entry r, i, j compares x_i n with x_j n_r
    of its group, where n stands for one network and n_r for another: a method whose verdict is
    known, in the form that ``verdict.read`` takes.
    """
    shape = tuple(x.shape[1:])
    x = x.double()
    first = x * noise(marginal, shape, seed, "first")
    others = (x * noise(marginal, shape, seed, "other", r) for r in range(seeds))
    return np.array([similarity_rows(similarity, first, other) for other in others])


def null_means(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over images and draws of a ``null_table``: a row for each kind of maps and of noise.

    Columns are the metrics, in the order in which the table has them.
    """
    order = {"maps": [NOISE, OTHER, SAME], "marginal": list(MARGINALS)}
    means = table.pivot_table("value", ["maps", "marginal"], "metric", "mean", sort=False)
    means = means[list(dict.fromkeys(table["metric"]))]
    rank = {value: i for values in order.values() for i, value in enumerate(values)}
    return means.sort_index(key=lambda level: level.map(rank))
