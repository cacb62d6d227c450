"""What a network works out of its weights once is worked out again of random ones."""

import copy

import pytest
import torch
from made.networks import draw, seeded
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.randomization.blocks import find_blocks
from saliency_sanity.randomization.schemes import Randomization, Randomizer, randomized
from torch import nn

X = draw(3, 3, 8, 8)


class Cached(nn.Module):
    """A scale for each of four channels, and a place for it."""

    def __init__(self):
        super().__init__()
        self.scale, self.cache = nn.Parameter(torch.ones(2, 4)), None

    def worked_out(self):
        return self.scale.square().sum(0)[:, None, None]

    def forward(self, x):
        return x * self.get()


class ClearedInTrain(Cached):
    """As the attention biases of LeViT and TinyViT, which are kept for each device."""

    def __init__(self):
        super().__init__()
        self.cache = {}

    def train(self, mode=True):
        super().train(mode)
        if mode and self.cache:
            self.cache = {}
        return self

    def get(self):
        if self.training:
            return self.worked_out()
        if "cpu" not in self.cache:
            self.cache["cpu"] = self.worked_out()
        return self.cache["cpu"]


class ByNone(Cached):
    def get(self):
        if self.cache is None:
            self.cache = self.worked_out()
        return self.cache


class ByAbsence(Cached):
    def __init__(self):
        super().__init__()
        del self.cache

    def get(self):
        if not hasattr(self, "cache"):
            self.cache = self.worked_out().detach()
        return self.cache


class InAList(Cached):
    def __init__(self):
        super().__init__()
        self.cache = []

    def get(self):
        if not self.cache:
            self.cache.append(self.worked_out())
        return self.cache[0]


class AsABuffer(Cached):
    def __init__(self):
        super().__init__()
        del self.cache
        self.register_buffer("cache", None, persistent=False)

    get = ByNone.get


class Object:
    table = None


class InAnObject(Cached):
    def __init__(self):
        super().__init__()
        self.cache = Object()

    def get(self):
        if self.cache.table is None:
            self.cache.table = self.worked_out()
        return self.cache.table


class ByFlag(Cached):
    """It cannot be emptied from outside: nothing says that the flag is one."""

    def __init__(self):
        super().__init__()
        self.built = False

    def get(self):
        if not self.built:
            self.cache, self.built = self.worked_out().detach(), True
        return self.cache


CLEARED = (ClearedInTrain, ByNone, ByAbsence, InAList, AsABuffer)


class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.one, self.middle, self.two = nn.Conv2d(3, 4, 3), kind(), nn.Linear(4, 5)
        # Constants beside it are no caches.
        self.mean, self.table = torch.tensor(0.1), {"weights": [torch.ones(4, 1, 1)]}

    def forward(self, x):
        y = self.middle(self.one(x - self.mean)).relu() * self.table["weights"][0]
        return self.two(y.mean((2, 3)))


def network(kind):
    return seeded(Net(kind)).eval().requires_grad_(False)


def contents(model):
    return {
        path: {name: str(value) for name, value in vars(module).items() if name != "_modules"}
        for path, module in model.named_modules()
    }


@pytest.mark.parametrize("warm", [False, True, "in inference mode"])
@pytest.mark.parametrize("kind", CLEARED)
def test_random_logits_are_those_of_a_clean_network(kind, warm):
    model = network(kind)
    blocks = find_blocks(model, X)
    if warm:
        with torch.inference_mode(warm == "in inference mode"):
            model(X)
    before = contents(model)
    with Randomizer(model, blocks, Randomization("moments"), X) as randomizer:
        for names in ([b.name for b in blocks], [blocks[0].name], [], [blocks[-1].name]):
            for seed in (0, 1):
                randomizer.set(names, seed)
                clean = network(kind)
                clean.load_state_dict(model.state_dict())
                target = torch.zeros(3, dtype=torch.int64)
                maps = Gradient()(model, X, target)
                assert torch.equal(maps, Gradient()(clean, X, target))
                assert torch.equal(model(X), clean(X))
    assert contents(model) == before


@pytest.mark.parametrize("kind", [InAnObject, ByFlag])
def test_what_cannot_be_emptied_is_refused_by_name(kind):
    model = network(kind)
    blocks = find_blocks(model, X)
    model(X)
    before = contents(model)
    with (
        pytest.raises(ValueError, match=r"parameter middle.scale does not act.*cache of middle"),
        Randomizer(model, blocks, Randomization("moments"), X),
    ):
        pass
    assert contents(model) == before


def test_they_come_back_after_an_exception():
    for kind in CLEARED:
        model = network(kind)
        blocks = find_blocks(model, X)
        model(X)
        before = contents(model)
        with (
            pytest.raises(RuntimeError),
            randomized(model, blocks, Randomization("moments"), calibration=X),
        ):
            model(X[:, :2])
        assert contents(model) == before


def test_without_pictures_nothing_is_guessed():
    model = network(ByNone)
    blocks = find_blocks(model, X)
    model(X)
    with (
        pytest.raises(ValueError, match=r"cache of middle.*calibration=x"),
        randomized(model, blocks, Randomization("moments")),
    ):
        pass
    with randomized(model, blocks, Randomization("moments"), calibration=X):
        pass


def test_constants_alone_are_no_obstacle():
    class Plain(Cached):
        def get(self):
            return self.worked_out()

    model = network(Plain)
    with randomized(model, find_blocks(model, X), Randomization("moments"), calibration=X):
        found = model(X)
    assert found.isfinite().all()
    assert model.mean == torch.tensor(0.1)


@pytest.mark.parametrize("name", ["levit_128s", "tiny_vit_5m_224"])
def test_networks_of_timm(name):
    from saliency_sanity.networks.compat import ensure_torchvision

    ensure_torchvision()
    timm = pytest.importorskip("timm")
    model = timm.create_model(name, num_classes=3).eval().requires_grad_(False)
    clean, x = copy.deepcopy(model), draw(1, 3, 224, 224)
    blocks = find_blocks(model, x)
    model(x)
    with randomized(model, blocks, Randomization("moments"), calibration=x):
        found = model(x)
        clean.load_state_dict(model.state_dict())
        right = clean(x)
    assert (found - right).abs().max() <= 1e-5 * right.abs().max()


@pytest.mark.parametrize("kind", [ClearedInTrain, ByNone, InAList, AsABuffer])
def test_what_was_kept_in_inference_mode_stops_no_gradient(kind):
    model, target = network(kind), torch.zeros(3, dtype=torch.int64)
    right = Gradient()(network(kind), X, target)
    with torch.inference_mode():
        model(X)
    before = contents(model)
    assert torch.equal(Gradient()(model, X, target), right)
    assert contents(model) == before
