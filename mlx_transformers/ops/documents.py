"""Documents of packed rows: where each starts."""

import mlx.core as mx


def document_runs(segments: mx.array) -> mx.array:
    """Number the documents of each row in order: `[B, T]` from ids `segments [B, T]`.

    Neighbours of equal id are one document; an id that comes back later begins another.
    """
    starts = document_starts(segments)
    return mx.cumsum(starts.astype(mx.int32), axis=1)


def document_starts(segments: mx.array) -> mx.array:
    """Whether a token is the first of its document and not the first of its row: bool `[B, T]`."""
    change = segments[:, 1:] != segments[:, :-1]
    return mx.pad(change, [(0, 0), (1, 0)])
