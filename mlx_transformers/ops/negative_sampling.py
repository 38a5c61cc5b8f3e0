"""Negative sampling: telling a word from a few that were drawn at random."""

import mlx.core as mx

from ..core.shapes import Array
from .device import upcast


def masked_mean(rows: Array, valid: Array) -> Array:
    """The mean over those of `rows [..., I, D]` that are `valid [..., I]`, `[..., D]`; zeros where
    none is."""
    keep = valid[..., None].astype(rows.dtype)
    return (rows * keep).sum(axis=-2) / mx.maximum(keep.sum(axis=-2), 1)


def scores_of(h: Array, rows: Array) -> Array:
    """The products `[..., W]` of a vector `h [..., D]` with each of `rows [..., W, D]`, float32."""
    return upcast((rows * h[..., None, :]).sum(axis=-1))


def negative_sampling(word: Array, noise: Array, counted: Array) -> Array:
    """`-log σ(word) - Σ_k counted_k log σ(-noise_k)`, `[...]`.

    Mikolov et al. 2013b, equation 4.

    Args:
        word: the score of the true word, `[...]`.
        noise: scores of the K words drawn, `[..., K]`.
        counted: False where a word drawn is the true one, `[..., K]`; it is left out, as in the
            published word2vec.c.
    """
    drawn = mx.where(counted, mx.logaddexp(0.0, noise), 0.0).sum(axis=-1)
    return mx.logaddexp(0.0, -word) + drawn
