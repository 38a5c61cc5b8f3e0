"""Normalisations over the last axis, which save only their input for the backward pass.

MLX's kernels for the GPU do the same. On the CPU the backward pass is written out: it also saves
one or two numbers per row, and its sums are matrix products.
"""

import mlx.core as mx

from ..core.shapes import D, xD
from .custom_vjp import custom_vjp
from .device import on_cpu, upcast
from .sums import row_sum


def rms_norm(x: xD, weight: D | None, eps: float) -> xD:
    """`x / sqrt(mean(x²) + eps) * weight` (Zhang and Sennrich 2019, equation 4).

    x `[..., D]`, weight `[D]`; the result has x's shape and dtype.
    """
    if on_cpu():
        return _normalised(x, weight, None, eps, centred=False)
    return mx.fast.rms_norm(x, weight, eps)


def layer_norm(x: xD, weight: D | None, bias: D | None, eps: float) -> xD:
    """`(x - mean) / sqrt(var + eps) * weight + bias` (Ba et al. 2016, equation 3).

    x `[..., D]`, weight and bias `[D]`; the result has x's shape and dtype.
    """
    if on_cpu():
        return _normalised(x, weight, bias, eps, centred=True)
    return mx.fast.layer_norm(x, weight, bias, eps)


def l2_norm(x: xD, eps: float) -> xD:
    """`x / sqrt(sum(x²) + eps)`: vectors of length 1, in x's shape and dtype."""
    width = x.shape[-1]
    scale: float = width**-0.5
    return rms_norm(x, None, eps / width) * scale


def rms_norm_naive(x: xD, weight: D | None, eps: float) -> xD:
    """The definition of `rms_norm`, in float32 or wider, left to autodiff."""
    wider = upcast(x)
    out = wider * mx.rsqrt(mx.square(wider).mean(axis=-1, keepdims=True) + eps)
    return (out if weight is None else out * weight).astype(x.dtype)


def layer_norm_naive(x: xD, weight: D | None, bias: D | None, eps: float) -> xD:
    """The definition of `layer_norm`, in float32 or wider, left to autodiff."""
    wider = upcast(x)
    centred = wider - wider.mean(axis=-1, keepdims=True)
    out = centred * mx.rsqrt(mx.square(centred).mean(axis=-1, keepdims=True) + eps)
    out = out if weight is None else out * weight
    return (out if bias is None else out + bias).astype(x.dtype)


def _normalised(
    x: mx.array, weight: mx.array | None, bias: mx.array | None, eps: float, *, centred: bool
) -> mx.array:
    """Layer norm, or without its mean if not `centred`, for the CPU.

    With c the input less its mean, `inv = 1 / sqrt(mean(c²) + eps)`, d the gradient of the result
    and w the weight, that of the input is `inv (w d - mean(w d)) - c inv³ mean(w d c)`, where RMS
    norm has no `mean(w d)`.
    """
    width = x.shape[-1]

    def forward(x: mx.array, *affine: mx.array) -> list[mx.array]:
        x = upcast(x)
        means = [row_sum(x) / width] if centred else []
        x = x - means[0] if centred else x
        inv = mx.rsqrt(row_sum(mx.square(x)) / width + eps)
        out = x * inv * affine[0]
        return [out if len(affine) == 1 else out + affine[1], inv, *means]

    def backward(
        primals: tuple[mx.array, ...], cotangents: list[mx.array], outputs: list[mx.array]
    ) -> tuple[mx.array, ...]:
        # wait for the cotangent: otherwise `mx.compile` saves arrays of the forward to reuse them
        x = upcast(mx.depends([primals[0]], cotangents[:1])[0])
        d, inv, weight = cotangents[0], outputs[1], upcast(primals[1])
        x = x - outputs[2] if centred else x
        product, column = d * x, weight[:, None]
        dx = d * weight * inv - x * (product @ column * (inv * inv * inv / width))
        if centred:
            dx = dx - inv * (d @ column / width)
        d_affine = [_weighted_rows(inv, product), _weighted_rows(mx.ones_like(inv), d)]
        grads = [dx, *d_affine[: len(primals) - 1]]
        return tuple(g.astype(p.dtype) for g, p in zip(grads, primals, strict=True))

    affine = [mx.ones((width,)) if weight is None else weight, *([] if bias is None else [bias])]
    out: mx.array = custom_vjp(forward, backward)(x, *affine)[0]
    return out.astype(x.dtype)


def _weighted_rows(factors: mx.array, x: mx.array) -> mx.array:
    """The sum `[D]` of the rows of x `[..., D]`, each times its factor `[..., 1]`."""
    return (factors.reshape(1, -1) @ x.reshape(-1, x.shape[-1]))[0]
