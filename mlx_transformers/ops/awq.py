"""AWQ: scales the inputs that matter up before weights are rounded, and down in the layer below.

Lin et al. 2023, section 3.2: with `s = mean|x|^α` per input, α searched, `Q(W s) (x / s)` loses
less than `Q(W) x`.
"""

from collections.abc import Callable, Iterator

import mlx.core as mx

GRID = 20
"""Exponents that are tried: 0, 1/20, ..., 19/20."""
SHRINK = 0.5
"""Smallest share of a group's largest weight that a clip leaves."""
ROUND = Callable[[mx.array], mx.array]
"""Quantizes and dequantizes a matrix `[out, in]`."""


def input_scales(magnitude: mx.array, grid: int = GRID) -> Iterator[mx.array]:
    """Yield the scales `[in]` of each exponent, whose largest and smallest are inverse.

    Args:
        magnitude: the mean magnitude of each input, `[in]`.
        grid: how many exponents.
    """
    for r in range(grid):
        scales = mx.maximum(magnitude ** (r / grid), 1e-4)
        yield scales / mx.sqrt(scales.max() * scales.min())


def best_clip(weight: mx.array, x: mx.array, quantize: ROUND, group: int) -> mx.array:
    """Return a matrix whose largest weights are clipped, per group, where that loses less.

    Args:
        weight: `[out, in]`.
        x: inputs of the layer, `[n, in]`.
        quantize: rounds a matrix.
        group: inputs that share a scale.
    """
    out, width = weight.shape
    grouped, rows = weight.reshape(out, -1, group), x.reshape(len(x), -1, group)
    # The error of a group is a quadratic form of its change: [groups, group, group].
    forms = rows.transpose(1, 2, 0) @ rows.transpose(1, 0, 2) / len(x)
    largest = mx.abs(grouped).max(axis=-1, keepdims=True)
    best, bound = mx.full(largest.shape, float("inf")), largest
    for i in range(int(SHRINK * GRID)):
        limit = largest * (1 - i / GRID)
        clipped = mx.clip(grouped, -limit, limit).reshape(out, width)
        delta = (grouped - quantize(clipped).reshape(grouped.shape)).transpose(1, 0, 2)
        error = ((delta @ forms) * delta).sum(axis=-1).T[..., None]
        bound = mx.where(error < best, limit, bound)
        best = mx.minimum(error, best)
        mx.eval(bound, best)
    return mx.clip(grouped, -bound, bound).reshape(out, width)
