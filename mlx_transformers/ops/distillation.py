"""Divergences of a student's distribution from a teacher's, on logits or log-probabilities.

Each returns one number per position, in nats. Logits `[..., V]` are divided by a temperature first.
"""

import math
from typing import Literal

import mlx.core as mx

from ..core.shapes import xV

Divergence = Literal["forward_kl", "reverse_kl", "jsd"]


def log_softmax(logits: xV, temperature: float = 1.0) -> xV:
    """Return the log-probabilities of logits at a temperature."""
    logits = logits / temperature
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def kl(p: xV, q: xV) -> mx.array:
    """Return `KL(p ‖ q)` of log-probabilities."""
    return (mx.exp(p) * (p - q)).sum(axis=-1)


def generalised_jsd(student: xV, teacher: xV, beta: float) -> mx.array:
    """Return the generalised Jensen-Shannon divergence of log-probabilities.

    `β KL(teacher ‖ m) + (1 - β) KL(student ‖ m)`, `m = β teacher + (1 - β) student`; at β = 0 it is
    `KL(teacher ‖ student)` and at β = 1 `KL(student ‖ teacher)`. Agarwal et al. 2023 (GKD),
    section 2.
    """
    if beta == 0:
        return kl(teacher, student)
    if beta == 1:
        return kl(student, teacher)
    mixture = mx.logaddexp(teacher + math.log(beta), student + math.log(1 - beta))
    return beta * kl(teacher, mixture) + (1 - beta) * kl(student, mixture)


def divergence(student: xV, teacher: xV, kind: Divergence, beta: float = 0.5) -> mx.array:
    """Return the divergence of a name: `forward_kl` (Hinton et al. 2015), `reverse_kl` (Gu et al.
    2023, MiniLLM) or `jsd` with weight β."""
    return generalised_jsd(student, teacher, {"forward_kl": 0.0, "reverse_kl": 1.0}.get(kind, beta))


def cosine(a: mx.array, b: mx.array) -> mx.array:
    """Return the cosine of the angle of vectors, `[..., D]` -> `[...]`."""
    a, b = a.astype(mx.float32), b.astype(mx.float32)
    lengths = [mx.rsqrt((x * x).sum(axis=-1) + 1e-12) for x in (a, b)]
    return (a * b).sum(axis=-1) * lengths[0] * lengths[1]
