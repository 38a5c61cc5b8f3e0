"""Scaled dot-product attention with grouped queries: one name, the machine's best form.

`attention_naive` is the definition. Shapes: q `[B, H, T, K]`, k and v `[B, G, S, K]` with H a
multiple of G (query head h reads key/value head `h // (H / G)`: Ainslie et al. 2023, GQA).
"""

import mlx.core as mx

from ..core.footprint import WIDE, Pass
from .attention_cpu import attention_blocks, kept_scores
from .device import on_cpu, wide
from .masks import Mask


def attention(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    *,
    scale: float,
    mask: Mask,
    softcap: float | None = None,
    dropout: float = 0.0,
    key: mx.array | None = None,
) -> mx.array:
    """`softmax(cap(scale * q k^T) + mask) v`, as `attention_naive`, in the fastest form here."""
    t, size = q.shape[2], k.shape[2]
    if dropout > 0.0:
        return attention_naive(
            q, k, v, scale=scale, mask=mask, softcap=softcap, dropout=dropout, key=key
        )
    if on_cpu() and mask.allowed is None and 1 < t <= size:
        return attention_blocks(q, k, v, scale=scale, mask=mask, softcap=softcap)
    if on_cpu() or softcap is not None:
        return attention_naive(q, k, v, scale=scale, mask=mask, softcap=softcap)
    return attention_fused(q, k, v, scale=scale, mask=mask)


def attention_kept(
    at: Pass, n_heads: int, *, mask: Mask, softcap: bool = False, dropout: bool = False
) -> float:
    """Bytes per token that `attention` keeps of the scores; q, k, v and the output are not in it.

    The GPU's kernels keep one number a row where the mask is causal and nothing else. Given an
    array of booleans (a window, documents), MLX falls back to all scores and their softmax.
    """
    every = at.length * n_heads * WIDE
    if dropout:
        return 3.0 * every
    if at.cpu:
        return kept_scores(at.length, mask) * n_heads * WIDE * (2 if softcap else 1)
    if softcap:
        return 3.0 * every
    fused = mask.window is None or mask.window >= at.length
    return n_heads * WIDE if fused and mask.causal and mask.segments is None else 2.0 * every


def attention_fused(q: mx.array, k: mx.array, v: mx.array, *, scale: float, mask: Mask) -> mx.array:
    """`attention_naive` without softcap and dropout, by the GPU's own kernels.

    What a query that may see no key gets is the kernel's affair, but it is finite.
    """
    t, s = q.shape[2], k.shape[2]
    far = mask.window is None or mask.window >= s
    if mask.causal and far and mask.segments is None and mask.allowed is None:
        # the lower right corner, like ours; it has kernels that an array of booleans has not
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask="causal")
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask.array(t, s))


def attention_naive(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    *,
    scale: float,
    mask: Mask,
    softcap: float | None = None,
    dropout: float = 0.0,
    key: mx.array | None = None,
) -> mx.array:
    """`softmax(cap(scale * q k^T) + mask) v` (Vaswani et al. 2017, equation 1), `[B, H, T, K]`.

    `cap(s) = softcap * tanh(s / softcap)` (Gemma 2, section 2). Dropout falls on the
    probabilities and needs a PRNG `key`. Computed in float32 or wider; the result has q's
    dtype. A query that may see no key gets zeros.
    """
    b, h, t, width = q.shape
    g, s = k.shape[1], k.shape[2]
    q5, k, v = wide(q).reshape(b, g, h // g * t, width), wide(k), wide(v)
    scores = ((q5 * scale) @ k.swapaxes(-1, -2)).reshape(b, g, h // g, t, s)
    if softcap is not None:
        scores = softcap * mx.tanh(scores / softcap)
    seen = mask.array(t, s)
    if seen is not None:
        seen = seen if seen.ndim < 4 else seen[:, :, None]
        scores = mx.where(seen, scores, -1e30)
    e = mx.exp(scores - mx.stop_gradient(scores.max(axis=-1, keepdims=True)))
    if seen is not None:
        e = mx.where(seen, e, 0.0)
    norm = e.sum(axis=-1, keepdims=True)
    p = e / mx.where(norm == 0, 1, norm)
    if dropout > 0.0:
        if key is None:
            raise ValueError("Attention dropout needs a PRNG key.")
        keep = mx.random.bernoulli(1.0 - dropout, p.shape, key=mx.stop_gradient(key))
        p = mx.where(keep, p * (1.0 / (1.0 - dropout)), 0.0)
    out = p.reshape(b, g, h // g * t, s) @ v
    return out.reshape(b, h, t, v.shape[-1]).astype(q.dtype)
