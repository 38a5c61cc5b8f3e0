"""Integer quantization: scales and zero points of ranges, rounding, straight-through gradients.

    code = clip(round(x / scale) + zero, low, high),   x' = (code - zero) scale

Jacob et al. 2018, section 2.1. The gradient of the rounding is that of the identity where the code
lies within its bounds (Bengio et al. 2013); that of a learned scale is LSQ's (Esser et al. 2020).
"""

from typing import NamedTuple

import mlx.core as mx

from mlx_transformers.ops.custom_vjp import custom_vjp

TINY = 2.0**-23
"""Smallest scale of a range, float32's machine epsilon, as in torch's observers."""


class Grid(NamedTuple):
    """Evenly spaced values, one scale and zero point per range.

    Attributes:
        scale: distance of neighbours, broadcastable to the array.
        zero: code of 0, of the same shape.
        low: smallest code.
        high: largest code.
    """

    scale: mx.array
    zero: mx.array
    low: int
    high: int

    def codes(self, x: mx.array) -> mx.array:
        """Return the nearest codes of `x`, as floats."""
        codes = mx.clip(mx.round(_in_steps(x, self.scale)) + self.zero, self.low, self.high)
        return codes.astype(mx.result_type(x, self.scale, self.zero))

    def values(self, codes: mx.array) -> mx.array:
        """Return the numbers that codes stand for."""
        return (codes - self.zero) * self.scale


def grid_of(
    x: mx.array,
    low: int,
    high: int,
    *,
    symmetric: bool = False,
    axis: int | None = None,
    zero: int | None = None,
) -> Grid:
    """Return the grid from the smallest to the largest number of `x`, 0 included.

    Args:
        x: the numbers.
        low: smallest code.
        high: largest code.
        symmetric: reach equally far on both sides of 0.
        axis: one range per index of this axis; None: one of all numbers, of shape [1].
        zero: the zero point of a symmetric grid; None: 0.
    """
    axes = [i for i in range(x.ndim) if axis is None or i != axis % x.ndim]
    keep = axis is not None
    least = mx.minimum(x.min(axis=axes, keepdims=keep), 0)
    most = mx.maximum(x.max(axis=axes, keepdims=keep), 0)
    least, most = (bound if keep else bound.reshape(1) for bound in (least, most))
    if symmetric:
        reach = mx.maximum(-least, most)
        scale = mx.maximum(reach / ((high - low) / 2), TINY)
        return Grid(scale, mx.full(scale.shape, 0 if zero is None else zero), low, high)
    scale = mx.maximum((most - least) / (high - low), TINY)
    return Grid(scale, mx.clip(low - mx.round(least / scale), low, high), low, high)


def fake_quantize(
    x: mx.array, scale: mx.array, zero: mx.array, low: int, high: int, gain: float = 1.0
) -> mx.array:
    """Quantize and dequantize `x`, with a gradient for `x`, the scale and the zero point.

    Args:
        x: the numbers.
        scale: distance of neighbours, broadcastable to `x`.
        zero: code of 0, of the same shape; it is rounded and clipped to a code.
        low: smallest code.
        high: largest code.
        gain: factor of the gradients of scale and zero point (LSQ: 1 / √(n · high)).
    """

    def forward(x: mx.array, scale: mx.array, zero: mx.array) -> mx.array:
        grid = Grid(scale, mx.clip(mx.round(zero), low, high), low, high)
        return grid.values(grid.codes(x))

    def backward(
        primals: tuple[mx.array, mx.array, mx.array], upstream: mx.array, y: mx.array
    ) -> tuple[mx.array, mx.array, mx.array]:
        x, scale, zero = primals
        centre = mx.clip(mx.round(zero), low, high)
        code = mx.round(_in_steps(x, scale)) + centre
        below, above = code < low, code > high
        inside = ~(below | above)
        edge = mx.where(below, low - centre, high - centre)
        of_scale = mx.where(inside, (y - x) / scale, edge) * upstream * gain
        of_zero = mx.where(inside, 0.0, -scale) * upstream * gain
        return (
            mx.where(inside, upstream, 0.0),
            _summed_to(of_scale, scale),
            _summed_to(of_zero, zero),
        )

    out: mx.array = custom_vjp(forward, backward)(x, scale, zero)
    return out


def _in_steps(x: mx.array, scale: mx.array) -> mx.array:
    """`x / scale` in float32: in float16 the reciprocal of a scale below 1.5e-5 is infinite."""
    # The reciprocal, as torch computes it: at a tie a division may round the other way.
    return x * (1 / scale.astype(mx.float32))


def _summed_to(grad: mx.array, of: mx.array) -> mx.array:
    """Sum a gradient over the axes along which `of` was broadcast."""
    extra = grad.ndim - of.ndim
    grad = grad.sum(axis=list(range(extra))) if extra else grad
    axes = [i for i, size in enumerate(of.shape) if size == 1 and grad.shape[i] != 1]
    return grad.sum(axis=axes, keepdims=True) if axes else grad
