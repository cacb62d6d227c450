"""Adversarial pictures: one step by hand, bounds that hold, noise of the very same values."""

import pytest
import torch
import torch.nn.functional as F
from made.networks import draw, small
from saliency_sanity.attribution.base import chunk_limit
from saliency_sanity.probes.adversarial import adversarial, displaced, loss_gradient

MODEL = small()
SCALING = MODEL.scaling
RAW = draw(3, 3, 16, 16, seed=2).sigmoid()
X = SCALING.to_network(RAW)
TARGET = torch.tensor([0, 3, 1])


def by_autograd(x):
    leaf = x.clone().requires_grad_()
    loss = F.cross_entropy(MODEL(leaf), TARGET, reduction="sum")
    return torch.autograd.grad(loss, leaf)[0]


def losses(x):
    with torch.no_grad():
        return F.cross_entropy(MODEL(x), TARGET, reduction="none")


def test_the_gradient_is_that_of_each_pictures_own_loss():
    torch.testing.assert_close(loss_gradient(MODEL, X, TARGET), by_autograd(X))


def test_one_step_is_the_sign_of_the_gradient():
    found = adversarial(MODEL, X, TARGET, SCALING, 0.02)
    wanted = (RAW + 0.02 * by_autograd(X).sign()).clamp(0, 1)
    torch.testing.assert_close(SCALING.to_raw(found), wanted)


def test_two_steps_look_again_half_way():
    found = adversarial(MODEL, X, TARGET, SCALING, 0.02, steps=2)
    half = (RAW + 0.01 * by_autograd(X).sign()).clamp(0, 1)
    wanted = (half + 0.01 * by_autograd(SCALING.to_network(half)).sign()).clamp(0, 1)
    torch.testing.assert_close(SCALING.to_raw(found), wanted)


@pytest.mark.parametrize("steps", [1, 3])
def test_no_pixel_goes_farther_and_the_loss_rises(steps):
    raw = RAW.clone()
    raw[0] = 1  # at the end of its range already
    x = SCALING.to_network(raw)
    found = adversarial(MODEL, x, TARGET, SCALING, 0.05, steps)
    moved = SCALING.to_raw(found)
    assert float((moved - raw).abs().max()) <= 0.05 + 1e-6
    assert float(moved.min()) >= -1e-6
    assert float(moved.max()) <= 1 + 1e-6
    assert (losses(found)[1:] > losses(x)[1:]).all()


def test_chunks_and_the_state_of_the_network_do_not_matter():
    before = {name: value.clone() for name, value in MODEL.state_dict().items()}
    whole = adversarial(MODEL, X, TARGET, SCALING, 0.02, 2)
    with chunk_limit(1), torch.no_grad():
        torch.testing.assert_close(adversarial(MODEL, X, TARGET, SCALING, 0.02, 2), whole)
    assert all(torch.equal(value, before[name]) for name, value in MODEL.state_dict().items())
    assert all(parameter.grad is None for parameter in MODEL.parameters())


@pytest.mark.parametrize(
    ("bound", "steps", "says"), [(0, 1, "bound is 0"), (1.5, 1, "bound is 1.5"), (0.1, 0, "steps")]
)
def test_what_cannot_be_is_refused(bound, steps, says):
    with pytest.raises(ValueError, match=says):
        adversarial(MODEL, X, TARGET, SCALING, bound, steps)


def test_noise_has_the_very_values_of_the_change_elsewhere():
    raw = RAW * 0.5 + 0.25  # far from the ends, where nothing is cut
    x = SCALING.to_network(raw)
    moved = SCALING.to_network(raw + 0.1 * draw(3, 3, 16, 16, seed=5).tanh())
    noisy = displaced(x, moved, SCALING)
    change, other = ((SCALING.to_raw(one) - raw).flatten(2) for one in (moved, noisy))
    for mine, theirs in zip(change, other, strict=True):
        assert not torch.allclose(mine, theirs, atol=1e-3)
        rows, wanted = (part.T[part[0].argsort()] for part in (theirs, mine))
        torch.testing.assert_close(rows, wanted, rtol=1e-4, atol=1e-5)


def test_noise_is_of_its_seed_and_stays_within_the_range():
    moved = adversarial(MODEL, X, TARGET, SCALING, 0.5)
    one = displaced(X, moved, SCALING, seed=1)
    assert torch.equal(one, displaced(X, moved, SCALING, seed=1))
    assert not torch.equal(one, displaced(X, moved, SCALING, seed=2))
    torch.testing.assert_close(one[:2], displaced(X[:2], moved[:2], SCALING, seed=1))
    raw = SCALING.to_raw(one)
    assert float(raw.min()) >= -1e-6
    assert float(raw.max()) <= 1 + 1e-6
