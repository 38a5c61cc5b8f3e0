"""Attention over keys and values that a learned matrix projects along time (Linformer)."""

import mlx.core as mx

from ..core.shapes import BGS_, BGSK, BHT_, BHTK
from .attention import attention
from .masks import Mask


def linformer_attention(
    q: BHTK,
    k: BGSK,
    v: BGS_,
    e: mx.array,
    f: mx.array,
    *,
    scale: float,
    valid: mx.array | None = None,
    dropout: float = 0.0,
    key: mx.array | None = None,
) -> BHT_:
    """`softmax(scale q (E k)ᵀ) F v`; Wang et al. 2020, equation 7.

    Args:
        q, k, v: queries, keys and values; query head h reads key head `h // (H / G)`.
        e, f: projections of keys and of values, `[R, S']` or `[G, R, S']`, S' at least S; a shorter
            sequence uses the first columns.
        scale: factor of the scores.
        valid: `[B, S]` whether a key is not padding.
        dropout, key: dropout on the weights, and its PRNG key.
    """
    S = k.shape[2]
    alike = k is v and e is f
    if valid is not None:
        real = valid[:, None, :, None]
        k, v = (mx.where(real, x, mx.zeros((), x.dtype)) for x in (k, v))
    k = e[..., :S].astype(k.dtype) @ k
    v = k if alike else f[..., :S].astype(v.dtype) @ v
    mask = Mask(causal=False)
    return attention(q, k, v, scale=scale, mask=mask, dropout=dropout, key=key)
