"""Lookups of table rows: embeddings, and attention scores with relative positions."""

import mlx.core as mx

from ..core.shapes import BHTN, BHTS, ND, VD, IntN, IntTS, Intx, xD
from .custom_vjp import custom_vjp
from .device import on_cpu, upcast


def lookup(table: VD, rows: Intx) -> xD:
    """`table[rows]`: table `[V, D]`, rows integer `[...]`, result `[..., D]`.

    The gradient of a row is the sum over all positions that read it, in float32 or wider and in a
    fixed order. MLX's own lookup sums in the table's dtype, so in bfloat16 the gradient of a
    frequent row stops growing, and on a GPU in no fixed order, so no two runs are equal.
    """

    def backward(
        primals: tuple[mx.array, mx.array], cotangent: mx.array, _: mx.array
    ) -> tuple[mx.array, mx.array]:
        table, rows = primals
        parts = upcast(cotangent).reshape(-1, table.shape[1])
        sums = sum_by_row(parts, rows.reshape(-1), table.shape[0])
        return sums.astype(table.dtype), mx.zeros_like(rows)

    out: mx.array = custom_vjp(lookup_naive, backward)(table, rows)
    return out


def lookup_naive(table: VD, rows: Intx) -> xD:
    """The definition of `lookup`, left to autodiff."""
    return table[rows]


def read_pairs(scores: BHTN, rows: IntTS) -> BHTS:
    """Look up, for each pair of positions, the score of the query with one row of a table.

    Scores `[B, H, T, N]` are those of each query with each row; `rows [T, S]` chooses; the result
    is `[B, H, T, S]`. On a GPU gradients are summed in a fixed order, as those of `lookup`.
    """
    return read_pairs_naive(scores, rows) if on_cpu() else read_pairs_in_order(scores, rows)


def read_pairs_in_order(scores: BHTN, rows: IntTS) -> BHTS:
    """`read_pairs` as a `lookup` in one table of all scores."""
    b, h, t, n = scores.shape
    table = scores.transpose(2, 3, 0, 1).reshape(t * n, b * h)
    read = lookup(table, mx.arange(t)[:, None] * n + rows)
    return read.reshape(*rows.shape, b, h).transpose(2, 3, 0, 1)


def read_pairs_naive(scores: BHTN, rows: IntTS) -> BHTS:
    """The definition of `read_pairs`, left to autodiff."""
    where = mx.broadcast_to(rows[None, None], (*scores.shape[:2], *rows.shape))
    return mx.take_along_axis(scores, where, axis=-1)


def sum_by_row(parts: ND, rows: IntN, n_rows: int) -> mx.array:
    """Sum parts `[N, D]` by their row `[N]`: the result is `[n_rows, D]`.

    Parts are sorted by row and each run is summed on its own, so no two threads add to one number.
    """
    count = mx.zeros((n_rows,), mx.uint32).at[rows].add(mx.ones(rows.shape, mx.uint32))
    ends = mx.cumsum(count)
    runs = mx.stack([ends - count, ends], axis=-1)
    ones = mx.ones((1, parts.shape[0]), parts.dtype)
    return mx.segmented_mm(ones, parts[mx.argsort(rows)], runs)[:, 0]
