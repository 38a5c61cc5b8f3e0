"""S4's kernel as published, by Cauchy sums and an FFT, and its parameter C̃ = C (I - Ā^L).

Gu, Goel, Ré 2022 (arXiv:2111.00396), theorem 3, algorithm 1, appendix C.3. It equals the kernel of
`dplr_system`. One of each pair of conjugate states is stored.
"""

import mlx.core as mx
import numpy as np

from mlx_transformers.ops.complex import Complex
from mlx_transformers.ops.dplr import matrix_power, solve


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
    solved = solve(inner, [sums[1 + i, 0] for i in range(rank)])
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


def truncated(c: Complex, step: mx.array, length: int) -> Complex:
    """C̃ = C (I - Ā^length), of the kernel that ends there: `[H, N / 2]`."""
    row = mx.concatenate([c.re, -c.im], axis=-1)[:, None]
    row = (row - row @ matrix_power(step, length))[:, 0]
    re, im = mx.split(row, 2, axis=-1)
    return Complex(re, -im)


def untruncated(c: Complex, step: mx.array, length: int) -> Complex:
    """C of a C̃ that was trained at `length`, in float64 NumPy: no gradient."""
    row = np.array(mx.concatenate([c.re, -c.im], axis=-1), np.float64)
    power = np.linalg.matrix_power(np.array(step, np.float64), length)
    inner = np.eye(power.shape[-1]) - power
    solved = np.linalg.solve(inner.swapaxes(1, 2), row[..., None])[..., 0]
    re, im = np.split(solved.astype(np.float32), 2, axis=-1)
    return Complex(mx.array(re), mx.array(-im))
