"""Networks that hide something from modules and graph: the experiment equals a plain loop."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made.networks import draw, seeded
from saliency_sanity.attribution.base import Gradient, chunk_limit
from saliency_sanity.attribution.compose import NoiseAverage, Rectified
from saliency_sanity.attribution.rectifiers import Guided
from saliency_sanity.experiments.cascade import Experiment
from saliency_sanity.randomization.blocks import find_blocks, find_stages
from saliency_sanity.randomization.schemes import Randomization
from saliency_sanity.similarity.metrics import metric
from torch import nn
from torch.utils.checkpoint import checkpoint


class Rectifier(nn.Module):
    """A ReLU whose derivative an independent loop can replace."""

    guided = False

    def forward(self, x):
        return _Guide.apply(x) if Rectifier.guided else F.relu(x)


class _Guide(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp_min(0)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient.clamp_min(0) * (x > 0)


class Base(nn.Module):
    """Three convolutions and a head; what hides in it is for others to say."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(3, 4, 3, padding=1)
        self.two = nn.Conv2d(4, 4, 3, padding=1)
        self.three = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = Rectifier()
        self.head = nn.Linear(4, 4)

    def forward(self, x):
        x = self.relu(self.one(x))
        x = self.relu(self.two(x))
        return self.head(self.relu(self.three(x)).mean((2, 3)))


class Keeping(nn.Conv2d):
    """A layer that keeps what it gave."""

    def forward(self, x):
        self.kept = super().forward(x)
        return self.kept


class Attribute(Base):
    """A later layer reads what an earlier one has kept."""

    def __init__(self):
        super().__init__()
        self.one = Keeping(3, 4, 3, padding=1)

    def forward(self, x):
        x = self.relu(self.one(x))
        x = self.relu(self.two(x))
        return self.head((self.relu(self.three(x)) + self.one.kept).mean((2, 3)))


class Unit(nn.Module):
    """A convolution that leaves and takes things in a container shared with others."""

    def __init__(self, shared, leaves=None, takes=None, channels=4):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.shared, self.leaves, self.takes = shared, leaves, takes

    def forward(self, x):
        x = self.conv(x)
        if self.leaves:
            self.shared[self.leaves] = x.detach().abs().mean((1, 2, 3), keepdim=True)
        return x / self.shared[self.takes] if self.takes else x


class Container(Base):
    """Two modules share a dictionary."""

    def __init__(self):
        super().__init__()
        shared = {}
        self.one = Unit(shared, leaves="scale", channels=3)
        self.three = Unit(shared, takes="scale")


class Closure(Base):
    """A function that a layer was given writes where another one reads."""

    def __init__(self):
        super().__init__()
        kept = []

        class Writing(nn.Conv2d):
            def forward(self, x):
                kept[:] = [super().forward(x)]
                return kept[0] * 1

        class Reading(nn.Conv2d):
            def forward(self, x):
                return super().forward(x) + kept[0]

        self.one = Writing(3, 4, 3, padding=1)
        self.three = Reading(4, 4, 3, padding=1)


class Cupboard(Base):
    """The network and a layer of its own share a dictionary, which the network reads."""

    def __init__(self):
        super().__init__()
        self.shared = {}
        self.one = Unit(self.shared, leaves="scale", channels=3)

    def forward(self, x):
        x = self.relu(self.two(self.relu(self.one(x)))) / self.shared["scale"]
        return self.head(self.relu(self.three(x)).mean((2, 3)))


class SameTensor(Base):
    """It asks whether what it has is the very tensor that a layer gave."""

    def __init__(self):
        super().__init__()
        self.one = Keeping(3, 4, 3, padding=1)

    def forward(self, x):
        first = self.one(x)
        x = self.relu(self.two(self.relu(first) * (1 if first is self.one.kept else 3)))
        return self.head((self.relu(self.three(x)) + first).mean((2, 3)))


class Tagged(Base):
    """What a layer gives has an attribute."""

    class Tagging(nn.Conv2d):
        def forward(self, x):
            y = super().forward(x)
            y.skip = x
            return y

    def __init__(self):
        super().__init__()
        self.two = self.Tagging(4, 4, 3, padding=1)

    def forward(self, x):
        y = self.two(self.relu(self.one(x)))
        y = self.relu(y + y.skip)
        return self.head(self.relu(self.three(y)).mean((2, 3)))


class WorkedOn(SameTensor):
    """A later layer reads what was kept, on which the network has worked in place since."""

    def forward(self, x):
        x = self.relu(self.two(self.one(x).mul_(2)))
        return self.head((self.relu(self.three(x)) + self.one.kept).mean((2, 3)))


class EarlyExit(Base):
    """Where it is sure of all its pictures it goes no further."""

    def __init__(self):
        super().__init__()
        self.exit = nn.Linear(4, 4)

    def forward(self, x):
        x = self.relu(self.one(x))
        early = self.exit(x.mean((2, 3)))
        if (early.softmax(1).amax(1) > 0.33).all():
            return early
        return self.head(self.relu(self.three(self.relu(self.two(x)))).mean((2, 3)))


