"""Pictures of executed copies: none weighs more than a page can carry."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

import nbformat
import numpy as np
from PIL import Image

LIMIT = 300_000  # bytes
# Levels of 255 by which a palette may change a picture on the mean before it shows.
_SHOWS = 2.5
_QUALITIES = (92, 85, 75)
_SMALLER = 0.85


def light(data: bytes, limit: int = LIMIT, photographs: bool = True) -> tuple[str, bytes]:
    """A picture of at most ``limit`` bytes, with its MIME type; a lighter one stays as it is.

    A heavier one is written anew, as a PNG without loss; else as a PNG with a palette of 256
    colours, where that cannot be seen; else as a JPEG, which photographs need. What is too heavy
    even so gets fewer pixels, and as many inches as before.

    Parameters
    ----------
    data
        The file of a picture, a PNG or JPEG.
    limit
        Bytes.
    photographs
        It may become a JPEG; a file with a name of its own has to stay a PNG.

    Raises
    ------
    ValueError
        No picture, however small, is so light.
    """
    with Image.open(io.BytesIO(data)) as opened:
        kind, dots = Image.MIME[opened.format], opened.info.get("dpi", (96, 96))
        if len(data) <= limit:
            return kind, data
        picture = _opaque(opened)
    whole = picture
    while True:
        share = picture.width / whole.width
        for mime, written in _ways(picture, tuple(dot * share for dot in dots), photographs):
            if len(written) <= limit:
                return mime, written
        if min(picture.size) == 1:
            raise ValueError(f"no picture is as light as {limit} bytes")
        size = tuple(max(1, int(side * _SMALLER)) for side in picture.size)
        # From the first one each time, or it would get softer with each step.
        picture = whole.resize(size, Image.Resampling.LANCZOS)


def lighten(notebook: nbformat.NotebookNode, limit: int = LIMIT) -> None:
    """Make each picture among a notebook's outputs one of at most ``limit`` bytes, in place."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            for kind in [kind for kind in ("image/png", "image/jpeg") if kind in data]:
                mime, written = light(base64.b64decode(data[kind]), limit)
                del data[kind]
                data[mime] = base64.b64encode(written).decode("ascii")
                about = output.get("metadata", {})
                if kind in about:
                    about[mime] = about.pop(kind)


def _opaque(picture: Image.Image) -> Image.Image:
    # Figures are drawn on white, and a JPEG has nothing behind it.
    coloured = picture.convert("RGBA")
    white = Image.new("RGBA", coloured.size, "white")
    return Image.alpha_composite(white, coloured).convert("RGB")


def _ways(
    picture: Image.Image, dots: tuple[float, float], photographs: bool
) -> Iterator[tuple[str, bytes]]:
    """Files of a picture, what keeps most of it first."""
    yield "image/png", _file(picture, "PNG", dpi=dots, optimize=True)
    palette = picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    change = np.abs(np.subtract(picture, palette.convert("RGB"), dtype=np.int16)).mean()
    if change <= _SHOWS or not photographs:
        yield "image/png", _file(palette, "PNG", dpi=dots, optimize=True)
    for quality in _QUALITIES if photographs else ():
        whole = tuple(round(dot) for dot in dots)
        # Lines and letters of colour need every pixel's colour.
        yield "image/jpeg", _file(picture, "JPEG", dpi=whole, quality=quality, subsampling=0)


def _file(picture: Image.Image, kind: str, **how: object) -> bytes:
    into = io.BytesIO()
    picture.save(into, kind, **how)
    return into.getvalue()
