"""Methods of forward passes only, against plain loops."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from made.networks import SCALING, draw, relative
from saliency_sanity import chunk_limit
from saliency_sanity.attribution.base import Score, logits
from saliency_sanity.attribution.gradcam import ScoreCAM
from saliency_sanity.attribution.masking import Occlusion, Rise
from torch import nn

X = draw(2, 3, 16, 16, dtype=torch.float64)
TARGET = torch.tensor([1, 3])


def score(model, x):
    return torch.stack([logits(model, x[i : i + 1])[0, TARGET[i]] for i in range(2)])


@pytest.mark.parametrize("colour", [None, (0.1, 0.5, 0.9)])
def test_occlusion_is_the_mean_fall_over_the_windows(colour, small_net_double):
    raw = None if colour is None else torch.tensor(colour, dtype=torch.float64).view(3, 1, 1)
    flat = 0 if colour is None else SCALING.to_network(raw)
    total, covered = torch.zeros(2, 1, 16, 16).double(), torch.zeros(16, 16).double()
    for top in range(0, 13, 3):
        for left in range(0, 13, 3):
            hidden = X.clone()
            hidden[:, :, top : top + 4, left : left + 4] = flat
            fall = score(small_net_double, X) - score(small_net_double, hidden)
            total[:, :, top : top + 4, left : left + 4] += fall.view(2, 1, 1, 1)
            covered[top : top + 4, left : left + 4] += 1
    method = Occlusion(4 / 16, 3 / 16, colour)
    assert method.passes == 26
    with chunk_limit(7):
        found = method(small_net_double, X, TARGET)
    assert relative(found, total / covered) < 1e-12


@pytest.mark.parametrize("size", [5, 12, 28, 45, 224])
@pytest.mark.parametrize(
    ("window", "stride"), [(0.125, 0.0625), (0.125, 0.125), (0.3, 0.2), (1, 1)]
)
def test_windows_leave_no_gaps_and_are_as_many_for_any_size(size, window, stride):
    method = Occlusion(window, stride)
    windows = method._windows(size)
    assert method.passes == 1 + len(windows) ** 2
    assert (windows[0].start, windows[-1].stop) == (0, size)
    assert all(b.start <= a.stop for a, b in pairwise(windows))


@pytest.mark.parametrize(("window", "stride"), [(0.1, 0.2), (0.1, 0), (1.5, 0.5), (0, 0)])
def test_windows_that_leave_gaps_are_refused(window, stride):
    with pytest.raises(ValueError, match="shares of a picture's side"):
        Occlusion(window, stride)


class Bright(nn.Module):
    """The probability of label 0 is a picture's mean brightness."""

    def forward(self, x):
        share = x.mean((1, 2, 3))
        return torch.stack([share.log(), (1 - share).log()], 1)


def test_rise_of_a_mean_is_known():
    x = torch.full((2, 3, 21, 16), 0.5, dtype=torch.float64)
    method = Rise(masks=40, grid=4, keep=0.3, seed=2)
    masks = torch.cat([method._mask(number, x) for number in range(40)])
    assert 0 <= masks.min() < masks.max() <= 1 + 1e-6
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == 40
    expected = (masks.mean((1, 2, 3), keepdim=True) / 2 * masks).sum(0) / (40 * 0.3)
    found = method(Bright(), x, torch.tensor([0, 0]))
    assert relative(found, expected.expand(2, 1, 21, 16)) < 1e-12


def test_masks_of_rise_are_open_as_often_as_they_are_to_be():
    x = torch.empty(1, 3, 40, 56)
    method = Rise(masks=400, grid=7, keep=0.2)
    masks = torch.cat([method._mask(number, x) for number in range(400)])
    # Each is a mean of about 49 cells.
    assert masks.mean().item() == pytest.approx(0.2, abs=5 * 0.4 / (400 * 49) ** 0.5)
    corners = masks[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]].mean(0)
    assert (corners - 0.2).abs().max() < 5 * 0.4 / 400**0.5


@pytest.mark.parametrize("given", [{"keep": 0}, {"keep": 1.5}, {"masks": 0}, {"grid": 0}])
def test_masks_that_cannot_be_are_refused(given):
    with pytest.raises(ValueError, match=next(iter(given))):
        Rise(**given)


def test_score_is_the_logit_or_the_probability(small_net_double):
    own = logits(small_net_double, X)
    rows = torch.arange(2)
    found = Score()(small_net_double, X, TARGET)
    assert torch.allclose(found.flatten(), own[rows, TARGET])
    found = Score(probability=True)(small_net_double, X, TARGET)
    assert torch.allclose(found.flatten(), own.softmax(1)[rows, TARGET])

    class One(nn.Module):
        def forward(self, x):
            return x.mean((1, 2, 3))[:, None]

    with pytest.warns(UserWarning, match="sigmoid as probability"):
        found = Score(probability=True)(One(), X, TARGET * 0)
    assert torch.allclose(found.flatten(), X.mean((1, 2, 3)).sigmoid())


class Shown(nn.Module):
    """The small network's features, one of which is made flat."""

    def __init__(self, network):
        super().__init__()
        self.network, self.layer, self.scaling = network, nn.Identity(), SCALING

    def features(self, x):
        own = self.network
        found = own.second(own.relu(own.norm(own.first(x))))
        return torch.cat([found[:, :7], torch.ones_like(found[:, 7:])], 1)

    def forward(self, x):
        return self.network.head(self.layer(self.features(x)).relu().mean((2, 3)))


@pytest.mark.parametrize("colour", [None, 0.3])
def test_score_cam_weighs_channels_by_what_is_seen_through_them(colour, small_net_double):
    model = Shown(small_net_double.network)
    raw = torch.full_like(X, colour or 0)
    flat = torch.zeros_like(X) if colour is None else SCALING.to_network(raw)
    features, scores = model.features(X).detach(), []
    for channel in range(8):
        mask = F.interpolate(features[:, [channel]], size=(16, 16), mode="bilinear")
        low, high = mask.amin((2, 3), keepdim=True), mask.amax((2, 3), keepdim=True)
        mask = (mask - low) / (high - low) if channel != 7 else mask * 0
        scores.append(score(model, flat + mask * (X - flat)))
    weights = torch.stack(scores, 1).softmax(1)[:, :, None, None]
    weighed = (weights * features).sum(1, keepdim=True).clamp_min(0)
    expected = F.interpolate(weighed, size=(16, 16), mode="bilinear")
    found = ScoreCAM("layer", unit=False, baseline=colour)(model, X, TARGET)
    assert relative(found, expected) < 1e-12
