"""Two looks side by side: an edited text, or another run on the same text."""

from dataclasses import dataclass

import numpy as np

from .look import Look


@dataclass(frozen=True)
class Comparison:
    """How two looks differ.

    Attributes:
        layers: the layers whose maps have the same shape in both.
        heads: by those layers and their heads, half the sum of absolute differences of the
            attention, mean over tokens, from 0 to 1 (total variation); None: no such layer.
    """

    layers: list[int]
    heads: list[list[float]] | None


def compare(one: Look, two: Look) -> Comparison:
    """Compare two looks."""
    layers, heads = [], []
    for i, (a, b) in enumerate(zip(one.layers, two.layers, strict=False)):
        if a.weights is None or b.weights is None or a.weights.shape != b.weights.shape:
            continue
        layers.append(i)
        heads.append([_moved(x, y) for x, y in zip(a.weights, b.weights, strict=True)])
    return Comparison(layers, heads or None)


def _moved(one: np.ndarray, two: np.ndarray) -> float:
    """Total variation of the rows of two maps, mean over rows."""
    rows = [np.abs(m) / np.maximum(np.abs(m).sum(axis=-1, keepdims=True), 1e-9) for m in (one, two)]
    return float(0.5 * np.abs(rows[0] - rows[1]).sum(axis=-1).mean())
