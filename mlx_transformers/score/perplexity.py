"""Perplexity: the inverse geometric mean probability of what a text consists of."""

import math


def perplexity(loglikelihood: float, n: float) -> float:
    """`exp(-log p / n)` of a text with `log p` in nats and `n` words, bytes or tokens."""
    return math.exp(-loglikelihood / n)


def bits_per_byte(loglikelihood: float, n_bytes: float) -> float:
    """`-log₂ p / n` of a text with `log p` in nats and n bytes."""
    return -loglikelihood / n_bytes / math.log(2)
