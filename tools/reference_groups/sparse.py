"""Group 2: sparse patterns of attention, and attention sinks."""

import mlx.core as mx

from mlx_transformers.ops.attention import attention
from mlx_transformers.ops.masks import Mask
from reference_groups.case import Arrays, Case, Rule


def heads_first(x: mx.array) -> mx.array:
    """`[B, T, H, K]` as `[B, H, T, K]`, and the other way round."""
    return x.swapaxes(1, 2)


def sink_logits(case: Case) -> Arrays:
    """Softmax attention with a learned logit per head that has no value, in a window."""
    q, k, v = (heads_first(case.inputs[name]) for name in "qkv")
    mask = Mask(causal=True, window=case.options.get("window"))
    sinks = case.params.get("sink_bias")
    return {"o": heads_first(attention(q, k, v, scale=q.shape[-1] ** -0.5, mask=mask, sinks=sinks))}


RULES = (Rule(r"ops\.attn\.naive", sink_logits),)
