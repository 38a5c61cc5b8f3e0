"""Linear attention with decay: a state of keys by values that every token fades and adds to.

    S_t = diag(exp g_t) S_{t-1} + k_t v_tᵀ          o_t = scale · S_tᵀ q_t

Log-decays g ≤ 0: none (Katharopoulos et al. 2020), one per head (RetNet, Mamba-2), or one per
feature of the keys (GLA, RWKV-6). Other recurrences are the same with other inputs:

- A normaliser `z_t = Σ k_s` (Katharopoulos et al. 2020, equation 18) is a value that is always 1.
- Mamba-2's state space: q = C, k = B, v = Δ x, g = Δ A, in G groups of heads.
- RWKV-6 reads the state before its own token, which enters by a `bonus`.
- mLSTM with the running maximum `m_t = max(f_t + m_{t-1}, i_t)`: g_t = f_t + m_{t-1} - m_t, and
  keys times `exp(i_t - m_t)`. Neither exponent is positive.
"""

from collections.abc import Iterator
from typing import Any

import mlx.core as mx

from ..core.shapes import BGTK, BHT_, HK
from .chunks import CHUNK, Chunks, chunk_states, decayed_scores, score_flops
from .custom_vjp import recompute
from .device import upcast
from .head_decay import head_decay_attention


def linear_attention(
    q: BGTK,
    k: BGTK,
    v: BHT_,
    log_decay: mx.array | None = None,
    *,
    scale: float,
    state: mx.array | None = None,
    before: bool = False,
    bonus: HK | None = None,
    starts: mx.array | None = None,
    valid: mx.array | None = None,
    chunk: int = CHUNK,
) -> tuple[BHT_, mx.array]:
    """`linear_attention_naive` by matrix products over chunks; memory and work linear in T.

    The backward pass computes the chunks again, so a forward saves its arguments alone. One token,
    a step of decoding, is computed by the definition.

    Args:
        q, k: queries and keys of G groups; G divides the heads H of v.
        v: values `[B, H, T, V]`.
        log_decay: g, at most 0: `[1 or B, 1 or H, T]`, or `[B, H, T, K]` per feature; None: 0.
        scale: factor of the output.
        state: the state before the first token, `[B, H, K, V]`; None: zeros.
        before: whether a token reads the state before its own update, `o_t = scale · S_{t-1}ᵀ q_t`.
        bonus: u `[H, K]`, which goes with `before`: adds `scale · (q_t · u k_t) v_t`.
        starts: `[B, T]`, True where a document starts, which reads nothing from before.
        valid: `[B, T]`, False on padding, which neither fades the state nor adds to it.
        chunk: tokens of a chunk at most, a power of two.

    Returns:
        Output `[B, H, T, V]` in the dtype of v, and the last state `[B, H, K, V]`, float32.

    Raises:
        ValueError: the chunk is no power of two, or a bonus comes without `before`.
    """
    if bonus is not None and not before:
        raise ValueError("A bonus goes with before=True: otherwise a token reads itself already.")
    if v.shape[2] == 1:
        rows: dict[str, Any] = {"state": state, "starts": starts, "valid": valid}
        reads: dict[str, Any] = {"scale": scale, "before": before, "bonus": bonus}
        return linear_attention_naive(q, k, v, log_decay, **reads, **rows)
    k, log_decay = without_padding(valid, k, log_decay)
    if log_decay is None:
        log_decay = mx.zeros((1, 1, v.shape[2]))
    chunks = Chunks(v.shape[2], chunk, starts)
    more = [] if bonus is None else [bonus]
    in_chunks = head_decay_attention if log_decay.ndim == 3 and bonus is None else _in_chunks

    def forward(q: mx.array, *others: mx.array) -> list[mx.array]:
        return in_chunks(chunks, before, upcast(q) * scale, *map(upcast, others))

    out, last = recompute(forward)(q, k, v, log_decay, first_state(k, v, state), *more)
    return out.astype(v.dtype), last


