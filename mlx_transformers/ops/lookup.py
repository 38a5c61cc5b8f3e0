"""Rows of a table by their numbers: what an embedding reads, and a score with a table."""

import mlx.core as mx

from .derivative import with_backward
from .device import wide


def lookup(table: mx.array, rows: mx.array) -> mx.array:
    """`table[rows]`: table `[V, D]`, rows integer `[...]`, result `[..., D]`.

    The gradient of a row is the sum over all places that read it, in float32 or wider and in a
    fixed order. MLX's own sums in the table's dtype, so that in bfloat16 a frequent row's
    gradient stops growing, and on a GPU in the order in which threads arrive, so that no two
    runs are equal.
    """

    def backward(
        primals: tuple[mx.array, mx.array], cotangent: mx.array, _: mx.array
    ) -> tuple[mx.array, mx.array]:
        table, rows = primals
        parts = wide(cotangent).reshape(-1, table.shape[1])
        sums = sum_by_row(parts, rows.reshape(-1), table.shape[0])
        return sums.astype(table.dtype), mx.zeros_like(rows)

    out: mx.array = with_backward(lookup_naive, backward)(table, rows)
    return out


def lookup_naive(table: mx.array, rows: mx.array) -> mx.array:
    """The definition of `lookup`, left to autodiff."""
    return table[rows]


def read_pairs(scores: mx.array, rows: mx.array) -> mx.array:
    """Of the scores of every query with every row of a table, `[B, H, T, N]`, the one that each
    pair of places reads: rows `[T, S]`, result `[B, H, T, S]`."""
    where = mx.broadcast_to(rows[None, None], (*scores.shape[:2], *rows.shape))
    return mx.take_along_axis(scores, where, axis=-1)


def sum_by_row(parts: mx.array, rows: mx.array, n_rows: int) -> mx.array:
    """`[n_rows, D]`: the sum of those of parts `[N, D]` whose row `[N]` it is.

    Sorted by row, and each run summed on its own: no two threads add to one number.
    """
    count = mx.zeros((n_rows,), mx.uint32).at[rows].add(mx.ones(rows.shape, mx.uint32))
    ends = mx.cumsum(count)
    runs = mx.stack([ends - count, ends], axis=-1)
    ones = mx.ones((1, parts.shape[0]), parts.dtype)
    return mx.segmented_mm(ones, parts[mx.argsort(rows)], runs)[:, 0]
