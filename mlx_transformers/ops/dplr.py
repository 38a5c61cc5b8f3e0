"""S4: state spaces whose matrix is diagonal plus low rank, `A = Λ - P P*`.

Gu, Goel, Ré 2022, "Efficiently Modeling Long Sequences with Structured State Spaces"
([arXiv:2111.00396](https://arxiv.org/abs/2111.00396)), appendix C.3. The bilinear transform gives
real matrices Ā and B̄, whose powers serve chunks and decoding; the kernel equals the published
one, a Cauchy sum and an FFT over the whole length (tests/reference). One of each pair of conjugate
states is stored.
"""

import mlx.core as mx

from .complex import Complex
from .state_space import MakeSystem, System


def solve(matrix: list[list[Complex]], right: list[Complex]) -> list[Complex]:
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
    return mx.stack([row.re for row in solve(entries, rows)], axis=1)


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
    """The system of S4, by powers of Ā; in chunks.

    Args:
        a: Λ `[H, N / 2]`.
        p: P `[R, H, N / 2]`.
        b: B `[H, N / 2]`.
        c: C `[H, N / 2]`.
        dt: step sizes `[H, 1]`.
    """
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
