"""GShard's policies for routing a token to its choices after the first."""

from typing import Literal

import mlx.core as mx

Policy = Literal["all", "none", "threshold", "random"]


def keep_choices(
    gates: mx.array,
    policy: Policy,
    threshold: float | mx.array,
    uniform: mx.array | None = None,
) -> mx.array:
    """Whether each choice is routed, boolean `[..., k]`; the first one always is.

    `all`; `none`; `threshold`: gates above t; `random`: with probability `min(1, gate / t)`.
    Lepikhin et al. 2020 (GShard), algorithm 1 (random, t = 1/2); Zoph et al. 2022 (ST-MoE), section
    B.2 of the appendix, for more than two (t = 0.2).

    Args:
        gates: `[..., k]`, the best choice first.
        policy: the rule.
        threshold: t, one number or one for each choice.
        uniform: `[..., k]` random numbers in [0, 1) of the policy `random`; None: it keeps all.
    """
    first = mx.arange(gates.shape[-1]) == 0
    if policy == "none":
        return mx.broadcast_to(first, gates.shape)
    if policy == "threshold":
        return (gates > threshold) | first
    if policy == "random" and uniform is not None:
        return (uniform < gates / mx.maximum(mx.array(threshold), 1e-9)) | first
    return mx.ones(gates.shape, mx.bool_)


def normalised(gates: mx.array, eps: float = 1e-9) -> mx.array:
    """Gates `[..., k]` divided by their sum; zeros stay zeros."""
    return gates / mx.maximum(gates.sum(axis=-1, keepdims=True), eps)
