"""The attention mask of whole rows, from the facts of a batch."""

from ...core.context import Context
from ...ops.masks import Mask


def row_mask(
    ctx: Context, length: int, window: int | None = None, chunk: int | None = None
) -> Mask:
    """Return the mask of rows of T = `length` tokens.

    Chunks are counted in positions, which are no indices in rows with padding or with several
    documents: there the mask takes each chunk for a document of its own.

    Args:
        ctx: the context of the pass.
        length: T.
        window: tokens that a query sees, itself included; None: all.
        chunk: positions of a chunk, which a query doesn't look out of; None: all.
    """
    rows = ctx.layout
    segments, odd = rows.segments, (rows.positions, rows.valid, rows.segments)
    chunk = None if chunk is None or chunk >= length else chunk
    if chunk is not None and any(array is not None for array in odd):
        own = ctx.position.counted(length, ctx) // chunk
        own = own if own.ndim == 2 else own[None]
        segments, chunk = own if segments is None else segments * (length + 1) + own, None
    return Mask(rows.causal, window, segments, rows.valid, prefix=rows.prefix, chunk=chunk)
