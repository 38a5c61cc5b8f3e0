"""The generalised delta rule of RWKV-7: a state whose transition is diagonal plus low rank.

    S_t = (diag(exp g_t) + b_t a_tᵀ) S_{t-1} + k_t v_tᵀ          o_t = scale · S_tᵀ r_t

Peng et al. 2025, "RWKV-7 Goose with Expressive Dynamic State Evolution", equations 16 and 17, with
the state as keys by values (the paper's is its transpose). The key that is read, -a, and the one
that is written, b, may differ: with a = -k and b = βk it is the delta rule.
"""

import mlx.core as mx

from ..core.shapes import BGTK, BHT_
from .chunks import CHUNK, Chunks, chunk_states, decayed_scores
from .custom_vjp import recompute
from .delta_rule import unit_lower_inverse
from .device import upcast
from .linear_attention import first_state


def generalized_delta_rule(
    r: BGTK,
    log_decay: BGTK,
    k: BGTK,
    v: BHT_,
    a: BGTK,
    b: BGTK,
    *,
    scale: float = 1.0,
    state: mx.array | None = None,
    starts: mx.array | None = None,
    valid: mx.array | None = None,
    chunk: int = CHUNK,
) -> tuple[BHT_, mx.array]:
    """`generalized_delta_rule_naive` by matrix products over chunks; linear in T.

    What the tokens of a chunk read, `u_t = S_{t-1}ᵀ a_t`, solves a triangular system. The backward
    pass computes the chunks again, so a forward saves its arguments alone. One token, a step of
    decoding, is computed by the definition.

    Args:
        r, k: queries and keys, `[B, H, T, K]`.
        log_decay: g, at most 0, `[B, H, T, K]`.
        v: values, `[B, H, T, V]`.
        a, b: the low rank, `[B, H, T, K]`.
        scale: factor of the output.
        state: the state before the first token, `[B, H, K, V]`; None: zeros.
        starts: `[B, T]`, True where a document starts, which reads nothing from before.
        valid: `[B, T]`, False on padding, which leaves the state as it is.
        chunk: tokens of a chunk at most, a power of two.

    Returns:
        Output `[B, H, T, V]` in the dtype of v, and the last state `[B, H, K, V]`, float32.
    """
    if v.shape[2] == 1:
        return generalized_delta_rule_naive(
            r, log_decay, k, v, a, b, scale=scale, state=state, starts=starts, valid=valid
        )
    log_decay, k, b = _without_padding(valid, log_decay, k, b)
    chunks = Chunks(v.shape[2], chunk, starts)
    arrays = [upcast(x) for x in (r * scale, log_decay, k, v, a, b, first_state(k, v, state))]

    def forward(*arrays: mx.array) -> list[mx.array]:
        return _in_chunks(chunks, *arrays)

    out, last = recompute(forward)(*arrays)
    return out.astype(v.dtype), last


def generalized_delta_rule_naive(
    r: BGTK,
    log_decay: BGTK,
    k: BGTK,
    v: BHT_,
    a: BGTK,
    b: BGTK,
    *,
    scale: float = 1.0,
    state: mx.array | None = None,
    starts: mx.array | None = None,
    valid: mx.array | None = None,
) -> tuple[BHT_, mx.array]:
    """The definition of `generalized_delta_rule`, token by token."""
    log_decay, k, b = _without_padding(valid, log_decay, k, b)
    s, outs = first_state(k, v, state), []
    for t in range(v.shape[2]):
        r_t, g_t, k_t, v_t, a_t, b_t = (upcast(x[:, :, t]) for x in (r, log_decay, k, v, a, b))
        if starts is not None:
            s = mx.where(starts[:, t, None, None, None], 0.0, s)
        read = a_t[..., None, :] @ s
        s = mx.exp(g_t)[..., None] * s + b_t[..., None] * read
        s = s + k_t[..., None] * v_t[..., None, :]
        outs.append((r_t[..., None, :] @ s)[..., 0, :] * scale)
    return mx.stack(outs, axis=2).astype(v.dtype), s


def _in_chunks(
    chunks: Chunks,
    r: mx.array,
    log_decay: mx.array,
    k: mx.array,
    v: mx.array,
    a: mx.array,
    b: mx.array,
    state: mx.array,
) -> list[mx.array]:
    """Output and last state; queries are scaled."""
    r, g, k, v, a, b = (chunks.split(x) for x in (r, log_decay, k, v, a, b))
    since = mx.cumsum(g, axis=3)
    until, chunk_decay = since - g, since[..., -1:, :]
    earlier, visible = chunks.pairs(itself=False), chunks.pairs()
    inverse = unit_lower_inverse(-decayed_scores(a, b, until, since, earlier))
    # what is read is U + W S, where S is the state before the chunk
    u = inverse @ (decayed_scores(a, k, until, since, earlier) @ v)
    w = inverse @ chunks.reading(a * mx.exp(until))
    decay_to_end = mx.exp(chunk_decay - since)
    from_b, from_k = (chunks.writing(x * decay_to_end).swapaxes(-1, -2) for x in (b, k))
    fade = chunks.carrying(mx.exp(chunk_decay).swapaxes(-1, -2))
    carry = fade * mx.eye(k.shape[-1], dtype=k.dtype) + from_b @ w
    states, last = chunk_states(carry, from_b @ u + from_k @ v, state, matrix=True)
    out = chunks.reading(r * mx.exp(since)) @ states
    out = out + decayed_scores(r, b, since, since, visible) @ (u + w @ states)
    out = out + decayed_scores(r, k, since, since, visible) @ v
    return [chunks.join(out), last]


def _without_padding(valid: mx.array | None, *arrays: mx.array) -> list[mx.array]:
    """The arrays `[B, H, T, K]` with zeros on padding."""
    if valid is None:
        return list(arrays)
    real = valid[:, None, :, None]
    return [mx.where(real, x, mx.zeros((), x.dtype)) for x in arrays]


def generalized_delta_rule_flops(
    at_length: int, n_heads: int, head_dim: int, chunk: int = CHUNK
) -> float:
    """Operations of matrix products per token of `generalized_delta_rule`, heads of equal widths.

    Args:
        at_length: tokens of a row.
        n_heads, head_dim: heads, and the width K = V of one.
        chunk: tokens of a chunk at most.
    """
    chunks = Chunks(at_length, chunk)
    size, width = chunks.size, head_dim
    scores = 4.0 * (size + 2) * width
    inverse = 2.0 * sum((1 << i) ** 2 for i in range(1, size.bit_length() - 1))
    within = 10.0 * size * width
    states = 10.0 * width * width + 2.0 * width**3 / size
    per_token = scores + inverse + within + states
    return n_heads * per_token * chunks.count * size / at_length
