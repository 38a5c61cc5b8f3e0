"""The real-gated linear recurrent unit (RG-LRU) of Griffin.

    a_t = exp(-8 σ(r_t) softplus(Λ))          h_t = a_t h_{t-1} + √(1 - a_t²) σ(i_t) x_t

De et al. 2024, "Griffin: Mixing Gated Linear Recurrences with Local Attention", equations 1 to 4.
As in the published code, softplus(Λ) stands for the paper's -log σ(Λ), so that Λ has the other
sign; the first token of a document isn't scaled by √(1 - a²).
"""

import mlx.core as mx
import mlx.nn as nn

from ..core.shapes import BD, BTD, D
from .custom_vjp import custom_vjp, recompute
from .linear_recurrence import linear_recurrence

SHARPNESS = 8.0
"""c of equation 3."""
LEAST_ROOT = 1 / (2 * 1000.0)
"""Roots below it have the derivative 1000, as in the published code: that of 0 is infinite."""


def rg_lru(
    x: BTD,
    input_gate: BTD,
    recurrence_gate: BTD,
    rate: D,
    state: BD,
    first: mx.array,
    valid: mx.array | None = None,
) -> tuple[BTD, BD]:
    """Compute the recurrence without a loop over tokens, in float32.

    The backward pass computes it again, so a forward saves its arguments alone.

    Args:
        x: inputs.
        input_gate, recurrence_gate: i and r, before their sigmoids.
        rate: Λ.
        state: h before the first token.
        first: `[B or 1, T]`, True at the first token of each document, which forgets the state.
        valid: `[B, T]`, False on padding, which leaves the state as it is.

    Returns:
        h of each token in the dtype of x, and the last one in float32.
    """

    def forward(
        x: mx.array, i: mx.array, r: mx.array, rate: mx.array, state: mx.array
    ) -> list[mx.array]:
        return [linear_recurrence(*_coefficients(x, i, r, rate, first, valid), state)]

    arrays = [array.astype(mx.float32) for array in (x, input_gate, recurrence_gate, rate, state)]
    (h,) = recompute(forward)(*arrays)
    return h.astype(x.dtype), h[:, -1]


def rg_lru_naive(
    x: BTD,
    input_gate: BTD,
    recurrence_gate: BTD,
    rate: D,
    state: BD,
    first: mx.array,
    valid: mx.array | None = None,
) -> tuple[BTD, BD]:
    """The definition, token by token."""
    a, b = _coefficients(x, input_gate, recurrence_gate, rate, first, valid)
    outs = []
    for t in range(x.shape[1]):
        state = a[:, t] * state + b[:, t]
        outs.append(state)
    return mx.stack(outs, axis=1), state


def _coefficients(
    x: mx.array,
    input_gate: mx.array,
    recurrence_gate: mx.array,
    rate: mx.array,
    first: mx.array,
    valid: mx.array | None,
) -> tuple[mx.array, mx.array]:
    """a and b of `h_t = a_t h_{t-1} + b_t`."""
    log_a = -SHARPNESS * mx.sigmoid(recurrence_gate) * nn.softplus(rate)
    gated = mx.sigmoid(input_gate) * x
    first = first[..., None]
    a = mx.where(first, 0.0, mx.exp(log_a))
    b = mx.where(first, 1.0, _root(-mx.expm1(2 * log_a))) * gated
    if valid is not None:
        real = valid[..., None]
        a, b = mx.where(real, a, 1.0), mx.where(real, b, 0.0)
    return a, b


def _root(x: mx.array) -> mx.array:
    """The square root, with a derivative of at most 1000."""

    def backward(_: tuple[mx.array], cotangent: mx.array, root: mx.array) -> mx.array:
        return cotangent / (2 * mx.maximum(root, LEAST_ROOT))

    out: mx.array = custom_vjp(lambda x: mx.sqrt(x), backward)(x)
    return out
