"""Confidence of a distribution over tokens, by which decoding leaves the stack early."""

import math
from typing import Literal

import mlx.core as mx

from .router_losses import entropy

Measure = Literal["entropy", "max_prob", "margin"]


def margin(probs: mx.array) -> mx.array:
    """The difference of the two largest probabilities of the last axis (CALM)."""
    two = mx.topk(probs, 2, axis=-1)
    return mx.abs(two[..., 1] - two[..., 0])


def confident(logits: mx.array, measure: Measure, threshold: float) -> mx.array:
    """Whether each row of logits `[..., V]` is confident enough to exit, boolean `[...]`.

    `entropy`: entropy / ln V below the threshold (DeeBERT, Xin et al. 2020); `max_prob`: largest
    probability above it; `margin`: difference of the two largest above it (CALM, Schuster et al.
    2022).
    """
    probs = mx.softmax(logits.astype(mx.float32), axis=-1)
    if measure == "entropy":
        return entropy(probs) / math.log(logits.shape[-1]) < threshold
    if measure == "margin":
        return margin(probs) > threshold
    return probs.max(axis=-1) > threshold
