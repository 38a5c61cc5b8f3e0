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

import mlx.core as mx

from ..core.shapes import BGTK, BHT_, HK
from .chunks import CHUNK, Chunks, chunk_states, decayed_scores
from .custom_vjp import recompute
from .device import upcast


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
        return linear_attention_naive(
            q,
            k,
            v,
            log_decay,
            scale=scale,
            state=state,
            before=before,
            bonus=bonus,
            starts=starts,
            valid=valid,
        )
    k, log_decay = without_padding(valid, k, log_decay)
    if log_decay is None:
        log_decay = mx.zeros((1, 1, v.shape[2]))
    chunks = Chunks(v.shape[2], chunk, starts)
    arrays = [upcast(x) for x in (q * scale, k, v, log_decay, first_state(k, v, state))]
    more = [] if bonus is None else [upcast(bonus)]

    def forward(*arrays: mx.array) -> list[mx.array]:
        return _in_chunks(chunks, before, *arrays)

    out, last = recompute(forward)(*arrays, *more)
    return out.astype(v.dtype), last


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
    """Output and last state; queries are scaled."""
    heads = v.shape[1] // k.shape[1]
    g = log_decay if log_decay.ndim == 4 else log_decay[..., None]
    q, k, v, g = (chunks.split(x) for x in (q, k, v, g))
    since = mx.cumsum(g, axis=3)
    until = since - g if before else since
    seen = chunks.pairs(itself=not before)
    whole = since[..., -1:, :]
    scores = decayed_scores(q, k, until, since, seen, heads)
    q, k = (mx.repeat(x, heads, axis=1) for x in (q, k))
    write = chunks.writing(k * mx.exp(whole - since)).swapaxes(-1, -2) @ v
    carry = chunks.carrying(mx.exp(whole).swapaxes(-1, -2))
    states, last = chunk_states(carry, write, state)
    out = scores @ v + chunks.reading(q * mx.exp(until)) @ states
    if bonus is not None:
        out = out + (q * bonus[:, None, None] * k).sum(axis=-1, keepdims=True) * v
    return [chunks.join(out), last]


def without_padding(
    valid: mx.array | None, written: mx.array, log_decay: mx.array | None
) -> tuple[mx.array, mx.array | None]:
    """What tokens write, and their log-decays, with zeros on padding: it leaves the state alone.

    Args:
        valid: `[B, T]`, False on padding; None: no padding.
        written: keys `[B, G, T, K]`, or strengths β `[B, H, T]`.
        log_decay: as in `linear_attention`.
    """
    if valid is None:
        return written, log_decay
    real = valid

    def masked(x: mx.array) -> mx.array:
        shown = real[:, None, :, None] if x.ndim == 4 else real[:, None]
        return mx.where(shown, x, mx.zeros((), x.dtype))

    return masked(written), None if log_decay is None else masked(log_decay)


def first_state(k: mx.array, v: mx.array, state: mx.array | None) -> mx.array:
    """The state before the first token, zeros by default."""
    if state is not None:
        return upcast(state)
    return mx.zeros((*v.shape[:2], k.shape[-1], v.shape[-1]), upcast(v[:0]).dtype)
