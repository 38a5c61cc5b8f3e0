"""Padding as seen by recurrences: positions that must not change a state."""

import mlx.core as mx

from ..core.context import Context
from .restarts import real_tokens


def without_padding(x: mx.array, ctx: Context) -> mx.array:
    """x `[B, T, D]` with zeros at padding, of a sequence or of a decoding step."""
    present = real_tokens(ctx, x.shape[1])
    if present is None:
        return x
    return mx.where(present[..., None], x, mx.zeros((), x.dtype))
