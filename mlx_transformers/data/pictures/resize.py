"""Resizing of pictures in NumPy: to the pixel as Pillow does, and as PyTorch's interpolation does.

Pictures are `uint8 [height, width, channels]`.
"""

import numpy as np

from ...ops.resample import Filter, resampling_matrix

PRECISION = 22
"""Bits after the point of Pillow's integer weights."""


def resize(picture: np.ndarray, height: int, width: int, kind: Filter = "bicubic") -> np.ndarray:
    """Resize a picture to the pixel as Pillow's `Image.resize`.

    Filters are widened by the reduction (antialiasing), and each pass, columns before rows, is
    rounded to whole numbers.
    """
    if width != picture.shape[1]:
        picture = _whole_pass(picture.swapaxes(0, 1), width, kind).swapaxes(0, 1)
    return _whole_pass(picture, height, kind) if height != picture.shape[0] else picture


def resize_float(
    picture: np.ndarray, height: int, width: int, kind: Filter = "bicubic", *, antialias: bool
) -> np.ndarray:
    """Resize a picture as PyTorch's `interpolate` of its values, rounded once at the end."""
    x = picture.astype(np.float64)
    for axis, new in ((1, width), (0, height)):
        weights = resampling_matrix(x.shape[axis], new, kind, antialias=antialias)
        x = np.moveaxis(np.tensordot(weights, x, axes=(1, axis)), 0, axis)
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def _whole_pass(x: np.ndarray, new: int, kind: Filter) -> np.ndarray:
    """Resample the first axis with integer weights, rounded to bytes."""
    weights = resampling_matrix(len(x), new, kind, antialias=True) * (1 << PRECISION)
    integers = np.trunc(weights + np.where(weights < 0, -0.5, 0.5)).astype(np.int64)
    total = (1 << (PRECISION - 1)) + np.tensordot(integers, x.astype(np.int64), axes=(1, 0))
    levels: np.ndarray = np.clip(total >> PRECISION, 0, 255)
    return levels.astype(np.uint8)
