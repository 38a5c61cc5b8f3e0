"""Soft capping of logits and attention scores."""

import mlx.core as mx


def soft_cap(x: mx.array, cap: float | None) -> mx.array:
    """`cap · tanh(x / cap)`, which keeps x within (-cap, cap); x itself if `cap` is None.

    Gemma Team 2024 (Gemma 2), section 2.
    """
    return x if cap is None else cap * mx.tanh(x / cap)


def soft_cap_slope(x: mx.array, cap: float) -> mx.array:
    """The derivative of `soft_cap`, from its result `x`: `1 - (x / cap)²`."""
    return 1 - mx.square(x / cap)
