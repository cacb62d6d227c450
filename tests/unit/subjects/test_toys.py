"""Networks whose maps can be written down, against autograd."""

import pytest
import torch
from made.networks import draw, relative
from saliency_sanity import resolve
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.subjects.toys import Linear, SumPool

SHAPE = (3, 9, 7)
TARGET = torch.tensor([4, 0, 2])


def test_maps_of_a_linear_model_are_its_weights():
    model, x = Linear(SHAPE, classes=5), draw(3, *SHAPE)
    weight = model.weight[TARGET].detach()
    for name in ("gradient", "smoothgrad"):
        assert relative(resolve(name)(model, x, TARGET), weight) < 1e-5
    for name in ("gradient_x_input", "integrated_gradients"):
        assert relative(resolve(name)(model, x, TARGET), weight * x) < 1e-5
    assert (
        relative(
            model(x).detach(),
            torch.stack([(w * x).sum((1, 2, 3)) for w in model.weight]).T.detach(),
        )
        < 1e-5
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_sum_pool_closed_form_is_autograd(seed, channels):
    model, x = SumPool(channels, filters=5, seed=seed), draw(3, channels, 13, 9, seed=seed)
    closed, gradient = model.closed_form(x, TARGET), Gradient()(model, x, TARGET)
    assert relative(closed, gradient) < 1e-6
    double = SumPool(channels, filters=5, seed=seed).double()
    assert relative(double.closed_form(x.double(), TARGET), gradient.double()) < 1e-5
    exact = Gradient()(double, x.double(), TARGET)
    assert relative(double.closed_form(x.double(), TARGET), exact) < 1e-12


def test_sum_pool_is_constant_where_the_activation_pattern_is():
    model = SumPool(filters=2).double()
    x = draw(1, 3, 24, 24, dtype=torch.float64) * 0 + 0.5
    x[:, :, :, 12:] = -0.5
    maps = model.closed_form(x, torch.tensor([1]))[0]
    for side in (maps[:, 3:-3, 3:9], maps[:, 3:-3, 15:-3]):
        assert (side - side[:, :1, :1]).abs().max() < 1e-12
    assert (maps[:, 12, 5] - maps[:, 12, 18]).abs().max() > 1e-3


def test_seeds_decide():
    for make in (lambda seed: Linear(SHAPE, seed=seed), lambda seed: SumPool(seed=seed)):
        assert torch.equal(make(1).weight, make(1).weight)
        assert not torch.equal(make(1).weight, make(2).weight)
    filters = SumPool(filters=2).weight
    assert not torch.equal(filters[0], filters[1])