class Noted(Base):
    """A layer notes the number of pictures, which the last one divides by."""

    def __init__(self):
        super().__init__()
        notes = {}

        class Counting(nn.Conv2d):
            def forward(self, x):
                notes["pictures"] = len(x)
                return super().forward(x)

        self.one, self.notes = Counting(3, 4, 3, padding=1), notes

    def forward(self, x):
        x = self.relu(self.three(self.relu(self.two(self.relu(self.one(x))))))
        return self.head(x.reshape(self.notes["pictures"], 4, -1).mean(2))


class Scale(Base):
    """A layer notes a number that it reads from its values, of each picture by itself."""

    def forward(self, x):
        x = self.relu(self.one(x))
        scales = x.detach().amax((1, 2, 3)).tolist()
        x = self.relu(self.three(self.relu(self.two(x))))
        return self.head(x.mean((2, 3)) * x.new_tensor(scales)[:, None])


class Buffer(Base):
    """A layer writes to a buffer in its forward pass, and another one reads it."""

    def __init__(self):
        super().__init__()

        class Writing(nn.Conv2d):
            def forward(self, x):
                x = super().forward(x)
                self.level = x.detach().mean((1, 2, 3), keepdim=True)
                return x

        self.one = Writing(3, 4, 3, padding=1)
        self.one.register_buffer("level", torch.zeros(()), persistent=False)

    def forward(self, x):
        x = self.relu(self.two(self.relu(self.one(x))))
        return self.head((self.relu(self.three(x)) * (1 + self.one.level**2)).mean((2, 3)))


class InPlaceInput(Base):
    """The second layer works in place on what the first one gave, which is used again."""

    def __init__(self):
        super().__init__()

        class Doubling(nn.Conv2d):
            def forward(self, x):
                x.mul_(2)
                return super().forward(x)

        self.two = Doubling(4, 4, 3, padding=1)

    def forward(self, x):
        one = self.one(x) * 1
        two = self.relu(self.two(one))
        return self.head((self.relu(self.three(two)) + one).mean((2, 3)))


class Router(Base):
    """Each picture takes the way that its brightness says."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList([nn.Conv2d(4, 4, 1) for _ in range(3)])

    def choice(self, x):
        return (x.mean((1, 2, 3)) > 0).long()

    def forward(self, x):
        choice = self.choice(x)
        x = self.relu(self.two(self.relu(self.one(x))))
        parts = [self.experts[c](x[i : i + 1]) for i, c in enumerate(choice.tolist())]
        return self.head(self.relu(self.three(torch.cat(parts))).mean((2, 3)))


class Masked(Router):
    """The same by masks."""

    def forward(self, x):
        choice = self.choice(x)
        x = self.relu(self.two(self.relu(self.one(x))))
        mixed = torch.zeros_like(x)
        for number in range(2):
            if (choice == number).any():
                mixed[choice == number] = self.experts[number](x[choice == number])
        return self.head(self.relu(self.three(mixed)).mean((2, 3)))


class LateGate(Base):
    """Dark pictures go around the second layer."""

    def forward(self, x):
        dark = x.mean((1, 2, 3)) < 0
        one = self.relu(self.one(x))
        two = self.relu(self.two(one))
        if dark.any():
            two = torch.where(dark[:, None, None, None], one, two)
        return self.head(self.relu(self.three(two)).mean((2, 3)))


class Hooked(Base):
    """A hook keeps what a layer gave, and another one adds it."""

    def __init__(self):
        super().__init__()
        kept = {}
        self.one.register_forward_hook(lambda _, __, output: kept.update(one=output))
        self.three.register_forward_hook(lambda _, __, output: output + kept["one"])


class Scaled(Base):
    """A hook halves the gradient of a layer."""

    def __init__(self):
        super().__init__()
        self.two.register_full_backward_hook(lambda _, given, __: (given[0] / 2,))


class Checkpointed(Base):
    """Two layers are computed again for the backward pass."""

    def forward(self, x):
        def middle(x):
            return self.relu(self.two(self.relu(self.one(x))))

        x = checkpoint(middle, x, use_reentrant=False)
        return self.head(self.relu(self.three(x)).mean((2, 3)))


class Shared(Base):
    """One layer is called at two places."""

    def forward(self, x):
        x = self.relu(self.two(self.relu(self.one(x))))
        return self.head(self.relu(self.three(self.relu(self.two(x)))).mean((2, 3)))


class ShortForOne(Base):
    """A picture alone takes another way than several together."""

    def forward(self, x):
        one = self.relu(self.one(x))
        two = self.relu(self.two(one)) + (one if len(x) > 1 else one * 1)
        return self.head(self.relu(self.three(two)).mean((2, 3)))


class Tuples(Base):
    """A layer gives several things."""

    def __init__(self):
        super().__init__()

        class Several(nn.Conv2d):
            def forward(self, x):
                x = super().forward(x)
                return x, (None, x.detach() ** 2)

        self.one = Several(3, 4, 3, padding=1)

    def forward(self, x):
        x, (_, square) = self.one(x)
        x = self.relu(self.two(self.relu(x) + square))
        return self.head(self.relu(self.three(x)).mean((2, 3)))


class Noting(Base):
    """It notes for a profiler where it is."""

    def forward(self, x):
        with torch.profiler.record_function("all of it"):
            return super().forward(x)


class Scripted(Base):
    """Nobody sees what runs inside the second layer."""

    def __init__(self):
        super().__init__()
        self.two = torch.jit.script(self.two)


WHOLE = [Scripted, Attribute, Scale, Buffer, Router, Masked, LateGate, Hooked, Scaled, Checkpointed]
WHOLE += [Cupboard, SameTensor, Tagged, WorkedOn, EarlyExit]
NETWORKS = [
    Base,
    Noting,
    Container,
    Closure,
    Noted,
    InPlaceInput,
    Shared,
    ShortForOne,
    Tuples,
    *WHOLE,
]
METHODS = {
    "gradient": Gradient(),
    "guided": Rectified(Gradient(), Guided()),
    "smooth": NoiseAverage(Gradient(), samples=3),
}


def subject(kind):
    x = draw(5, 3, 6, 6, seed=4, dtype=torch.float64)
    # Dark and bright pictures, and the first is of the kind that most are not.
    x += torch.tensor([1.0, -1, -1, 1, -1], dtype=x.dtype)[:, None, None, None]
    return seeded(kind()).double().eval(), x


def plain_maps(network, x, target, name):
    """Picture by picture, from nothing but autograd; noise is the method's own."""
    if name == "smooth":
        return METHODS[name](network, x, target)
    maps = []
    Rectifier.guided = name == "guided"
    try:
        for picture, wanted in zip(x, target, strict=True):
            leaf = picture[None].clone().requires_grad_()
            score = network(leaf)[0, wanted]
            maps += torch.autograd.grad(score, leaf)
    finally:
        Rectifier.guided = False
    return torch.cat(maps)


