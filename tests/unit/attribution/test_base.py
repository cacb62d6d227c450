"""Chunks, memory and scopes: what the gradient primitive promises besides the gradient."""

import gc

import pytest
import torch
from made.memory import LiveTensors
from made.networks import draw, relative, small
from saliency_sanity import CATALOGUE, chunk_limit, resolve
from saliency_sanity.attribution.base import Gradient, chunk_size, passes
from saliency_sanity.attribution.compose import NoiseAverage
from saliency_sanity.networks.forward import manner
from torch import nn

X = draw(5, 3, 16, 16)
TARGET = torch.tensor([0, 1, 2, 3, 4])


class Watched(nn.Module):
    """Notes the batches it is given and refuses large ones as an allocator would."""

    def __init__(self, room: int = 10**9, error: BaseException | None = None):
        super().__init__()
        self.network = small()
        self.cam_layer = "network.network.second"
        self.room, self.error = 10**9, error
        self.seen: list[int] = []
        # How it is to be run is found out by passes of their own.
        for most in (1, 3):
            with chunk_limit(most):
                manner(self, X)
        self.seen.clear()
        self.room = room

    def forward(self, x):
        self.seen.append(len(x))
        if len(x) > self.room:
            raise self.error
        return self.network(x)


def test_gradient_of_a_quadratic_is_known():
    class Quadratic(nn.Module):
        def forward(self, x):
            energy = (x**2).sum((1, 2, 3))
            return torch.stack([energy, -3 * energy], 1)

    target = TARGET % 2
    expected = torch.where(target == 0, 2.0, -6.0).view(-1, 1, 1, 1) * X
    assert relative(Gradient()(Quadratic(), X, target), expected) < 1e-6


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_chunks_obey_the_limit_and_are_full(limit):
    model = Watched()
    with chunk_limit(limit):
        NoiseAverage(Gradient(), samples=7)(model, X, TARGET)
    assert max(model.seen) == min(limit, 35)
    assert sum(model.seen) == 35
    assert len(model.seen) == -(-35 // limit)


def test_chunk_size_falls_with_the_size_of_the_input_and_never_to_nothing():
    sizes = [chunk_size(torch.empty(1, 3, side, side, device="meta")) for side in (28, 299, 9000)]
    assert sizes[0] > sizes[1] > sizes[2] == 1
    with chunk_limit(2):
        assert chunk_size(X) == 2
        with chunk_limit(3):
            assert chunk_size(X) == 3
    with pytest.raises(ValueError, match="chunk limit 0 must be at least 1"), chunk_limit(0):
        pass


ALLOCATORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    MemoryError(),
]


