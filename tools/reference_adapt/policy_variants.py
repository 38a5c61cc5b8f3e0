"""Policy-gradient losses of other people's trainers that no objective offers.

Arrays are those of `mlx_transformers.ops.policy`: `[B, T]`, with a mask of the counted tokens.
"""

import math
from typing import Literal

import mlx.core as mx

from mlx_transformers.core.shapes import BT, B
from mlx_transformers.ops.policy import counted, log_ratio

Average = Literal["sequence", "token", "length", "items", "sum"]


def token_mean(x: BT, mask: mx.array) -> mx.array:
    """The mean over all counted tokens."""
    return counted(x, mask).sum() / mx.maximum(mask.sum(), 1)


def sequence_mean(x: BT, mask: mx.array) -> mx.array:
    """The mean over sequences of the mean over their tokens."""
    return (counted(x, mask).sum(axis=1) / mx.maximum(mask.sum(axis=1), 1)).mean()


def gamma_weights(
    log_ratio: mx.array,
    advantages: mx.array,
    *,
    positive: tuple[float, float] = (2.0, 3.0),
    negative: tuple[float, float] = (3.0, 2.0),
) -> mx.array:
    """`w^k exp(λ (1 - w))` of the ratio w of whole sequences, without a gradient: VESPO's weights
    of `-A log p`, 1 where w is 1.

    Args:
        log_ratio: log w, `[B, 1]`.
        advantages: those of 0 and more have the first pair.
        positive: k and λ of those.
        negative: k and λ of the others.
    """
    w = mx.stop_gradient(mx.clip(log_ratio, math.log(1e-8), 20.0))
    k, lam = (mx.where(advantages >= 0, a, b) for a, b in zip(positive, negative, strict=True))
    return mx.exp(lam + k * w - lam * mx.exp(w))


def near_policy(logps: BT, old: BT, mask: mx.array, advantages: mx.array, bound: float) -> mx.array:
    """1 for sequences that are learnt from, `[B, 1]`: all but those of negative advantage whose
    mean log-ratio of sampler and policy is above a bound (DeepSeek-V3.2, section 3.1)."""
    apart = -log_ratio(mx.stop_gradient(logps), old, mask, "sequence")
    return ((advantages >= 0) | (apart <= bound)).astype(mx.float32)


def high_entropy(entropies: BT, mask: mx.array, share: float) -> BT:
    """1 for the counted tokens in the given share of highest entropies, whose quantile is between
    neighbours linear (Wang et al. 2025, "Beyond the 80/20 Rule", section 4)."""
    n = mx.maximum(mask.sum(), 1)
    ordered = mx.sort(mx.where(mask > 0, entropies, float("inf")).reshape(-1))
    place = (1 - share) * (n - 1).astype(mx.float32)
    below = mx.floor(place)
    low, high = ordered[below.astype(mx.int32)], ordered[mx.ceil(place).astype(mx.int32)]
    bound = low + (place - below) * (high - low)
    return counted((entropies >= bound).astype(mx.float32), mask)


def dual_clip(loss: mx.array, advantages: mx.array, bound: float) -> mx.array:
    """Bounds the loss of negative advantages at `-bound A` (Ye et al. 2020, equation 7)."""
    return mx.where(advantages < 0, mx.minimum(loss, -bound * advantages), loss)


def policy_loss(
    loss: mx.array,
    mask: mx.array,
    average: Average,
    *,
    length: int | None = None,
    items: float | None = None,
) -> mx.array:
    """One number from a loss per token.

    Args:
        loss: `[B, T]`, or `[B, 1]` for one per sequence.
        mask: counted tokens.
        average: "sequence" the mean over sequences of token means (GRPO, Shao et al. 2024); "token"
            the mean over all tokens (DAPO); "length" the sum over B times `length` (Dr. GRPO, Liu
            et al. 2025); "items" the sum over `items`; "sum" the mean over sequences of the sum
            over tokens.
        length: longest completion of "length".
        items: tokens of "items", of a batch of several parts.
    """
    loss = mx.broadcast_to(loss, mask.shape)
    if average == "sequence":
        return sequence_mean(loss, mask)
    if average == "token":
        return token_mean(loss, mask)
    total = counted(loss, mask).sum()
    if average == "sum":
        return total / mask.shape[0]
    if average == "length":
        return total / (mask.shape[0] * (length or mask.shape[1]))
    return total / (items or mx.maximum(mask.sum(), 1))


def length_weighted_advantages(rewards: B, lengths: mx.array, group: int) -> B:
    """Rewards less the mean of their group weighted by length, the baseline of least variance where
    gradients of tokens are alike (OPO, Hao et al. 2025, equation 8).

    Args:
        rewards: one per completion; `group` neighbours share a prompt, `[B]`.
        lengths: counted tokens of each, `[B]`.
        group: completions per prompt.
    """
    rows, n = rewards.reshape(-1, group), lengths.reshape(-1, group)
    baseline = (n * rows).sum(axis=1, keepdims=True) / n.sum(axis=1, keepdims=True)
    return (rows - baseline).reshape(-1)
