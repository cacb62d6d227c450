"""Which pictures the map of a picture is compared with: those of its group, in their order."""

from collections.abc import Callable, Iterable

import numpy as np

# Chance is the same to within a few per cent of its standard error whether a map is compared with
# 31 others or with all, and the cost grows with the pictures, not with their square.
GROUP = 32


def groups(images: int, size: int = GROUP) -> list[slice]:
    """The pictures of each group, ``size`` in each but the last; 0 for all in one."""
    size = size or max(images, 1)
    return [slice(start, min(start + size, images)) for start in range(0, images, size)]


def grouped(compare: Callable[[slice], Iterable], images: int, size: int = GROUP) -> np.ndarray:
    """Similarities [N,P] of what ``compare`` says of each group, [n,n].

    Row i has the similarity of picture i with each of its group, P at most; the rest is NaN.
    """
    parts = groups(images, size)
    return joined([np.asarray(compare(rows)) for rows in parts])


def joined(parts: list[np.ndarray]) -> np.ndarray:
    """Matrices [...,n,n] of groups below each other, [...,N,P], NaN where a group is smaller."""
    if len(parts) == 1:
        return parts[0]
    size = parts[0].shape[-1]
    missing = [(0, 0)] * (parts[-1].ndim - 1) + [(0, size - parts[-1].shape[-1])]
    return np.concatenate([*parts[:-1], np.pad(parts[-1], missing, constant_values=np.nan)], -2)
