"""Sums over the last axis."""

import mlx.core as mx

from ..core.shapes import x1, xD
from .device import on_cpu


def row_sum(x: xD) -> x1:
    """`x.sum(axis=-1, keepdims=True)` of x `[..., D]`, float32 or wider.

    On the CPU it is a matrix product with ones: the BLAS is vectorised, and MLX's sum is not.
    """
    if on_cpu():
        return x @ mx.ones((x.shape[-1], 1), x.dtype)
    return x.sum(axis=-1, keepdims=True)