def normalised_linear_attention(
    q: BGTK,
    k: BGTK,
    v: BHT_,
    *,
    eps: float | mx.array,
    causal: bool = True,
    state: mx.array | None = None,
    starts: mx.array | None = None,
    valid: mx.array | None = None,
    chunk: int = CHUNK,
) -> tuple[BHT_, mx.array]:
    """Means of values with weights `q_t · k_s`: `Σ_s (q_t · k_s) v_s / (Σ_s q_t · k_s + eps)`.

    Queries and keys are positive features. Katharopoulos et al. 2020, equations 5 and 18 to 20.

    Args:
        eps: added to the normaliser, a number or an array that broadcasts to `[B, H, T, 1]`.
        causal: whether s ends at t; otherwise a token reads its whole document: all rows by one
            product, or documents by a second pass in reverse.
        state: as in `linear_attention`; the last value of each key is the sum of keys.

    Returns:
        Output `[B, H, T, V]`, and the last state `[B, H, K, V + 1]`.
    """
    ones = mx.ones((*v.shape[:3], 1), v.dtype)
    values = mx.concatenate([v, ones], axis=-1)
    if not causal and starts is None:
        k = k if valid is None else mx.where(valid[:, None, :, None], k, 0)
        k, values, heads = upcast(k), upcast(values), v.shape[1] // k.shape[1]
        kv_sums = mx.repeat(k, heads, axis=1).swapaxes(-1, -2) @ values
        sums = mx.repeat(upcast(q), heads, axis=1) @ kv_sums
        return (sums[..., :-1] / (sums[..., -1:] + eps)).astype(v.dtype), kv_sums
    rows: dict[str, Any] = {"scale": 1.0, "valid": valid, "chunk": chunk}
    sums, last = linear_attention(q, k, values, state=state, starts=starts, **rows)
    if not causal:
        # the reversed pass reads what follows a token, and documents start where they ended
        q, k, values = (x[:, :, ::-1] for x in (q, k, values))
        rows["valid"] = None if valid is None else valid[:, ::-1]
        if starts is not None:
            starts = mx.pad(starts[:, :0:-1], [(0, 0), (1, 0)])
        after, _ = linear_attention(q, k, values, before=True, starts=starts, **rows)
        sums = sums + after[:, :, ::-1]
    return sums[..., :-1] / (sums[..., -1:] + eps), last


def elu_plus_one(x: mx.array) -> mx.array:
    """`elu(x) + 1`, positive features (Katharopoulos et al. 2020, equation 7), same shape."""
    return mx.where(x > 0, x + 1, mx.exp(mx.minimum(x, 0)))


def cosine_features(x: mx.array, angle: mx.array) -> mx.array:
    """`[x cos a; x sin a]` of features `x [..., T, K]` and angles `a [T]`, `[..., T, 2K]`.

    Products of two are those of x times `cos(a_t - a_s)` (Qin et al. 2022, cosFormer, equation 12).
    """
    angle = angle[:, None]
    return mx.concatenate([x * mx.cos(angle), x * mx.sin(angle)], axis=-1)


def taylor_features(x: mx.array) -> mx.array:
    """Features whose products are `1 + s + s²/2` of `s = q · k / √K`, `[..., 1 + K + K²]`.

    The second-order Taylor series of `exp(s)` (Arora et al. 2024, Based, equation 3).
    """
    x = x * x.shape[-1] ** -0.25
    squares = (x[..., :, None] * x[..., None, :]).flatten(-2) * 0.5**0.5
    return mx.concatenate([mx.ones_like(x[..., :1]), x, squares], axis=-1)


def linear_attention_flops(
    at_length: int,
    *,
    n_heads: int,
    key_dim: int,
    value_dim: int,
    chunk: int = CHUNK,
    per_feature: bool = False,
) -> float:
    """Operations of matrix products per token of `linear_attention`, for widths of one head.

    Args:
        at_length: tokens of a row.
        n_heads, key_dim, value_dim: heads, and the widths K and V of one.
        chunk: tokens of a chunk at most.
        per_feature: whether each feature of the keys has its own decay.
    """
    chunks = Chunks(at_length, chunk)
    size = chunks.size
    scores = score_flops(size, key_dim, n_heads, None, per_feature)
    rest = n_heads * (2.0 * size * value_dim + 4 * key_dim * value_dim)
    return (scores + rest) * chunks.count * size / at_length


