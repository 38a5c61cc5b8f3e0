"""The delta rule: a state of keys by values that each token corrects at its own key.

    S_t = (I - β_t k_t k_tᵀ) diag(exp g_t) S_{t-1} + β_t k_t v_tᵀ          o_t = scale · S_tᵀ q_t

DeltaNet (Schlag et al. 2021; Yang et al. 2024, equation 2) has no decay g, Gated DeltaNet (Yang,
Kautz and Hatamizadeh 2024, equation 10) one per head, Kimi Delta Attention (2025) one per feature
of the keys. β up to 1 forgets, up to 2 reflects (Grazzi et al. 2024). Keys have length 1.
"""

import mlx.core as mx

from ..core.shapes import BGTK, BHT, BHT_
from .chunks import (
    CHUNK,
    Chunks,
    chunk_states,
    decayed_scores,
    diagonal_blocks,
    lower_blocks,
    score_flops,
)
from .custom_vjp import custom_vjp, recompute
from .device import upcast
from .linear_attention import first_state, tokens, without_padding


def delta_rule(
    q: BGTK,
    k: BGTK,
    v: BHT_,
    beta: BHT,
    log_decay: mx.array | None = None,
    *,
    scale: float,
    state: mx.array | None = None,
    starts: mx.array | None = None,
    valid: mx.array | None = None,
    chunk: int = CHUNK,
) -> tuple[BHT_, mx.array]:
    """`delta_rule_naive` by matrix products over chunks; memory and work linear in T.

    Within a chunk the corrections solve a triangular system, `(I + A) U = β (V - decayed K S)`: the
    WY form of a product of Householder matrices (Yang et al. 2024, section 3.2). The backward pass
    computes the chunks again, so a forward saves its arguments alone. One token, a step of
    decoding, is computed by the definition.

    Args:
        q, k: queries and keys of G groups; G divides the heads H of v.
        v: values `[B, H, T, V]`.
        beta: β, from 0 to 2.
        log_decay: g, at most 0: `[B, H, T]`, or `[B, H, T, K]` per feature; None: 0.
        scale: factor of the output.
        state: the state before the first token, `[B, H, K, V]`; None: zeros.
        starts: `[B, T]`, True where a document starts, which reads nothing from before.
        valid: `[B, T]`, False on padding, which neither fades the state nor corrects it.
        chunk: tokens of a chunk at most, a power of two.

    Returns:
        Output `[B, H, T, V]` in the dtype of v, and the last state `[B, H, K, V]`, float32.

    Raises:
        ValueError: the chunk is no power of two.
    """
    if v.shape[2] == 1:
        return delta_rule_naive(
            q, k, v, beta, log_decay, scale=scale, state=state, starts=starts, valid=valid
        )
    beta, log_decay = without_padding(valid, beta, log_decay)
    if log_decay is None:
        log_decay = mx.zeros((1, 1, v.shape[2]))
    chunks = Chunks(v.shape[2], chunk, starts)

    def forward(q: mx.array, *others: mx.array) -> list[mx.array]:
        return _in_chunks(chunks, upcast(q) * scale, *map(upcast, others))

    out, last = recompute(forward)(q, k, v, beta, log_decay, first_state(k, v, state))
    return out.astype(v.dtype), last


def delta_product(
    q: BGTK,
    k: mx.array,
    v: mx.array,
    beta: mx.array,
    log_decay: mx.array | None = None,
    *,
    scale: float,
    state: mx.array | None = None,
    starts: mx.array | None = None,
    valid: mx.array | None = None,
    chunk: int = CHUNK,
) -> tuple[BHT_, mx.array]:
    """The delta rule with n corrections per token: the state's transition is a product of n
    Householder matrices, after its decay (Siems et al. 2025, DeltaProduct, equations 4 and 5).

    Args:
        q: queries of T tokens.
        k, v, beta: as in `delta_rule`, of n T corrections, the n of a token side by side.
        log_decay, scale, state, starts, valid, chunk: as in `delta_rule`, of T tokens.

    Returns:
        Output `[B, H, T, V]`, and the last state.
    """
    n = k.shape[2] // q.shape[2]
    if n == 1:
        return delta_rule(
            q,
            k,
            v,
            beta,
            log_decay,
            scale=scale,
            state=state,
            starts=starts,
            valid=valid,
            chunk=chunk,
        )
    out, last = delta_rule(
        _one_of(n, q, n - 1),
        k,
        v,
        beta,
        None if log_decay is None else _one_of(n, log_decay, 0),
        scale=scale,
        state=state,
        starts=None if starts is None else _one_of(n, starts[:, None], 0)[:, 0],
        valid=None if valid is None else mx.repeat(valid, n, axis=1),
        chunk=chunk,
    )
    return out[:, :, n - 1 :: n], last


def _one_of(n: int, x: mx.array, at: int) -> mx.array:
    """`[B, H, T, ...]` at one of every n places of `[B, H, n T, ...]`, zeros at the others."""
    zeros = [mx.zeros_like(x)] * n
    return mx.stack([*zeros[:at], x, *zeros[at + 1 :]], axis=3).flatten(2, 3)


