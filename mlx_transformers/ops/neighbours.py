"""Sequences in chunks that read their neighbours."""

import mlx.core as mx


def look_around(x: mx.array, before: int, after: int, *, axis: int) -> mx.array:
    """Each chunk of a ring joined with those around it, along the axis after `axis`.

    Args:
        x: chunks along `axis`, their positions along the next axis; the first follows the last.
        before, after: number of chunks before and after that are joined.
        axis: a negative axis.
    """
    parts = [mx.roll(x, -step, axis) if step else x for step in range(-before, after + 1)]
    return parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=axis + 1)
