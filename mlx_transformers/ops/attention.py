"""Scaled dot-product attention with grouped queries, in the fastest form for the device.

`attention_naive` is the definition. Shapes: q `[B, H, T, K]`, k and v `[B, G, S, K]` with H a
multiple of G (query head h reads key/value head `h // (H / G)`: Ainslie et al. 2023, GQA).
"""

from typing import Any

import mlx.core as mx

from ..core.footprint import FLOAT32_BYTES, ActivationShape
from ..core.score_bias import DistanceBias
from ..core.shapes import BGS_, BGSK, BHT_, BHTK, H
from .attention_blocks import BLOCK, GPU_BLOCK, attention_blocks, blocks_serve
from .device import on_cpu, upcast
from .masks import Mask
from .score_bias import bias_block
from .softcap import soft_cap

MASKED = {mx.float32: -1e30, mx.bfloat16: -1e30, mx.float16: -6e4, mx.float64: -1e30}
"""Finite stand-in for minus infinity in a bias, by dtype: far below any score."""

SHORT = 256
"""The most keys of a row whose scores a single block may hold on the CPU."""


def attention(
    q: BHTK,
    k: BGSK,
    v: BGS_,
    *,
    scale: float,
    mask: Mask,
    softcap: float | None = None,
    bias: mx.array | DistanceBias | None = None,
    sinks: H | None = None,
    dropout: float = 0.0,
    key: mx.array | None = None,
) -> BHT_:
    """`softmax(cap(scale * q k^T) + bias + mask) v`, as `attention_naive`, in the fastest form.

    Blocks serve every mask made of structure and every bias by distance: on the CPU always, on the
    GPU for rows of more than `GPU_BLOCK` tokens where MLX's kernel would hold all scores for its
    backward pass, which is everywhere but for a purely causal mask.
    """
    t, size = q.shape[2], k.shape[2]
    more: dict[str, Any] = {"softcap": softcap, "dropout": dropout, "key": key}
    plain = mask.causal and mask.plain and bias is None and softcap is None and not dropout
    plain = plain and sinks is None
    cpu = on_cpu()
    long = t > 1 if cpu else max(t, size) > GPU_BLOCK and t > 1 and not plain
    if long and not isinstance(bias, mx.array) and blocks_serve(mask, t, size):
        more["block"] = _cpu_block(mask, size) if cpu else GPU_BLOCK
        return attention_blocks(
            q, k, v, scale=scale, mask=mask, bias=bias, sinks=sinks, fused=not cpu, **more
        )
    if isinstance(bias, DistanceBias):
        bias = whole_bias(q * scale, bias)
    if cpu and t == 1 and bias is None and softcap is None and sinks is None and not dropout:
        return attention_one(q, k, v, scale=scale, mask=mask)
    if cpu or softcap is not None or dropout > 0.0:
        return attention_naive(q, k, v, scale=scale, mask=mask, bias=bias, sinks=sinks, **more)
    return attention_fused(q, k, v, scale=scale, mask=mask, bias=bias, sinks=sinks)


def _cpu_block(mask: Mask, size: int) -> int:
    """Queries of a block on the CPU: in short rows all, where every query sees all keys, since
    smaller blocks would skip nothing and their results have to be joined."""
    skips = mask.causal or mask.window is not None or mask.chunk is not None
    return BLOCK if skips or size > SHORT else SHORT


def whole_bias(q: mx.array, bias: DistanceBias) -> mx.array:
    """A bias by distance as an array `[1 or B, H, T, T]`, for scaled queries `[B, H, T, K]`."""
    return bias_block(upcast(q), bias.arrays(), q.shape[2])


def attention_saved_bytes(
    at: ActivationShape,
    n_heads: int,
    *,
    keys: int,
    mask: Mask,
    softcap: bool = False,
    dropout: bool = False,
    bias: bool = False,
    dense_bias: bool = False,
    sinks: bool = False,
) -> float:
    """Bytes per query that `attention` saves for its backward, beside queries, keys, values and the
    output.

    Blocks save one number per row on the CPU and none on the GPU, whatever the mask, a bias by
    distance (`bias`), soft cap, sinks and dropout. With a bias that is an array (`dense_bias`), and
    on the GPU in rows of up to `GPU_BLOCK` tokens whose mask isn't purely causal, all scores of
    `keys` keys and their softmax are saved.
    """
    every = keys * n_heads * FLOAT32_BYTES
    all_scores = (3.0 if softcap else 2.0) * every
    by_distance = 2.0 * n_heads * FLOAT32_BYTES / at.batch if bias else 0.0
    if dense_bias:
        return all_scores
    if at.cpu:
        return n_heads * FLOAT32_BYTES + by_distance
    if max(at.length, keys) > GPU_BLOCK:
        return by_distance
    mask = mask.in_rows_of(at.length)
    plain = mask.causal and mask.plain and not at.masked
    plain = plain and not (softcap or dropout or bias or sinks)
    return n_heads * FLOAT32_BYTES if plain else all_scores


