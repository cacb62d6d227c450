"""Regions of a picture, dark in an outline or read from masks, and how much of a map lies inside.

Masks are booleans ``[N, H, W]``, True on the object.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import ImageOps
from skimage.morphology import area_opening, disk, opening
from skimage.segmentation import mark_boundaries
from torch import Tensor

from saliency_sanity.similarity.prepare import Array, absolute_sum, raw_maps
from saliency_sanity.subjects.photographs import LUMINANCE, opened, picture_files, read_picture

# What a disk of this share of the side as radius does not fit into is texture, not an object, ...
_BRUSH = 1 / 112
# ... and so is a piece of less than this share of the picture's area.
_SMALLEST = 1 / 200

# Pictures with an outline have at least about so many pixels a side.
_ORANGE, _OUTLINED = (1.0, 0.5, 0.0), 224


def dark_object(pixels: Tensor, outline: Tensor, *, darkest: float = 0.35) -> Tensor:
    """The dark pixels of the object: ``[N, H, W]``, empty where it has none.

    A pixel counts if its luminance is below ``darkest``, of raw ``pixels`` ``[N, C, H, W]`` in
    [0, 1], and it lies in the object, whose ``outline`` is a mask ``[N, H, W]``, empty where
    nobody knows it. An opening by a disk of 1/112 of the side as radius then removes threads, and
    pieces below 1/200 of the picture's area go; holes stay, since a highlight is not dark. The
    default is ours: 0.35 still holds the lit back of a black beetle, and dark reds besides. Raises
    ValueError for pixels that are not raw and for shapes that do not fit.
    """
    light = _luminance(pixels)
    if not 0 < darkest <= 1:
        raise ValueError(f"darkest is {darkest}; it is a share above 0 and at most 1")
    _check_shape(outline, light.shape, "pictures")
    rough = ((light < darkest) & outline.to(light.device)).cpu().numpy()
    height, width = rough.shape[1:]
    brush = disk(round(min(height, width) * _BRUSH))
    least = round(height * width * _SMALLEST)
    cleaned = [torch.from_numpy(area_opening(opening(one, brush), least)) for one in rough]
    return torch.stack(cleaned).to(pixels.device)


def on_bright_ground(
    pixels: Tensor,
    mask: Tensor,
    *,
    brightest: float = 0.4,
    least: float = 0.01,
    most: float = 0.6,
) -> Tensor:
    """Which pictures show a dark object on lighter ground: booleans ``[N]``.

    Those whose ``mask`` covers ``least`` to ``most`` of the picture and whose mean luminance
    outside is at least ``brightest``; an empty mask is none. The defaults are ours: a ground of 0.4
    is on the mean lighter than any dark pixel. Everything outside is the ground, what of the object
    is not dark included. Raises as ``dark_object`` and ``area``.
    """
    light = _luminance(pixels)
    _check_shape(mask, light.shape, "pictures")
    outside = ~mask
    ground = (light * outside).sum((1, 2)) / outside.sum((1, 2))
    covered = area(mask)
    return (ground >= brightest) & (covered >= least) & (covered <= most)


def depth(pixels: Tensor, mask: Tensor) -> Tensor:
    """Mean luminance inside the mask, float64 ``[N]`` in [0, 1]; NaN for an empty one."""
    light = _luminance(pixels)
    _check_shape(mask, light.shape, "pictures")
    return (light * mask).sum((1, 2)) / mask.sum((1, 2))


def known_mask(pixels: Tensor) -> Tensor:
    """The object on a ground of exact zeros: where any channel is not 0, ``[N, H, W]``.

    Exact for the 28 px pictures of Fashion-MNIST, whose ground is exactly black [xiao2017fashion];
    resized ones have a seam around the outline, and inverted ones are given before inversion. A
    black pixel within a garment counts as ground. Raises ValueError for a picture that is black
    all over or nowhere.
    """
    _check_pixels(pixels)
    mask = (pixels != 0).any(1)
    names = [f"picture {i}" for i in range(len(mask))]
    _check_partial(mask, names, "known_mask takes pictures on a ground of exact zeros")
    return mask


def area(mask: Tensor) -> Tensor:
    """Share of the picture inside the mask, float64 ``[N]`` in [0, 1]; TypeError unless boolean."""
    _check_boolean(mask)
    return mask.flatten(1).double().mean(1)


def share_inside(maps: Array, mask: Tensor) -> Tensor:
    """Share of the sum of ``|map|`` over channels that lies inside, float64 ``[N]`` in [0, 1].

    Maps are ``[N, C, H, W]`` or ``[N, H, W]``; NaN for one that is zero everywhere or not finite.
    Raises as ``check_mask``.
    """
    maps = raw_maps(maps)
    check_mask(mask, maps)
    size = absolute_sum(maps.double()).flatten(1)
    return (size * mask.flatten(1).to(size.device)).sum(1) / size.sum(1)


def density(maps: Array, mask: Tensor) -> Tensor:
    """Mean of ``|map|`` inside, relative to that of the whole picture: float64 ``[N]``.

    ``share_inside`` by ``area``: 1 for a uniform map, 0 for one that leaves the object out. Raises
    as ``check_mask``.
    """
    share = share_inside(maps, mask)
    return share / area(mask).to(share.device)


def check_mask(mask: Tensor, maps: Array) -> None:
    """Raise unless each map has a mask of its size with an inside and an outside.

    TypeError for a mask that is not boolean; ValueError for another shape, naming both, and for
    an empty mask or one of the whole picture, naming the picture.
    """
    count, _, height, width = raw_maps(maps).shape
    _check_shape(mask, (count, height, width), "maps")
    names = [f"picture {i}" for i in range(count)]
    _check_partial(mask, names, "a share needs an inside and an outside: leave this picture out")


def read_masks(folder: Path, pictures: Path, size: int) -> Tensor:
    """Read one's own masks, white on the object, for the photographs of a folder: ``[N, H, W]``.

    ``folder`` holds a picture file for each one in ``pictures``, named like it up to the suffix
    (``shoe.png`` for ``shoe.jpg``; ``shoe.jpg.png`` where there is a ``shoe.gif`` too), and of the
    same size. Masks come in the order of ``load_photographs(str(pictures), size=size)``, with the
    same crop, cut at half after resampling. Raises ValueError for a folder or masks that are
    missing, two masks for one picture, another size, and for a mask all black or all white.
    """
    folder, pictures = Path(folder), Path(pictures)
    for path, kind in ((folder, "masks"), (pictures, "photographs")):
        if not path.is_dir():
            raise ValueError(f"folder {path} of {kind} does not exist; check the path")
    if folder.samefile(pictures):
        raise ValueError(f"{folder} holds the photographs; masks need a folder of their own")
    masks = []
    for picture, path in _paired(folder, picture_files(pictures)):
        own, expected = _upright_size(path), _upright_size(picture)
        if own != expected:
            raise ValueError(
                f"{path} is {own[0]} x {own[1]} pixels, {picture} is {expected[0]} x "
                f"{expected[1]}; draw the mask over the photograph at its own size"
            )
        mask = torch.from_numpy(read_picture(path, size).mean(2) > 0.5)
        _check_partial(mask[None], [str(path)], "white (255) is the object, black the rest")
        masks.append(mask)
    return torch.stack(masks)


def _paired(folder: Path, pictures: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Each picture with its mask in the folder."""
    stems = [path.stem for path in pictures]
    names = [path.name if stems.count(path.stem) > 1 else path.stem for path in pictures]
    masks = picture_files(folder)
    found = [[path for path in masks if path.stem == name] for name in names]
    missing = [name for name, paths in zip(names, found, strict=True) if not paths]
    if missing:
        raise ValueError(
            f"{folder} has no mask for {', '.join(missing)}; each photograph needs a picture file "
            f"of its name, such as {missing[0]}.png"
        )
    for name, paths in zip(names, found, strict=True):
        if len(paths) > 1:
            files = " and ".join(path.name for path in paths)
            raise ValueError(f"{folder} has {files} for {name}; keep one of them")
    return [(picture, paths[0]) for picture, paths in zip(pictures, found, strict=True)]


