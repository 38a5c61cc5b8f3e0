"""Documents of packed rows, numbered."""

import mlx.core as mx

from .chunks import document_starts


def document_runs(segments: mx.array) -> mx.array:
    """Number the documents of each row in order: `[B, T]` from ids `segments [B, T]`.

    Neighbours of equal id are one document; an id that comes back later begins another.
    """
    starts = document_starts(segments)
    assert starts is not None
    return mx.cumsum(starts.astype(mx.int32), axis=1)
