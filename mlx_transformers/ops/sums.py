"""Sums of rows and columns, on the CPU by matrix products: MLX's own sums aren't vectorised."""

import mlx.core as mx

from ..core.shapes import D, x1, xD
from .device import on_cpu


def row_sum(x: xD) -> x1:
    """`x.sum(axis=-1, keepdims=True)` of x `[..., D]`, float32 or wider."""
    if on_cpu():
        return x @ mx.ones((x.shape[-1], 1), x.dtype)
    return x.sum(axis=-1, keepdims=True)


def column_sum(x: xD) -> D:
    """The sum `[D]` of the rows of x `[..., D]`, float32 or wider."""
    if on_cpu():
        rows = x.reshape(-1, x.shape[-1])
        return (mx.ones((1, rows.shape[0]), x.dtype) @ rows)[0]
    return x.sum(axis=tuple(range(x.ndim - 1)))
