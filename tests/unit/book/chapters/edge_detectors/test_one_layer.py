"""One random convolution: what is derived by hand is what is computed."""

import torch
from saliency_sanity import resolve
from saliency_sanity.book.chapters.edge_detectors.one_layer import JUMPS, OneLayer

METHODS = {"G": resolve("gradient"), "SG": resolve("smoothgrad", samples=3, seed=0)}


def test_maps_agree_with_what_is_derived_and_one_filter_differs_from_the_next():
    pixels = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    layer = OneLayer(METHODS, pixels, filters=2)
    assert set(layer.maps) == {"G", "SG", JUMPS}
    assert [len(draws) for draws in layer.maps.values()] == [2, 2, 2]
    assert layer.maps[JUMPS][0].shape == (2, 1, 12, 12)
    assert not torch.equal(*layer.maps["G"])
    assert layer.closed_error < 1e-6
    assert layer.linear_error < 1e-5


def test_a_wrong_gradient_is_found_out():
    pixels = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    wrong = {name: lambda model, x, target: 2 * METHODS["G"](model, x, target) for name in METHODS}
    layer = OneLayer(wrong, pixels, filters=1)
    assert layer.closed_error > 0.1
    assert layer.linear_error > 0.1
