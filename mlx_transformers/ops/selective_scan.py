"""The selective scan of Mamba: a diagonal state space whose step size, B and C follow the input.

    h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t u_t        y_t = Σ_n C_t h_t

Gu and Dao 2023 ([arXiv:2312.00752](https://arxiv.org/abs/2312.00752)), equations 2 and 3, algorithm
2. B is discretised as `Δ B`, as in the published code, and not by the zero-order hold of equation
4. Every feature has N states, so that T tokens have T · D · N of them. They are computed segment
by segment and never saved: the backward pass, written out here, computes those of a segment again.

Within a segment C chunks of K tokens go side by side, step by step: once from zeros, to their ends;
then, from the states that these ends add up to, once more. So a step is elementwise work on
contiguous arrays, in any order of features, and nothing is divided: a restart is a decay of 0.
"""

from typing import NamedTuple

import mlx.core as mx

from .custom_vjp import custom_vjp

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
    if b.ndim == 2 or c.ndim == 2:  # a group for each feature
        b, c = (_for_each_feature(x, B, T, D) for x in (b, c))
    G = b.shape[2]
    h = mx.zeros((B, D, N)) if state is None else state.astype(mx.float32)
    h = h.reshape(B, G, D // G, N).swapaxes(2, 3)
    if segment is None:
        segment = max(1, SEGMENT_NUMBERS // (B * D * N))
    outputs = []
    for at in range(0, T, segment):
        span = slice(at, min(at + segment, T))
        more = [] if starts is None else [starts[:, span].astype(mx.float32)]
        arrays = (u[:, span], dt[:, span], a, b[:, span], c[:, span], h, *more)
        y, h = custom_vjp(_forward, _backward)(*arrays)
        outputs.append(y)
    y = outputs[0] if len(outputs) == 1 else mx.concatenate(outputs, axis=1)
    return y, h.swapaxes(2, 3).reshape(B, D, N)


def _for_each_feature(x: mx.array, batch: int, length: int, dim: int) -> mx.array:
    """B or C as `[B, T, D, N]`."""
    if x.ndim == 2:
        return mx.broadcast_to(x, (batch, length, *x.shape))
    return mx.repeat(x, dim // x.shape[2], axis=2)


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


class _Chunks(NamedTuple):
    """The arrays of a segment as C chunks of K tokens side by side: `[K, B, C, G, N or 1, W or 1]`
    for G groups of W = D / G features.

    Attributes:
        step, written: Δ and Δ u, `[..., 1, W]`.
        a: A `[G, N, W]`.
        b, c: `[..., N, 1]` and `[..., 1, N]`.
        kept: 0 where a document starts, else 1, `[..., 1, 1]`; None: no documents.
    """

    step: mx.array
    written: mx.array
    a: mx.array
    b: mx.array
    c: mx.array
    kept: mx.array | None

    @classmethod
    def of(cls, u: mx.array, dt: mx.array, a: mx.array, b: mx.array, c: mx.array,
           starts: mx.array | None) -> "_Chunks":  # fmt: skip
        """Cut the arguments of `selective_scan`; steps of 0 fill the last chunk."""
        groups = b.shape[2]
        wide = (groups, 1, u.shape[2] // groups)
        return cls(
            _cut(dt, *wide),
            _cut(dt * u, *wide),
            mx.contiguous(a.reshape(groups, wide[2], -1).swapaxes(1, 2)),
            _cut(b, groups, b.shape[3], 1),
            _cut(c, groups, 1, c.shape[3]),
            None if starts is None else 1 - _cut(starts, 1, 1, 1),
        )

    def decay(self, k: int) -> mx.array:
        """exp(Δ A) of the k-th tokens, `[B, C, G, N, W]`."""
        decay = mx.exp(self.step[k] * self.a)
        return decay if self.kept is None else decay * self.kept[k]

    def through(self) -> mx.array:
        """The share of a state that is left after each chunk, `[B, C, G, N, W]`."""
        remaining = mx.exp(self.step.sum(axis=0) * self.a)
        return remaining if self.kept is None else remaining * self.kept.min(axis=0)

    def states(self, h: mx.array) -> list[mx.array]:
        """The states before the first and after each token of the chunks, K + 1 of them."""
        chunks = self.step.shape[2]
        first = h[:, None]
        if chunks > 1:
            ends = self.b[0] @ self.written[0]
            for k in range(1, len(self.step)):
                ends = self.decay(k) * ends + self.b[k] @ self.written[k]
            first = _carried(self.through(), ends, h)
        states = [first]
        for k in range(len(self.step)):
            states.append(self.decay(k) * states[-1] + self.b[k] @ self.written[k])
        return states


def _cut(x: mx.array, *shape: int) -> mx.array:
    """`[B, T, ...]` as `[K, B, C, *shape]`, where K is about √T."""
    B, T = x.shape[:2]
    size = 1 << (T - 1).bit_length() // 2
    if T % size:
        x = mx.pad(x, [(0, 0), (0, size - T % size)] + [(0, 0)] * (x.ndim - 2))
    return mx.contiguous(x.reshape(B, -1, size, *shape).transpose(2, 0, 1, 3, 4, 5))


def _joined(parts: list[mx.array], shape: tuple[int, ...]) -> mx.array:
    """K arrays `[B, C, ...]` as one of the shape `[B, T, ...]`."""
    x = mx.stack(parts, axis=2)
    return x.reshape(shape[0], -1, *shape[2:])[:, : shape[1]]


def _carried(through: mx.array, ends: mx.array, first: mx.array) -> mx.array:
    """The state before each chunk, `[B, C, ...]`, from what chunks leave of it and add to it."""
    before = [first]
    for i in range(through.shape[1] - 1):
        before.append(through[:, i] * before[-1] + ends[:, i])
    return mx.stack(before, axis=1)


def _forward(
    u: mx.array,
    dt: mx.array,
    a: mx.array,
    b: mx.array,
    c: mx.array,
    h: mx.array,
    starts: mx.array | None = None,
) -> list[mx.array]:
    """`[y, last state]` of a segment; states are `[B, G, N, W]`."""
    chunks = _Chunks.of(u, dt, a, b, c, starts)
    states = chunks.states(h)
    outputs = [chunks.c[k] @ states[k + 1] for k in range(len(chunks.c))]
    return [_joined(outputs, u.shape), states[-1][:, -1]]


def _backward(
    primals: tuple[mx.array, ...], cotangents: list[mx.array], _: list[mx.array]
) -> tuple[mx.array, ...]:
    """The recurrence the other way round, `g_k = c_k dy_k + decay_{k+1} g_{k+1}`, over the chunks
    from their ends; states are computed again."""
    # wait for the cotangents: otherwise `mx.compile` reuses the forward's arrays and saves them
    u, dt, a, b, c, h, *more = mx.depends(list(primals), list(cotangents))
    chunks = _Chunks.of(u, dt, a, b, c, more[0] if more else None)
    states, last = chunks.states(h), len(chunks.c) - 1
    dy = _cut(cotangents[0], *chunks.step.shape[3:])
    across = chunks.c.swapaxes(-1, -2)

    flow = across[last] @ dy[last]
    for k in range(last - 1, -1, -1):
        flow = chunks.decay(k + 1) * flow + across[k] @ dy[k]
    flow, through = chunks.decay(0) * flow, chunks.through()
    # the gradient of the state behind each chunk: chunks in reverse
    later = _carried(through[:, ::-1], flow[:, ::-1], cotangents[1])[:, ::-1]
    dh = through[:, 0] * later[:, 0] + flow[:, 0]

    d_written, d_step, d_b, d_c = [], [], [], []
    d_a, g = mx.zeros_like(later), later
    ones = mx.ones((1, chunks.a.shape[1]))
    for k in range(last, -1, -1):
        g = g + across[k] @ dy[k]
        d_written.append(chunks.b[k].swapaxes(-1, -2) @ g)
        d_b.append(g @ chunks.written[k].swapaxes(-1, -2))
        d_c.append(states[k + 1] @ dy[k].swapaxes(-1, -2))
        g = chunks.decay(k) * g
        of_exponent = g * states[k]
        d_a = d_a + of_exponent * chunks.step[k]
        d_step.append(ones @ (of_exponent * chunks.a))
    d_written, d_step, d_b, d_c = (x[::-1] for x in (d_written, d_step, d_b, d_c))
    to_written = _joined(d_written, u.shape)
    return (
        to_written * dt,
        to_written * u + _joined(d_step, u.shape),
        d_a.sum(axis=(0, 1)).swapaxes(1, 2).reshape(a.shape),
        _joined(d_b, b.shape),
        _joined(d_c, c.shape),
        dh,
        *(mx.zeros_like(x) for x in more),
    )


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
