"""Where the labelled objects are in the photographs that ship with a package: outlines by hand."""

import tomllib
from functools import cache
from importlib.resources import files

import numpy as np
import torch
from skimage.draw import polygon2mask
from torch import Tensor

from saliency_sanity.subjects.photographs import Photographs


@cache
def _drawn() -> dict[str, dict]:
    text = files("saliency_sanity.subjects").joinpath("outlines.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def outlines(photographs: Photographs) -> Tensor:
    """The labelled object of each photograph: masks ``[N, H, W]``, empty where none is drawn.

    Polygons by eye, whose file says how they were made; foolbox' photographs have them but for
    one. A photograph is known by its name and its class, so that no other gets its outline.
    """
    height, width = photographs.pixels.shape[-2:]
    masks = np.zeros((len(photographs), height, width), dtype=bool)
    for mask, name, label in zip(masks, photographs.names, photographs.labels, strict=True):
        drawn = _drawn().get(name)
        if drawn is None or drawn["label"] != label:
            continue
        for polygon in drawn["polygons"]:
            corners = np.array(polygon.split(), dtype=float).reshape(-1, 2)[:, ::-1] / 100
            # A pixel's centre is where polygon2mask has its whole number.
            mask |= polygon2mask((height, width), corners * (height, width) - 0.5)
    return torch.from_numpy(masks)
