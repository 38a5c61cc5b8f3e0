"""Linear state spaces with one input and output per feature: S4D and S4.

Each of H features has the system `x' = A x + B u`, `y = C x` with N complex states in conjugate
pairs, of which one half is stored. Discretised by a step dt,

    x_t = Ā x_{t-1} + B̄ u_t        y_t = 2 Re(C x_t) = Σ_l K_l u_{t-l}      K_l = 2 Re(C Ā^l B̄)

    diagonal_system   A diagonal: S4D, Gu et al. 2022 (arXiv:2206.11893), equations 4 to 9
    dplr_system       A = Λ - P P*: S4, Gu et al. 2022 (arXiv:2111.00396), bilinear

Both are given as a `System`, the real matrices that take m tokens and a state to m outputs and the
state behind them. `run_system` computes a sequence in chunks of m tokens by matrix products alone.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import mlx.core as mx

from .complex import Complex
from .documents import document_runs
from .short_conv import short_convolution

Discretization = Literal["zoh", "bilinear"]
"""Zero-order hold, exact for inputs constant over a step, or the bilinear (Tustin) transform."""


class System(NamedTuple):
    """m steps of H real linear systems, each with a state of S numbers.

    Attributes:
        kernel: `K_l`, `[H, m]`.
        reads: `[H, m, S]`; row i gives output i from the state before the m tokens.
        writes: `[H, S, m]`; column j adds input j to the state behind the m tokens.
        advance: the state `[H, S, R]` after m tokens without input.
    """

    kernel: mx.array
    reads: mx.array
    writes: mx.array
    advance: Callable[[mx.array], mx.array]


MakeSystem = Callable[[int], System]
"""A system for a given number m of tokens."""


def discretize(
    a: Complex, b: Complex, dt: mx.array, method: Discretization
) -> tuple[Complex, Complex]:
    """`(Ā, B̄)` of a diagonal system: equal shapes, `dt` broadcasts."""
    z = a * dt
    if method == "bilinear":
        halved = (z * -0.5 + 1.0).reciprocal()
        return (z * 0.5 + 1.0) * halved, halved * b * dt
    return z.exp(), z.expm1() * a.reciprocal() * b


def log_decay(a: Complex, dt: mx.array, method: Discretization) -> Complex:
    """log Ā, so that powers are exponentials."""
    z = a * dt
    if method == "zoh":
        return z
    return (z * 0.5 + 1.0).log() - (z * -0.5 + 1.0).log()


def powers(log_a: Complex, exponents: mx.array) -> Complex:
    """`a^k` for each exponent: `[..., m]` of `log_a [...]`."""
    columns = Complex(log_a.re[..., None], log_a.im[..., None])
    return (columns * exponents.astype(mx.float32)).exp()


def diagonal_system(
    a: Complex, b: Complex, c: Complex, dt: mx.array, method: Discretization
) -> MakeSystem:
    """The system of a diagonal A.

    Args:
        a, b, c: A, B and C `[H, N / 2]`.
        dt: step sizes `[H, 1]`.
        method: how it is discretised.
    """
    log_a = log_decay(a, dt, method)
    _, b = discretize(a, b, dt, method)

    def make(m: int) -> System:
        steps = powers(log_a, mx.arange(m))
        reads = powers(log_a, mx.arange(1, m + 1)) * 2.0 * _last(c)
        writes = powers(log_a, mx.arange(m - 1, -1, -1)) * _last(b)
        gains = c * b
        kernel = 2.0 * (_last(gains) * steps).re.sum(axis=1)
        through = powers(log_a, mx.array([m]))

        def advance(state: mx.array) -> mx.array:
            re, im = mx.split(state, 2, axis=1)
            return (Complex(re, im) * through).stacked(axis=1)

        out = mx.concatenate([reads.re, -reads.im], axis=1).swapaxes(1, 2)
        return System(kernel, out, writes.stacked(axis=1), advance)

    return make


def _last(z: Complex) -> Complex:
    return Complex(z.re[..., None], z.im[..., None])


def run_system(
    make: MakeSystem,
    u: mx.array,
    state: mx.array | None = None,
    segments: mx.array | None = None,
    *,
    chunk: int,
) -> tuple[mx.array, mx.array]:
    """The outputs of a system, computed in chunks: work and memory grow as T.

    Args:
        make: the system by the number of its tokens.
        u: inputs `[B, T, H]`.
        state: `[B, H, S]` before the first token; None: zeros.
        segments: `[B, T]` document ids; each document starts with a zero state.
        chunk: tokens M of a chunk.

    Returns:
        Outputs `[B, T, H]` in float32 and the state after the last token.
    """
    length = u.shape[1]
    in_full_chunks = length - length % min(chunk, length)
    outputs = []
    runs = None if segments is None else document_runs(segments)
    for start, end, m in (
        (0, in_full_chunks, min(chunk, length)),
        (in_full_chunks, length, length - in_full_chunks),
    ):
        if start == end:
            continue
        piece = None if runs is None else runs[:, start:end]
        before = None if runs is None or start == 0 else runs[:, start - 1]
        y, state = _run_chunks(make(m), u[:, start:end], state, piece, before, m)
        outputs.append(y)
    assert state is not None
    return (outputs[0] if len(outputs) == 1 else mx.concatenate(outputs, axis=1)), state


def _run_chunks(
    system: System,
    u: mx.array,
    state: mx.array | None,
    runs: mx.array | None,
    before: mx.array | None,
    m: int,
) -> tuple[mx.array, mx.array]:
    """`run_system` where T is a multiple of m; `before [B]` is the run of the token before."""
    B, T, H = u.shape
    C, S = T // m, system.writes.shape[1]
    chunks = u.astype(mx.float32).reshape(B, C, m, H)
    state = mx.zeros((B, H, S)) if state is None else state.astype(mx.float32)
    own_document = chunks
    carried = read = None
    if runs is not None:
        runs = runs.reshape(B, C, m)
        last = runs[..., -1]
        first = runs[:, :1, 0] if before is None else before[:, None]
        previous = mx.concatenate([first, last[:, :-1]], axis=1)
        carried = (last == previous)[..., None, None]
        read = (runs == previous[..., None])[..., None]
        own_document = mx.where((runs == last[..., None])[..., None], chunks, 0.0)
    # [H, m, B C]: one matrix product per feature
    written = system.writes @ own_document.transpose(3, 2, 0, 1).reshape(H, m, B * C)
    written = written.reshape(H, S, B, C).transpose(3, 0, 1, 2)
    states, after = [], state.transpose(1, 2, 0)
    for c in range(C):
        states.append(after)
        decayed = system.advance(after)
        if carried is not None:
            decayed = mx.where(carried[:, c].transpose(1, 2, 0), decayed, 0.0)
        after = decayed + written[c]
    past = mx.stack(states, axis=-1).reshape(H, S, B * C)
    y = (system.reads @ past).reshape(H, m, B, C).transpose(2, 3, 1, 0)
    if read is not None:
        y = mx.where(read, y, 0.0)
    y = y + _within(system.kernel, chunks, runs)
    return y.reshape(B, T, H), after.transpose(2, 0, 1)


def _within(kernel: mx.array, chunks: mx.array, runs: mx.array | None) -> mx.array:
    """The part of `[B, C, m, H]` outputs that comes from inputs of the same chunk."""
    B, C, m, H = chunks.shape
    if runs is not None:
        rows = chunks.reshape(B * C, m, H)
        return short_convolution(rows, kernel[:, ::-1], runs.reshape(B * C, m)).reshape(B, C, m, H)
    lag = mx.arange(m)[:, None] - mx.arange(m)[None, :]
    toeplitz = mx.where(lag >= 0, kernel[:, mx.maximum(lag, 0)], 0.0)
    y = toeplitz @ chunks.transpose(3, 2, 0, 1).reshape(H, m, B * C)
    return y.reshape(H, m, B, C).transpose(2, 3, 1, 0)


def run_system_naive(
    make: MakeSystem, u: mx.array, state: mx.array | None = None, segments: mx.array | None = None
) -> tuple[mx.array, mx.array]:
    """The definition of `run_system`: one token after the other."""
    B, T, _ = u.shape
    system = make(1)
    outputs = []
    if state is None:
        state = mx.zeros((B, u.shape[2], system.writes.shape[1]))
    for t in range(T):
        if segments is not None and t:
            same = segments[:, t] == segments[:, t - 1]
            state = mx.where(same[:, None, None], state, 0.0)
        columns = state.transpose(1, 2, 0)
        now = u[:, t].astype(mx.float32).T[:, None]
        y = (system.reads @ columns)[:, 0] + system.kernel * now[:, 0]
        state = (system.advance(columns) + system.writes @ now).transpose(2, 0, 1)
        outputs.append(y.T)
    return mx.stack(outputs, axis=1), state
