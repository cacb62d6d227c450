"""Which pictures the map of a picture is compared with: those of its group, in their order."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

# Chance is the same to within a few per cent of its standard error whether a map is compared with
# 31 others or with all, and the cost grows with the pictures, not with their square.
GROUP = 32


def groups(images: int, size: int = GROUP) -> list[slice]:
    """The pictures of each group, ``size`` in each but the last; 0 for all in one."""
    size = size or max(images, 1)
    return [slice(start, min(start + size, images)) for start in range(0, images, size)]


def grouped(compare: Callable[[slice], ArrayLike], images: int, size: int = GROUP) -> np.ndarray:
    """Similarities [N,P] of what ``compare`` says of each group, [n,n].

    Row i has the similarity of picture i with each of its group, P at most; the rest is NaN.
    """
    parts = groups(images, size)
    found = np.full((images, parts[0].stop if parts else 0), np.nan)
    for rows in parts:
        found[rows, : rows.stop - rows.start] = compare(rows)
    return found
