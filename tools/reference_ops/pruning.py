"""Masks of whole rows or columns, and norms of inputs, as published pruning has them."""

from collections.abc import Sequence

import mlx.core as mx

from mlx_transformers.ops.pruning import keep_highest, pruned_count


def structured_mask(
    weight: mx.array, amount: float, *, order: float = 2, axis: int = 0
) -> mx.array:
    """Return a mask without the rows (axis 0) or columns (axis 1) of the smallest norms."""
    axes = [i for i in range(weight.ndim) if i != axis % weight.ndim]
    norms = vector_norm(weight, axes, order)
    keeps = keep_highest(norms, pruned_count(amount, norms.size))
    shape = [1] * weight.ndim
    shape[axis] = -1
    return mx.broadcast_to(keeps.reshape(shape), weight.shape)


def input_norms(x: mx.array, kind: str = "sum") -> mx.array:
    """Return the norm of each input over samples `[n, in]`: `sum` of squares, or `mean`."""
    squares = (x * x).sum(axis=0)
    return mx.sqrt(squares / len(x) if kind == "mean" else squares)


def vector_norm(weight: mx.array, axes: Sequence[int], order: float = 2) -> mx.array:
    """Return the norm of order 0, 1, 2, ..., inf or -inf over some axes."""
    size = mx.abs(weight)
    if order == 0:
        return (size > 0).astype(mx.float32).sum(axis=list(axes))
    if order in (float("inf"), float("-inf")):
        return size.max(axis=list(axes)) if order > 0 else size.min(axis=list(axes))
    return (size**order).sum(axis=list(axes)) ** (1 / order)
