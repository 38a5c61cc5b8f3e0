"""Cross-entropy as weighted sums, from logits or straight from hidden states.

For one token with logits l, `lse = log sum exp l` and target y:

    nll = lse - l_y,   smooth = lse - mean(l),   z = z_loss * lse^2
    total = (1 - eps) * nll + eps * smooth + z

with eps the label smoothing (Szegedy et al. 2016, section 7) and z the penalty that keeps the
logits near log-normalised (PaLM, section 5). All functions return the sums over tokens, each
times its weight, of (total, nll, z): float32 scalars. Only `total` carries a gradient. Targets
of tokens whose weight is zero may be any integer, -100 included.
"""

import mlx.core as mx

from .device import wide

Sums = tuple[mx.array, mx.array, mx.array]


def cross_entropy(
    logits: mx.array,
    targets: mx.array,
    weights: mx.array,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> Sums:
    """(total, nll, z) of logits `[N, V]`, integer targets `[N]` and weights `[N]`."""
    return cross_entropy_naive(
        logits, targets, weights, label_smoothing=label_smoothing, z_loss=z_loss
    )


def cross_entropy_naive(
    logits: mx.array,
    targets: mx.array,
    weights: mx.array,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> Sums:
    """The definition of `cross_entropy`, left to autodiff."""
    logits, weights = wide(logits), mx.stop_gradient(wide(weights))
    targets = mx.where(weights != 0, targets, 0)
    lse = mx.logsumexp(logits, axis=-1)
    nll = lse - mx.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    smooth = lse - logits.mean(axis=-1)
    z = z_loss * lse * lse
    total = (1 - label_smoothing) * nll + label_smoothing * smooth + z
    nll, z = mx.stop_gradient(nll), mx.stop_gradient(z)
    return (total * weights).sum(), (nll * weights).sum(), (z * weights).sum()


def linear_cross_entropy(
    h: mx.array,
    w: mx.array,
    targets: mx.array,
    weights: mx.array,
    *,
    bias: mx.array | None = None,
    softcap: float | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    chunk: int = 256,
) -> Sums:
    """`cross_entropy` of `cap(h w^T + bias)` for h `[N, D]`, w `[V, D]`."""
    logits = wide(h) @ wide(w).T
    if bias is not None:
        logits = logits + wide(bias)
    if softcap is not None:
        logits = softcap * mx.tanh(logits / softcap)
    return cross_entropy(
        logits, targets, weights, label_smoothing=label_smoothing, z_loss=z_loss
    )
