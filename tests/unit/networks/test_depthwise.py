"""Depthwise convolutions of doubles against torch's own, one channel at a time."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from saliency_sanity.networks.depthwise import Depthwise

SETTINGS = [
    {},
    {"padding": 1},
    {"stride": 2, "padding": 1},
    {"stride": (2, 1), "padding": (2, 0)},
    {"dilation": 2, "padding": 2},
    {"stride": 3, "dilation": (1, 2), "padding": (0, 3)},
]


def drawn(channels=6, size=(3, 3), **kind):
    generator = torch.Generator().manual_seed(0)
    kind = {"dtype": torch.float64, "generator": generator} | kind
    x = torch.randn(2, channels, 11, 13, **kind).requires_grad_()
    return x, torch.randn(channels, 1, *size, **kind), torch.randn(channels, **kind)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("size", [(3, 3), (5, 2), (1, 1)])
@pytest.mark.parametrize("biased", [False, True])
def test_equals_torch_and_so_does_the_gradient(settings, size, biased):
    x, weight, bias = drawn(size=size)
    given = (x, weight, bias if biased else None)
    theirs = F.conv2d(*given, **settings, groups=6)
    with Depthwise():
        ours = F.conv2d(*given, **settings, groups=6)
    assert type(ours.grad_fn) is not type(theirs.grad_fn)
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)
    upper = torch.randn(theirs.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    (a,), (b,) = (torch.autograd.grad(y, x, upper) for y in (ours, theirs))
    torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)


def test_modules_are_seen_and_their_own_padding_is_kept():
    x, *_ = drawn()
    for mode in ("zeros", "reflect"):
        layer = torch.nn.Conv2d(6, 6, 3, padding=1, groups=6, padding_mode=mode).double()
        layer.requires_grad_(False)
        theirs = layer(x)
        with Depthwise():
            ours = layer(x)
        assert "Shifted" in str(ours.grad_fn) or "Add" in str(ours.grad_fn)
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("channels", "groups", "kind"),
    [(6, 6, {"dtype": torch.float32}), (6, 3, {}), (6, 1, {})],
)
def test_other_calls_are_made_as_they_stand(channels, groups, kind):
    x, *_ = drawn(channels, **kind)
    weight = torch.randn(6, channels // groups, 3, 3, dtype=x.dtype)
    with Depthwise():
        ours = F.conv2d(x, weight, groups=groups)
    assert torch.equal(ours, F.conv2d(x, weight, groups=groups))
    assert "Convolution" in str(ours.grad_fn)


def test_weights_that_are_learned_get_their_gradient():
    x, weight, _ = drawn()
    with Depthwise():
        F.conv2d(x, weight.requires_grad_(), groups=6).sum().backward()
    assert weight.grad is not None


def test_it_can_be_differentiated_twice():
    x, weight, bias = drawn()
    second = []
    for on in (nullcontext(), Depthwise()):
        with on:
            found = F.conv2d(x, weight, bias, stride=2, padding=1, groups=6)
        (first,) = torch.autograd.grad((found**3).sum(), x, create_graph=True)
        second += torch.autograd.grad((first**2).sum(), x)
    torch.testing.assert_close(*second, rtol=1e-12, atol=1e-12)
