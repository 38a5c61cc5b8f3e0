"""Masks of tokens: padding, and the first tokens of documents in packed rows."""

import mlx.core as mx

from ..core.context import Context
from ..ops import chunks


def first_tokens(ctx: Context, length: int) -> mx.array:
    """Whether a token is the first of its document, `[B or 1, T]`, in a sequence or a step."""
    index = (mx.arange(length) + ctx.cursor.offset)[None]
    first = index == (0 if ctx.cursor.pad is None else ctx.cursor.pad[:, None])
    valid, starts = ctx.layout.valid, document_starts(ctx)
    if valid is not None:
        first = valid & (mx.cumsum(valid.astype(mx.int32), axis=1) == 1)
    return first if starts is None else first | starts


def document_starts(ctx: Context) -> mx.array | None:
    """Mask of the tokens that begin a document behind another in a packed row, `[B, T]`; None: one
    document a row."""
    return chunks.document_starts(ctx.layout.segments)


def real_tokens(ctx: Context, length: int) -> mx.array | None:
    """Whether a token is not padding, `[B, T]`, in a sequence or a step; None: no padding."""
    valid = ctx.layout.valid
    if ctx.cursor.pad is None:
        return valid
    real = mx.arange(length) + ctx.cursor.offset >= ctx.cursor.pad[:, None]
    return real if valid is None else real & valid


def without_padding(x: mx.array, ctx: Context) -> mx.array:
    """x `[B, T, D]` with zeros at padding, of a sequence or of a decoding step."""
    real = real_tokens(ctx, x.shape[1])
    return x if real is None else mx.where(real[..., None], x, mx.zeros((), x.dtype))
