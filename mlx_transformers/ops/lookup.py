"""Rows of a table by their numbers: what an embedding reads."""

import mlx.core as mx

from .derivative import with_backward
from .device import on_cpu, wide


def lookup(table: mx.array, rows: mx.array) -> mx.array:
    """`table[rows]`: table `[V, D]`, rows integer `[...]`, result `[..., D]`.

    The gradient of a row is the sum over all places that read it, in float32 or wider and in a
    fixed order. MLX's own sums in the table's dtype, so that in bfloat16 a frequent row's
    gradient stops growing, and on a GPU in the order in which threads arrive, so that no two
    runs are equal.
    """
    total = added if on_cpu() else segmented

    def forward(table: mx.array, rows: mx.array) -> mx.array:
        return table[rows]

    def backward(
        primals: tuple[mx.array, mx.array], cotangent: mx.array, _: mx.array
    ) -> tuple[mx.array, mx.array]:
        table, rows = primals
        parts = wide(cotangent).reshape(-1, table.shape[1])
        sums = total(parts, rows.reshape(-1), table.shape[0])
        return sums.astype(table.dtype), mx.zeros_like(rows)

    out: mx.array = with_backward(forward, backward)(table, rows)
    return out


def added(parts: mx.array, rows: mx.array, n_rows: int) -> mx.array:
    """The sum of parts `[N, D]` by their row `[N]`, `[n_rows, D]`: one after the other."""
    return mx.zeros((n_rows, parts.shape[1]), parts.dtype).at[rows].add(parts)


def segmented(parts: mx.array, rows: mx.array, n_rows: int) -> mx.array:
    """`added` without two threads adding to one number: sorted by row, and each run summed."""
    count = mx.zeros((n_rows,), mx.uint32).at[rows].add(mx.ones(rows.shape, mx.uint32))
    ends = mx.cumsum(count)
    runs = mx.stack([ends - count, ends], axis=-1)
    ones = mx.ones((1, parts.shape[0]), parts.dtype)
    return mx.segmented_mm(ones, parts[mx.argsort(rows)], runs)[:, 0]