def attention_fused(
    q: BHTK,
    k: BGSK,
    v: BGS_,
    *,
    scale: float,
    mask: Mask,
    bias: mx.array | None = None,
    sinks: H | None = None,
) -> BHT_:
    """`attention_naive` without softcap and dropout, by MLX's kernels for the GPU.

    The output of a query without visible keys depends on the kernel, but it is finite.
    """
    t, s = q.shape[2], k.shape[2]
    mask = mask.in_rows_of(s)
    if mask.causal and mask.plain and bias is None:
        # aligned to the lower right, like ours; it has kernels that a boolean array has not
        shape: mx.array | str | None = "causal"
    else:
        allowed = mask.array(t, s)
        shape = allowed if bias is None else _added(bias.astype(q.dtype), allowed)
    sinks = None if sinks is None else sinks.astype(q.dtype)
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=shape, sinks=sinks)


def _added(bias: mx.array, allowed: mx.array | None) -> mx.array:
    """The additive mask of a kernel: the bias, and `MASKED` where a key is not visible."""
    return bias if allowed is None else mx.where(allowed, bias, MASKED[bias.dtype])


def attention_one(q: BHTK, k: BGSK, v: BGS_, *, scale: float, mask: Mask) -> BHT_:
    """`attention_naive` of one query per row, as a decoding step has it, for the CPU.

    The mask is added to the scores, and the sum over values is divided in place of the
    probabilities: fewer passes over the scores, which are most of the work here.
    """
    b, h, _, width = q.shape
    g, s = k.shape[1], k.shape[2]
    q4, k, v = upcast(q).reshape(b, g, h // g, width), upcast(k), upcast(v)
    scores = (q4 * scale) @ k.swapaxes(-1, -2)
    allowed = mask.array(1, s)
    if allowed is not None:
        scores = scores + mx.where(allowed, 0.0, -1e30)
    top = mx.stop_gradient(scores.max(axis=-1, keepdims=True))
    e = mx.exp(scores - top)
    out = (e @ v) / e.sum(axis=-1, keepdims=True)
    out = mx.where(top > -1e29, out, 0.0)  # a query without visible keys
    return out.reshape(b, h, 1, v.shape[-1]).astype(q.dtype)


def attention_scores(
    q: BHTK,
    k: BGSK,
    *,
    scale: float,
    mask: Mask,
    softcap: float | None = None,
    bias: mx.array | None = None,
) -> mx.array:
    """`cap(scale * q k^T) + bias`, `[B, H, T, S]` in float32 or wider, and -1e30 where a key is not
    visible; arguments as for `attention_naive`."""
    b, h, t, width = q.shape
    g, s = k.shape[1], k.shape[2]
    grouped = upcast(q).reshape(b, g, h // g * t, width) * scale
    scores = soft_cap((grouped @ upcast(k).swapaxes(-1, -2)).reshape(b, h, t, s), softcap)
    if bias is not None:
        scores = scores + upcast(bias)
    allowed = mask.array(t, s)
    return scores if allowed is None else mx.where(allowed, scores, -1e30)


def attention_naive(
    q: BHTK,
    k: BGSK,
    v: BGS_,
    *,
    scale: float,
    mask: Mask,
    softcap: float | None = None,
    bias: mx.array | None = None,
    sinks: H | None = None,
    dropout: float = 0.0,
    key: mx.array | None = None,
) -> BHT_:
    """`softmax(cap(scale * q k^T) + bias + mask) v` (Vaswani et al. 2017, equation 1).

    `cap` is `soft_cap`. `bias` is broadcastable to
    `[B, H, T, S]`. `sinks [H]` are attention sinks: scores of a key without a value (gpt-oss).
    Dropout applies to the probabilities and needs a PRNG `key`. Computed in
    float32 or wider; the result `[B, H, T, K]` has q's dtype. A query without visible keys gets
    zeros.
    """
    b, h, t, _ = q.shape
    g, s = k.shape[1], k.shape[2]
    scores = attention_scores(q, k, scale=scale, mask=mask, softcap=softcap, bias=bias)
    allowed = mask.array(t, s)
    top = scores.max(axis=-1, keepdims=True)
    if sinks is not None:
        sink = upcast(sinks)[:, None, None]
        top = mx.maximum(top, sink)
    top = mx.stop_gradient(top)
    e = mx.exp(scores - top)
    if allowed is not None:
        e = mx.where(allowed, e, 0.0)
    norm = e.sum(axis=-1, keepdims=True)
    if sinks is not None:
        norm = norm + mx.exp(sink - top)
    p = e / mx.where(norm == 0, 1, norm)
    if dropout > 0.0:
        if key is None:
            raise ValueError("Attention dropout needs a PRNG key.")
        keep = mx.random.bernoulli(1.0 - dropout, p.shape, key=mx.stop_gradient(key))
        p = mx.where(keep, p * (1.0 / (1.0 - dropout)), 0.0)
    out = p.reshape(b, g, h // g * t, s) @ upcast(v)
    return out.reshape(b, h, t, v.shape[-1]).astype(q.dtype)
