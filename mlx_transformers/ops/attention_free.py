"""Attention free transformer: a mean of values for each feature, with learned biases of positions.

    o_t = Σ_s e^{k_s + w_ts} v_s / Σ_s e^{k_s + w_ts}        s <= t in a causal pass

Zhai et al. 2021, "An Attention Free Transformer" (arXiv:2105.14103), equation 2; the sigmoid of the
queries is left to the caller. w depends on positions alone, so that both sums are products of
`e^w [T, S]` with `e^k v` and `e^k`; AFT-simple (equation 5) is w = 0.
"""

import mlx.core as mx

from ..core.shapes import BHSK, BHTK


def attention_free(k: BHSK, v: BHSK, bias: mx.array, seen: mx.array | None = None) -> BHTK:
    """Mean of values with weights `e^{k + w}`; equals `attention_free_naive`.

    Args:
        k: logarithms of the keys' weights, for each feature of each head.
        v: values.
        bias: w, `[H or 1, T, S]`.
        seen: True where a query sees a key, `[B or 1, 1, T, S]`; None: everywhere.
    """
    pairs = mx.exp(bias - mx.stop_gradient(bias.max(axis=-1, keepdims=True)))
    if seen is not None:
        pairs = mx.where(seen, pairs, 0.0)
    weights = mx.exp(k - mx.stop_gradient(k.max(axis=2, keepdims=True)))
    return (pairs @ (weights * v)) / (pairs @ weights)


def attention_free_naive(k: BHSK, v: BHSK, bias: mx.array, seen: mx.array | None = None) -> BHTK:
    """The definition: the weight of each pair of positions and feature, `[B, H, T, S, K]`."""
    logits = k[:, :, None] + bias[..., None]
    if seen is not None:
        logits = mx.where(seen[..., None], logits, -mx.inf)
    out: mx.array = (mx.softmax(logits, axis=3) * v[:, :, None]).sum(axis=3)
    return out
