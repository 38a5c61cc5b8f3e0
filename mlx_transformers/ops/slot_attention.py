"""Gated slot attention: softmax over a fixed number of slots that keys and values are written to.

    K_t = diag(exp g_t) K_{t-1} + s_t k_tᵀ          V_t = diag(exp g_t) V_{t-1} + s_t v_tᵀ
    o_t = V_tᵀ softmax(scale · K_t q_t)

Zhang et al. 2024, "Gated Slot Attention for Efficient Linear-Time Sequence Modeling", equations 5
and 6. Both are linear attention: in the second the slots are features of the keys; in the first
each slot is a head of its own with one decay, whose value is the slot's strength.
"""

from collections.abc import Callable
from typing import Any

import mlx.core as mx

from ..core.shapes import BHT_, BHTK, BHTN
from .linear_attention import linear_attention, linear_attention_naive

Slots = tuple[mx.array, mx.array]
"""Keys `[B, H, N, K]` and values `[B, H, N, V]` of N slots."""


def slot_attention(
    q: BHTK,
    k: BHTK,
    v: BHT_,
    strength: BHTN,
    log_decay: BHTN,
    *,
    scale: float,
    state: Slots | None = None,
    **rows: Any,
) -> tuple[BHT_, Slots]:
    """Read N slots per head; memory and work are linear in T.

    Args:
        q, k, v: queries, keys and values.
        strength: s, how much of a token each slot takes.
        log_decay: g, at most 0.
        scale: factor of the scores.
        state: the slots before the first token; None: zeros.
        rows: `starts`, `valid` and `chunk` of `linear_attention`.

    Returns:
        Output `[B, H, T, V]` in the dtype of v, and the slots after the last token in float32.
    """
    return _two_passes(linear_attention, q, k, v, strength, log_decay, scale, state, rows)


def slot_attention_naive(
    q: BHTK,
    k: BHTK,
    v: BHT_,
    strength: BHTN,
    log_decay: BHTN,
    *,
    scale: float,
    state: Slots | None = None,
    **rows: Any,
) -> tuple[BHT_, Slots]:
    """The definition of `slot_attention`, token by token."""
    return _two_passes(linear_attention_naive, q, k, v, strength, log_decay, scale, state, rows)


def _two_passes(
    attend: Callable[..., tuple[mx.array, mx.array]],
    q: mx.array,
    k: mx.array,
    v: mx.array,
    strength: mx.array,
    log_decay: mx.array,
    scale: float,
    state: Slots | None,
    rows: dict[str, Any],
) -> tuple[mx.array, Slots]:
    B, H, T, N = strength.shape
    keys, values = (None, None) if state is None else state
    if keys is not None:
        keys = keys.reshape(B, H * N, -1, 1)
    each, fade = (x.swapaxes(2, 3).reshape(B, H * N, T) for x in (strength, log_decay))
    scores, keys = attend(q, k, each[..., None], fade, scale=scale, state=keys, **rows)
    weights = mx.softmax(scores.reshape(B, H, N, T).swapaxes(2, 3), axis=-1, precise=True)
    out, values = attend(weights, strength, v, log_decay, scale=1.0, state=values, **rows)
    return out, (keys.reshape(B, H, N, -1), values)
