"""Controls see what they say they see: the picture, or the model, and nothing else."""

import pytest
import torch
from made.networks import SCALING, draw, relative, small
from saliency_sanity import resolve
from scipy import ndimage
from skimage.color import rgb2gray
from torch import nn

X = draw(3, 3, 16, 16)
TARGET = torch.tensor([0, 1, 2])


@pytest.mark.parametrize("name", ["sobel", "canny", "input"])
def test_picture_controls_ignore_model_and_target(name, small_net):
    found = resolve(name)(small_net, X, TARGET)
    assert torch.equal(found, resolve(name)(small(seed=1), X, TARGET))
    assert torch.equal(found, resolve(name)(small_net, X, 4 - TARGET))
    assert not torch.equal(found, resolve(name)(small_net, X.flip(0), TARGET))


def test_sobel_against_scipy(small_net):
    raw = SCALING.to_raw(X)
    for image, found in zip(raw, resolve("sobel")(small_net, X, TARGET), strict=True):
        grey = rgb2gray(image.double().numpy(), channel_axis=0)
        across, down = (ndimage.sobel(grey, axis, mode="reflect") / 4 for axis in (0, 1))
        expected = torch.from_numpy(((across**2 + down**2) / 2) ** 0.5)[None]
        assert relative(found.double(), expected) < 1e-5


def test_edges_are_where_the_step_is(small_net):
    raw = torch.full((1, 3, 32, 32), 0.2)
    raw[:, :, :, 16:] = 0.8
    for name in ("sobel", "canny"):
        edges = resolve(name)(small_net, SCALING.to_network(raw), TARGET[:1])[0, 0]
        columns = (edges[4:-4].amax(0) > 1e-6).nonzero().flatten().tolist()
        assert columns, name
        assert set(columns) <= {15, 16}, name
        assert resolve(name)(small_net, X[:1] * 0, TARGET[:1]).abs().max() < 1e-6, name


def test_canny_is_binary_and_its_width_matters(small_net):
    picture = torch.nn.functional.interpolate(draw(1, 3, 8, 8), size=64, mode="bilinear")
    found = resolve("canny")(small_net, picture, TARGET[:1])
    assert sorted(found.unique().tolist()) == [0, 1]
    wider = resolve("canny", sigma=4.0)(small_net, picture, TARGET[:1])
    assert wider.sum() < found.sum()


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_edges_of_other_than_three_channels(channels):
    x = draw(2, channels, 16, 16)
    found = resolve("sobel")(nn.Identity(), x, TARGET[:2])
    assert found.shape == (2, 1, 16, 16)
    mean = x.mean(1, keepdim=True).expand_as(x)
    assert relative(resolve("sobel")(nn.Identity(), mean, TARGET[:2]), found) < 1e-5


def test_input_x_noise_is_the_product(small_net):
    noise = resolve("noise", seed=3)(small_net, X, TARGET)
    assert torch.equal(resolve("input_x_noise", seed=3)(small_net, X, TARGET), noise * X)
    assert abs(noise.mean()) < 0.1
    assert noise.std().item() == pytest.approx(1, rel=0.1)
