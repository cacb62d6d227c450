"""Outlines lie where they were drawn, for the photographs they were drawn on and no others."""

import dataclasses

import numpy as np
import pytest
import torch
from matplotlib.path import Path as Polygon
from saliency_sanity.subjects import outlines as module
from saliency_sanity.subjects.outlines import outlines
from saliency_sanity.subjects.photographs import load_photographs


@pytest.fixture(scope="module")
def photographs():
    return load_photographs("foolbox", size=64)


def test_every_photograph_but_one_has_an_outline(photographs):
    masks = outlines(photographs)
    assert (masks.dtype, masks.shape) == (torch.bool, (20, 64, 64))
    covered = masks.float().mean((1, 2))
    without = [photographs.names[i] for i in (covered == 0).nonzero().flatten().tolist()]
    assert without == ["photograph 12"]
    assert set(module._drawn()) == set(photographs.names) - set(without)
    assert covered.max() < 0.8


def test_a_pixel_is_inside_by_its_centre(photographs):
    """As another library tells the inside of a polygon."""
    masks = outlines(photographs)
    row, column = np.mgrid[:64, :64]
    centres = np.stack([column + 0.5, row + 0.5], -1).reshape(-1, 2) / 64 * 100
    for name, drawn in module._drawn().items():
        inside = np.zeros(64 * 64, dtype=bool)
        for text in drawn["polygons"]:
            corners = np.array(text.split(), dtype=float).reshape(-1, 2)
            assert len(corners) > 2
            assert 0 <= corners.min() <= corners.max() <= 100
            inside |= Polygon(corners).contains_points(centres)
        found = masks[photographs.names.index(name)].numpy()
        assert (found != inside.reshape(64, 64)).mean() < 0.002, "but for centres on the line"


def test_no_other_picture_gets_an_outline(photographs):
    renamed = dataclasses.replace(
        photographs, labels=(None, *photographs.labels[1:]), names=photographs.names
    )
    masks = outlines(renamed)
    assert not masks[0].any()
    assert torch.equal(masks[1:], outlines(photographs)[1:])
    garments = load_photographs("fashion_mnist", size=28, count=3, channels=1)
    assert not outlines(garments).any()
