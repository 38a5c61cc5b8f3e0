"""Mixture of Depths: which tokens of a row a block runs on."""

import mlx.core as mx

from .expert_slots import Slots


def top_tokens(scores: mx.array, k: int) -> Slots:
    """The k tokens of each row with the largest scores `[B, T]`, in their order in the row.

    Raposo et al. 2024 ("Mixture-of-Depths"), equation 1. The rows of the result are `[1, B * k]`.
    """
    B, T = scores.shape
    best = mx.argpartition(-mx.stop_gradient(scores), k - 1, axis=-1)[:, :k]
    token = mx.sort(best, axis=-1).astype(mx.int32)
    rows = mx.arange(B * k, dtype=mx.int32).reshape(B, k)
    row = mx.put_along_axis(mx.full((B, T), -1, dtype=mx.int32), token, rows, axis=1)
    return Slots(token[:, None], row[..., None])


def binary_cross_entropy(
    logits: mx.array, target: mx.array, weights: mx.array | None = None
) -> mx.array:
    """The mean of `-log p(target)` of a sigmoid, over all positions or those with weight 1."""
    loss = mx.logaddexp(logits, mx.zeros_like(logits)) - logits * target.astype(logits.dtype)
    if weights is None:
        return loss.mean()
    share = weights.astype(logits.dtype)
    return (loss * share).sum() / mx.maximum(share.sum(), 1e-9)
