"""Recurrences and selective scans of complex numbers, whose parts are the last axis."""

import mlx.core as mx


def complex_recurrence(a: mx.array, b: mx.array, h: mx.array) -> mx.array:
    """Compute `h_t = a_t h_{t-1} + b_t`, step by step.

    Args:
        a: coefficients `[B, T, ..., 2]`, as large as b.
        b: inputs `[B, T, ..., 2]`.
        h: the state before the first step, `[B, ..., 2]`.

    Returns:
        The state after each step, `[B, T, ..., 2]`.
    """
    states = []
    for t in range(b.shape[1]):
        h = _product(a[:, t], h) + b[:, t]
        states.append(h)
    return mx.stack(states, axis=1)


def _product(a: mx.array, b: mx.array) -> mx.array:
    re = a[..., 0] * b[..., 0] - a[..., 1] * b[..., 1]
    return mx.stack([re, a[..., 0] * b[..., 1] + a[..., 1] * b[..., 0]], axis=-1)


def complex_selective_scan(
    u: mx.array, dt: mx.array, a: mx.array, b: mx.array, c: mx.array
) -> tuple[mx.array, mx.array]:
    """The scan with complex states: `y_t = 2 Re(Σ_n C_t h_t)`, the conjugate half implied.

    Args:
        u, dt: `[B, T, D]`.
        a: A `[D, N, 2]`: real and imaginary parts.
        b, c: `[B, T, G, N, 2]`, or `[D, N, 2]`.

    Returns:
        `y [B, T, D]` and the last state `[B, D, N, 2]`.
    """
    B, _, D = u.shape

    def each(x: mx.array) -> mx.array:
        return x if x.ndim == 3 else mx.repeat(x, D // x.shape[2], axis=2)

    step = dt[..., None]
    size = mx.exp(step * a[..., 0])
    angle = step * a[..., 1]
    decay = mx.stack([size * mx.cos(angle), size * mx.sin(angle)], axis=-1)
    written = (dt * u)[..., None, None] * each(b)
    states = complex_recurrence(decay, written, mx.zeros((B, *written.shape[2:])))
    read = each(c)
    products = read[..., 0] * states[..., 0] - read[..., 1] * states[..., 1]
    return 2.0 * products.sum(axis=-1), states[:, -1]
