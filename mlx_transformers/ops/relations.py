"""Attention as a target of distillation: its scores, its distributions, and relations of vectors.

A relation is the attention of vectors to themselves, `softmax(x xᵀ / √K)` per head over the visible
tokens: MiniLM takes that of the values (Wang et al. 2020, section 3.2), MiniLMv2 those of queries,
keys and values (Wang et al. 2021). Every function returns one float32 number per query
`[B, T]`.
"""

import math

import mlx.core as mx

from .device import upcast
from .distillation import kl, log_softmax

VISIBLE = -1e29
"""Scores above it belong to visible keys."""


def score_difference(student: mx.array, teacher: mx.array) -> mx.array:
    """Return the mean squared difference of attention scores `[B, H, T, T]`, over heads and the
    keys that both see; Jiao et al. 2020, equation 7."""
    both = (student > VISIBLE) & (teacher > VISIBLE)
    squares = mx.where(both, student - teacher, 0).square()
    return (squares.sum(axis=-1) / mx.maximum(both.sum(axis=-1), 1)).mean(axis=1)


def attention_divergence(student: mx.array, teacher: mx.array) -> mx.array:
    """Return `KL(teacher ‖ student)` of attention distributions, from scores `[B, H, T, T]`: the
    mean over heads, over the keys that both see; Wang et al. 2020, section 3.1."""
    both = (student > VISIBLE) & (teacher > VISIBLE)
    student_logps, teacher_logps = (
        log_softmax(mx.where(both, x, -1e30)) for x in (student, teacher)
    )
    return kl(teacher_logps, student_logps).mean(axis=1)


def relation_divergence(
    student: mx.array, teacher: mx.array, seen: mx.array | None, heads: int | None = None
) -> mx.array:
    """Return `KL(teacher ‖ student)` of the relations of vectors `[B, heads, T, K]`: the mean over
    heads; Wang et al. 2020, section 3.2.

    Args:
        student, teacher: the vectors; widths K may differ.
        seen: boolean, broadcastable to `[B, 1, T, T]`, True where a token is visible; None: all.
        heads: number of relation heads, into which the concatenated heads are split anew; None:
            the heads as they are, as many in both.
    """
    student_logps, teacher_logps = (_relation(x, seen, heads) for x in (student, teacher))
    return kl(teacher_logps, student_logps).mean(axis=1)


def _relation(x: mx.array, seen: mx.array | None, heads: int | None) -> mx.array:
    """Log-probabilities `[B, heads, T, T]`."""
    x = upcast(x)
    if heads is not None:
        batch, _, length, _ = x.shape
        x = x.transpose(0, 2, 1, 3).reshape(batch, length, heads, -1).transpose(0, 2, 1, 3)
    scores = (x / math.sqrt(x.shape[-1])) @ x.swapaxes(-1, -2)
    return log_softmax(scores if seen is None else mx.where(seen, scores, -1e30))
