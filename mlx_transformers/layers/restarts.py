"""Where a recurrence restarts, and where it waits: documents and padding as masks of tokens."""

import mlx.core as mx

from ..core.context import Context


def first_tokens(ctx: Context, length: int) -> mx.array:
    """Whether a token is the first of its document, `[B or 1, T]`, in a sequence or a step."""
    index = (mx.arange(length) + ctx.cursor.offset)[None]
    first = index == (0 if ctx.cursor.pad is None else ctx.cursor.pad[:, None])
    valid, starts = ctx.layout.valid, document_starts(ctx)
    if valid is not None:
        first = valid & (mx.cumsum(valid.astype(mx.int32), axis=1) == 1)
    return first if starts is None else first | starts


def document_starts(ctx: Context) -> mx.array | None:
    """Where a document of a packed row begins behind another, `[B, T]`; None: one a row."""
    if ctx.layout.segments is None:
        return None
    other = ctx.layout.segments[:, 1:] != ctx.layout.segments[:, :-1]
    return mx.pad(other, [(0, 0), (1, 0)])


def real_tokens(ctx: Context, length: int) -> mx.array | None:
    """Whether a token is not padding, `[B, T]`, in a sequence or a step; None: no padding."""
    if ctx.cursor.pad is not None:
        return mx.arange(length) + ctx.cursor.offset >= ctx.cursor.pad[:, None]
    return ctx.layout.valid


def restarting(a: mx.array, b: mx.array, ctx: Context) -> tuple[mx.array, mx.array]:
    """Coefficients of `h_t = a_t h_{t-1} + b_t` that restart with documents and wait on padding.

    Args:
        a, b: `[B, T, ...]`, of equal rank.
    """
    length, more = b.shape[1], [1] * (b.ndim - 2)
    real = real_tokens(ctx, length)
    if real is not None:
        real = real.reshape(*real.shape, *more)
        a, b = mx.where(real, a, mx.ones((), a.dtype)), mx.where(real, b, mx.zeros((), b.dtype))
    starts = document_starts(ctx)
    if starts is not None:
        a = mx.where(starts.reshape(*starts.shape, *more), mx.zeros((), a.dtype), a)
    return a, b
