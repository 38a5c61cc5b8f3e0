"""Random changes of pictures in training: shifts, rotations and sizes.

Pictures are `[height, width, channels]` of whole numbers from 0 to 255.
"""

import numpy as np


def shifted(picture: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Return a picture moved by up to `most` pixels each way; its border is repeated behind it."""
    if not most:
        return picture
    down, right = rng.integers(0, 2 * most + 1, 2)
    height, width = picture.shape[:2]
    padded = np.pad(picture, ((most, most), (most, most), (0, 0)), mode="edge")
    return padded[down : down + height, right : right + width]


def warped(
    picture: np.ndarray, degrees: float, share: float, rng: np.random.Generator
) -> np.ndarray:
    """Return a picture rotated about its middle by up to `degrees` either way and scaled by a
    factor between 1 - `share` and 1 + `share`, bilinear; its border is repeated behind it."""
    if not degrees and not share:
        return picture
    angle, factor = np.radians(rng.uniform(-degrees, degrees)), 1 + rng.uniform(-share, share)
    return affine(picture, angle, factor)


def affine(picture: np.ndarray, angle: float, factor: float) -> np.ndarray:
    """Return a picture rotated by `angle` (radians, anticlockwise) and scaled by `factor`."""
    height, width = picture.shape[:2]
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    down, right = np.mgrid[:height, :width].astype(np.float32)
    down, right = (down - middle_y) / factor, (right - middle_x) / factor
    cos, sin = np.cos(angle), np.sin(angle)
    y = np.clip(middle_y + cos * down + sin * right, 0, height - 1)
    x = np.clip(middle_x - sin * down + cos * right, 0, width - 1)
    top, left = y.astype(int), x.astype(int)
    below, beside = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    fall, reach = (y - top)[..., None], (x - left)[..., None]
    upper = picture[top, left] * (1 - reach) + picture[top, beside] * reach
    lower = picture[below, left] * (1 - reach) + picture[below, beside] * reach
    moved: np.ndarray = np.rint(upper * (1 - fall) + lower * fall).astype(picture.dtype)
    return moved
