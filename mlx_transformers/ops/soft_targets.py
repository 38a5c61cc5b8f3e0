"""Cross-entropy against another model's distribution, straight from the hidden states of both.

    KL = sum_v p_v (log p_v - log q_v),   p = softmax(teacher / T),   q = softmax(student / T)

times T² , so that its gradients keep their size whatever T is; Hinton, Vinyals & Dean 2015,
section 2. Only some rows of logits exist at a time: a chunk is made again in the backward pass.
"""

from dataclasses import dataclass

import mlx.core as mx

from .device import upcast


@dataclass(frozen=True)
class Head:
    """The linear map from hidden vectors `[N, D]` to logits `[N, V]`."""

    weight: mx.array
    bias: mx.array | None = None
    softcap: float | None = None


def soft_targets(
    h: mx.array,
    head: Head,
    teacher_h: mx.array,
    teacher_head: Head,
    weights: mx.array,
    temperature: float,
    chunk: int = 256,
) -> mx.array:
    """The sum over N of T² KL(teacher ‖ student) times `weights [N]`, a float32 scalar; `h [N, D]`
    and `teacher_h [N, D']` may differ in width. Nothing flows to the teacher."""

    def of_chunk(
        rows: mx.array, weight: mx.array, bias: mx.array, t_rows: mx.array, share: mx.array
    ) -> mx.array:
        student = _log_softmax(rows, weight, bias, head.softcap, temperature)
        teacher = mx.stop_gradient(
            _log_softmax(
                t_rows,
                teacher_head.weight,
                _bias(teacher_head),
                teacher_head.softcap,
                temperature,
            )
        )
        divergence = (mx.exp(teacher) * (teacher - student)).sum(axis=-1)
        return temperature**2 * (divergence * share).sum()

    once_more = mx.checkpoint(of_chunk)
    total, bias = mx.zeros(()), _bias(head)
    for start in range(0, h.shape[0], chunk):
        part = slice(start, start + chunk)
        # in turn: otherwise all chunks of logits may be in memory at once
        rows = mx.depends([h[part]], [total])[0]
        total = total + once_more(rows, head.weight, bias, teacher_h[part], weights[part])
    return total


def _bias(head: Head) -> mx.array:
    return mx.zeros(head.weight.shape[:1]) if head.bias is None else head.bias


def _log_softmax(
    h: mx.array, weight: mx.array, bias: mx.array, softcap: float | None, temperature: float
) -> mx.array:
    logits = upcast(h @ weight.T) + bias
    if softcap is not None:
        logits = softcap * mx.tanh(logits / softcap)
    logits = logits / temperature
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)