def linear_attention_naive(
    q: BGTK,
    k: BGTK,
    v: BHT_,
    log_decay: mx.array | None = None,
    *,
    scale: float,
    state: mx.array | None = None,
    before: bool = False,
    bonus: HK | None = None,
    starts: mx.array | None = None,
    valid: mx.array | None = None,
) -> tuple[BHT_, mx.array]:
    """The definition of `linear_attention`, token by token."""
    k, log_decay = without_padding(valid, k, log_decay)
    s, outs = first_state(k, v, state), []
    for t, (q_t, k_t, v_t) in enumerate(tokens(q, k, v)):
        if starts is not None:
            s = mx.where(starts[:, t, None, None, None], 0.0, s)
        old, added = s, k_t[..., None] * v_t[..., None, :]
        if log_decay is not None:
            g = upcast(log_decay[:, :, t])
            s = s * mx.exp(g[..., None] if log_decay.ndim == 4 else g[..., None, None])
        s = s + added
        read = s if not before else old
        if bonus is not None:
            read = read + upcast(bonus)[..., None] * added
        outs.append((q_t[..., None, :] @ read)[..., 0, :] * scale)
    return mx.stack(outs, axis=2).astype(v.dtype), s


def tokens(q: mx.array, k: mx.array, v: mx.array) -> Iterator[tuple[mx.array, mx.array, mx.array]]:
    """q, k `[B, H, K]` and v `[B, H, V]` of each token in float32, groups repeated by heads."""
    heads = v.shape[1] // k.shape[1]
    for t in range(v.shape[2]):
        q_t, k_t = (mx.repeat(upcast(x[:, :, t]), heads, axis=1) for x in (q, k))
        yield q_t, k_t, upcast(v[:, :, t])


def _in_chunks(
    chunks: Chunks,
    before: bool,
    q: mx.array,
    k: mx.array,
    v: mx.array,
    log_decay: mx.array,
    state: mx.array,
    bonus: mx.array | None = None,
) -> list[mx.array]:
    """Output and last state, with a decay per feature or a bonus; queries are scaled."""
    heads = v.shape[1] // k.shape[1]
    g = log_decay if log_decay.ndim == 4 else log_decay[..., None]
    q, k, v, g = (chunks.split(x) for x in (q, k, v, g))
    since = mx.cumsum(g, axis=3)
    until = since - g if before else since
    visible = chunks.pairs(itself=not before)
    chunk_decay = since[..., -1:, :]
    scores = decayed_scores(q, k, until, since, visible, heads)
    from_state, to_state = mx.exp(until), mx.exp(chunk_decay - since)
    carry = chunks.carrying(mx.exp(chunk_decay).swapaxes(-1, -2))
    every_q, every_k = (mx.repeat(x, heads, axis=2) for x in (q, k))
    write = chunks.writing(every_k * to_state).swapaxes(-1, -2) @ v
    states, last = chunk_states(carry, write, state)
    read = chunks.reading(every_q * from_state) @ states
    out = scores @ v + read
    if bonus is not None:
        out = out + (every_q * bonus[:, None] * every_k).sum(axis=-1, keepdims=True) * v
    return [chunks.join(out), last]


def without_padding(
    valid: mx.array | None, written: mx.array, log_decay: mx.array | None
) -> tuple[mx.array, mx.array | None]:
    """Zero the writes of padding and its log-decays, so that it leaves the state alone.

    Args:
        valid: `[B, T]`, False on padding; None: no padding.
        written: keys `[B, G, T, K]`, or strengths β `[B, H, T]`.
        log_decay: as in `linear_attention`.
    """
    if valid is None:
        return written, log_decay
    real = valid

    def masked(x: mx.array) -> mx.array:
        is_real = real[:, None, :, None] if x.ndim == 4 else real[:, None]
        return mx.where(is_real, x, mx.zeros((), x.dtype))

    return masked(written), None if log_decay is None else masked(log_decay)


def first_state(k: mx.array, v: mx.array, state: mx.array | None) -> mx.array:
    """The state before the first token, zeros by default."""
    if state is not None:
        return upcast(state)
    return mx.zeros((*v.shape[:2], k.shape[-1], v.shape[-1]), upcast(v[:0]).dtype)
