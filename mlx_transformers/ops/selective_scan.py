"""The selective scan of Mamba: a diagonal state space whose step size, B and C follow the input.

    h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t u_t        y_t = Σ_n C_t h_t

Gu and Dao 2023 ([arXiv:2312.00752](https://arxiv.org/abs/2312.00752)), equations 2 and 3, algorithm
2. B is discretised as `Δ B`, as in the published code, and not by the zero-order hold of equation
4. Every feature has N states, so that T tokens have T · D · N of them. They are computed segment
by segment and never saved: the backward pass computes those of a segment again.
"""

import mlx.core as mx

from .custom_vjp import recompute
from .linear_recurrence import complex_recurrence, linear_recurrence

SEGMENT_NUMBERS = 1 << 21
"""Numbers of the states that are computed at once: 8 MiB of float32."""


def selective_scan(
    u: mx.array,
    dt: mx.array,
    a: mx.array,
    b: mx.array,
    c: mx.array,
    *,
    state: mx.array | None = None,
    starts: mx.array | None = None,
    segment: int | None = None,
) -> tuple[mx.array, mx.array]:
    """The scan over a sequence; work linear in T, saved memory that of the arguments.

    Args:
        u: inputs `[B, T, D]`.
        dt: step sizes Δ `[B, T, D]`, zero on padding, which leaves the state as it is.
        a: A `[D, N]`, negative.
        b: B `[B, T, G, N]` for G groups of features, or `[D, N]`, the same for all tokens.
        c: C, shaped as B may be.
        state: `[B, D, N]` before the first token; None: zeros.
        starts: `[B, T]`, True where a document starts, which reads nothing from before.
        segment: tokens T' computed at once; None: what `SEGMENT_NUMBERS` allows.

    Returns:
        `y [B, T, D]` and the last state `[B, D, N]`, float32.
    """
    B, T, D = u.shape
    N = a.shape[-1]
    u, dt, a, b, c = (x.astype(mx.float32) for x in (u, dt, a, b, c))
    G = next((x.shape[2] for x in (b, c) if x.ndim == 4), 1)
    h = mx.zeros((B, D, N)) if state is None else state.astype(mx.float32)
    h = h.reshape(B, G, D // G, N).swapaxes(2, 3)
    if segment is None:
        segment = max(1, SEGMENT_NUMBERS // (B * D * N))

    def forward(*arrays: mx.array) -> list[mx.array]:
        return _segment(*arrays)

    outputs = []
    for at in range(0, T, segment):
        span = slice(at, min(at + segment, T))
        varying = [x[:, span] if x.ndim == 4 else x for x in (b, c)]
        more = [] if starts is None else [starts[:, span].astype(mx.float32)]
        y, h = recompute(forward)(u[:, span], dt[:, span], a, *varying, h, *more)
        outputs.append(y)
    y = outputs[0] if len(outputs) == 1 else mx.concatenate(outputs, axis=1)
    return y, h.swapaxes(2, 3).reshape(B, D, N)


def implied_attention(
    a: mx.array, dt: mx.array, b: mx.array, c: mx.array, starts: mx.array | None = None
) -> mx.array:
    """The weights by which the scan sums its inputs, `[B, 1, T, T]`: magnitudes, mean over
    features.

    Ali et al. 2024, "The Hidden Attention of Mamba Models", equation 11. Scans unit inputs, one a
    token, so its work and memory grow with T².

    Args:
        a, dt, b, c, starts: as in `selective_scan`.
    """
    B, T, D = dt.shape
    units = mx.broadcast_to(mx.eye(T)[:, :, None], (T, T, D))
    rows = []
    for i in range(B):
        step = mx.broadcast_to(dt[i], (T, T, D))
        keys, queries = (
            x if x.ndim == 2 else mx.broadcast_to(x[i], (T, *x.shape[1:])) for x in (b, c)
        )
        begins = None if starts is None else mx.broadcast_to(starts[i], (T, T))
        y = selective_scan(units, step, a, keys, queries, starts=begins)[0]
        rows.append(mx.abs(y).mean(axis=-1).T)
    return mx.stack(rows)[:, None]


def _segment(
    u: mx.array,
    dt: mx.array,
    a: mx.array,
    b: mx.array,
    c: mx.array,
    h: mx.array,
    starts: mx.array | None = None,
) -> list[mx.array]:
    """`[y, last state]` of a few tokens: `h [B, G, N, D / G]`, states `[B, T, G, N, D / G]`."""
    B, T, D = u.shape
    G, N, width = h.shape[1:]

    def grouped(x: mx.array) -> mx.array:
        return x.reshape(B, T, G, 1, width)

    def fixed(x: mx.array) -> mx.array:
        return x.reshape(G, width, N).swapaxes(1, 2)

    step = grouped(dt)
    decay = mx.exp(step * fixed(a))
    if starts is not None:
        decay = decay * (1 - starts)[:, :, None, None, None]
    written = grouped(dt * u)
    written = b[..., None] @ written if b.ndim == 4 else fixed(b) * written
    states = linear_recurrence(decay, written, h)
    y = (c[..., None, :] @ states)[..., 0, :] if c.ndim == 4 else (fixed(c) * states).sum(axis=-2)
    return [y.reshape(B, T, D), states[:, -1]]


def selective_scan_naive(
    u: mx.array,
    dt: mx.array,
    a: mx.array,
    b: mx.array,
    c: mx.array,
    *,
    state: mx.array | None = None,
    starts: mx.array | None = None,
) -> tuple[mx.array, mx.array]:
    """The definition of `selective_scan`, token by token, left to autodiff."""
    B, T, D = u.shape
    h = mx.zeros((B, D, a.shape[-1])) if state is None else state

    def at(x: mx.array, t: int) -> mx.array:
        return x if x.ndim == 2 else mx.repeat(x[:, t], D // x.shape[2], axis=1)

    outputs = []
    for t in range(T):
        if starts is not None:
            h = mx.where(starts[:, t, None, None], 0.0, h)
        step = dt[:, t, :, None]
        h = mx.exp(step * a) * h + step * at(b, t) * u[:, t, :, None]
        outputs.append((at(c, t) * h).sum(axis=-1))
    return mx.stack(outputs, axis=1), h


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
