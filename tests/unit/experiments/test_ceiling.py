"""Maps between which nothing has changed: known answers, and networks that stay as they are."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from made.experiments import METRIC, images, made
from made.networks import small
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.attribution.catalogue import CATALOGUE, is_control, resolve
from saliency_sanity.experiments.cascade import share
from saliency_sanity.experiments.ceiling import PICTURES, in_double, widened
from saliency_sanity.experiments.plan import planned
from saliency_sanity.experiments.store import Store
from saliency_sanity.similarity.metrics import similarity_matrix
from saliency_sanity.verdict.obstacle import Obstacle
from torch import nn

KEYS = ("gradient", "guided_backprop", "input_x_noise")


@dataclass(frozen=True)
class Rounded:
    """A gradient that is all rounding: what single precision loses of it, far above its size."""

    passes = 1

    def __call__(self, model, x, target):
        found = Gradient()(model, x, target)
        return (found * 1e12).sin()


@dataclass(frozen=True)
class Narrow:
    """Somebody's method that computes in single precision whatever it is given."""

    def __call__(self, model, x, target):
        return Gradient()(model, x, target).float()


def by_loops(square):
    """Kappa of similarities [N,N], in plain loops."""
    n = len(square)
    own = sum(square[i][i] for i in range(n)) / n
    other = sum(square[i][j] for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return (own - other) / (1 - other)


@pytest.fixture(scope="module")
def outcome():
    methods = {key: resolve(key) for key in KEYS} | {"rounded": Rounded(), "narrow": Narrow()}
    x = images(8)
    return made(methods=methods, x=x, ceiling=PICTURES, seeds=2, shown=0)()


def test_a_map_that_arithmetic_leaves_alone_has_a_ceiling_of_one(outcome):
    readings = outcome.readings()
    for method in KEYS:
        for stage in outcome.stages:
            found = readings[method, "spearman_abs", stage]
            assert found.ceiling > 0.9999, (method, stage)
            assert found.ceiling_high >= found.ceiling >= found.ceiling_low > 0.999
            assert found.ceiling_images == PICTURES
            assert found.verdict != "cannot tell"


def test_what_rounding_decides_cannot_tell(outcome):
    for stage in outcome.stages:
        found = outcome.readings()["rounded", "spearman_abs", stage]
        assert max(found.kappa, found.ceiling) < 0.1
        assert (found.verdict, found.obstacle) == ("cannot tell", Obstacle.LOW_CEILING)
        assert found.words().startswith("cannot tell (")


def test_the_ceiling_is_the_kappa_of_maps_made_by_hand(outcome):
    of = made(x=images(8))
    x, target = of.x[:PICTURES], of.target[:PICTURES]
    single = Rounded()(of.model, of.x, of.target)[:PICTURES]
    double = small().double()
    by_one = [Rounded()(double, x[i : i + 1].double(), target[i : i + 1]) for i in range(PICTURES)]
    square = similarity_matrix(METRIC["spearman_abs"], single, torch.cat(by_one).float())
    found = outcome.readings()["rounded", "spearman_abs", outcome.stages[0]]
    assert found.ceiling_kind == "arithmetic"
    assert found.ceiling == pytest.approx(by_loops(square.tolist()), abs=1e-12)


def test_what_does_not_compute_in_double_precision_says_so(outcome):
    assert set(outcome.no_ceiling) == {"narrow"}
    assert "maps are torch.float32" in outcome.no_ceiling["narrow"]
    found = outcome.readings()["narrow", "spearman_abs", outcome.stages[-1]]
    assert (np.isnan(found.ceiling), found.ceiling_kind) == (True, "")


def test_only_the_last_stage_has_the_random_networks_ceiling(outcome):
    assert all(
        "random_arithmetic" in by_kind
        for (m, _), by_kind in outcome.ceilings.items()
        if m != "narrow"
    )
    made_low = dict(outcome.ceilings)
    key = "gradient", "spearman_abs"
    made_low[key] = made_low[key] | {"random_arithmetic": np.eye(6) * 0 + 0.3}
    lowered = type(outcome)(**vars(outcome) | {"ceilings": made_low})
    *before, last = (lowered.readings()[*key, stage] for stage in outcome.stages)
    assert {one.ceiling_kind for one in before} == {"arithmetic"}
    assert (last.ceiling_kind, last.ceiling) == ("random_arithmetic", pytest.approx(0))
    assert last.verdict in ("cannot tell", "above")


def test_another_training_is_a_ceiling(tmp_path):
    other = small(seed=7)
    of = made(methods={"gradient": Gradient()}, trainings=(other,), store=Store(tmp_path), seeds=2)
    outcome = of()
    target = other(of.x).argmax(1)
    found = Gradient()(of.model, of.x, of.target), Gradient()(other, of.x, target)
    expected = similarity_matrix(METRIC["spearman_abs"], *found).numpy()
    square = outcome.ceilings["gradient", "spearman_abs"]["seeds"]
    np.testing.assert_array_equal(square, expected[None])
    for reading in outcome.readings().values():
        assert reading.ceiling_kind == "seeds"
        assert reading.ceiling == pytest.approx(by_loops(expected.tolist()), abs=1e-12)
        assert reading.verdict != "below" or reading.ceiling >= reading.margin
    # Another network in its place is another ceiling, whatever is in the store.
    swapped = made(methods=of.methods, trainings=(small(seed=8),), store=Store(tmp_path), seeds=2)()
    assert not np.array_equal(swapped.ceilings["gradient", "spearman_abs"]["seeds"], square)


def test_a_store_gives_the_same_ceilings_and_reasons(tmp_path):
    settings = {
        "methods": {"gradient": Gradient(), "rounded": Rounded(), "narrow": Narrow()},
        "ceiling": PICTURES,
        "trainings": (small(seed=7),),
        "seeds": 2,
    }
    one = made(**settings, store=Store(tmp_path))()
    files = sorted(tmp_path.rglob("*.safetensors"))
    assert len(files) == planned(made(**settings)).files
    apart = made(**settings, store=Store(tmp_path / "apart"), group=6)
    for shard in ("2/2", "1/2"):
        share(apart, shard)
    again = made(**settings, store=Store(tmp_path))()
    files += (tmp_path / "apart").rglob("*.safetensors")
    assert sorted(tmp_path.rglob("*.safetensors")) == sorted(files)
    for outcome in (again, apart(), made(**settings)()):
        assert outcome.no_ceiling == one.no_ceiling
        assert outcome.ceilings.keys() == one.ceilings.keys()
        for key, by_kind in one.ceilings.items():
            assert outcome.ceilings[key].keys() == by_kind.keys()
            for kind, square in by_kind.items():
                np.testing.assert_array_equal(outcome.ceilings[key][kind], square)


def test_a_widened_network_ends_as_it_was():
    model = small()
    before = {name: (t.data_ptr(), t.clone()) for name, t in model.state_dict().items()}

    def interrupted():
        with widened(model):
            assert {p.dtype for p in model.parameters()} == {torch.float64}
            model(images().double())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    after = model.state_dict()
    assert after.keys() == before.keys()
    for name, (place, value) in before.items():
        assert after[name].data_ptr() == place
        assert after[name].dtype == value.dtype
        assert torch.equal(after[name], value)


def test_maps_are_the_same_with_and_without_a_ceiling(outcome):
    methods = {key: resolve(key) for key in KEYS}
    plain = made(methods=methods, x=images(8), seeds=2, shown=0)()
    for key, matrices in plain.matrices.items():
        np.testing.assert_array_equal(outcome.matrices[key], matrices)


def test_every_control_is_the_same_in_exact_arithmetic():
    of = made()
    methods = {key: resolve(key) for key in CATALOGUE if is_control(key)}
    maps, refused = in_double(methods, of.model, of.x, of.target)
    assert not refused
    for key, method in methods.items():
        plain = method(of.model, of.x, of.target).double()
        torch.testing.assert_close(maps[key].double(), plain, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("count", [1, -1])
def test_one_picture_is_no_ceiling(count):
    with pytest.raises(ValueError, match=f"ceiling of {count} pictures"):
        made(ceiling=count)


@pytest.mark.parametrize("size", [(3, 1, 1, 1), (5, 2, 2, 1), (3, 2, 0, 2), ((3, 1), 1, (1, 0), 1)])
def test_channels_convolved_by_themselves_are_torchs(size):
    layer = nn.Conv2d(4, 4, *size, groups=4, dtype=torch.float64).requires_grad_(False)
    x = images(2).double()[:, [0, 1, 2, 0], :13, :11].requires_grad_()

    def found():
        out = layer(x)
        return out, *torch.autograd.grad((out**2).sum(), x)

    plain = found()
    with widened(layer):
        ours = found()
    assert ours[0].grad_fn.name() != plain[0].grad_fn.name()
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_shortened_arithmetic_is_held_against_double_precision():
    of = made(methods={"gradient": Gradient()}, ceiling=PICTURES, seeds=2, shown=0)
    exact, short = of(), replace(of, precision="bfloat16")()
    key = "gradient", "spearman_abs"
    high, low = (by_loops(one.ceilings[key]["arithmetic"].tolist()) for one in (exact, short))
    assert 0.5 < low < 0.9999 < high
