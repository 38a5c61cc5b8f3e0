"""Losses and statistics of routers: load balancing, size of the logits (z loss), entropy.

`chosen` marks the experts of each token, `[G, T, E]`. The published balance losses differ in what
they mark and in what they average over:

    Switch, GShard, ST-MoE      first choices, per group     1 when the load is even
    flaxformer, HF's Switch     any of k choices, per group  k when even
    Mixtral in transformers     any of k choices, over all layers together  k when even
"""

import mlx.core as mx


def marked(choice: mx.array, n_experts: int) -> mx.array:
    """Mark the experts that any of a token's choices `[..., k]` names, `[..., E]` float32."""
    return (choice[..., None] == mx.arange(n_experts)).any(axis=-2).astype(mx.float32)


def token_mean(values: mx.array, weights: mx.array | None = None) -> mx.array:
    """The mean over tokens of values `[..., T, E]`, weighed by weights `[..., T]`: `[..., E]`."""
    if weights is None:
        return values.mean(axis=-2)
    share = weights.astype(values.dtype)[..., None]
    return (values * share).sum(axis=-2) / mx.maximum(share.sum(axis=-2), 1e-9)


def balance_loss(chosen: mx.array, probs: mx.array, weights: mx.array | None = None) -> mx.array:
    """`E · Σ_e f_e P_e`, the mean over groups: f the share of tokens that chose e, P the mean
    probability of e.

    Fedus et al. 2021 (Switch), equations 4 to 6. f carries no gradient.

    Args:
        chosen: `[..., T, E]`, 1 where a token chose an expert.
        probs: `[..., T, E]`.
        weights: `[..., T]`, 0 on padding; None: all tokens count.
    """
    load = token_mean(mx.stop_gradient(chosen.astype(probs.dtype)), weights)
    return probs.shape[-1] * (load * token_mean(probs, weights)).sum(axis=-1).mean()


def balance_over_layers(pooled: mx.array) -> mx.array:
    """The balance loss of all layers together, `E · Σ_e f_e P_e` with means over tokens and layers.

    As `load_balancing_loss_func` of Mixtral in transformers.

    Args:
        pooled: `[3, E]`, sums over layers of (coefficient times) f, of P, and of 1.
    """
    load, probs, layers = pooled
    return pooled.shape[-1] * (mx.stop_gradient(load) * probs / mx.square(layers)).sum()


def z_loss(logits: mx.array, weights: mx.array | None = None) -> mx.array:
    """`mean(logsumexp(logits)²)` over tokens; Zoph et al. 2022 (ST-MoE), equation 5."""
    squared = mx.square(mx.logsumexp(logits, axis=-1))
    if weights is None:
        return squared.mean()
    share = weights.astype(squared.dtype)
    return (squared * share).sum() / mx.maximum(share.sum(), 1e-9)


def entropy(probs: mx.array) -> mx.array:
    """The entropy in nats of the last axis of `probs`; `0 log 0` is 0."""
    return -(probs * mx.log(mx.maximum(probs, 1e-30))).sum(axis=-1)
