"""Rows of a table by their numbers: what an embedding reads, and a score with a table."""

import mlx.core as mx

from ..core.shapes import BHTN, BHTS, ND, VD, IntN, IntTS, Intx, xD
from .custom_vjp import custom_vjp
from .device import on_cpu, upcast


def lookup(table: VD, rows: Intx) -> xD:
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
        parts = upcast(cotangent).reshape(-1, table.shape[1])
        sums = sum_by_row(parts, rows.reshape(-1), table.shape[0])
        return sums.astype(table.dtype), mx.zeros_like(rows)

    out: mx.array = custom_vjp(lookup_naive, backward)(table, rows)
    return out


def lookup_naive(table: VD, rows: Intx) -> xD:
    """The definition of `lookup`, left to autodiff."""
    return table[rows]


def read_pairs(scores: BHTN, rows: IntTS) -> BHTS:
    """Of the scores of every query with every row of a table, `[B, H, T, N]`, the one that each
    pair of places reads: rows `[T, S]`, result `[B, H, T, S]`.

    Many pairs may read one score; on a GPU their gradients are summed as those of `lookup`, so
    that the order is fixed.
    """
    return read_pairs_naive(scores, rows) if on_cpu() else read_pairs_in_order(scores, rows)


def read_pairs_in_order(scores: BHTN, rows: IntTS) -> BHTS:
    """`read_pairs` as a lookup: all scores are one table, with a row for each query and row."""
    b, h, t, n = scores.shape
    table = scores.transpose(2, 3, 0, 1).reshape(t * n, b * h)
    read = lookup(table, mx.arange(t)[:, None] * n + rows)
    return read.reshape(*rows.shape, b, h).transpose(2, 3, 0, 1)


def read_pairs_naive(scores: BHTN, rows: IntTS) -> BHTS:
    """The definition of `read_pairs`, left to autodiff."""
    where = mx.broadcast_to(rows[None, None], (*scores.shape[:2], *rows.shape))
    return mx.take_along_axis(scores, where, axis=-1)


def sum_by_row(parts: ND, rows: IntN, n_rows: int) -> mx.array:
    """`[n_rows, D]`: the sum of those of parts `[N, D]` whose row `[N]` it is.

    Sorted by row, and each run summed on its own: no two threads add to one number.
    """
    count = mx.zeros((n_rows,), mx.uint32).at[rows].add(mx.ones(rows.shape, mx.uint32))
    ends = mx.cumsum(count)
    runs = mx.stack([ends - count, ends], axis=-1)
    ones = mx.ones((1, parts.shape[0]), parts.dtype)
    return mx.segmented_mm(ones, parts[mx.argsort(rows)], runs)[:, 0]
