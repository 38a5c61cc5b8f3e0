"""Gated slot attention: softmax over a fixed number of slots that keys and values are written to.

    K_t = diag(exp g_t) K_{t-1} + s_t k_tᵀ          V_t = diag(exp g_t) V_{t-1} + s_t v_tᵀ
    o_t = V_tᵀ softmax(scale · K_t q_t)

Zhang et al. 2024, "Gated Slot Attention for Efficient Linear-Time Sequence Modeling", equations 5
and 6. The second is linear attention whose features are the slots; the first is read by the other
side of its state.
"""

from typing import TypedDict, Unpack

import mlx.core as mx

from ..core.shapes import BHT_, BHTK, BHTN
from .chunks import CHUNK, Chunks, chunk_states, decays_to_border, diagonal_blocks, halves
from .custom_vjp import recompute
from .device import upcast
from .linear_attention import linear_attention, without_padding


class Rows(TypedDict, total=False):
    """Arguments of `linear_attention` that say what the rows are, and the size of chunks."""

    starts: mx.array | None
    valid: mx.array | None
    chunk: int


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
    **rows: Unpack[Rows],
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
    keys, values = (None, None) if state is None else state
    if keys is None:
        keys = mx.zeros((*strength.shape[:2], strength.shape[-1], k.shape[-1]))
    written, fading = without_padding(rows.get("valid"), strength, log_decay)
    chunks = Chunks(q.shape[2], rows.get("chunk", CHUNK), rows.get("starts"))

    def forward(q: mx.array, *others: mx.array) -> list[mx.array]:
        return _scores(chunks, upcast(q) * scale, *map(upcast, others))

    scores, keys = recompute(forward)(q, k, written, fading, keys)
    weights = mx.softmax(scores, axis=-1, precise=True)
    out, values = linear_attention(weights, strength, v, log_decay, scale=1.0, state=values, **rows)
    return out, (keys, values)


def slot_attention_naive(
    q: BHTK,
    k: BHTK,
    v: BHT_,
    strength: BHTN,
    log_decay: BHTN,
    *,
    scale: float,
    state: Slots,
    starts: mx.array,
) -> tuple[BHT_, Slots]:
    """The definition of `slot_attention`, token by token, without padding."""
    (keys, values), outs = state, []
    for t in range(q.shape[2]):
        fade = mx.where(starts[:, t, None, None, None], 0.0, mx.exp(log_decay[:, :, t, :, None]))
        write = strength[:, :, t, :, None]
        keys = fade * keys + write * k[:, :, t, None]
        values = fade * values + write * v[:, :, t, None]
        weights = mx.softmax(scale * (keys @ q[:, :, t, :, None])[..., 0], axis=-1)
        outs.append((weights[..., None, :] @ values)[..., 0, :])
    return mx.stack(outs, axis=2), (keys, values)


def _scores(
    chunks: Chunks, q: mx.array, k: mx.array, s: mx.array, g: mx.array, state: mx.array
) -> list[mx.array]:
    """The scores of all slots, `[B, H, T, N]`, and their keys after the last token.

    Pairs meet at the borders of spans, as in `decayed_scores`; the decays belong to the slots.
    """
    q, k, s, g = (chunks.split(x) for x in (q, k, s, g))
    since = mx.cumsum(g, axis=3)
    chunk_decay = since[..., -1:, :]
    pairs = mx.where(chunks.pairs(), q @ k.swapaxes(-1, -2), 0.0)
    scores, span = mx.diagonal(pairs, axis1=-2, axis2=-1)[..., None] * s, 1
    while span < chunks.size:
        to_border, from_border = decays_to_border(since, since, span)
        across = diagonal_blocks(pairs, 2 * span)[..., span:, :span]
        read = to_border * (across @ (from_border * halves(s, span)[..., 0, :, :]))
        both = mx.stack([mx.zeros_like(read), read], axis=-3)
        scores = scores + both.reshape(scores.shape)
        span *= 2
    write = chunks.writing(s * mx.exp(chunk_decay - since)).swapaxes(-1, -2) @ k
    carry = chunks.carrying(mx.exp(chunk_decay).swapaxes(-1, -2))
    states, last = chunk_states(carry, write, state)
    before = chunks.reading(mx.exp(since)) * (q @ states.swapaxes(-1, -2))
    return [chunks.join(scores + before), last]
