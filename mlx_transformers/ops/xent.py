"""Cross-entropy as weighted sums, from logits or straight from hidden states.

For one token with logits l, `lse = log sum exp l` and target y:

    nll = lse - l_y,   smooth = lse - mean(l),   z = z_loss * lse^2
    total = (1 - eps) * nll + eps * smooth + z

with eps the label smoothing (Szegedy et al. 2016, section 7) and z the penalty that keeps the
logits near log-normalised (PaLM, section 5). All functions return the sums over tokens, each
times its weight, of (total, nll, z): float32 scalars. Only `total` carries a gradient, and only
to logits, h, w and bias. Targets of tokens whose weight is zero may be any integer, -100 included.

`cross_entropy_naive` and `linear_cross_entropy_naive` are the definitions; the others have their
first derivative written out.
"""

from dataclasses import dataclass

import mlx.core as mx

from ..core.shapes import ND, NV, VD, IntN, N, V
from .custom_vjp import custom_vjp
from .device import on_cpu, upcast
from .softcap import soft_cap_slope
from .sums import row_max, row_sum
from .unembedding import Unembedding

Sums = tuple[mx.array, mx.array, mx.array]


def cross_entropy(
    logits: NV,
    targets: IntN,
    weights: N,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> Sums:
    """(total, nll, z) of logits `[N, V]`, integer targets `[N]` and weights `[N]`."""
    if on_cpu():
        form = cross_entropy_saving
    elif label_smoothing == 0.0 and z_loss == 0.0:
        return cross_entropy_fused(logits, targets, weights)
    else:
        form = cross_entropy_naive
    return form(logits, targets, weights, label_smoothing=label_smoothing, z_loss=z_loss)


def cross_entropy_naive(
    logits: NV,
    targets: IntN,
    weights: N,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> Sums:
    """The definition of `cross_entropy`, left to autodiff."""
    logits, (targets, weights) = upcast(logits), _valid(targets, weights)
    lse = mx.logsumexp(logits, axis=-1)
    nll = lse - mx.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    smooth = lse - logits.mean(axis=-1)
    z = z_loss * lse * lse
    total = (1 - label_smoothing) * nll + label_smoothing * smooth + z
    nll, z = mx.stop_gradient(nll), mx.stop_gradient(z)
    return (total * weights).sum(), (nll * weights).sum(), (z * weights).sum()


def cross_entropy_saving(
    logits: NV,
    targets: IntN,
    weights: N,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> Sums:
    """`cross_entropy` that computes each exponential once and saves it for the backward pass."""
    head = _TokenLoss(label_smoothing, z_loss)

    def forward(logits: mx.array, targets: mx.array, weights: mx.array) -> list[mx.array]:
        sums, saved = head.forward(logits, targets, weights)
        return [*sums, *saved]

    def backward(
        primals: tuple[mx.array, ...], cotangents: list[mx.array], outputs: list[mx.array]
    ) -> tuple[mx.array, mx.array, mx.array]:
        _, targets, weights = primals
        d = head.backward(outputs[3:], targets, weights * cotangents[0])
        return d, mx.zeros_like(targets), mx.zeros_like(weights)

    run = custom_vjp(forward, backward)
    total, nll, z, *_ = run(upcast(logits), *_valid(targets, weights))
    return total, nll, z


def cross_entropy_fused(logits: NV, targets: IntN, weights: N) -> Sums:
    """`cross_entropy` without smoothing and penalty, by MLX's kernel for the GPU."""
    targets, weights = _valid(targets, weights)
    total = (mx.fast.cross_entropy(logits, targets) * weights).sum()
    return total, mx.stop_gradient(total), mx.zeros((), total.dtype)


def linear_cross_entropy(
    h: ND,
    w: VD,
    targets: IntN,
    weights: N,
    *,
    bias: V | None = None,
    softcap: float | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    chunk: int = 256,
    gradients: bool = True,
    frozen: bool = False,
) -> Sums:
    """`cross_entropy` of `cap(h w^T + bias)` for h `[N, D]`, w `[V, D]`, bias `[V]`.

    `chunk` rows of logits exist at a time, never `[N, V]`: the gradients of h, w and bias are
    computed in the forward pass, chunk by chunk, and the backward pass only scales them.
    `cap` is `soft_cap`. Evaluation sets `gradients` to False, which is the loss alone, at a third
    of the cost. With `frozen` the gradient of w is left out, and zeros take its place.
    """
    run = _Chunks(_TokenLoss(label_smoothing, z_loss), softcap, chunk, frozen)
    targets, weights = _valid(targets, weights)
    # half-precision matmuls are many times slower than float32 ones on the CPU
    h, w = (upcast(h), upcast(w)) if on_cpu() else (h, w)
    leaves = [h, w] if bias is None else [h, w, upcast(bias)]
    if not gradients:
        return run.sums(leaves, targets, weights)

    def forward(*leaves: mx.array) -> list[mx.array]:
        return run.one_pass(list(leaves), targets, weights)

    def backward(
        primals: tuple[mx.array, ...], cotangents: list[mx.array], outputs: list[mx.array]
    ) -> tuple[mx.array, ...]:
        found = [*outputs[3:4], *([mx.zeros_like(primals[1])] if frozen else []), *outputs[4:]]
        pairs = zip(found, primals, strict=True)
        return tuple((d * cotangents[0]).astype(leaf.dtype) for d, leaf in pairs)

    total, nll, z, *_ = custom_vjp(forward, backward)(*leaves)
    return total, nll, z


def linear_cross_entropy_naive(
    h: ND,
    w: VD,
    targets: IntN,
    weights: N,
    *,
    bias: V | None = None,
    softcap: float | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> Sums:
    """The definition of `linear_cross_entropy`: all logits at once, left to autodiff."""
    out = Unembedding(upcast(w), None if bias is None else upcast(bias), softcap)
    logits = out.logits(upcast(h))
    return cross_entropy_naive(
        logits, targets, weights, label_smoothing=label_smoothing, z_loss=z_loss
    )


def _valid(targets: mx.array, weights: mx.array) -> tuple[mx.array, mx.array]:
    """Targets that index safely (an ignored one becomes 0) and weights, both constants."""
    weights = mx.stop_gradient(upcast(weights))
    return mx.stop_gradient(mx.where(weights != 0, targets.astype(mx.int32), 0)), weights


@dataclass(frozen=True)
class _TokenLoss:
    """The loss of some rows of logits, and its derivative from the exponentials it computed."""

    label_smoothing: float
    z_loss: float

    def forward(
        self, logits: mx.array, targets: mx.array, weights: mx.array
    ) -> tuple[list[mx.array], list[mx.array]]:
        """The three sums, and the arrays saved for `backward`: `exp(l - max)`, row sums, lse."""
        top = row_max(logits)
        picked = mx.take_along_axis(logits, targets[:, None], axis=-1)
        means = [logits.mean(axis=-1, keepdims=True)] if self.label_smoothing else []
        # once all else is read off the logits, their memory can hold the exponentials
        logits = mx.depends([logits], [picked, *means])[0]
        e = mx.exp(logits - top)
        norm = row_sum(e)
        lse = mx.log(norm) + top
        nll, z = lse - picked, self.z_loss * mx.square(lse)
        total = (1 - self.label_smoothing) * nll + z
        if means:
            total = total + self.label_smoothing * (lse - means[0])
        return [(term[:, 0] * weights).sum() for term in (total, nll, z)], [e, norm, lse]

    def backward(self, saved: list[mx.array], targets: mx.array, weights: mx.array) -> mx.array:
        """`weight * ((1 + 2 z_loss lse) softmax - (1 - eps) onehot(y) - eps / V)`."""
        (e, norm, lse), g = saved, weights[:, None]
        d = e * (g * (1 + 2 * self.z_loss * lse) / norm)
        if self.label_smoothing:
            d = d - g * (self.label_smoothing / e.shape[-1])
        hit = targets[:, None] == mx.arange(e.shape[-1], dtype=targets.dtype)
        return d - mx.where(hit, (1 - self.label_smoothing) * g, 0)


@dataclass(frozen=True)
class _Chunks:
    """The linear head and its loss, some rows at a time; leaves are [h, w] or [h, w, bias]."""

    head: _TokenLoss
    softcap: float | None
    chunk: int
    frozen: bool

    def logits(self, leaves: list[mx.array], rows: mx.array) -> mx.array:
        """Logits of `rows`, capped, in float32 or wider."""
        return Unembedding.of(leaves[1:], self.softcap).logits_upcast(rows)

    def sums(self, leaves: list[mx.array], targets: mx.array, weights: mx.array) -> Sums:
        """The three sums alone."""
        total = [mx.zeros((), upcast(leaves[0]).dtype)] * 3
        for a in range(0, targets.shape[0], self.chunk):
            part = slice(a, a + self.chunk)
            # in turn: otherwise all chunks of logits may be in memory at once
            rows = mx.depends([leaves[0][part]], total)[0]
            sums, _ = self.head.forward(self.logits(leaves, rows), targets[part], weights[part])
            total = [x + y for x, y in zip(total, sums, strict=True)]
        return total[0], total[1], total[2]

    def one_pass(
        self, leaves: list[mx.array], targets: mx.array, weights: mx.array
    ) -> list[mx.array]:
        """The three sums and the gradients of the leaves, sums of float32 or wider; a frozen w has
        none."""
        h, w = leaves[:2]
        total = [mx.zeros((), upcast(h).dtype)] * 3
        dh: list[mx.array] = []
        flat = [mx.zeros(leaf.shape, upcast(leaf).dtype) for leaf in leaves[1 + self.frozen :]]
        for a in range(0, targets.shape[0], self.chunk):
            part = slice(a, a + self.chunk)
            rows = mx.depends([h[part]], [*total, *dh[-1:], *flat])[0]
            logits = self.logits(leaves, rows)
            sums, saved = self.head.forward(logits, targets[part], weights[part])
            total = [x + y for x, y in zip(total, sums, strict=True)]
            d = self.head.backward(saved, targets[part], weights[part])
            if self.softcap is not None:
                d = d * soft_cap_slope(logits, self.softcap)
            low = d.astype(w.dtype)
            dh.append(upcast(low @ w))
            if not self.frozen:
                flat[0] = mx.addmm(flat[0], upcast(low.T), upcast(rows))
            if len(leaves) == 3:
                flat[-1] = flat[-1] + d.sum(axis=0)
        return [*total, mx.concatenate(dh), *flat]
