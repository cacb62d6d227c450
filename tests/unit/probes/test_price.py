"""What maps cost: passes counted one by one, and an end where they are too many."""

import pytest
import torch
from made.networks import draw, small
from saliency_sanity import resolve
from saliency_sanity.attribution.base import passes
from saliency_sanity.probes.price import TooDearError, passes_of, price

TARGET = torch.tensor([3])


@pytest.fixture
def x():
    return draw(1, 3, 16, 16)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("gradient", {}),
        ("integrated_gradients", {"steps": 4}),
        ("vargrad", {"samples": 3}),
        ("cgi", {}),
        ("occlusion", {"window": 0.5, "stride": 0.5}),
        ("rise", {"masks": 7}),
    ],
)
def test_a_price_is_the_passes_that_a_method_states(name, given, small_net, x):
    method = resolve(name, **given)
    found = price(method, small_net, x, TARGET, 100)
    assert (found.passes, found.stopped) == (passes(method) * (5 if name == "cgi" else 1), False)
    assert found.seconds > 0


def test_what_is_too_dear_is_stopped_and_leaves_no_trace(small_net, x):
    method, before = resolve("smoothgrad", samples=50), small_net.state_dict()
    found = price(method, small_net, x, TARGET, 5)
    assert (found.passes, found.stopped) == (5, True)
    assert not small_net._forward_hooks
    assert not small_net._forward_pre_hooks
    assert all(torch.equal(value, before[key]) for key, value in small_net.state_dict().items())
    assert torch.equal(method(small_net, x, TARGET), method(small(), x, TARGET))


def test_passes_of_others_are_counted_forward_and_back(small_net, x):
    with passes_of(small_net) as found:
        small_net(x.repeat(3, 1, 1, 1).requires_grad_()).sum().backward()
        with torch.no_grad():
            small_net(x)
    assert (found.forward, found.backward, found.asked) == (4, 3, 3)
    with pytest.raises(TooDearError, match="more than 2 passes"), passes_of(small_net, 2):
        small_net(x.repeat(5, 1, 1, 1))


@pytest.mark.parametrize(("images", "most"), [(2, 5), (1, 0)])
def test_a_price_is_that_of_one_picture(images, most, small_net, x):
    with pytest.raises(ValueError, match="give one picture, and 1 or more"):
        price(resolve("gradient"), small_net, x.repeat(images, 1, 1, 1), TARGET, most)
