"""Divergence from the distribution of one or several teachers, straight from hidden states.

    KL = sum_v p_v (log p_v - log q_v),   p = softmax(teacher / T),   q = softmax(student / T)

times T², so that the size of its gradients doesn't depend on T; Hinton, Vinyals & Dean 2015,
section 2. Only a chunk of rows has logits at a time; the backward pass computes it again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import mlx.core as mx

from ..core.shapes import ND, N
from .distillation import Divergence, divergence, log_softmax
from .unembedding import Unembedding


@dataclass(frozen=True)
class SoftTeacher:
    """A teacher's hidden vectors and head.

    Attributes:
        h: `[N, D]`; teachers and student may differ in width.
        head: its map to logits.
        share: its share of the mixture of several teachers' distributions.
    """

    h: mx.array
    head: Unembedding
    share: float = 1.0


def soft_targets(
    h: ND,
    head: Unembedding,
    teachers: Sequence[SoftTeacher],
    weights: N,
    temperature: float,
    chunk: int = 256,
    kind: Divergence = "forward_kl",
    beta: float = 0.5,
) -> mx.array:
    """The sum over N of T² times a divergence (by default KL(teacher ‖ student)) times
    `weights [N]`, a float32 scalar.

    The distribution of several teachers is the mean of theirs by their shares. No gradient reaches
    a teacher.
    """
    heads = [replace(each.head, bias=_bias(each.head)) for each in teachers]
    shares = [each.share / sum(one.share for one in teachers) for each in teachers]

    def taught(rows: Sequence[mx.array]) -> mx.array:
        each = [
            log_softmax(one.logits_upcast(x), temperature)
            for one, x in zip(heads, rows, strict=True)
        ]
        if len(each) == 1:
            return each[0]
        return mx.logsumexp(
            mx.stack([x + math.log(share) for x, share in zip(each, shares, strict=True)]), axis=0
        )

    def of_chunk(
        rows: mx.array, weight: mx.array, bias: mx.array, theirs: list[mx.array], share: mx.array
    ) -> mx.array:
        student_head = replace(head, weight=weight, bias=bias)
        student = log_softmax(student_head.logits_upcast(rows), temperature)
        divergences = divergence(student, mx.stop_gradient(taught(theirs)), kind, beta)
        return temperature**2 * (divergences * share).sum()

    recomputing = mx.checkpoint(of_chunk)
    total, bias = mx.zeros(()), _bias(head)
    for start in range(0, h.shape[0], chunk):
        part = slice(start, start + chunk)
        # in turn: otherwise all chunks of logits may be in memory at once
        rows = mx.depends([h[part]], [total])[0]
        theirs = [each.h[part] for each in teachers]
        total = total + recomputing(rows, head.weight, bias, theirs, weights[part])
    return total


def _bias(head: Unembedding) -> mx.array:
    return mx.zeros(head.weight.shape[:1]) if head.bias is None else head.bias
