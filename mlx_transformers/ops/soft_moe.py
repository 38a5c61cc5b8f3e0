"""Soft mixture of experts: every slot is a mean of tokens, every token a mean of slots."""

import mlx.core as mx


def soft_slots(
    x: mx.array, logits: mx.array, valid: mx.array | None = None
) -> tuple[mx.array, mx.array]:
    """The inputs of the slots `[B, S, D]`, and the weights of their outputs `[B, T, S]`.

    `slots = softmax over tokens(logits)ᵀ x`, `y = softmax over slots(logits) f(slots)`; Puigcerver
    et al. 2023 ("From Sparse to Soft Mixtures of Experts"), equations 1 to 3.

    Args:
        x: `[B, T, D]`.
        logits: `[B, T, S]`, tokens by the slots of all experts.
        valid: `[B, T]`, False on padding, which no slot reads, and which reads all slots alike.
    """
    scores = logits.astype(mx.float32)
    if valid is not None:
        scores = mx.where(valid[..., None], scores, -1e30)  # -inf would be NaN for a row of padding
    combine = mx.softmax(scores, axis=-1).astype(x.dtype)
    dispatch = mx.softmax(scores, axis=1).astype(x.dtype)
    return dispatch.swapaxes(1, 2) @ x, combine


def unit(x: mx.array) -> mx.array:
    """x divided by its L2 norm along the last axis, in float32."""
    x = x.astype(mx.float32)
    return x * mx.rsqrt(mx.square(x).sum(axis=-1, keepdims=True) + 1e-12)
