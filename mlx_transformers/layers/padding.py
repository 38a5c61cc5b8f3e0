"""Padding as seen by recurrences: positions that must not change a state."""

import mlx.core as mx

from ..core.context import Context


def without_padding(x: mx.array, ctx: Context) -> mx.array:
    """x `[B, T, D]` with zeros at padding, of a sequence or of a decoding step."""
    present = ctx.layout.valid
    if ctx.cursor.pad is not None:
        index = mx.arange(x.shape[1]) + ctx.cursor.offset
        seen = index >= ctx.cursor.pad[:, None]
        present = seen if present is None else seen & present
    if present is None:
        return x
    return mx.where(present[..., None], x, mx.zeros((), x.dtype))
