import copy
import weakref

import pytest
import torch
import torch.nn.functional as F
from made.networks import draw, relative, seeded, small
from saliency_sanity._errors import NotApplicable
from saliency_sanity.attribution.base import Gradient, attributing, chunk_limit, differentiable
from saliency_sanity.attribution.catalogue import resolve
from saliency_sanity.attribution.compose import Rectified
from saliency_sanity.attribution.rectifiers import Deconv, Guided
from saliency_sanity.experiments import replay as module
from saliency_sanity.experiments.replay import replaying
from saliency_sanity.networks import folding
from saliency_sanity.randomization.blocks import find_blocks, find_stages
from saliency_sanity.randomization.schemes import Randomization, Randomizer
from torch import nn
from torchvision.models.inception import BasicConv2d as Inception

from benchmarks._inception import calibrate

METHODS = {"gradient": Gradient(), "guided": Rectified(Gradient(), Guided())}


class InPlace(nn.Module):
    """After every block something works in place on what it gave."""

    def __init__(self):
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6))
        self.two = nn.Conv2d(6, 8, 3, padding=1, stride=2)
        self.three = nn.Conv2d(8, 8, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = F.relu(self.one(x), inplace=True)
        x = self.two(x).relu_()
        x = self.relu(self.three(x).mul_(1.5).add_(0.1))
        return self.head(x.mean((2, 3)))


class Glue(InPlace):
    """What happens between the blocks is functions, on outputs and on their sizes."""

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.one(2 * x - 0.1)), 2)
        x = F.interpolate(F.relu(self.two(x)), scale_factor=2.0)
        x = torch.cat([x, x.flip(3)], 2)[:, :, : x.shape[2]] / x.shape[1]
        return self.head(F.adaptive_avg_pool2d(F.relu(self.three(x)), 1).flatten(1))


class Skip(InPlace):
    """There is a way around the second block."""

    def __init__(self):
        super().__init__()
        self.two = nn.Conv2d(6, 6, 3, padding=1)
        self.three = nn.Conv2d(12, 8, 1)

    def forward(self, x):
        one = F.relu(self.one(x))
        two = F.relu(self.two(one))
        return self.head(F.relu(self.three(torch.cat([one, two], 1))).mean((2, 3)))


class Gated(Skip):
    """The way around has no gradient."""

    def forward(self, x):
        one = F.relu(self.one(x))
        two = F.relu(self.two(one)) * (one.detach() > 0.2)
        return self.head(F.relu(self.three(torch.cat([two, two], 1))).mean((2, 3)))


class Tied(nn.Module):
    """The last but one layer has the weight of the first, and is defined before it."""

    def __init__(self):
        super().__init__()
        self.three = nn.Linear(192, 192)
        self.two = nn.Linear(192, 192)
        self.one = nn.Linear(192, 192)
        self.one.weight = self.three.weight
        self.head = nn.Linear(192, 4)

    def forward(self, x):
        x = self.two(self.one(x.flatten(1)).relu() / 14).relu() / 14
        return self.head(self.three(x).relu() / 14)


class Twice(Tied):
    """The first layer is called again behind the second."""

    def forward(self, x):
        x = self.two(self.one(x.flatten(1)).relu() / 14).relu() / 14
        return self.head(self.one(x).relu() / 14 + self.three(x).relu())