def delta_rule_flops(
    at_length: int,
    *,
    n_heads: int,
    key_dim: int,
    value_dim: int,
    chunk: int = CHUNK,
    groups: int | None = None,
    per_feature: bool = False,
) -> float:
    """Operations of matrix products per token of `delta_rule`, for widths of one head.

    Args:
        at_length: tokens of a row.
        n_heads, key_dim, value_dim: heads of the values, and the widths K and V of one.
        chunk: tokens of a chunk at most.
        groups: heads of queries and keys; None: as many as values.
        per_feature: whether each feature of the keys has its own decay.
    """
    chunks = Chunks(at_length, chunk)
    size = chunks.size
    pairs = score_flops(size, key_dim, n_heads, groups, per_feature)
    inverse: float = sum(2.0 * 4**level for level in range(1, size.bit_length() - 1))
    within: float = 2.0 * size * (key_dim + 2 * value_dim) + inverse
    states = 2.0 * key_dim * (key_dim + 3 * value_dim) + 2 * key_dim**2 * value_dim / size
    return (2 * pairs + n_heads * (within + states)) * chunks.count * size / at_length


def delta_rule_naive(
    q: BGTK,
    k: BGTK,
    v: BHT_,
    beta: BHT,
    log_decay: mx.array | None = None,
    *,
    scale: float,
    state: mx.array | None = None,
    starts: mx.array | None = None,
    valid: mx.array | None = None,
) -> tuple[BHT_, mx.array]:
    """The definition of `delta_rule`, token by token."""
    beta, log_decay = without_padding(valid, beta, log_decay)
    s, outs = first_state(k, v, state), []
    for t, (q_t, k_t, v_t) in enumerate(tokens(q, k, v)):
        if starts is not None:
            s = mx.where(starts[:, t, None, None, None], 0.0, s)
        if log_decay is not None:
            g = upcast(log_decay[:, :, t])
            s = s * mx.exp(g[..., None] if log_decay.ndim == 4 else g[..., None, None])
        stored = (k_t[..., None, :] @ s)[..., 0, :]
        written = upcast(beta[:, :, t])[..., None] * (v_t - stored)
        s = s + k_t[..., None] * written[..., None, :]
        outs.append((q_t[..., None, :] @ s)[..., 0, :] * scale)
    return mx.stack(outs, axis=2).astype(v.dtype), s


def _in_chunks(
    chunks: Chunks,
    q: mx.array,
    k: mx.array,
    v: mx.array,
    beta: mx.array,
    log_decay: mx.array,
    state: mx.array,
) -> list[mx.array]:
    """Output and last state; queries are scaled."""
    heads = v.shape[1] // k.shape[1]
    g = log_decay if log_decay.ndim == 4 else log_decay[..., None]
    q, k, v, beta, g = (chunks.split(x) for x in (q, k, v, beta[..., None], g))
    sums = mx.cumsum(g, axis=3)
    chunk_decay = sums[..., -1:, :]
    system = beta * decayed_scores(k, k, sums, sums, chunks.pairs(itself=False), heads)
    scores = decayed_scores(q, k, sums, sums, chunks.pairs(), heads)
    q, k = (mx.repeat(x, heads, axis=2) for x in (q, k))
    inverse = unit_lower_inverse(system)
    # corrections are U - W S, where S is the state before the chunk
    u = inverse @ (beta * v)
    w = inverse @ (beta * chunks.reading(k * mx.exp(sums)))
    to_last = chunks.writing(k * mx.exp(chunk_decay - sums)).swapaxes(-1, -2)
    fade = chunks.carrying(mx.exp(chunk_decay).swapaxes(-1, -2))
    carry = fade * mx.eye(k.shape[-1], dtype=k.dtype) - to_last @ w
    states, last = chunk_states(carry, to_last @ u, state, matrix=True)
    out = chunks.reading(q * mx.exp(sums)) @ states + scores @ (u - w @ states)
    return [chunks.join(out), last]


def unit_lower_inverse(lower: mx.array) -> mx.array:
    """`(I + A)^-1` of strictly lower triangular `A [..., M, M]`, M a power of two.

    Blocks of two tokens are inverted by hand, then pairs of neighbouring blocks by products:
    `[[P, 0], [C, Q]]^-1 = [[P^-1, 0], [-Q^-1 C P^-1, Q^-1]]`. That is as stable as substitution,
    unlike a Neumann series, whose terms grow where keys repeat and β is above 1.
    """

    def backward(_: mx.array, cotangent: mx.array, inverse: mx.array) -> mx.array:
        transposed = inverse.swapaxes(-1, -2)
        return mx.tril(-(transposed @ cotangent @ transposed), -1)

    out: mx.array = custom_vjp(_unit_lower_inverse, backward)(lower)
    return out


def _unit_lower_inverse(lower: mx.array) -> mx.array:
    size = lower.shape[-1]
    if size == 1:
        return mx.ones_like(lower)
    width = 2
    blocks = mx.eye(2, dtype=lower.dtype) - diagonal_blocks(lower, 2)
    while width < size:
        across = diagonal_blocks(lower, 2 * width)[..., width:, :width]
        pairs = blocks.reshape(*across.shape[:-2], 2, width, width)
        first, second = pairs[..., 0, :, :], pairs[..., 1, :, :]
        blocks = lower_blocks(first, -(second @ across @ first), second)
        width *= 2
    return blocks.reshape(lower.shape)
