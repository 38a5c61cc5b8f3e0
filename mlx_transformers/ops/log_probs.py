"""Log-probabilities of tokens straight from hidden states: policy gradients, DPO, scoring.

    log p(y | h) = l_y - log sum_v exp l_v,   l = soft_cap(h Wᵀ + b)

`linear_log_probs_naive` is the definition; `linear_log_probs` has its first derivative written
out, `dl = g (onehot(y) - softmax(l))` for a cotangent g.
"""

import mlx.core as mx

from ..core.shapes import ND, VD, IntN, N, V
from .custom_vjp import custom_vjp
from .device import on_cpu, upcast
from .softcap import soft_cap_slope
from .unembedding import Unembedding


def linear_log_probs(
    h: ND,
    w: VD,
    targets: IntN,
    *,
    bias: V | None = None,
    softcap: float | None = None,
    chunk: int = 256,
    frozen: bool = False,
) -> N:
    """Log-probability (nats) of each target, `[N]`, float32 or wider.

    `chunk` rows of logits exist at a time, never `[N, V]`: the backward pass computes them again.

    Args:
        h: hidden vectors, `[N, D]`.
        w: unembedding, `[V, D]`.
        targets: tokens, integers `[N]`. One outside the vocabulary, such as -100, has
            log-probability 0 and no gradient.
        bias: `[V]`.
        softcap: bound of the logits.
        chunk: rows of logits at a time, M.
        frozen: whether the gradient of w is left out, and zeros take its place.
    """
    run = _Chunked(targets, w.shape[0], softcap, chunk, frozen)
    # half-precision matmuls are many times slower than float32 ones on the CPU
    h, w = (upcast(h), upcast(w)) if on_cpu() else (h, w)
    leaves = [h, w] if bias is None else [h, w, upcast(bias)]
    out: mx.array = custom_vjp(run.forward, run.backward)(*leaves)[0]
    return out


def linear_log_probs_naive(
    h: ND,
    w: VD,
    targets: IntN,
    *,
    bias: V | None = None,
    softcap: float | None = None,
) -> N:
    """The definition of `linear_log_probs`: all logits at once, left to autodiff."""
    out = Unembedding(upcast(w), None if bias is None else upcast(bias), softcap)
    logits = out.logits(upcast(h))
    in_vocabulary = (targets >= 0) & (targets < w.shape[0])
    picked = mx.take_along_axis(logits, mx.where(in_vocabulary, targets, 0)[:, None], axis=-1)[:, 0]
    return mx.where(in_vocabulary, picked - mx.logsumexp(logits, axis=-1), 0.0)


class _Chunked:
    """Forward and backward passes over chunks of rows; leaves are h, w and perhaps a bias."""

    def __init__(
        self, targets: mx.array, vocab_size: int, softcap: float | None, chunk: int, frozen: bool
    ) -> None:
        targets = mx.stop_gradient(targets).astype(mx.int32)
        self.known = (targets >= 0) & (targets < vocab_size)
        self.targets = mx.where(self.known, targets, 0)
        self.softcap, self.chunk, self.frozen = softcap, chunk, frozen

    def parts(self) -> list[slice]:
        """The rows of each chunk."""
        n = self.targets.shape[0]
        return [slice(a, min(a + self.chunk, n)) for a in range(0, n, self.chunk)]

    def logits(self, rows: mx.array, leaves: tuple[mx.array, ...]) -> mx.array:
        """Logits `[M, V]` of `rows [M, D]`, float32 or wider."""
        return Unembedding.of(leaves[1:], self.softcap).logits_upcast(rows)

    def forward(self, *leaves: mx.array) -> list[mx.array]:
        """The log-probabilities `[N]`, and the log-normaliser of each row, `[N]`."""
        logps: list[mx.array] = []
        norms: list[mx.array] = []
        for part in self.parts():
            # in turn: otherwise all chunks of logits may be in memory at once
            rows = mx.depends([leaves[0][part]], logps[-1:])[0]
            logits = self.logits(rows, leaves)
            picked = mx.take_along_axis(logits, self.targets[part][:, None], axis=-1)[:, 0]
            norms.append(mx.logsumexp(logits, axis=-1))
            logps.append(mx.where(self.known[part], picked - norms[-1], 0.0))
        return [mx.concatenate(logps), mx.concatenate(norms)]

    def backward(
        self,
        primals: tuple[mx.array, ...],
        cotangents: list[mx.array],
        outputs: list[mx.array],
    ) -> tuple[mx.array, ...]:
        """Gradients of the leaves; those of w and bias are sums over chunks."""
        h, w = primals[:2]
        g = mx.where(self.known, cotangents[0], 0.0)[:, None]
        dh: list[mx.array] = []
        sums = [mx.zeros(leaf.shape, upcast(leaf).dtype) for leaf in primals[1 + self.frozen :]]
        for part in self.parts():
            rows = mx.depends([h[part]], [*dh[-1:], *sums, cotangents[0]])[0]
            logits = self.logits(rows, primals)
            hit = self.targets[part][:, None] == mx.arange(w.shape[0], dtype=mx.int32)
            d = g[part] * (hit - mx.exp(logits - outputs[1][part][:, None]))
            if self.softcap is not None:
                d = d * soft_cap_slope(logits, self.softcap)
            low = d.astype(w.dtype)
            dh.append(low @ w)
            if not self.frozen:
                sums[0] = mx.addmm(sums[0], upcast(low.T), upcast(rows))
            if len(primals) == 3:
                sums[-1] = sums[-1] + d.sum(axis=0)
        unused = [mx.zeros_like(w)] if self.frozen else []
        gradients = [mx.concatenate(dh), *unused, *sums]
        return tuple(
            gradient.astype(leaf.dtype) for gradient, leaf in zip(gradients, primals, strict=True)
        )
