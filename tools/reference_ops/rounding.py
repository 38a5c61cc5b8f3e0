"""Rounding to integer zero points, as the published code of GPTQ and AWQ has it, and its error."""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from mlx_transformers.ops.awq import GRID, ROUND, input_scales


@dataclass(frozen=True)
class AffineLevels:
    """`scale · (code - zero)`, one scale and zero point per row `[out]`."""

    scale: np.ndarray
    zero: np.ndarray
    high: int

    def codes(self, column: np.ndarray) -> np.ndarray:
        codes: np.ndarray = np.clip(np.round(column / self.scale) + self.zero, 0, self.high)
        return codes

    def values(self, codes: np.ndarray) -> np.ndarray:
        values: np.ndarray = self.scale * (codes - self.zero)
        return values


@dataclass(frozen=True)
class AffineGrids:
    """Levels from the smallest to the largest weight of each row, 0 included.

    Attributes:
        bits: of a code.
        symmetric: equally far on both sides of 0, which has the middle code.
    """

    bits: int
    symmetric: bool = False

    def fit(self, group: np.ndarray) -> AffineLevels:
        high = 2**self.bits - 1
        least, most = np.minimum(group.min(axis=1), 0), np.maximum(group.max(axis=1), 0)
        if self.symmetric:
            most = np.maximum(np.abs(least), most)
            least = -most
        empty = least == most
        least, most = np.where(empty, -1, least), np.where(empty, 1, most)
        scale = (most - least) / high
        middle = np.full(len(group), float((high + 1) // 2))
        return AffineLevels(scale, middle if self.symmetric else np.round(-least / scale), high)


def scale_errors(
    weight: mx.array, x: mx.array, quantize: ROUND, grid: int = GRID
) -> tuple[mx.array, list[mx.array]]:
    """Return the mean squared output error of each exponent, `[grid]`, and their scales.

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


def group_round(weight: mx.array, bits: int, group: int | None = None) -> mx.array:
    """Quantize and dequantize `[out, in]` by the smallest and largest weight of each group.

    The zero point is a whole number, as in the published code; MLX's own groups have an offset.
    """
    w = weight.reshape(weight.shape[0], -1, group or weight.shape[1])
    least, most = w.min(axis=-1, keepdims=True), w.max(axis=-1, keepdims=True)
    high = 2**bits - 1
    scale = mx.maximum((most - least) / high, 1e-5)
    zero = mx.clip(-mx.round(least / scale), 0, high)
    codes = mx.clip(mx.round(w / scale) + zero, 0, high)
    return ((codes - zero) * scale).reshape(weight.shape)


def output_error(weight: np.ndarray, changed: np.ndarray, h: np.ndarray) -> float:
    """Return the sum of squared output errors per sample: `tr(Δ H Δᵀ) / 2`."""
    delta = weight - changed
    return float(((delta @ h) * delta).sum() / 2)
