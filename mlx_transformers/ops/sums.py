"""Sums and maxima of rows and columns.

MLX's own sums aren't vectorised on the CPU, so there they are matrix products with ones.
"""

import mlx.core as mx

from ..core.shapes import D, x1, xD
from .device import on_cpu

SPAN = 16
"""Numbers of a row whose maximum is taken first."""


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


def row_max(x: xD) -> x1:
    """`x.max(axis=-1, keepdims=True)` of x `[..., D]`.

    On the CPU the maxima of D / 16 columns come first: MLX's maximum is vectorised across columns,
    and not along a row.
    """
    if on_cpu() and x.shape[-1] % SPAN == 0:
        x = x.reshape(*x.shape[:-1], SPAN, x.shape[-1] // SPAN).max(axis=-2)
    return x.max(axis=-1, keepdims=True)