class Pair(nn.Module):
    """A block that gives two tensors, and one that does not see the picture."""

    def __init__(self):
        super().__init__()
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.table = nn.Embedding(64, 8)
        self.embed = nn.Conv2d(3, 8, 1)
        self.body = nn.Linear(8, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        tokens = self.embed(x).flatten(2).mT
        tokens = tokens + self.table(torch.arange(tokens.shape[1], device=x.device))
        tokens = tokens + self.attend(tokens, tokens, tokens)[0]
        return self.head(self.body(tokens).relu().mean(1))


NETWORKS = [InPlace, Glue, Skip, Gated, Tied, Twice, Pair]


def network(kind):
    return seeded(kind()).eval()


def images(count=5, size=8):
    return draw(count, 3, size, size, seed=3), torch.arange(count) % 4


def tapes(replay):
    return len(replay._tapes)


def stages_of(model, x, order, seeds=(0, 1)):
    """Every stage for every seed, random within a replay; gives stage, seed and replay."""
    blocks = find_blocks(model, x)
    with (
        Randomizer(model, blocks, Randomization("moments")) as randomizer,
        replaying(model, blocks, x) as replay,
    ):
        for seed in seeds:
            for stage in find_stages(blocks, order):
                replay.random(stage.blocks)
                randomizer.set(stage.blocks, seed)
                yield stage, seed, replay


def plainly(model, x, target, method):
    """The map of a copy of the network, which no replay covers."""
    return method(copy.deepcopy(model), x, target)


@pytest.mark.parametrize("order", ["top_down", "bottom_up", "independent"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_maps_are_bit_for_bit_the_plain_ones_at_every_stage(kind, order):
    model = network(kind)
    x, target = images()
    seen = set()
    with chunk_limit(2):
        for stage, seed, _ in stages_of(model, x, order):
            for name, method in METHODS.items():
                expected = plainly(model, x, target, method)
                # Twice: the first pass may record, the second never does.
                for _ in range(2):
                    assert torch.equal(method(model, x, target), expected), (stage, seed, name)
                if name == "gradient":
                    assert expected.abs().max() > 0
                    seen.add((stage.name, seed, expected.sum().item()))
    assert len({total for _, _, total in seen}) == len(seen), "stages should differ"


@pytest.mark.parametrize("order", ["top_down", "independent"])
def test_real_networks_too(resnet, order):
    x, target = draw(2, 3, 64, 64), torch.tensor([3, 5])
    for _, _, _ in stages_of(resnet, x, order, seeds=(0,)):
        for method in METHODS.values():
            expected = plainly(resnet, x, target, method)
            assert torch.equal(method(resnet, x, target), expected)


def test_logits_are_the_plain_ones_without_a_graph():
    model = network(InPlace)
    x, target = images()
    for _ in stages_of(model, x, "top_down"):
        Gradient()(model, x, target)
        with attributing(model, x, target), torch.no_grad():
            leaf, logits, kept = differentiable(model, x)
            assert torch.equal(logits, model(leaf))
        assert not kept or not logits.requires_grad
        assert torch.equal(leaf, x)


class Counting:
    """How often modules run."""

    def __init__(self, model, *paths):
        self.calls = dict.fromkeys(paths, 0)
        for path in paths:
            layer = model.get_submodule(path)
            layer.forward = self.count(path, layer.forward)

    def count(self, path, forward):
        def counted(*inputs):
            self.calls[path] += 1
            return forward(*inputs)

        return counted


def test_what_is_trained_runs_once_and_what_is_random_every_time():
    model = network(InPlace)
    x, target = images()
    blocks = find_blocks(model, x)
    counting = Counting(model, "one.0", "two", "three", "head")
    with (
        Randomizer(model, blocks, Randomization("moments")) as randomizer,
        replaying(model, blocks, x) as replay,
    ):
        for stage in find_stages(blocks, "top_down"):
            replay.random(stage.blocks)
            randomizer.set(stage.blocks, 0)
            for _ in range(3):
                Gradient()(model, x, target)
    # The batch norm is a block with its convolution; the last stage has nothing to start from.
    assert [stage.name for stage in find_stages(blocks, "top_down")] == [
        "head",
        "three",
        "two",
        "one.0",
    ]
    # Asked again at one stage, the same pass serves again, unless it is the one that is kept. One
    # whole pass proves that a pass of which parts are kept gives the same.
    assert counting.calls == {"one.0": 1 + 2, "two": 1 + 3, "three": 1 + 4, "head": 6}


def test_each_backward_rule_has_a_graph_of_its_own():
    model = network(InPlace)
    x, target = images()
    rules = [Gradient(), Rectified(Gradient(), Guided()), Rectified(Gradient(), Deconv())]
    expected = [plainly(model, x, target, method) for method in rules]
    blocks = find_blocks(model, x)
    with replaying(model, blocks, x) as replay:
        replay.random(["head"])
        for _ in range(2):
            for method, plain in zip(rules, expected, strict=True):
                assert torch.equal(method(model, x, target), plain)
        assert tapes(replay) == 3
    assert not torch.equal(expected[0], expected[1])
    assert not torch.equal(expected[1], expected[2])


class OnlyBelow(InPlace):
    """Rectifiers lie below the last layer only, or nowhere."""

    def __init__(self, rectifier=F.relu):
        super().__init__()
        self.rectifier = rectifier

    def forward(self, x):
        return self.head(self.three(self.two(self.rectifier(self.one(x)))).mean((2, 3)))


def test_rectifiers_that_are_not_run_again_are_still_known():
    guided = METHODS["guided"]
    x, target = images()
    model = network(OnlyBelow)
    blocks = find_blocks(model, x)
    with replaying(model, blocks, x) as replay:
        replay.random(["head"])
        for _ in range(3):
            assert torch.equal(guided(model, x, target), plainly(model, x, target, guided))
    smooth = seeded(OnlyBelow(torch.tanh)).eval()
    with replaying(smooth, find_blocks(smooth, x), x) as replay:
        replay.random(["head"])
        for _ in range(3):
            with pytest.raises(NotApplicable, match="called none"):
                guided(smooth, x, target)


def test_a_budget_that_is_used_up_costs_time_only(monkeypatch):
    x, target = images()
    model = network(InPlace)
    one = x[:2].nbytes // 3  # an element of each picture, at each place
    for budget in (0, 1, 60 * one, 2**40):
        monkeypatch.setattr(module, "_CPU_BYTES", budget)
        most = 0
        with chunk_limit(2):
            for _, _, replay in stages_of(model, x, "top_down"):
                for method in METHODS.values():
                    expected = plainly(model, x, target, method)
                    assert torch.equal(method(model, x, target), expected)
                most = max(most, tapes(replay))
                assert sum(tape.bytes for tape in replay._tapes.values()) <= budget
        # Three slices of the images, two rules.
        assert (most == 0, most == 6) == (budget < 2, budget == 2**40)


def test_tapes_do_not_pile_up_over_stages_and_seeds():
    x, target = images()
    model = network(InPlace)
    counts = []
    with chunk_limit(2):
        for stage, _, replay in stages_of(model, x, "top_down", seeds=range(4)):
            for method in METHODS.values():
                method(model, x, target)
            counts.append(tapes(replay))
            kept = {unit for tape in replay._tapes.values() for unit in tape.starts}
            assert not {replay._units[unit] for unit in kept} & set(stage.blocks)
    assert max(counts) == 6


def test_graphs_of_what_has_become_random_are_freed():
    x, target = images()
    model = network(InPlace)
    blocks = find_blocks(model, x)
    with replaying(model, blocks, x) as replay:
        replay.random(["head"])
        Gradient()(model, x, target)
        (tape,) = replay._tapes.values()
        units = {path: number for number, path in enumerate(replay._units)}
        outputs = tape.trace.outputs
        top, low = (weakref.ref(outputs[units[path]][0]) for path in ("three", "two"))
        replay.random(["three", "head"])
        assert top() is None
        assert low() is not None
    del replay, tape, outputs
    assert low() is None


@pytest.mark.parametrize("fails", [False, True])
def test_modules_are_as_they_were(fails):
    model = network(InPlace)
    x, target = images()
    blocks = find_blocks(model, x)
    own = model.two.forward
    model.two.forward = lambda inputs: own(inputs) + 1
    patched = model.two.forward
    with replaying(model, blocks, x) as replay:
        replay.random(["head"])
        first = Gradient()(model, x, target)
        if fails:
            handle = model.head.register_forward_hook(lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                Gradient()(model, x, target)
            handle.remove()
        assert torch.equal(Gradient()(model, x, target), first)
    for path, layer in model.named_modules():
        assert ("forward" in vars(layer)) == (path == "two")
        assert not layer._forward_hooks
    assert model.two.forward is patched


def test_only_the_images_of_the_context_are_covered():
    model = network(InPlace)
    x, target = images()
    other, twin = x.clone(), copy.deepcopy(model)
    blocks = find_blocks(model, x)
    with replaying(model, blocks, x) as replay:
        replay.random(["head"])
        assert replay.covers(model, x)
        assert replay.covers(model, x[1:3])
        assert not replay.covers(model, other)
        assert not replay.covers(twin, x)
        for part in (x, x[1:3], x[::2], x.flip(0), x.flip(3), x.mT, 2 * x):
            wanted = target[: len(part)]
            for _ in range(2):
                expected = plainly(model, part, wanted, Gradient())
                assert torch.equal(Gradient()(model, part, wanted), expected)
    assert module.shortened.get() is None


@pytest.mark.parametrize(
    "name", ["smoothgrad", "integrated_gradients", "gradient_x_input", "guided_grad_cam", "vargrad"]
)
def test_compositions_give_what_they_give_without(small_net, name):
    method = resolve(name)
    model = small()
    x, target = draw(3, 3, 16, 16), torch.tensor([0, 1, 2])
    for _ in stages_of(model, x, "top_down", seeds=(0,)):
        expected = plainly(model, x, target, method)
        assert relative(method(model, x, target), expected) < 1e-6


def test_passes_can_be_started_where_the_graph_and_nothing_else_goes_through():
    x, target = images()
    expected = {
        InPlace: {"one.0", "two", "three"},
        Glue: {"one.0", "two", "three"},
        Skip: {"one.0", "three"},
        Gated: {"one.0", "three"},
        Tied: {"one", "two", "three"},
        Twice: set(),
    }
    for kind, cuts in expected.items():
        model = network(kind)
        blocks = find_blocks(model, x)
        with replaying(model, blocks, x) as replay:
            replay.random([blocks[-1].name])
            Gradient()(model, x, target)
            found = {replay._units[unit] for tape in replay._tapes.values() for unit in tape.starts}
        assert {block.name for block in blocks if block.modules[-1] in found} == cuts, kind


class Normed(nn.Module):
    """A convolution and a batch norm of their own, then two within one unit."""

    def __init__(self, channels):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.second, self.third = (Inception(channels, channels, kernel_size=1) for _ in range(2))
        self.head = nn.Linear(channels, 4)

    def forward(self, x):
        x = F.relu(self.norm(self.first(x)), inplace=True)
        return self.head(self.third(x + self.second(x)).mean((2, 3)))


def test_passes_with_folded_batch_norms_start_in_the_middle_too(monkeypatch):
    monkeypatch.setattr(folding, "_PLACES", 1)
    monkeypatch.setattr(folding, "_NUMBERS", 1)
    model = calibrate(seeded(Normed(6)).eval(), 12)
    x, target = draw(2, 3, 12, 12), torch.tensor([0, 1])
    blocks, seen = find_blocks(model, x), []
    monkeypatch.setattr(folding.Pair, "is_parted", spied(folding.Pair.is_parted, seen))
    with (
        Randomizer(model, blocks, Randomization("moments")) as randomizer,
        replaying(model, blocks, x) as replay,
    ):
        for stage in find_stages(blocks, "top_down"):
            replay.random(stage.blocks)
            randomizer.set(stage.blocks, 0)
            found = Gradient()(model, x, target)
            token = folding.allowed.set(False)
            try:
                expected = plainly(model, x, target, Gradient())
            finally:
                folding.allowed.reset(token)
            assert relative(found, expected) < 1e-4
            assert not torch.equal(found, expected)
    assert replay.reason == ""
    assert replay.shortened == 2
    # What lies between the first convolution and its norm is where a pass might start.
    assert seen.count(True) == len(blocks)
    assert seen.count(False) == 2 * len(blocks)


def spied(function, seen):
    def spy(*args):
        seen.append(function(*args))
        return seen[-1]

    return spy