def fresh(kind, network):
    """A network that has never run, of the same weights."""
    new = kind().double().eval()
    new.load_state_dict(network.state_dict())
    return new


def plain_loop(kind, network, x, target, order):
    """Similarities of each method ``[S, R, N, N]``: networks with drawn weights, one by one."""
    blocks, rank = find_blocks(network, x), metric("spearman_abs")
    drawn = {seed: Randomization("moments").draw(network, blocks, seed) for seed in (0, 1)}
    found = {name: [] for name in METHODS}
    for stage in find_stages(blocks, order):
        names = {n for b in blocks if b.name in stage.blocks for n in b.parameters}
        for name in METHODS:
            row = []
            for values in drawn.values():
                random = fresh(kind, network)
                with torch.no_grad():
                    for key in names:
                        random.get_parameter(key).copy_(values[key])
                wanted = torch.cat([random(one[None]) for one in x]).argmax(1)
                before = plain_maps(fresh(kind, network), x, target, name)
                row.append(rank.matrix(before, plain_maps(random, x, wanted, name)).numpy())
            found[name].append(row)
    return {name: np.array(rows) for name, rows in found.items()}


@pytest.mark.filterwarnings("ignore:two is scripted", "ignore::DeprecationWarning")
@pytest.mark.parametrize("order", ["top_down", "bottom_up", "independent"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_an_experiment_is_a_plain_loop(kind, order):
    model, x = subject(kind)
    target = torch.cat([model(one[None]) for one in x]).argmax(1).detach()
    with chunk_limit(3):
        outcome = Experiment(
            model,
            x,
            target,
            METHODS,
            {"rank": metric("spearman_abs")},
            order=order,
            randomization=Randomization("moments"),
            seeds=2,
        )()
    expected = plain_loop(kind, model, x, target, order)
    for name, square in expected.items():
        assert outcome.matrices[name, "rank"] == pytest.approx(square, rel=1e-9, nan_ok=True), name
    if order == "top_down":
        assert kind is Noted or (outcome.shortened == 0) == (kind in WHOLE)
        assert outcome.whole > 0
        assert bool(outcome.reason) == (kind in [*WHOLE, Noted])


@pytest.mark.parametrize("kind", [Router, Masked])
def test_blocks_are_those_of_all_pictures_in_whatever_order(kind):
    model, x = subject(kind)
    names = [block.name for block in find_blocks(model, x)]
    assert names == ["one", "two", "experts.0", "experts.1", "experts.2", "three", "head"]
    for order in ([4, 3, 2, 1, 0], [1, 2, 4, 0, 3]):
        assert [block.name for block in find_blocks(model, x[order])] == names
