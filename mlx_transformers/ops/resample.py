"""Weights by which samples of a line are resampled, as Pillow and as PyTorch choose them."""

from collections.abc import Callable
from typing import Literal

import numpy as np

Filter = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]


def resampling_matrix(
    old: int, new: int, kind: Filter, *, antialias: bool, scale: float | None = None
) -> np.ndarray:
    """The weights `[new, old]` of a line of `new` samples made of `old` ones.

    With `antialias` filters are widened by the reduction and end at the line's ends, as Pillow's
    `resize` and PyTorch's `interpolate(antialias=True)`; a cubic kernel has a = -0.5. Without, they
    read neighbours alone, samples outside the line are its nearest, and a = -0.75, as PyTorch's
    `interpolate`. `scale` is the number of old samples between two new ones, without antialiasing;
    none means `old / new`.

    Raises:
        ValueError: the filter needs antialiasing.
    """
    if kind == "nearest":
        places = np.minimum(((np.arange(new) + 0.5 * antialias) * (old / new)), old - 1)
        chosen: np.ndarray = np.eye(old)[places.astype(np.int64)]
        return chosen
    return _widened(old, new, kind) if antialias else _neighbours(old, new, kind, scale)


def _widened(old: int, new: int, kind: Filter) -> np.ndarray:
    kernel, support = KERNELS[kind]
    scale = old / new
    stretch = max(scale, 1.0)
    weights = np.zeros((new, old))
    for i in range(new):
        centre = (i + 0.5) * scale
        first = max(int(centre - support * stretch + 0.5), 0)
        last = min(int(centre + support * stretch + 0.5), old)
        taps = kernel((np.arange(first, last) - centre + 0.5) / stretch)
        weights[i, first:last] = taps / taps.sum()
    return weights


def _neighbours(old: int, new: int, kind: Filter, scale: float | None) -> np.ndarray:
    if kind not in ("bilinear", "bicubic"):
        raise ValueError(f"The filter {kind!r} exists with antialiasing only.")
    scale = old / new if scale is None else scale
    weights = np.zeros((new, old))
    taps = np.arange(-1, 3)
    for i in range(new):
        centre = (i + 0.5) * scale - 0.5
        centre = max(centre, 0.0) if kind == "bilinear" else centre
        first = int(np.floor(centre))
        distance = centre - first - taps
        tap_weights = _cubic(distance, -0.75) if kind == "bicubic" else _triangle(distance)
        np.add.at(weights[i], np.clip(first + taps, 0, old - 1), tap_weights)
    return weights


def _triangle(x: np.ndarray) -> np.ndarray:
    height: np.ndarray = np.maximum(0.0, 1 - np.abs(x))
    return height


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel with slope `a` at 1 (Keys 1981, equation 4)."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _hamming(x: np.ndarray) -> np.ndarray:
    inside = np.sinc(x) * (0.54 + 0.46 * np.cos(np.pi * x))
    return np.where(np.abs(x) < 1, inside, 0.0)


KERNELS: dict[Filter, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "box": (lambda x: ((x > -0.5) & (x <= 0.5)).astype(np.float64), 0.5),
    "bilinear": (_triangle, 1.0),
    "hamming": (_hamming, 1.0),
    "bicubic": (lambda x: _cubic(x, -0.5), 2.0),
    "lanczos": (lambda x: np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0), 3.0),
}
"""Kernel and support, in samples, of each filter; wider where the line gets shorter."""
