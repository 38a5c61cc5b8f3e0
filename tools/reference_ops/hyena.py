"""Hyena: long convolutions with implicit filters, between gates.

    z_1 = v        z_{n+1} = x_n · (h_n * z_n)        y = z_{N+1}

A filter is a small network of the position, times a decay. Poli et al. 2023, "Hyena Hierarchy"
(arXiv:2302.10866), definition 3.1 and algorithms 1 to 3, in the order of the published code: x_0
comes last, and has no convolution behind it.
"""

import math

import mlx.core as mx

from mlx_transformers.core.shapes import BTD

FAST, SLOW, TARGET = 0.3, 1.5, 1e-2
"""Share of the longest row at which the fastest and slowest filter have decayed to `TARGET`."""


def long_convolution(u: mx.array, kernel: mx.array) -> mx.array:
    """Causal convolution `y_t = Σ_l K_l u_{t-l}` by FFT: `u [..., H, T]`, `kernel [H, T]`."""
    length = u.shape[-1]
    padded = 2 * length
    product = mx.fft.rfft(u, n=padded) * mx.fft.rfft(kernel, n=padded)
    return mx.fft.irfft(product, n=padded)[..., :length]


def position_features(length: int, width: int) -> mx.array:
    """`[t, Re z_1 ... , Im z_1 ...]`, `z_n = exp(-2πi f_n j / L)`, of positions j: `[L, width]`.

    t runs from 0 to 1, and the frequencies f_n from 1e-4 to `(width - 1) / 2 - 1`.
    """
    bands = (width - 1) // 2
    t = mx.linspace(0, 1, length)[:, None]
    angle = 2 * math.pi / length * mx.arange(length)[:, None] * mx.linspace(1e-4, bands - 1, bands)
    return mx.concatenate([t, mx.cos(angle), -mx.sin(angle)], axis=1)


def decay_window(length: int, longest: int, dim: int, shift: float = 0.0) -> mx.array:
    """`e^{-t |δ_d|} + shift` `[length, dim]`, t in [0, 1] over `longest` positions.

    The rates δ are spread evenly between those of `FAST` and `SLOW` (algorithm 2).
    """
    rates = mx.abs(mx.linspace(math.log(TARGET) / SLOW, math.log(TARGET) / FAST, dim))
    t = mx.linspace(0, 1, longest)[:length, None]
    return mx.exp(-t * rates) + shift


def hyena(gates: list[mx.array], v: BTD, filters: mx.array, skips: mx.array) -> BTD:
    """The recurrence of gates and convolutions.

    Args:
        gates: `x_0 ... x_{N-1}`, each `[B, T, D]`; the first is applied last, without convolution.
        v: `[B, T, D]`.
        filters: `[N - 1, D, T]`.
        skips: factors `[N - 1, D]` of a convolution's input, added to its output.

    Returns:
        `[B, T, D]` in float32.
    """
    z = v.astype(mx.float32)
    for gate, kernel, skip in zip(gates[:0:-1], filters, skips, strict=True):
        z = z * gate
        z = long_convolution(z.swapaxes(1, 2), kernel).swapaxes(1, 2) + skip * z
    return z * gates[0]
