"""The scalar memory of xLSTM: an LSTM with exponential gates, a normaliser and heads.

    i, f, z, o = W x_t + R h_{t-1} + b          m_t = max(log σ(f) + m_{t-1}, i)
    c_t = e^{log σ(f) + m_{t-1} - m_t} c_{t-1} + e^{i - m_t} tanh(z)      n_t likewise, with 1
    h_t = σ(o) c_t / n_t

Beck et al. 2024, "xLSTM: Extended Long Short-Term Memory", equations 8 to 18. R is block-diagonal:
the features of a head read that head alone. The gates read the previous output, so that time can't
be computed at once: this is the one recurrence that steps over tokens. As in the published code, a
state whose n is 0 has no scale: then m_t = i.
"""

from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from ..core.shapes import BT_, BTD, H_K, BoolBT
from .unstack import unstack

NO_SCALE = -1e30
"""m of the empty state: a token's own gate is then the maximum."""


class ScalarMemory(NamedTuple):
    """The state: output h, cell c, normaliser n and scale m, each `[B, D]` in float32."""

    h: mx.array
    c: mx.array
    n: mx.array
    m: mx.array

    @classmethod
    def empty(cls, batch: int, dim: int) -> "ScalarMemory":
        """The state before the first token."""
        zero = mx.zeros((batch, dim))
        return cls(zero, zero, zero, mx.full(zero.shape, NO_SCALE))


def slstm(
    wx: BT_,
    recurrent: H_K,
    state: ScalarMemory,
    starts: BoolBT | None = None,
    valid: BoolBT | None = None,
) -> tuple[BTD, ScalarMemory]:
    """Compute h of every token, one after the other, in float32.

    Args:
        wx: `W x + b` of the gates i, f, z, o, side by side.
        recurrent: R `[H, 4 K, K]`, in each head the gates i, f, z, o one after the other.
        state: the state before the first token.
        starts: True where a document starts, which reads nothing from before.
        valid: False on padding, which leaves the state as it is.

    Returns:
        h in float32, and the state after the last token.
    """
    weight = recurrent.astype(mx.float32).swapaxes(1, 2)
    blank = ScalarMemory.empty(*state.h.shape)
    outs = []
    for t, x in enumerate(unstack(wx.astype(mx.float32))):
        if starts is not None:
            state = _where(starts[:, t], blank, state)
        after = _advance(x, weight, state)
        state = after if valid is None else _where(valid[:, t], after, state)
        outs.append(state.h)
    return mx.stack(outs, axis=1), state


def _advance(x: mx.array, weight: mx.array, state: ScalarMemory) -> ScalarMemory:
    """One step from `x [B, 4 D]` with the transposed R, `[H, K, 4 K]`."""
    batch, dim = state.h.shape
    heads = weight.shape[0]
    read = state.h.reshape(batch, heads, -1).swapaxes(0, 1) @ weight
    # [H, B, 4 K] as [B, 4, D]
    read = read.reshape(heads, batch, 4, -1).transpose(1, 2, 0, 3).reshape(batch, 4, dim)
    gates = x.reshape(batch, 4, dim) + read
    i, f, z, o = (gates[:, part] for part in range(4))
    decayed = state.m - nn.softplus(-f)
    m = mx.maximum(decayed, i)
    fade, write = mx.exp(decayed - m), mx.exp(i - m)
    c, n = fade * state.c + write * mx.tanh(z), fade * state.n + write
    return ScalarMemory(mx.sigmoid(o) * c / n, c, n, m)


def _where(chosen: mx.array, a_state: ScalarMemory, b_state: ScalarMemory) -> ScalarMemory:
    """One state for the chosen rows, the other for the rest."""
    pairs = zip(a_state, b_state, strict=True)
    return ScalarMemory(*(mx.where(chosen[:, None], a, b) for a, b in pairs))
