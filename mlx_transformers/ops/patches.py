"""Patches of pictures as rows of a matrix product, and tables of positions resampled for them."""

import mlx.core as mx

from ..core.shapes import Array
from .resample import Filter, resampling_matrix

EPS = 1e-6
"""Added to the variance of a patch (the code of MAE's authors)."""


def patches(pixels: Array, size: int) -> Array:
    """Cut pictures `[B, height, width, channels]` into squares: `[B, P, size * size * channels]`.

    Patches go row by row; the numbers of one go by row, column and channel, the order of MLX's
    convolution kernels `[D, size, size, channels]`. Rows and columns that fill no patch are cut
    off, as a convolution does.

    Raises:
        ValueError: a picture is smaller than a patch.
    """
    B, height, width, channels = pixels.shape
    rows, columns = height // size, width // size
    if not rows or not columns:
        raise ValueError(f"A picture of {width} x {height} has no patch of {size} x {size}.")
    cropped = pixels[:, : rows * size, : columns * size]
    split = cropped.reshape(B, rows, size, columns, size, channels)
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(B, rows * columns, size * size * channels)


def unpatch(x: Array, rows: int, columns: int, size: int) -> Array:
    """The pictures `[B, height, width, channels]` of `patches [B, rows * columns, ...]`."""
    B = x.shape[0]
    split = x.reshape(B, rows, columns, size, size, -1).transpose(0, 1, 3, 2, 4, 5)
    return split.reshape(B, rows * size, columns * size, -1)


def normalized(patches: Array) -> Array:
    """Patches `[..., N]` in float32 with mean 0 and variance 1, the variance with the divisor N - 1
    (He et al. 2021, table 1d)."""
    x = patches.astype(mx.float32)
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).sum(axis=-1, keepdims=True) / max(1, x.shape[-1] - 1)
    return centred * mx.rsqrt(variance + EPS)


def resample_table(
    table: Array,
    old: tuple[int, int],
    new: tuple[int, int],
    kind: Filter = "bicubic",
    *,
    antialias: bool = False,
) -> Array:
    """Positions `[rows * columns, D]` of a grid, resampled to another grid, as checkpoints of ViT
    and DINOv2 are used at other sizes (Dosovitskiy et al. 2021, section 3.2)."""
    if old == new:
        return table
    down, across = (
        mx.array(resampling_matrix(a, b, kind, antialias=antialias), dtype=table.dtype)
        for a, b in zip(old, new, strict=True)
    )
    tall = (down @ table.reshape(old[0], -1)).reshape(new[0], old[1], -1)
    return (across @ tall).reshape(new[0] * new[1], -1)
