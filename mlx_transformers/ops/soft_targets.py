"""Cross-entropy against a teacher's distribution, straight from the hidden states of both.

    KL = sum_v p_v (log p_v - log q_v),   p = softmax(teacher / T),   q = softmax(student / T)

times T², so that the size of its gradients doesn't depend on T; Hinton, Vinyals & Dean 2015,
section 2. Only a chunk of rows has logits at a time; the backward pass computes it again.
"""

from dataclasses import replace

import mlx.core as mx

from ..core.shapes import ND, N
from .distillation import Divergence, divergence, log_softmax
from .unembedding import Unembedding


def soft_targets(
    h: ND,
    head: Unembedding,
    teacher_h: mx.array,
    teacher_head: Unembedding,
    weights: N,
    temperature: float,
    chunk: int = 256,
    kind: Divergence = "forward_kl",
    beta: float = 0.5,
) -> mx.array:
    """The sum over N of T² times a divergence (by default KL(teacher ‖ student)) times
    `weights [N]`, a float32 scalar.

    `h [N, D]` and `teacher_h [N, D']` may differ in width. No gradient reaches the teacher.
    """
    teacher_head = replace(teacher_head, bias=_bias(teacher_head))

    def of_chunk(
        rows: mx.array, weight: mx.array, bias: mx.array, t_rows: mx.array, share: mx.array
    ) -> mx.array:
        own = replace(head, weight=weight, bias=bias)
        student = log_softmax(own.logits_upcast(rows), temperature)
        teacher = mx.stop_gradient(log_softmax(teacher_head.logits_upcast(t_rows), temperature))
        apart = divergence(student, teacher, kind, beta)
        return temperature**2 * (apart * share).sum()

    recomputing = mx.checkpoint(of_chunk)
    total, bias = mx.zeros(()), _bias(head)
    for start in range(0, h.shape[0], chunk):
        part = slice(start, start + chunk)
        # in turn: otherwise all chunks of logits may be in memory at once
        rows = mx.depends([h[part]], [total])[0]
        total = total + recomputing(rows, head.weight, bias, teacher_h[part], weights[part])
    return total


def _bias(head: Unembedding) -> mx.array:
    return mx.zeros(head.weight.shape[:1]) if head.bias is None else head.bias
