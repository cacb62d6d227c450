"""A few pictures and maps side by side, small: what a figure looks like, at a glance."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image

from saliency_sanity._files import replacing
from saliency_sanity.plots.style import SIGNED, UNSIGNED

TILE = 200  # pixels, shown as 100
_GAP = 6
_QUALITY = 82


def tinted(picture: np.ndarray, signed: bool = False) -> np.ndarray:
    """A map ``[h, w]`` in [0, 1], or with signs in [-1, 1], in the figures' colours ``[h, w, 3]``.

    What is undefined is grey.
    """
    values = (picture + 1) / 2 if signed else picture
    colours = mpl.colormaps[SIGNED if signed else UNSIGNED](np.nan_to_num(values))[..., :3]
    return np.where(np.isfinite(picture)[..., None], colours, 0.5)


def mosaic(rows: Sequence[Sequence[np.ndarray]], path: str | Path) -> Path:
    """Write pictures ``[h, w]`` or ``[h, w, 3]`` in [0, 1], in rows, as WebP, atomically.

    Each becomes a square of ``TILE`` pixels, the mean of what a pixel covers; pixels of small
    pictures stay squares. Raises ValueError unless all rows are of one length, as
    ``_files.replacing`` where the file cannot be written.
    """
    lengths = {len(row) for row in rows}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"rows of {sorted(lengths)} pictures; give rows of one length")
    pitch = TILE + _GAP
    sheet = Image.new("RGB", (pitch * lengths.pop() - _GAP, pitch * len(rows) - _GAP), "white")
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            sheet.paste(_tile(picture), (j * pitch, i * pitch))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        sheet.save(temporary, "WEBP", quality=_QUALITY)
    return path


def _tile(picture: np.ndarray) -> Image.Image:
    pixels = np.uint8(np.round(255 * np.clip(picture, 0, 1)))
    image = Image.fromarray(pixels).convert("RGB")
    small = min(image.size) < TILE
    way = Image.Resampling.NEAREST if small else Image.Resampling.BOX
    return image.resize((TILE, TILE), way)