@pytest.mark.parametrize("error", ALLOCATORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", ["gradient", "smoothgrad", "vargrad", "guided_grad_cam"])
def test_recovers_from_exhausted_memory_with_smaller_chunks(name, error):
    few = {"samples": 3} if "samples" in CATALOGUE[name].defaults else {}
    expected = resolve(name, **few)(Watched(), X, TARGET)
    model = Watched(2, error)
    assert relative(resolve(name, **few)(model, X, TARGET), expected) < 1e-5
    failed = [size for size in model.seen if size > 2]
    assert failed
    # Passes of one or two pictures before are to see whether the method applies.
    seen = model.seen[model.seen.index(failed[0]) :]
    assert seen.index(failed[-1]) == len(failed) - 1, "the smaller size is remembered"
    assert len(failed) <= 3, "halved, not tried one by one"


# What needs a class token is asked in tests of its own.
TOKENLESS = {name: card for name, card in CATALOGUE.items() if "attention" not in card.needs}


@pytest.mark.parametrize("name", [n for n, c in TOKENLESS.items() if c.kind == "method"])
def test_no_room_for_a_single_input_is_a_memory_error_with_advice(name):
    model = Watched(0, torch.OutOfMemoryError("no room"))
    with pytest.raises(MemoryError, match=r"\(3, 16, 16\) does not fit.*smaller images"):
        resolve(name)(model, X, TARGET)
    assert model.seen[-1] == 1
    assert all(p.requires_grad for p in model.parameters())


def test_other_errors_pass_through_at_once():
    model = Watched(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        Gradient()(model, X, TARGET)
    assert len(model.seen) == 1


@pytest.mark.parametrize("name", ["smoothgrad", "vargrad", "integrated_gradients", "ig_smoothgrad"])
def test_memory_does_not_grow_with_samples_or_steps(name, small_net):
    def peak(count):
        counts = {"samples": count, "steps": count}
        if name == "ig_smoothgrad":
            counts["steps"] = 2
        given = {k: v for k, v in counts.items() if k in CATALOGUE[name].defaults}
        gc.collect()
        with LiveTensors() as live, chunk_limit(4):
            resolve(name, **given)(small_net, X[:2], TARGET[:2])
        assert live.alive < X.nbytes * 2, "nothing but the map outlives the call"
        return live.peak

    few, many = peak(10), peak(60 if name == "ig_smoothgrad" else 200)
    assert few > 3 * X.nbytes, "the counter sees the pass"
    assert many <= few * 1.01


def test_counter_of_live_tensors_notices_what_is_kept(small_net):
    peaks = []
    for count in (10, 40):
        kept = []

        def hoarding(model, x, target, kept=kept):
            kept.append(Gradient()(model, x, target))
            return kept[-1]

        with LiveTensors() as live, chunk_limit(4):
            NoiseAverage(hoarding, samples=count)(small_net, X, TARGET)
        peaks.append(live.peak)
    assert peaks[1] - peaks[0] > 25 * X.nbytes


def test_own_method_with_a_graph_does_not_pile_up(small_net):
    def careless(model, x, target):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(model(x).sum(), x, create_graph=True)[0] + 0 * x

    smooth = NoiseAverage(careless, samples=20)(small_net, X, TARGET)
    assert smooth.grad_fn is None


def test_passes_count_what_the_network_is_asked():
    channels = small().network.second.out_channels
    for name, card in TOKENLESS.items():
        given = {"samples": 2, "steps": 3, "top": 4, "masks": 6}
        method = resolve(name, **{k: v for k, v in given.items() if k in card.defaults})
        model, there, back = Watched(), [], []

        def count(_module, inputs, logits, there=there, back=back):
            there.append(len(inputs[0]))
            if logits.requires_grad:
                logits.register_hook(lambda gradient: back.append(len(gradient)))

        model.register_forward_hook(count)
        method(model, X, TARGET)
        asked = passes(method) + channels * card.every_channel
        assert asked * len(X) == sum(back or there), name
    assert passes(lambda model, x, target: x) == 1


class Tokens(nn.Module):
    """Batch norm, then tokens: with one contiguous picture torch's own gradient is wrong."""

    def __init__(self, view):
        super().__init__()
        self.front, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.view = view

    def forward(self, x):
        made = self.front(x).relu()
        if self.view:  # not in channels_last
            made = made.view(len(x), -1).view(made.shape)
        tokens = self.norm(made).flatten(2).transpose(1, 2).contiguous()
        return (tokens * torch.arange(36.0, dtype=x.dtype)[:, None].cos()).tanh().sum(1)


@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize("name", ["gradient", "guided_backprop", "integrated_gradients"])
def test_a_picture_alone_has_the_map_that_it_has_beside_another(view, name):
    torch.manual_seed(0)
    network = Tokens(view).double().eval()
    x, target = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.tensor([1, 2])
    both = resolve(name)(network, x, target)
    for i in range(2):
        one = resolve(name)(network, x[i : i + 1], target[i : i + 1])
        torch.testing.assert_close(one[0], both[i], rtol=1e-10, atol=1e-12)
    if name == "gradient":
        step = torch.zeros_like(x).index_fill_(3, torch.tensor([3]), 1e-6)
        with torch.no_grad():
            ends = [network(x + s * step).gather(1, target[:, None]) for s in (1, -1)]
        slope = ((ends[0] - ends[1]) / 2e-6)[:, 0]
        torch.testing.assert_close((both * step / 1e-6).flatten(1).sum(1), slope, rtol=1e-5, atol=0)
