"""Where a pass may be started, as the calls of a whole one tell."""

import pytest
import torch
import torch.nn.functional as F
from made.networks import draw, random_classifier, seeded
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.experiments.replay import replaying
from saliency_sanity.experiments.tracing import Trace
from saliency_sanity.networks.classifier import network_of
from saliency_sanity.randomization.blocks import find_blocks
from torch import nn


def starts(model, x):
    """Names of the blocks behind which a pass may start."""
    blocks = find_blocks(model.eval().requires_grad_(False), x)
    units = [path for block in blocks for path in block.modules]
    with Trace(network_of(model), units) as trace:
        logits = model(trace.starting(x.clone().requires_grad_()))
    found = {units[number] for number in trace.starts(logits)}
    return {block.name for block in blocks[:-1] if block.modules[-1] in found}


class Skip(nn.Module):
    """A U-Net in small: `inner` has a skip around it, `outer` and `join` have none."""

    def __init__(self):
        super().__init__()
        self.outer = nn.Conv2d(3, 4, 3, padding=1)
        self.inner = nn.Conv2d(4, 4, 3, padding=1)
        self.join = nn.Conv2d(8, 4, 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        outer = F.relu(self.outer(x))
        inner = F.relu(self.inner(outer))
        return self.head(F.relu(self.join(torch.cat([outer, inner], 1)), inplace=True).mean((2, 3)))


def test_nothing_starts_behind_a_block_with_a_way_around_it():
    assert starts(Skip(), draw(1, 3, 8, 8)) == {"outer", "join"}


def test_a_way_around_without_a_gradient_counts():
    class Gated(Skip):
        def forward(self, x):
            outer = F.relu(self.outer(x))
            inner = F.relu(self.inner(outer))
            joined = self.join(torch.cat([inner, inner], 1)) * (outer > 0.1)
            return self.head(joined.mean((2, 3)))

    assert starts(Gated(), draw(1, 3, 8, 8)) == {"outer"}


def test_a_module_that_is_called_again_behind_is_no_start_and_makes_none():
    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(12, 12) for _ in range(3))

        def forward(self, x):
            return self.c(self.a(self.b(self.a(x.flatten(1)).relu()).relu()).relu())

    assert starts(Again(), draw(1, 3, 2, 2)) == set()


def test_what_does_not_see_the_input_makes_no_wrong_start():
    class Positions(Skip):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(4, 4)

        def forward(self, x):
            place = self.table(torch.arange(4, device=x.device))
            return self.head(F.relu(self.outer(x)).mean((2, 3)) @ place)

    # Behind the table the picture still goes through all else.
    assert starts(Positions(), draw(1, 3, 8, 8)) == {"table"}


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vit_b_32", "densenet121"])
def test_a_pass_starts_behind_every_block_of_a_chain(name):
    size = 224 if name == "vit_b_32" else 32
    model, x = random_classifier(name, size), draw(1, 3, size, size)
    blocks = find_blocks(model, x)
    assert starts(model, x) == {block.name for block in blocks[:-1]}


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize("batch_first", [True, False])
def test_a_pass_may_change_a_shape_in_place(kind, batch_first):
    class Recurrent(Skip):
        def __init__(self):
            super().__init__()
            self.rows = kind(4, 4, batch_first=batch_first)

        def forward(self, x):
            x = F.relu(self.outer(x)).flatten(2)
            x, _ = self.rows(x.permute(0, 2, 1) if batch_first else x.permute(2, 0, 1))
            return self.head(x[:, -1] if batch_first else x[-1])

    network, x = seeded(Recurrent()).eval(), draw(2, 3, 6, 6)
    target = torch.zeros(2, dtype=torch.int64)
    blocks = find_blocks(network, x)
    expected = Gradient()(network, x, target)
    with replaying(network, blocks, x) as replay:
        for _ in range(2):
            replay.random([blocks[-1].name])
            assert torch.equal(Gradient()(network, x, target), expected)
    assert (replay.shortened, replay.reason) == (1, "")


def test_a_pass_starts_behind_all_of_inceptions_blocks(inception):
    x = draw(1, 3, 96, 96)
    assert len(starts(inception, x)) == 16