def _upright_size(path: Path) -> tuple[int, int]:
    with opened(path) as image:
        return ImageOps.exif_transpose(image).size


def _luminance(pixels: Tensor) -> Tensor:
    """Luminance of raw pixels, float64 ``[N, H, W]``; a single channel is its own."""
    _check_pixels(pixels)
    weights = LUMINANCE if pixels.shape[1] == 3 else (1.0,)
    return sum(w * pixels[:, c].detach().double() for c, w in enumerate(weights))


def _check_pixels(pixels: Tensor) -> None:
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or pixels.numel() == 0:
        raise ValueError(
            f"pixels have shape {tuple(pixels.shape)}; expected [N,C,H,W] with 1 or 3 channels"
        )
    low, high = pixels.min().item(), pixels.max().item()
    # Pixels that went to network units and back are off by rounding.
    if not -1e-4 <= low <= high <= 1 + 1e-4:
        raise ValueError(
            f"pixels lie in [{low:.3g}, {high:.3g}]; raw ones in [0, 1] are needed: "
            "classifier.scaling.to_raw(x) gives them"
        )


def _check_boolean(mask: Tensor) -> None:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = getattr(mask, "dtype", type(mask).__name__)
        raise TypeError(f"the mask is {kind}; expected a tensor of booleans, such as grey > 0.5")


def _check_shape(mask: Tensor, expected: Sequence[int], what: str) -> None:
    _check_boolean(mask)
    if tuple(mask.shape) != tuple(expected):
        raise ValueError(
            f"the mask has shape {tuple(mask.shape)}, the {what} need {tuple(expected)}: make it "
            "from the same pictures at the same size"
        )


def _check_partial(mask: Tensor, names: Sequence[str], fix: str) -> None:
    for name, covered in zip(names, area(mask).tolist(), strict=True):
        if covered in (0, 1):
            state = "covers the whole picture" if covered else "is empty"
            raise ValueError(f"the mask of {name} {state}; {fix}")


def rim(pixels: Tensor) -> Tensor:
    """The outermost ring of pixels of each picture ``[N, C, H, W]``: a mask ``[N, H, W]``."""
    ring = torch.ones_like(pixels[:, 0], dtype=torch.bool)
    ring[:, 1:-1, 1:-1] = False
    return ring


def outlined(pixels: Tensor, mask: Tensor) -> Tensor:
    """Raw pictures with the outline of their mask in orange: ``[N, 3, H', W']`` in [0, 1].

    Small ones are enlarged, each pixel to a square, so that the outline hides none.
    """
    _check_shape(mask, (len(pixels), *pixels.shape[2:]), "pictures")
    times = max(1, _OUTLINED // min(pixels.shape[2:]))
    large = pixels.detach().cpu().double().expand(-1, 3, -1, -1)
    large = large.repeat_interleave(times, 2).repeat_interleave(times, 3).permute(0, 2, 3, 1)
    masks = mask.cpu().repeat_interleave(times, 1).repeat_interleave(times, 2)
    drawn = [
        mark_boundaries(picture, one, color=_ORANGE, mode="thick")
        for picture, one in zip(large.numpy(), masks.numpy(), strict=True)
    ]
    return torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2)
