"""RWKV-4's weighted mean of values over time, with decays and weights of any size.

    wkv_t = (Σ_{s<t} e^{k_s - (t-1-s) w} v_s + e^{u + k_t} v_t) / (the same sum without v)

Peng et al. 2023, "RWKV: Reinventing RNNs for the Transformer Era", equation 16; stable as in
appendix D: numerator and denominator are divided by `e^{m_t}`, the largest term so far.
"""

import mlx.core as mx

from ..core.shapes import B3D, BTD, BoolBT, D
from .linear_recurrence import linear_recurrence, max_recurrence

NEVER = -1e30
"""The logarithm of nothing, finite so that differences of two of them are no NaN."""


def wkv(
    k: BTD, v: BTD, log_decay: BTD, bonus: D, state: B3D, starts: BoolBT | None = None
) -> tuple[BTD, B3D]:
    """Compute `wkv_t` for t = 1 ... T without a loop over them; equals `wkv_naive`.

    Args:
        k: logarithms of the weights; `NEVER` for a token to be left out.
        v: values.
        log_decay: `-w` of each token, which fades its past for the tokens after it.
        bonus: u, added to k of the current token.
        state: numerator, denominator and logarithm of their scale.
        starts: True where a document starts, which reads nothing from before.

    Returns:
        The means, and the state after the last token.
    """
    forget = log_decay if starts is None else mx.where(starts[..., None], NEVER, log_decay)
    top = mx.stop_gradient(max_recurrence(forget, k, state[:, 2]))
    before = mx.concatenate([state[:, None, 2], top[:, :-1]], axis=1)
    if starts is not None:
        before = mx.where(starts[..., None], NEVER, before)
    decay, weight = mx.exp(log_decay + before - top), mx.exp(k - top)
    pair = weight[:, :, None] * mx.stack([v, mx.ones_like(v)], axis=2)
    sums = linear_recurrence(decay[:, :, None], pair, state[:, :2])
    past = mx.concatenate([state[:, None, :2], sums[:, :-1]], axis=1)
    out = _mean(past[:, :, 0], past[:, :, 1], before, k + bonus, v)
    return out, mx.concatenate([sums[:, -1], top[:, None, -1]], axis=1)


def wkv_naive(
    k: BTD, v: BTD, log_decay: BTD, bonus: D, state: B3D, starts: BoolBT | None = None
) -> tuple[BTD, B3D]:
    """The recurrence token by token (appendix D)."""
    num, den, top = (state[:, i] for i in range(3))
    out = []
    for t in range(k.shape[1]):
        if starts is not None:
            top = mx.where(starts[:, t, None], NEVER, top)
        out.append(_mean(num, den, top, k[:, t] + bonus, v[:, t]))
        new = mx.maximum(log_decay[:, t] + top, k[:, t])
        decay, weight = mx.exp(log_decay[:, t] + top - new), mx.exp(k[:, t] - new)
        num, den, top = decay * num + weight * v[:, t], decay * den + weight, new
    return mx.stack(out, axis=1), mx.stack([num, den, top], axis=1)


def empty_state(batch: int, dim: int) -> B3D:
    """The state before the first token, in float32."""
    zero = mx.zeros((batch, dim))
    return mx.stack([zero, zero, mx.full(zero.shape, NEVER)], axis=1)


def _mean(num: mx.array, den: mx.array, top: mx.array, own: mx.array, v: mx.array) -> mx.array:
    """The mean of the past, of weight `e^top`, and of the current value, of weight `e^own`."""
    scale = mx.maximum(top, mx.stop_gradient(own))
    past, present = mx.exp(top - scale), mx.exp(own - scale)
    return (past * num + present * v) / (past * den + present)
