"""Elementwise recurrences over time as associative scans: linear ones, and those of a maximum.

    linear_recurrence  h_t = a_t h_{t-1} + b_t
    max_recurrence     m_t = max(a_t + m_{t-1}, b_t)

Two neighbouring steps are one step of the same form, so T steps become T/2, and so on: log2(T)
rounds on arrays of T, T/2, T/4 ... steps (Blelloch 1990, "Prefix Sums and Their Applications").
Nothing is divided, so that coefficients may be 0: a reset is `a_t = 0` (-inf for the maximum).
"""

from collections.abc import Callable

import mlx.core as mx

from ..core.shapes import BTx, Bx
from .custom_vjp import custom_vjp

Combine = Callable[[mx.array, mx.array], mx.array]


def linear_recurrence(a: BTx, b: BTx, h: Bx | None = None) -> BTx:
    """Compute `h_t = a_t h_{t-1} + b_t` for t = 1 ... T; equals `linear_recurrence_naive`.

    The backward pass saves `a` and the result, and runs one scan in the other direction:
    `g_t = dh_t + a_{t+1} g_{t+1}`, `db_t = g_t`, `da_t = g_t h_{t-1}`.

    Args:
        a: coefficients; sizes of 1 behind T are broadcast to those of b.
        b: inputs.
        h: the state before the first step; None: zeros.

    Returns:
        The state after each step; the last one is the final state.
    """
    if h is None:
        h = mx.zeros((b.shape[0], *b.shape[2:]), b.dtype)

    def forward(a: mx.array, b: mx.array, h: mx.array) -> mx.array:
        return _scan(a, b, h, mx.multiply, mx.add)

    def backward(
        primals: tuple[mx.array, ...], cotangent: mx.array, out: mx.array
    ) -> tuple[mx.array, ...]:
        a, b, h = primals
        grad = _reversed(a, cotangent)
        grad_a = _sum_to(grad * _before(out, h), a)
        return (grad_a, grad.astype(b.dtype), (a * grad)[:, 0].astype(h.dtype))

    out: mx.array = custom_vjp(forward, backward)(a, b, h)
    return out


def linear_recurrence_naive(a: BTx, b: BTx, h: Bx | None = None) -> BTx:
    """The definition, step by step, differentiated by autodiff."""
    state, out = mx.zeros_like(b[:, 0]) if h is None else h, []
    for t in range(b.shape[1]):
        state = a[:, t] * state + b[:, t]
        out.append(state)
    return mx.stack(out, axis=1)


def max_recurrence(a: BTx, b: BTx, m: Bx) -> BTx:
    """Compute `m_t = max(a_t + m_{t-1}, b_t)` for t = 1 ... T; equals `max_recurrence_naive`.

    The running scale of exponential gates: with it, sums of `exp(b_s + a_{s+1} + ... + a_t)` are
    of order 1. Where both are equal, the gradient goes to the past.

    Args:
        a: the logarithm of the decay at each step; -inf forgets the past.
        b: the logarithm of the input at each step.
        m: the maximum before the first step.
    """

    def forward(a: mx.array, b: mx.array, m: mx.array) -> mx.array:
        return _scan(a, b, m, mx.add, mx.maximum)

    def backward(
        primals: tuple[mx.array, ...], cotangent: mx.array, out: mx.array
    ) -> tuple[mx.array, ...]:
        a, b, m = primals
        past = (a + _before(out, m) >= b).astype(cotangent.dtype)
        grad = _reversed(past, cotangent)
        return (_sum_to(past * grad, a), (1 - past) * grad, (past * grad)[:, 0])

    out: mx.array = custom_vjp(forward, backward)(a, b, m)
    return out


def max_recurrence_naive(a: BTx, b: BTx, m: Bx) -> BTx:
    """The definition, step by step, differentiated by autodiff."""
    out = []
    for t in range(b.shape[1]):
        m = mx.maximum(a[:, t] + m, b[:, t])
        out.append(m)
    return mx.stack(out, axis=1)


def _scan(a: mx.array, b: mx.array, h: mx.array, times: Combine, plus: Combine) -> mx.array:
    """`h_t = plus(times(a_t, h_{t-1}), b_t)` for all t; `times` distributes over `plus`."""
    length = b.shape[1]
    if length == 1:
        return plus(times(a, h[:, None]), b)
    if length % 2:
        head = _scan(a[:, :-1], b[:, :-1], h, times, plus)
        last = plus(times(a[:, -1:], head[:, -1:]), b[:, -1:])
        return mx.concatenate([head, last], axis=1)
    a0, a1 = a[:, ::2], a[:, 1::2]
    b0, b1 = b[:, ::2], b[:, 1::2]
    second = _scan(times(a1, a0), plus(times(a1, b0), b1), h, times, plus)
    first = plus(times(a0, _before(second, h)), b0)
    return mx.stack([first, second], axis=2).reshape(second.shape[0], length, *second.shape[2:])


def _reversed(a: mx.array, cotangent: mx.array) -> mx.array:
    """`g_t = dh_t + a_{t+1} g_{t+1}`, from the last step to the first."""
    following = mx.concatenate([a[:, 1:], mx.zeros_like(a[:, :1])], axis=1)
    zero = mx.zeros_like(cotangent[:, 0])
    return _scan(following[:, ::-1], cotangent[:, ::-1], zero, mx.multiply, mx.add)[:, ::-1]


def _before(out: mx.array, h: mx.array) -> mx.array:
    """The state before each step, from those after each step and the first one."""
    first = mx.broadcast_to(h[:, None], (out.shape[0], 1, *out.shape[2:]))
    return mx.concatenate([first.astype(out.dtype), out[:, :-1]], axis=1)


def _sum_to(x: mx.array, like: mx.array) -> mx.array:
    """Sum x over the axes that `like` was broadcast along."""
    axes = [i for i, (n, m) in enumerate(zip(x.shape, like.shape, strict=True)) if n != m]
    return (x.sum(axis=axes, keepdims=True) if axes else x).astype(like.dtype)
