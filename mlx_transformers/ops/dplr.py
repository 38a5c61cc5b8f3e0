"""S4: state spaces whose matrix is diagonal plus low rank, `A = Λ - P P*`.

Gu, Goel, Ré 2022, "Efficiently Modeling Long Sequences with Structured State Spaces"
([arXiv:2111.00396](https://arxiv.org/abs/2111.00396)), theorem 3, algorithm 1, appendix C.3.
Two forms of one system, discretised by the bilinear transform:

    dplr_kernel  its kernel at L roots of unity: Cauchy sums, the low rank by Woodbury's identity,
                 then an inverse FFT; the published algorithm, whose C̃ = C (I - Ā^L) belongs to L
    dplr_system  the real matrices Ā, B̄ themselves and their powers, for chunks and for decoding

One of each pair of conjugate states is stored.
"""

import mlx.core as mx
import numpy as np

from .complex import Complex
from .state_space import MakeSystem, System


def dplr_kernel(
    a: Complex, p: Complex, b: Complex, c: Complex, dt: mx.array, length: int
) -> mx.array:
    """The kernel `K_l = 2 Re(C Ā^l B̄)`, `[H, length]`, from its generating function.

    Args:
        a: Λ `[H, N / 2]`.
        p: P `[R, H, N / 2]`.
        b: B `[H, N / 2]`.
        c: C̃ `[H, N / 2]`, `C (I - Ā^length)`: see `truncated`.
        dt: step sizes `[H, 1]`.
        length: tokens L.
    """
    angle = -2 * np.pi * np.arange(length // 2 + 1) / length
    less, more = 2 * (1 - np.exp(1j * angle)), 1 + np.exp(1j * angle)  # 2 (1 - w), 1 + w
    right = Complex(mx.concatenate([b.re[None], p.re]), mx.concatenate([b.im[None], p.im]))
    left = Complex(mx.concatenate([c.re[None], p.re]), mx.concatenate([c.im[None], -p.im]))
    # Each entry of the sums: left_i right_j dt 2 / (2 (1 - w) - dt A (1 + w)), [H, 1 + R, 1 + R, L]
    weights = _each(left, 1) * _each(right, 0) * (2.0 * dt)
    sums = _cauchy(weights, a * dt, _constant(less), _constant(more))
    half = _constant(more / 2)
    rank = p.re.shape[0]
    inner = [
        [sums[1 + i, 1 + j] * half + (1.0 if i == j else 0.0) for j in range(rank)]
        for i in range(rank)
    ]
    solved = _solve(inner, [sums[1 + i, 0] for i in range(rank)])
    out = sums[0, 0]
    for i in range(rank):
        out = out - half * sums[0, 1 + i] * solved[i]
    return mx.fft.irfft(out.re + 1j * out.im, n=length)


def _each(z: Complex, axis: int) -> Complex:
    return Complex(mx.expand_dims(z.re, axis), mx.expand_dims(z.im, axis))


def _constant(z: np.ndarray) -> Complex:
    return Complex(mx.array(z.real.astype(np.float32)), mx.array(z.imag.astype(np.float32)))


def _cauchy(weights: Complex, a: Complex, less: Complex, more: Complex) -> Complex:
    """`Σ_n v_n / (less - more a_n)` over both halves: `[i, j, H, L]` of v `[i, j, H, N / 2]`."""
    rows, columns, H, half = weights.re.shape

    def flat(z: mx.array) -> mx.array:
        return z.reshape(rows * columns, H, half).swapaxes(0, 1)

    def one(v: Complex, a: Complex) -> Complex:
        poles_of_a = Complex(a.re[..., None], a.im[..., None])
        poles = (less - poles_of_a * more).reciprocal()
        return Complex(flat(v.re), flat(v.im)) @ poles

    total = one(weights, a) + one(weights.conj(), a.conj())
    shape = (rows, columns, H, less.re.size)
    return Complex(total.re.swapaxes(0, 1).reshape(shape), total.im.swapaxes(0, 1).reshape(shape))


def _solve(matrix: list[list[Complex]], right: list[Complex]) -> list[Complex]:
    """Solve a small system, entry by entry, by Gauss-Jordan elimination without pivots.

    The matrices here are the identity plus one whose Hermitian part is positive.
    """
    n = len(right)
    rows = [[*matrix[i], right[i]] for i in range(n)]
    for i in range(n):
        scale = rows[i][i].reciprocal()
        rows[i] = [entry * scale for entry in rows[i]]
        for j in range(n):
            if j != i:
                factor = rows[j][i]
                rows[j] = [x - factor * y for x, y in zip(rows[j], rows[i], strict=True)]
    return [row[n] for row in rows]


def discretize_dplr(a: Complex, p: Complex, b: Complex, dt: mx.array) -> tuple[mx.array, mx.array]:
    """Ā `[H, N, N]` and B̄ `[H, N]` of the bilinear transform, on real and imaginary parts.

    The state is [Re x, Im x]. `(I - dt/2 A)^-1` is a diagonal corrected by Woodbury's identity.
    """
    inverse = (a * (-0.5 * dt) + 1.0).reciprocal()
    columns = mx.stack([_real_vector(p[r]) for r in range(p.re.shape[0])], axis=-1)  # [H, N, R]
    solved = mx.stack(
        [_real_vector(inverse * p[r]) for r in range(p.re.shape[0])], axis=-1
    )  # D^-1 P
    left = mx.stack(
        [_real_vector(inverse.conj() * p[r]) for r in range(p.re.shape[0])], axis=-1
    )  # D^-T P
    rank = columns.shape[-1]
    # (D + dt P P^T)^-1 = D^-1 - dt D^-1 P (I + dt P^T D^-1 P)^-1 P^T D^-1
    small = mx.eye(rank) + dt[..., None] * (columns.swapaxes(1, 2) @ solved)
    corrected = _small_solve(small, left.swapaxes(1, 2))
    resolvent = _rotation(inverse) - dt[..., None] * (solved @ corrected)
    step = 2.0 * resolvent - mx.eye(resolvent.shape[-1])
    return step, (resolvent @ (_real_vector(b) * dt)[..., None])[..., 0]


def _small_solve(matrix: mx.array, right: mx.array) -> mx.array:
    """Solve `[H, R, R] x = [H, R, N]` for the small rank R."""
    rank = matrix.shape[-1]
    zero = mx.zeros_like
    entries = [
        [Complex(e := matrix[:, i, j, None], zero(e)) for j in range(rank)] for i in range(rank)
    ]
    rows = [Complex(right[:, i], zero(right[:, i])) for i in range(rank)]
    return mx.stack([row.re for row in _solve(entries, rows)], axis=1)


def _real_vector(z: Complex) -> mx.array:
    return z.stacked(axis=-1)


def _rotation(z: Complex) -> mx.array:
    """The real matrices `[H, N, N]` that multiply [Re x, Im x] by diagonals z `[H, N / 2]`."""
    eye = mx.eye(z.re.shape[-1])
    re, im = z.re[..., None] * eye, z.im[..., None] * eye
    return mx.concatenate(
        [mx.concatenate([re, -im], axis=-1), mx.concatenate([im, re], axis=-1)], axis=-2
    )


def dplr_system(a: Complex, p: Complex, b: Complex, c: Complex, dt: mx.array) -> MakeSystem:
    """The system of S4, by powers of Ā; arguments as of `dplr_kernel`, but C itself for `c`."""
    step, write = discretize_dplr(a, p, b, dt)
    read = 2.0 * mx.concatenate([c.re, -c.im], axis=-1)

    def make(m: int) -> System:
        columns, rows = write[..., None], (read[:, None] @ step)
        square = step
        # Krylov sequences by doubling: [B, A B], [.., A^2 B, A^3 B], ...
        while columns.shape[-1] < m:
            columns = mx.concatenate([columns, square @ columns], axis=-1)
            rows = mx.concatenate([rows, rows @ square], axis=1)
            square = square @ square
        columns, rows = columns[..., :m], rows[:, :m]
        kernel = (read[:, None] @ columns)[:, 0]
        through = matrix_power(step, m)
        return System(kernel, rows, columns[..., ::-1], lambda state: through @ state)

    return make


def matrix_power(matrix: mx.array, n: int) -> mx.array:
    """`matrix^n` of `[..., N, N]` by repeated squaring, n at least 1."""
    square, power = matrix, None
    while n:
        if n % 2:
            power = square if power is None else power @ square
        square, n = (square @ square if n > 1 else square), n // 2
    assert power is not None
    return power


def truncated(c: Complex, step: mx.array, length: int) -> Complex:
    """C̃ = C (I - Ā^length), of the kernel that ends there: `[H, N / 2]`."""
    row = mx.concatenate([c.re, -c.im], axis=-1)[:, None]
    row = (row - row @ matrix_power(step, length))[:, 0]
    re, im = mx.split(row, 2, axis=-1)
    return Complex(re, -im)


def untruncated(c: Complex, step: mx.array, length: int) -> Complex:
    """C of a C̃ that was trained at `length`, in float64 NumPy: no gradient.

    Stand-alone: for checkpoints of the published code; no layer kind uses it.
    """
    row = np.array(mx.concatenate([c.re, -c.im], axis=-1), np.float64)
    power = np.linalg.matrix_power(np.array(step, np.float64), length)
    inner = np.eye(power.shape[-1]) - power
    solved = np.linalg.solve(inner.swapaxes(1, 2), row[..., None])[..., 0]
    re, im = np.split(solved.astype(np.float32), 2, axis=-1)
    return Complex(mx.array(re), mx.array(-im))
