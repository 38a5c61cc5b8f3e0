"""Normalisations over the last axis, which keep their input alone for the backward pass.

The GPU's kernels do so of themselves. On the CPU, MLX would also keep what was normalised, one more
array as large as the input for each norm; computed again, it costs next to nothing.
"""

import mlx.core as mx

from .device import on_cpu, wide


def rms_norm(x: mx.array, weight: mx.array | None, eps: float) -> mx.array:
    """`x / sqrt(mean(x²) + eps) * weight` (Zhang and Sennrich 2019, equation 4).

    x `[..., D]`, weight `[D]`; the result has x's shape and dtype.
    """

    def run(x: mx.array, weight: mx.array | None) -> mx.array:
        return mx.fast.rms_norm(x, weight, eps)

    return (mx.checkpoint(run) if on_cpu() else run)(x, weight)


def layer_norm(x: mx.array, weight: mx.array | None, bias: mx.array | None, eps: float) -> mx.array:
    """`(x - mean) / sqrt(var + eps) * weight + bias` (Ba et al. 2016, equation 3).

    x `[..., D]`, weight and bias `[D]`; the result has x's shape and dtype.
    """

    def run(x: mx.array, weight: mx.array | None, bias: mx.array | None) -> mx.array:
        return mx.fast.layer_norm(x, weight, bias, eps)

    return (mx.checkpoint(run) if on_cpu() else run)(x, weight, bias)


def rms_norm_naive(x: mx.array, weight: mx.array | None, eps: float) -> mx.array:
    """The definition of `rms_norm`, in float32 or wider, left to autodiff."""
    wider = wide(x)
    out = wider * mx.rsqrt(mx.square(wider).mean(axis=-1, keepdims=True) + eps)
    return (out if weight is None else out * weight).astype(x.dtype)


def layer_norm_naive(
    x: mx.array, weight: mx.array | None, bias: mx.array | None, eps: float
) -> mx.array:
    """The definition of `layer_norm`, in float32 or wider, left to autodiff."""
    wider = wide(x)
    centred = wider - wider.mean(axis=-1, keepdims=True)
    out = centred * mx.rsqrt(mx.square(centred).mean(axis=-1, keepdims=True) + eps)
    out = out if weight is None else out * weight
    return (out if bias is None else out + bias).astype(x.dtype)
