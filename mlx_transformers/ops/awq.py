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


def scale_errors(
    weight: mx.array, x: mx.array, quantize: ROUND, grid: int = GRID
) -> tuple[mx.array, list[mx.array]]:
    """Return the mean squared output error of each exponent, `[grid]`, and their scales.

    Stand-alone: no command uses it.

    Args:
        weight: `[out, in]`.
        x: inputs of the layer, `[n, in]`.
        quantize: rounds a matrix.
        grid: how many exponents.
    """
    exact, errors, all_scales = x @ weight.T, [], []
    for scales in input_scales(mx.abs(x).mean(axis=0), grid):
        changed = quantize(weight * scales) / scales
        errors.append(((exact - x @ changed.T) ** 2).mean())
        all_scales.append(scales)
    return mx.stack(errors), all_scales


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


def group_round(weight: mx.array, bits: int, group: int | None = None) -> mx.array:
    """Quantize and dequantize `[out, in]` by the smallest and largest weight of each group.

    Stand-alone: no command uses it.

    The zero point is a whole number, as in the published code; MLX's own groups have an offset.
    """
    w = weight.reshape(weight.shape[0], -1, group or weight.shape[1])
    least, most = w.min(axis=-1, keepdims=True), w.max(axis=-1, keepdims=True)
    high = 2**bits - 1
    scale = mx.maximum((most - least) / high, 1e-5)
    zero = mx.clip(-mx.round(least / scale), 0, high)
    codes = mx.clip(mx.round(w / scale) + zero, 0, high)
    return ((codes - zero) * scale).reshape(weight.shape)
