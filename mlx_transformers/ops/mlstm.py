"""The matrix memory of xLSTM, with exponential gates that a running maximum keeps in range.

    m_t = max(f_t + m_{t-1}, i_t)                                      f_t = log σ(forget gate)
    C_t = e^{f_t + m_{t-1} - m_t} C_{t-1} + e^{i_t - m_t} k_t v_tᵀ     n_t likewise, with 1 for v_t
    h_t = C_tᵀ q_t / (max(|n_tᵀ q_t|, e^{-m_t}) + eps)

Beck et al. 2024, "xLSTM: Extended Long Short-Term Memory", equations 19 to 27; keys are divided by
√K. `m` cancels in h but for eps, which the published code adds to the scaled denominator.
"""

from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from ..core.shapes import BHT, BHT_, BHTK
from .chunks import CHUNK, MASKED
from .device import upcast
from .linear_attention import linear_attention
from .linear_recurrence import max_recurrence

LARGEST = 80.0
"""Bound of exponents, below the overflow of float32."""


class MatrixMemory(NamedTuple):
    """The state: C and n side by side, `[B, H, K, V + 1]`, and m `[B, H]`, in float32."""

    memory: mx.array
    m: mx.array

    @classmethod
    def empty(cls, batch: int, heads: int, k: int, v: int) -> "MatrixMemory":
        """The state before the first token: zeros."""
        return cls(mx.zeros((batch, heads, k, v + 1)), mx.zeros((batch, heads)))


def mlstm(
    q: BHTK,
    k: BHTK,
    v: BHT_,
    input_gate: BHT,
    forget_gate: BHT,
    *,
    state: MatrixMemory,
    eps: float = 1e-6,
    starts: mx.array | None = None,
    valid: mx.array | None = None,
    chunk: int = CHUNK,
) -> tuple[BHT_, MatrixMemory]:
    """`mlstm_naive` as linear attention with decay, over chunks.

    Args:
        q, k, v: queries and keys `[B, H, T, K]`, values `[B, H, T, V]`.
        input_gate, forget_gate: gates before exponential and sigmoid.
        state: the state before the first token.
        eps: added to the denominator.
        starts: `[B, T]`, True where a document starts, which reads nothing from before.
        valid: `[B, T]`, False on padding, which leaves the state as it is.
        chunk: tokens of a chunk at most, a power of two.

    Returns:
        h in the dtype of v, and the state after the last token.
    """
    i, f = _gates(input_gate, forget_gate, valid)
    forget, first = f, i
    if starts is not None:
        begins = starts[:, None]
        forget, first = mx.where(begins, MASKED, f), mx.where(begins, mx.maximum(f, i), i)
    m = max_recurrence(forget.swapaxes(1, 2), first.swapaxes(1, 2), state.m).swapaxes(1, 2)
    before = mx.concatenate([state.m[..., None], m[..., :-1]], axis=-1)
    decay = f + before - m
    if starts is not None:
        decay = mx.where(begins, 0.0, decay)  # linear attention forgets the past there
    weighed = upcast(k) * (mx.exp(i - m) * k.shape[-1] ** -0.5)[..., None]
    ones = mx.ones((*v.shape[:-1], 1))
    values = mx.concatenate([upcast(v), ones], axis=-1)
    out, memory = linear_attention(
        upcast(q),
        weighed,
        values,
        decay,
        scale=1.0,
        state=state.memory,
        starts=starts,
        valid=valid,
        chunk=chunk,
    )
    return _normalised(out, m, eps).astype(v.dtype), MatrixMemory(memory, m[..., -1])


def mlstm_naive(
    q: BHTK,
    k: BHTK,
    v: BHT_,
    input_gate: BHT,
    forget_gate: BHT,
    *,
    state: MatrixMemory,
    eps: float = 1e-6,
    starts: mx.array | None = None,
    valid: mx.array | None = None,
) -> tuple[BHT_, MatrixMemory]:
    """The recurrence token by token."""
    gates, outs = _gates(input_gate, forget_gate, valid), []
    values = mx.concatenate([upcast(v), mx.ones((*v.shape[:-1], 1))], axis=-1)
    memory, m = state
    for t in range(v.shape[2]):
        i, f = (gate[..., t] for gate in gates)
        if starts is not None:
            begins = starts[:, t, None]
            m, memory = mx.where(begins, 0.0, m), mx.where(begins[..., None, None], 0.0, memory)
        new = mx.maximum(f + m, i)
        fade, write = mx.exp(f + m - new)[..., None, None], mx.exp(i - new)[..., None, None]
        key = upcast(k[:, :, t, :, None]) * k.shape[-1] ** -0.5
        memory, m = fade * memory + write * key * values[:, :, t, None], new
        read = (upcast(q[:, :, t, None]) @ memory)[..., 0, :]
        outs.append(_normalised(read, m, eps))
    return mx.stack(outs, axis=2).astype(v.dtype), MatrixMemory(memory, m)


def _gates(i: mx.array, f: mx.array, valid: mx.array | None) -> tuple[mx.array, mx.array]:
    """The logarithms of what a token adds and keeps: nothing, and all, on padding."""
    i, f = upcast(i), -nn.softplus(-upcast(f))
    if valid is None:
        return i, f
    return mx.where(valid[:, None], i, MASKED), mx.where(valid[:, None], f, 0.0)


def _normalised(read: mx.array, m: mx.array, eps: float) -> mx.array:
    """The value part of `read [..., V + 1]` over its normaliser, bounded from below."""
    least = mx.exp(mx.minimum(-m, LARGEST))
    return read[..., :-1] / (mx.maximum(mx.abs(read[..., -1]), least) + eps)[..., None]
